"""Follower: hear what a store says of a few topics, for ever, and hold what looks like an accident.

It lives in an asyncio loop and asks again whatever happens. What to believe is `matchmaker.holding`'s decision, as in a receiver.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping

from oslo_log import log as logging

from openstack_zeromq.errors import StoreError
from openstack_zeromq.matchmaker.holding import Holding, Known, Reading, Rules, Why
from openstack_zeromq.matchmaker.store import Store, Wanted

LOG = logging.getLogger(__name__)

_RETRY_FIRST = 0.1
_RETRY_MOST = 5.0


class Follower:
    """`former` is what is remembered of `topics`; `heard` is called after everything that the store says."""

    def __init__(
        self, store: Store, topics: Iterable[str], rules: Rules, former: Mapping[str, Known], heard: Callable[[], None]
    ) -> None:
        self.holding = Holding(rules, former)
        if former:
            self.holding.answers(time.monotonic())  # what is remembered is as old as this process, at least
        self._canary = True
        self.away_since: float | None = None
        self.problem = ""
        self._store = store
        self._topics = frozenset(topics)
        self._wanted = Wanted()
        for topic in self._topics:
            self._wanted.add(topic)
        self._heard = heard
        self._failures = 0
        self._garbage = False

    @property
    def unheard(self) -> list[str]:
        """Topics of which the store has said nothing since the start."""
        return sorted({*self._topics - set(self.holding.topics), *self.holding.stale})

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._store.follow(self._wanted, self)
            except StoreError as exc:
                self._failed(str(exc))
            except Exception as exc:  # the sync must outlive whatever a store can think of
                LOG.exception("reading %s failed", self._store.name)
                self._failed(f"{type(exc).__name__}: {exc}")
            delay = min(_RETRY_MOST, _RETRY_FIRST * 2 ** min(self._failures, 10))
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing

    # what the store says

    def answers(self) -> None:
        self.holding.answers(time.monotonic())

    def reading(self, reading: Reading) -> None:
        self.answers()
        self._well()
        self.holding.read(reading, time.monotonic())
        self._heard()

    def canary(self, there: bool) -> None:
        self._canary = there
        self.holding.canary(there, time.monotonic())
        if there:
            self._well()
        else:
            self._unwell(f"{self._store.name}: {Why.CANARY.value}")
        self._heard()

    def unreadable(self, topic: str, why: str) -> None:
        self._unwell(f"topic {topic}: {why}")

    def garbage(self, what: str) -> None:
        if not self._garbage:
            self._garbage = True
            LOG.warning("left out of what %s says: %s (logged once)", self._store.name, what)

    def _failed(self, why: str) -> None:
        self._failures += 1
        self.holding.failed()
        self._unwell(why)

    def _unwell(self, why: str) -> None:
        self.problem = why
        if self.away_since is None:
            self.away_since = time.monotonic()
            self._heard()

    def _well(self) -> None:
        """That something answers is not enough: what it says must be worth something."""
        if self._canary:
            self._failures = 0
            if self.away_since is not None:
                self.away_since, self.problem = None, ""
                self._heard()
