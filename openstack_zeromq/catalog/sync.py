"""Sync: what a store says of the topics of interest -> the ring on this node's disk, once or for ever.

The ring and its side-car are the memory: what they say is believed until the store says otherwise, and what looks like an
accident is held. Topics in the ring that are not of interest stay as they are (`prune`: they go). Nothing that goes wrong ends
a watch; while the store is away, or the disk full, the ring stays as it is. Nothing is written when nothing changed.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from oslo_log import log as logging

from openstack_zeromq.catalog import release, shape
from openstack_zeromq.catalog.changes import Change, changes
from openstack_zeromq.catalog.disk import Disk
from openstack_zeromq.catalog.follower import Follower
from openstack_zeromq.catalog.quiescence import Quiescence
from openstack_zeromq.catalog.shape import NOTHING, Published
from openstack_zeromq.errors import RingError, StoreError
from openstack_zeromq.matchmaker.holding import Rules
from openstack_zeromq.matchmaker.store import Store

LOG = logging.getLogger(__name__)

TICK = 0.4
"""Seconds between two looks at the clock, at the disk and for requests."""

AWAY_AFTER = 3.0
"""Seconds without an answer before the log and the side-car say so."""

_RETRY_MOST = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to sync to where, and how patiently."""

    disk: Disk
    topics: tuple[str, ...]
    rules: Rules
    quiet_for: float = 2.0
    at_most: float = 10.0
    prune: bool = False


class Written(NamedTuple):
    """What is on the disk now, and how its ring differs from the one before."""

    published: Published
    before: Published
    changes: list[Change]


