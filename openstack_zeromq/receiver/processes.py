"""Processes: who is behind the connections of services. The kernel says whose they are, and when one of them ends."""

import os
import select
from collections.abc import Container
from typing import NamedTuple

NOBODY = 65_534
_STRANGERS = 10_000


class Peer(NamedTuple):
    """A process, as the kernel has it; `pid` 0: it cannot be seen from here."""

    pid: int
    uid: int


def owner(address: str) -> tuple[int, int]:
    """User and group at `address` (`host:uid:gid:pid`), as the kernel has them; nobody's numbers when it says nothing."""
    try:
        uid, gid, _ = map(int, address.split(":")[-3:])
    except ValueError:
        return NOBODY, NOBODY
    return uid, gid


class Processes:
    """A connection is known by its routing id. Can be polled: readable when a process has ended."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._known: dict[bytes, int | None] = {}
        self._names: dict[int, bytes] = {}
        self._peers: dict[bytes, Peer] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __len__(self) -> int:
        return len(self._names)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def note(self, name: bytes) -> None:
        """A connection whose process need not be watched."""
        if len(self._known) - len(self._names) >= _STRANGERS:
            self._known = {known: descriptor for known, descriptor in self._known.items() if descriptor is not None}
        self._known[name] = None

    def watch(self, name: bytes, address: str) -> bool:
        """Watch the process at `address` (`host:uid:gid:pid`); False when it cannot be seen from here."""
        self.note(name)
        try:
            uid, _, pid = map(int, address.split(":")[-3:])
            self._peers[name] = Peer(pid, uid)
            descriptor = os.pidfd_open(pid)
        except (OSError, ValueError):
            return False
        self._known[name] = descriptor
        self._names[descriptor] = name
        self._epoll.register(descriptor, select.EPOLLIN)
        return True

    def ended(self) -> list[bytes]:
        """Connections whose process has ended; they are forgotten."""
        names = [self._names[descriptor] for descriptor, _ in self._epoll.poll(0)]
        for name in names:
            self.forget(name)
        return names

    def keep(self, names: Container[bytes]) -> None:
        """Watch only the processes behind `names` any longer: a process may say goodbye, and live on."""
        for name in [name for name in (*self._names.values(), *self._peers) if name not in names]:
            self.forget(name)

    def peer(self, name: bytes) -> Peer | None:
        """Who is behind a connection, if it was watched; None: nobody knows."""
        return self._peers.get(name)

    def hidden(self, name: bytes) -> bool:
        """Is the process behind a connection in a pid namespace that cannot be seen from here? The kernel then says 0."""
        peer = self._peers.get(name)
        return peer is not None and peer.pid == 0

    def forget(self, name: bytes) -> None:
        """A connection is of no interest any more."""
        descriptor = self._known.pop(name, None)
        self._peers.pop(name, None)
        if descriptor is not None:
            del self._names[descriptor]
            os.close(descriptor)

    def close(self) -> None:
        for name in list(self._known):
            self.forget(name)
        self._epoll.close()
