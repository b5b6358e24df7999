"""Following Consul: one blocking query for each source of each wanted topic, several at once, and one for the canary.

A **source** is a path that Consul can be asked for: a service of the catalog, or the keys of a topic. What its hosts are is said
as soon as all sources of a topic have answered. Before a loss is told, the canary is looked at once more: a store that was
replaced is to be noticed by that, not by what it lacks.

An agent allows 200 connections: the first `FOLLOWED` sources have one of their own, the others are asked in turn, twenty in a
second.
"""

import asyncio
import random
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, NamedTuple

from openstack_zeromq.errors import StoreError
from openstack_zeromq.matchmaker.base import Member
from openstack_zeromq.matchmaker.consul.client import Answer, Client
from openstack_zeromq.matchmaker.consul.instances import Told, joined
from openstack_zeromq.matchmaker.holding import Mark, Reading
from openstack_zeromq.matchmaker.store import Heard, Store, Wanted, ended

FOLLOWED = 60
"""Sources with a blocking query of their own; well below `client.CONNECTIONS`, registrations need some, too."""

_TURN = 0.05
"""Seconds between two questions for sources that have no query of their own."""

_SLOW = 0.5
"""Seconds before a query that came back at once with nothing new is asked again, and the longest pause after a change."""


class Source(NamedTuple):
    """`path` below /v1/ answers for `name`, a service or a topic; `below`: it is the beginning of keys."""

    name: str
    path: str
    below: bool = False


class Canary(NamedTuple):
    """Is that there which always is? `epoch`: what is another one in a store that was replaced; `why` it may not be there."""

    there: bool
    epoch: str = ""
    why: str = ""