class Sync:
    """To be made and used within one asyncio loop; `written` is called after each write."""

    def __init__(self, plan: Plan, store: Store, written: Callable[[Written], None] = lambda _: None) -> None:
        self._plan = plan
        self._store = store
        self._written = written
        self._offset = time.monotonic() - time.time()
        self._fault, self._away_said = "", False
        self._last = self._recall()
        now = time.monotonic()
        former = shape.memory(self._last, plan.topics, now, self._offset)
        self._follower = Follower(store, plan.topics, plan.rules, former, self._heard)
        self._quiescence = Quiescence(plan.quiet_for, plan.at_most)
        self._said: object = self._last.says()
        self._wake = asyncio.Event()
        self._news = True
        self._again_at, self._failures = 0.0, 0
        self._ready_at = now + max(plan.at_most, AWAY_AFTER)
        self._stamp = plan.disk.stamp()
        self._garbage: set[str] = set()

    @property
    def published(self) -> Published:
        """What is on the disk."""
        return self._last

    @property
    def settled(self) -> bool:
        """Was everything heard since the start, and is all of it on the disk?"""
        return not self._follower.unheard and not self._news and self._quiescence.due is None

    # once

    async def hear(self, within: float) -> None:
        """Hear of every topic, and take what was asked to be released.

        :raises StoreError: the store did not say enough in `within` seconds.
        """
        deadline = time.monotonic() + within
        async with self._following():
            while self._follower.unheard:
                self._wake.clear()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise StoreError(self._why_unheard(within))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), left)

    def outlook(self) -> Written:
        """What a write would change; released topics count as released, their requests stay.

        :raises RingError: there is something that is no ring, and nothing to put in its place.
        """
        for _, topic in release.asked(self._plan.disk.path):
            self._follower.holding.release(topic)
        before = self._read()
        after = self._desired(before)
        return Written(after, before, changes(before.ring, after.ring))

    def write(self) -> Written | None:
        """Write what `outlook` shows; None: everything is so already.

        :raises OSError: as the file system says.
        :raises RingError: something is in the way.
        """
        disk = self._plan.disk
        with disk.locked():
            disk.sweep()
            stamp, seen = disk.stamp(), self._read()
            after = self._desired(seen)
            if self._is_so(after):
                done = None
            else:
                stamp = disk.write(after, seen)
                done = Written(after, seen, changes(seen.ring, after.ring))
            self._stamp = stamp
            self._last = after if done else seen
        if done:
            self._written(done)
        return done

    def released(self) -> None:
        """What was asked to be released is done."""
        for path, _ in release.asked(self._plan.disk.path):
            release.taken(path)

    # for ever

    async def watch(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        LOG.info("the ring is kept: %s, topics %s from %s", self._plan.disk.path, ", ".join(self._plan.topics), self._store.name)
        async with self._following():
            while not stop.is_set():
                now = time.monotonic()
                self._look(now)
                if self._quiescence.is_due(now) and now >= self._again_at and self._ready(now):
                    self._try_write(now)
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._pause(now))
                if stop.is_set():
                    return

    def resync(self) -> None:
        """Look at everything again and write without waiting for quiet; SIGHUP."""
        LOG.info("looking at the ring and the store again")
        self._now()

    def wake(self) -> None:
        self._wake.set()

    # private

    @contextlib.asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._follower.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _heard(self) -> None:
        self._news = True
        self._wake.set()

    def _now(self) -> None:
        now = time.monotonic()
        self._quiescence = Quiescence(self._plan.quiet_for, self._plan.at_most)
        self._quiescence.changed(now - max(self._plan.at_most, self._plan.quiet_for))
        self._again_at = 0.0
        self._wake.set()

    def _look(self, now: float) -> None:
        """Is there anything new to write?"""
        self._take_requests()
        away = self._away(now)
        if away != self._away_said:
            self._away_said = away
            if away:
                LOG.error("the ring stays as it is: %s", self._follower.problem)
            else:
                LOG.info("%s answers again", self._store.name)
        if self._follower.holding.tick(now) or away != bool(self._last.problem):
            self._news = True
        if (stamp := self._plan.disk.stamp()) != self._stamp:
            self._stamp = stamp
            LOG.warning("somebody else changed %s or its side-car", self._plan.disk.path)
            self._said = None
            self._news = True
        if self._news:
            self._news = False
            said = self._desired(self._last).says()
            if said != self._said:
                self._said = said
                self._quiescence.changed(now)

    def _ready(self, now: float) -> bool:
        """At first it is waited for every topic, but not for ever; what knows of no host at all is worth no ring."""
        if not self._follower.unheard:
            return True
        return (now >= self._ready_at or self._away(now)) and any(self._follower.holding.topics.values())

    def _pause(self, now: float) -> float:
        due = self._quiescence.due
        wait = TICK if due is None else min(TICK, max(due, self._again_at) - now)
        return max(wait, 0.001) if self._ready(now) else TICK

    def _try_write(self, now: float) -> None:
        done, fault = None, ""
        try:
            done = self.write()
        except OSError as exc:
            fault = exc.strerror or str(exc)
        except RingError as exc:
            fault = str(exc)
        if fault:
            self._cannot(fault, now)
            return
        if self._fault:
            LOG.info("%s can be written again", self._plan.disk.path)
        self._fault, self._failures = "", 0
        self._quiescence.written()
        self._said = self._last.says()
        self._news = True
        if done:
            self._log(done)

    def _cannot(self, fault: str, now: float) -> None:
        """Say it once, and try again later."""
        self._failures += 1
        self._again_at = now + min(_RETRY_MOST, 0.2 * 2 ** min(self._failures, 10))
        if fault != self._fault:
            self._fault = fault
            LOG.error("%s stays as it is: %s", self._plan.disk.path, fault)

    def _log(self, done: Written) -> None:
        LOG.info("generation %s of %s", done.published.generation, self._plan.disk.path)
        for change in done.changes:
            LOG.info("%s: added %s, removed %s", change.key, ", ".join(change.added) or "-", ", ".join(change.removed) or "-")
        for topic, held in done.published.held.items():
            if held != done.before.held.get(topic):
                LOG.warning("%s: held, though the store has lost them (%s): %s", topic, held.why, ", ".join(held.hosts))

    def _take_requests(self) -> None:
        for path, topic in release.asked(self._plan.disk.path):
            if topic in self._follower.unheard:
                continue  # what to believe of it is not known yet
            if self._follower.holding.release(topic):
                LOG.info("%s: what was held is released, as asked for", topic)
                self._now()
            else:
                LOG.info("%s: to be released, but nothing of it is held", topic)
            release.taken(path)

    def _recall(self) -> Published:
        try:
            return self._plan.disk.read() or NOTHING
        except (OSError, RingError) as exc:
            LOG.error("%s cannot be remembered: %s", self._plan.disk.path, exc)
            return NOTHING

    def _read(self) -> Published:
        """What is on the disk; what was there last when that is no ring, or none."""
        try:
            return self._plan.disk.read() or self._last
        except RingError:
            if not self._last.ring and not any(self._follower.holding.topics.values()):
                raise  # an empty ring is no better than a broken one
            return self._last

    def _desired(self, before: Published) -> Published:
        holding = self._follower.holding
        published, garbage = shape.shape(holding.topics, NOTHING if self._plan.prune else before)
        for what in sorted(set(garbage) - self._garbage):
            LOG.warning("left out of the ring: %s", what)
        self._garbage.update(garbage)
        return replace(
            published,
            source=self._store.name,
            generation=before.generation + 1,
            held=shape.holds(holding.held, self._plan.topics, self._offset, before.held),
            marks={topic: known.mark for topic, known in sorted(holding.known.items())},
            problem=self._follower.problem if self._away(time.monotonic()) else "",
        )

    def _is_so(self, after: Published) -> bool:
        """Are the files as they would be written, but for what counts or tells the time?"""
        try:
            there = self._plan.disk.read()
        except RingError:
            return False
        return there is not None and there.says() == after.says() and self._plan.disk.is_canonical(after)

    def _away(self, now: float) -> bool:
        since = self._follower.away_since
        return since is not None and now - since >= AWAY_AFTER

    def _why_unheard(self, within: float) -> str:
        if self._follower.problem:
            return self._follower.problem
        return f"{self._store.name} has not told of {', '.join(self._follower.unheard)} within {within:g} s"
