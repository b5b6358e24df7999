"""Security: who may link to this node, and who it proves to be.

Reading order: `keys` (one pair per node, and the files it lies in), `trust` (whose key is whose, a folder that an operator
fills), `gate` (what libzmq asks before it lets a connection in). Nothing here is learned from the network or from a store.
"""
