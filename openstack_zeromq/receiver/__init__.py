"""receiver: the daemon of a node. It moves frames between sockets and the pure `delivery.node`, and decides nothing itself.

`loop` is the process's one loop; `local` are the unix sockets of the services, with `channels` and `walls`; `links` is what goes
between receivers: `door` is what peers dial, `guests` are those who did, `hosts` those whom we dialled. `departures` is what
gathers until it leaves through one of them, `admin` the socket that answers status, `registry` what the matchmaker is told,
`processes` who is behind the connections of services, `services` who must come back after a restart, `report` what is counted
and said once, `unit` what systemd is told."""
