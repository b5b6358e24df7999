"""driver: the oslo.messaging plug-in inside a service. It speaks to the receiver of its node and to nobody else.

`plugin` is what oslo.messaging loads; `payload` packs and unpacks bodies; `listener` is what a server polls; `connection` is the
process's one connection to the receiver, shared by all transports, with its two directions `sending` (out through `outlet`) and
`consuming`; `lead` is who reads it, `waiting` how threads of the service wait.
"""

try:
    import zmq  # noqa: F401 - only to see whether it can be had here
except ImportError as exc:
    if "interpreter" not in str(exc).lower():
        raise
    # pyzmq 27 lives in the first interpreter of a process that loads it, and in no other.
    raise ImportError(
        "the zmq:// driver cannot be used in a second Python interpreter of one process, because pyzmq cannot: under mod_wsgi set"
        " `WSGIApplicationGroup %{GLOBAL}`, and give each service a WSGIDaemonProcess of its own"
    ) from exc
