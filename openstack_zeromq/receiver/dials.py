"""Dials: connections to peers that are to be made, a few in each pass of the loop.

A receiver that has thousands of peers to reach at once, none of which may answer, must not stand still meanwhile, nor use up the
descriptors that the services of its node need.
"""

from collections.abc import Callable

from openstack_zeromq import descriptors
from openstack_zeromq.receiver.links import Links

_A_PASS = 16
"""A connection costs libzmq, and us, about 0.15 ms; so this is what two or three milliseconds are enough for."""

_PART = 4
"""Hosts that have not answered yet get at most a quarter of all descriptors: libzmq itself tries again and again, all at once."""


class Dials:
    """Hosts wait in the order in which they were `add`ed; those that have spoken to this receiver, and so are there, go first."""

    def __init__(self, links: Links, opened: Callable[[str, str], None]) -> None:
        """`opened` gets each host that was dialled, and why no connection was opened (or nothing)."""
        self._links = links
        self._opened = opened
        self._waiting: dict[str, None] = {}
        self._left = _A_PASS

    @property
    def waiting(self) -> bool:
        """Can more be dialled at once?"""
        return bool(self._waiting) and self._left > 0

    def add(self, host: str) -> None:
        """Dial `host` in this pass, or as soon as it is its turn."""
        if self._left > 0 and not self._waiting:
            self._left -= 1
            self._opened(host, self._links.hosts.dial(host))
            return
        self._links.hosts.put_off(host)  # what it has of a connection is given up for one that may be of more use
        self._waiting[host] = None

    def drop(self, host: str) -> None:
        """`host` is not to be dialled any more."""
        self._waiting.pop(host, None)
        self._links.hosts.hang_up(host)

    def work(self) -> None:
        """A new pass: dial some of those that wait."""
        hosts = self._links.hosts
        room = descriptors.left() - descriptors.RESERVE if self._waiting else _A_PASS
        self._left = min(_A_PASS, room)
        for host in self._first():
            self._dial(host)
        self._left = min(self._left, hosts.room(descriptors.limit() // _PART))
        while self._waiting and self._left > 0:
            self._dial(next(iter(self._waiting)))

    def _first(self) -> list[str]:
        """Of those that wait, as many as can be dialled now and are there."""
        there = [host for host in self._waiting if self._links.hosts.has_spoken(host)] if self._waiting else []
        return there[: max(0, self._left)]

    def _dial(self, host: str) -> None:
        del self._waiting[host]
        self._left -= 1
        self._opened(host, self._links.hosts.dial(host))
        self._links.ping(host)
