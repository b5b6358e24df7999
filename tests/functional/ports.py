"""TCP ports for the servers of tests: none is handed out twice, whoever else runs tests here at the same time.

A process takes ports by the block. A block is its own while it holds the abstract unix socket that is named for it, and
the kernel gives that back when the process ends, however it ends. All ports lie below the ephemeral range: what connects
to somewhere never gets one of them by chance.
"""

import random
import socket
from collections.abc import Iterable, Iterator

PORTS = range(21_000, 32_000)
BLOCK = 50

_held: list[socket.socket] = []
"""What says that blocks are ours, until this process ends."""


def free_port(addresses: Iterable[str]) -> int:
    """A TCP port that is free on all of `addresses` and that nobody got before."""
    addresses = list(addresses)
    return next(port for port in _ours if _is_free(port, addresses))


def _blocks() -> Iterator[int]:
    """The ports of one block after the other; blocks in random order, for others take some, too."""
    for first in random.sample(PORTS[::BLOCK], len(PORTS[::BLOCK])):
        hold = socket.socket(socket.AF_UNIX)
        try:
            hold.bind(f"\0openstack-zeromq-tests-{first}")
        except OSError:
            hold.close()
            continue
        _held.append(hold)
        yield from range(first, first + BLOCK)
    raise AssertionError("no free port")


def _is_free(port: int, addresses: Iterable[str]) -> bool:
    opened = []
    try:
        for address in addresses:
            opened.append(socket.create_server((address, port)))
    except OSError:
        return False
    else:
        return True
    finally:
        for each in opened:
            each.close()


_ours = _blocks()
