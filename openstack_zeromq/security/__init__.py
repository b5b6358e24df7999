"""Security: who may link to this node, and who it proves to be; and which users of it may do what.

Reading order: `keys` (the files that keys lie in), `own` (this node's key, also while it is changed), `trust` (whose key is
whose, a folder that an operator fills), `identity` (both together), `gate` (what libzmq asks before it lets a connection in),
`acl` (rules for services of this node). Nothing here is learned from the network or from a store.
"""
