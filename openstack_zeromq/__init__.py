"""openstack-zeromq: a brokerless message bus for OpenStack.

Read the rooms from the bottom up: `options` and `address` (words), `wire` (frames), `delivery` (the
promises, as pure state machines), `matchmaker` (topic -> hosts), then the two shells with sockets,
`receiver` and `driver`, and on top `cli`. A floor imports only the floors below it.
"""
