"""receiver: the daemon of a node. It moves frames between sockets and the pure `delivery.node`, and decides nothing itself.

`loop` is the process's one loop; `local` are the unix sockets of the services, `links` the TCP sockets of the peers, `admin` the
socket that answers status, `answers` what goes back to senders, `services` who must come
back after a restart, `report` what is counted and said once.
"""
