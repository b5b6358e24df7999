"""benchmarks: this driver, RabbitMQ's and a transport that costs nothing, side by side in one run (`make bench`).

`__main__` is the run: rounds, progress, results. `figures` says what is measured and which bars it is held against, `beds`
what it is measured on (`null_driver`, `broker`), `worker` is the service process under load, `flood` the load on one receiver
alone. `results` is the JSON; `table` shows it, `pages` and `chart` put it into the docs.
"""
