"""consul: hosts in Consul, as services of its catalog or as keys of sessions.

`store` chooses; `catalog` and `keys` are the two ways to register and to read, `following` is how both are followed. Below them:
`client` asks an agent, `names` escapes, `instances` reads what the catalog says, `own_address` finds this node's.
"""