class FollowingStore(Store):
    """The reading half of a Consul store; subclasses know what to ask for and how to read it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._epoch = ""
        self._there = False
        self._topics: dict[Source, list[str]] = {}
        self._indices: dict[Source, int] = {}
        self._told: dict[Source, Told] = {}
        self._hosts: dict[str, frozenset[str]] = {}

    # what subclasses know

    @property
    @abstractmethod
    def _canary_source(self) -> Source:
        """Where the canary is."""

    @abstractmethod
    def _canary(self, content: Any) -> Canary:
        """Out of its answer."""

    @abstractmethod
    def _sources(self, topic: str) -> tuple[Source, ...]:
        """Where hosts of the topic are."""

    @abstractmethod
    def _read(self, source: Source, content: Any, heard: Heard) -> Told:
        """Out of an answer."""

    @abstractmethod
    def _mark(self, indices: Iterable[int]) -> Mark:
        """How far the store is, by the indices of a topic's sources."""

    @abstractmethod
    async def _went_back(self, source: Source, answer: Answer) -> Answer:
        """The index of `source` is lower than before: the answer to believe."""

    async def _begin(self) -> None:
        """To be done first whenever following begins."""

    # Store

    @property
    def name(self) -> str:
        return self._client.name

    async def follow(self, wanted: Wanted, heard: Heard) -> None:
        await self._begin()
        canary = await self._look(heard)
        if not self._epoch:  # nothing to compare an answer with: better none than one that may be an accident
            raise StoreError(f"{self.name}: {canary.why}")
        work = _Work()
        work.add(self._canary_source, self._follow_canary(heard))
        work.add(None, self._take_turns(work, heard))
        try:
            while True:
                self._arrange(wanted)
                self._assign(work, heard)
                await work.until(wanted.changed())
        finally:
            await work.end()

    async def close(self) -> None:
        await self._client.close()

    # the canary

    async def _canary_is_there(self) -> None:
        """A token without rights is told that there is nothing, rather than no.

        :raises StoreError: it is not.
        """
        canary = self._canary((await self._client.read(self._canary_source.path)).content)
        if not canary.there:
            raise StoreError(f"{self.name}: {canary.why}", refused=True)

    async def _look(self, heard: Heard) -> Canary:
        """What the canary is like now."""
        source = self._canary_source
        return self._take_canary(await self._client.read(source.path, below=source.below), heard)

    async def _follow_canary(self, heard: Heard) -> None:
        source, index = self._canary_source, 0
        while True:
            began = time.monotonic()
            answer = await self._client.read(source.path, index=index, below=source.below)
            self._take_canary(answer, heard)
            await _pause(began, new=answer.index != index)
            index = answer.index if answer.index >= index else 0

    def _take_canary(self, answer: Answer, heard: Heard) -> Canary:
        """A new epoch is told before the canary: it says how to take what the store lacks."""
        heard.answers()
        canary = self._canary(answer.content)
        news = canary.there and (not self._there or canary.epoch != self._epoch)
        self._there = canary.there
        if canary.there:
            self._epoch = canary.epoch
        if news:
            for topic in dict.fromkeys(topic for source in self._told for topic in self._topics.get(source, ())):
                self._tell(topic, heard)
        heard.canary(canary.there)
        return canary

    # topics

    def _arrange(self, wanted: Wanted) -> None:
        """Which source is for which topics; forget what is not wanted any more."""
        self._topics = {}
        for topic in wanted:
            for source in self._sources(topic):
                self._topics.setdefault(source, []).append(topic)
        for known in (self._told, self._indices):
            for source in known.keys() - self._topics.keys():
                del known[source]
        for topic in [topic for topic in self._hosts if topic not in wanted]:
            del self._hosts[topic]

    def _assign(self, work: "_Work", heard: Heard) -> None:
        """Give the first sources a query of their own."""
        sources = list(self._topics)[:FOLLOWED]
        work.keep({self._canary_source, None, *sources})
        for source in sources:
            if source not in work:
                work.add(source, self._follow_source(source, heard))

    async def _follow_source(self, source: Source, heard: Heard) -> None:
        """A query that comes back early with nothing new was woken by a restore: what is there now has to be asked for without
        waiting, for the index may have gone back and will grow again."""
        asked = index = 0
        while True:
            began = time.monotonic()
            answer = await self._client.read(source.path, index=asked, below=source.below)
            heard.answers()
            answered = time.monotonic()
            new = answer.index != index
            if new:
                await self._take(source, answer, heard)
                index = self._indices[source]
            woken = asked > 0 and not new and answered - began < self._client.early
            if not woken:
                # a long list that changes all the time must not have a whole processor
                await _pause(began, new, 4 * (time.monotonic() - answered))
            asked = 0 if woken else index

    async def _take_turns(self, work: "_Work", heard: Heard) -> None:
        """Ask for what has no query of its own: what was never asked for at once, all others in turn."""
        turn: deque[Source] = deque()
        while True:
            source = next((source for source in self._topics if source not in self._told and source not in work), None)
            if source is None:
                await asyncio.sleep(_TURN * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the nodes' questions
                source = turn.popleft() if turn else None
                turn = turn or deque(source for source in self._topics if source not in work)
            if source in self._topics and source not in work:
                answer = await self._client.read(source.path, below=source.below)
                heard.answers()
                if answer.index != self._indices.get(source):
                    await self._take(source, answer, heard)

    async def _take(self, source: Source, answer: Answer, heard: Heard) -> None:
        """Tell what is new."""
        if answer.index < self._indices.get(source, 0):
            answer = await self._went_back(source, answer)
        told = self._read(source, answer.content, heard)
        topics = self._topics.get(source, [])
        if any(self._hosts.get(topic, frozenset()) - self._members(topic, source, told).keys() - told.left for topic in topics):
            await self._look(heard)
        self._told[source], self._indices[source] = told, answer.index
        for topic in topics:
            self._tell(topic, heard)

    def _tell(self, topic: str, heard: Heard) -> None:
        """Tell a topic, if all its sources have answered, and with more than an emptiness that may be an accident."""
        sources = self._sources(topic)
        if not all(source in self._told for source in sources):
            return
        members = self._members(topic)
        if not members and not self._there and topic not in self._hosts:
            return
        self._hosts[topic] = frozenset(members)
        left = frozenset(host for source in sources for host in self._told[source].left) - members.keys()
        heard.reading(Reading(topic, members, self._mark(self._indices[source] for source in sources), left))

    def _members(self, topic: str, source: Source | None = None, instead: Told | None = None) -> dict[str, Member]:
        """The topic's hosts; `instead` is what `source` says now."""
        members: dict[str, Member] = {}
        for one in self._sources(topic):
            told = instead if one == source else self._told.get(one)
            for host, member in (told.members if told else {}).items():
                members[host] = joined(members[host], member) if host in members else member
        return members


class _Work:
    """Tasks by what they are for; the first that fails ends all."""

    def __init__(self) -> None:
        self._tasks: dict[Source | None, asyncio.Task[None]] = {}

    def __contains__(self, key: Source | None) -> bool:
        return key in self._tasks

    def add(self, key: Source | None, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[key] = asyncio.create_task(work)

    def keep(self, keys: set[Source | None]) -> None:
        for key in [key for key in self._tasks if key not in keys]:
            self._tasks.pop(key).cancel()

    async def until(self, something: Coroutine[Any, Any, None]) -> None:
        """Wait for it; raises what a task raises."""
        waiting = asyncio.create_task(something)
        try:
            done, _ = await asyncio.wait([waiting, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            waiting.cancel()

    async def end(self) -> None:
        await ended(self._tasks.values())
        for task in self._tasks.values():
            if not task.cancelled():
                task.exception()  # one has been raised already; that there were others is no news


async def _pause(began: float, new: bool, pause: float = 0.0) -> None:
    """Between two questions: none for what took its time, more when answers come at once and say nothing."""
    if not new and time.monotonic() - began < _SLOW:
        pause = _SLOW
    if pause:
        await asyncio.sleep(min(_SLOW, pause))
