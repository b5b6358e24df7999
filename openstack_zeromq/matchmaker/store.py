"""Store: what a server that many nodes share (Redis, Sentinel, Consul) does for a matchmaker.

All of it runs in one asyncio loop, in a thread of its own. A store keeps no rules about what to believe: it tells what it reads,
and raises `StoreError` when it cannot; whoever follows it decides, waits and comes again. It may be asked again after any error.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Protocol

from openstack_zeromq.matchmaker.base import Registration, Service
from openstack_zeromq.matchmaker.holding import Reading


async def ended(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel `tasks` until they are done: libraries, and `asyncio.wait_for` of Python 3.11, may swallow a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)


class Wanted:
    """The topics that somebody asks for, in the order of asking; only for the loop's thread."""

    def __init__(self) -> None:
        self._topics: dict[str, None] = {}
        self._more = asyncio.Event()

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._topics))

    def __contains__(self, topic: object) -> bool:
        return topic in self._topics

    def __len__(self) -> int:
        return len(self._topics)

    def add(self, topic: str) -> None:
        if topic not in self._topics:
            self._topics[topic] = None
            self._more.set()

    def discard(self, topic: str) -> None:
        if topic in self._topics:
            del self._topics[topic]
            self._more.set()

    async def changed(self) -> None:
        """Wait until the topics are others than at the last call."""
        await self._more.wait()
        self._more.clear()


class Heard(Protocol):
    """Who wants to know what a store says."""

    def answers(self) -> None:
        """The store answers, whether or not it has anything new."""

    def reading(self, reading: Reading) -> None:
        """A topic, as it is now."""

    def canary(self, there: bool) -> None:
        """Is that there which always is? Only from stores that have such a thing."""

    def unreadable(self, topic: str, why: str) -> None:
        """A topic cannot be read: what is known of it stays, until a reading comes."""

    def garbage(self, what: str) -> None:
        """Something in the store is not ours to understand: it was left out."""


class Store(ABC):
    """One server, or group of servers, that answers for all nodes of a fabric."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is and where, for people; without secrets."""

    @abstractmethod
    async def follow(self, wanted: Wanted, heard: Heard) -> None:
        """Tell `heard` each topic of `wanted` once, and again whenever it changes, until cancelled. Topics may come and go.

        :raises StoreError: the store does not answer, or refuses.
        """

    @abstractmethod
    async def beat(self, registration: Registration) -> None:
        """Say that the node is there and what it serves; what it served before and does not now is withdrawn at once.

        :raises StoreError: the store does not answer, or refuses.
        """

    @abstractmethod
    async def services(self) -> list[Service]:
        """Every server of every topic that is registered, sorted.

        :raises StoreError: the store does not answer, or refuses.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give the connections back; nothing that was registered is withdrawn."""
