"""cli: what an operator types. `receiver` is the daemon's entry point, `zmqctl` the one command for people."""
