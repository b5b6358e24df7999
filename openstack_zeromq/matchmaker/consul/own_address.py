"""The address of this node, where nobody says it: the one from which it talks to Consul."""

import contextlib
import ipaddress
import socket


def own_address(host: str) -> str:
    """Empty when the agent is on this node: then its own address, which the agent knows, is the node's; or when unknown."""
    with contextlib.suppress(OSError):
        family, kind, protocol, _, where = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(where)  # sends nothing
            address = str(probe.getsockname()[0])
        return "" if ipaddress.ip_address(address.partition("%")[0]).is_loopback else address
    return ""
