"""driver: the oslo.messaging plug-in inside a service. It speaks to the receiver of its node and to nobody else.

`plugin` is what oslo.messaging loads; `payload` packs and unpacks bodies; `listener` is what a server polls; `connection` is the
process's one connection to the receiver, shared by all transports, with its two directions `sending` (out through `outlet`) and
`consuming`; `lead` is who reads it, `waiting` how threads of the service wait.
"""
