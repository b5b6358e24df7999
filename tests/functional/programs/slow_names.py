"""A receiver on a machine whose name servers do not answer: the name of its store is asked for, for a minute, in vain."""

import socket
import time
from typing import Any

from openstack_zeromq.cli.receiver import main

NAME = "store.invalid"
_getaddrinfo = socket.getaddrinfo


def _slow(host: Any, *arguments: Any, **more: Any) -> Any:
    if host == NAME:
        print("asked for the name", flush=True)
        time.sleep(60)
    return _getaddrinfo(host, *arguments, **more)


socket.getaddrinfo = _slow
main()
