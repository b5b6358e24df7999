"""driver: the oslo.messaging plug-in inside a service. It speaks to the receiver of its node and to nobody else.

`plugin` is what oslo.messaging loads; `payload` packs and unpacks bodies; `listener` is what a server polls; `connection` is the
process's one thread with sockets, shared by all transports; `waiting` is how other threads wait for it.
"""
