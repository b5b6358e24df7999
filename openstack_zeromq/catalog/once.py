"""Once: what a store says of some topics at this moment, and nothing held: for whoever looks, rather than routes.

`index` says how far the store is with these topics. It grows with every change of one of them (and sometimes without), so that
somebody who has seen one can wait until there is news. It compares only with an index of the same topics of the same store.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from openstack_zeromq.catalog import shape
from openstack_zeromq.errors import StoreError
from openstack_zeromq.matchmaker.base import Members, Topic
from openstack_zeromq.matchmaker.holding import Reading
from openstack_zeromq.matchmaker.store import Store, Wanted

WITHIN = 10.0
"""Seconds that a store may take to tell all topics."""


@dataclass(frozen=True, slots=True)
class Said:
    """`newer`: is the index past the one that was asked for?"""

    topics: Mapping[str, Members]
    index: int
    newer: bool

    @property
    def ring(self) -> shape.Published:
        """As a ring with its side-car."""
        return shape.shape(self.topics)[0]

    @property
    def servers(self) -> dict[str, dict[str, list[str]]]:
        """Topic -> server -> hosts, for servers that are not named like their hosts."""
        found = {topic: Topic.of(members).servers for topic, members in self.topics.items()}
        return {topic: {name: list(hosts) for name, hosts in sorted(named.items())} for topic, named in found.items() if named}


class _Ear:
    """Hears what the store says; `told` is set whenever it says something."""

    def __init__(self) -> None:
        self.readings: dict[str, Reading] = {}
        self.problem = ""
        self.told = asyncio.Event()

    def answers(self) -> None:
        """That it answers is nothing to keep."""

    def reading(self, reading: Reading) -> None:
        self.readings[reading.topic] = reading
        self.told.set()

    def canary(self, there: bool) -> None:
        self.problem = "" if there else "what is always there is not: was the store replaced, or may the token not read?"

    def unreadable(self, topic: str, why: str) -> None:
        self.problem = f"topic {topic}: {why}"

    def garbage(self, what: str) -> None:
        """Left out, as everywhere."""


async def listen(
    store: Store, topics: Iterable[str], newer_than: int | None = None, wait: float = 0.0, within: float = WITHIN
) -> Said:
    """What `store` says of `topics` (none: of all that it has). With `newer_than` it is waited up to `wait` seconds for an index
    past it.

    :raises StoreError: the store does not answer within `within` seconds, or refuses.
    """
    wanted, ear = Wanted(), _Ear()
    for topic in topics:
        wanted.add(topic)
    if not len(wanted):
        for service in await store.services():
            wanted.add(service.topic)
    following = asyncio.create_task(store.follow(wanted, ear))
    try:
        if not await _until(lambda: set(ear.readings) == set(wanted), ear, following, within):
            silent = ", ".join(sorted(set(wanted) - set(ear.readings)))
            raise StoreError(f"{store.name}: {ear.problem or f'it has not told of {silent} within {within:g} s'}")
        newer = newer_than is None or await _until(lambda: _index(ear) > newer_than, ear, following, wait)
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError, StoreError):
            await following
    return Said({topic: dict(ear.readings[topic].members) for topic in sorted(ear.readings)}, _index(ear), newer)


async def ask(make: Callable[[], Store], *topics: str, **how: Any) -> Said:
    """As `listen`, with a store of its own, which `make` makes within the loop."""
    store = make()
    try:
        return await listen(store, topics, **how)
    finally:
        await store.close()


def _index(ear: _Ear) -> int:
    """A change of one topic moves its own generation, and so the sum."""
    return sum(reading.mark.generation for reading in ear.readings.values())


async def _until(done: Callable[[], bool], ear: _Ear, following: "asyncio.Task[None]", within: float) -> bool:
    """Wait for it, as long as the store is heard; False: it did not come.

    :raises StoreError: what the store raises meanwhile.
    """
    deadline = asyncio.get_running_loop().time() + within
    while not done():
        ear.told.clear()
        telling = asyncio.create_task(ear.told.wait())
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        finished, _ = await asyncio.wait({telling, following}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        telling.cancel()
        if following in finished:
            following.result()
        if not finished:
            return done()
    return True
