"""Watch: follow a catalog without touching any ring, and have something done for every settled change.

`Sync` keeps what is believed of the catalog as a ring of our own in the state directory (`seen.json`), with all its care about
accidents and restarts. Beside it lies what was told (`told.json`). What differs is news, and stays news until somebody took it:
over failures, over further changes, over restarts. Nothing is told twice that was taken, but for a crash at that moment.

At the first start there is nothing to compare with: what is there then is taken as known.
"""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oslo_log import log as logging

from openstack_zeromq import systemd
from openstack_zeromq.catalog import shape
from openstack_zeromq.catalog.disk import Disk
from openstack_zeromq.catalog.news import NODES, News, Seen, is_plain, news
from openstack_zeromq.catalog.sync import Plan, Sync
from openstack_zeromq.catalog.ways import UndeliveredError, Way
from openstack_zeromq.errors import ConfigError, StoreError
from openstack_zeromq.matchmaker import choose, ring_file
from openstack_zeromq.matchmaker.store import Store, ended
from openstack_zeromq.options import Settings

LOG = logging.getLogger(__name__)

REMIND_EVERY = 3600.0
"""Seconds between two reminders of news that nobody took."""

_LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Interest:
    """What to follow: topics, and Consul's nodes whose Meta has all of `meta`."""

    topics: tuple[str, ...]
    nodes: bool = False
    meta: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """:raises ConfigError: it is nothing, or no topic."""
        if not self.topics and not self.nodes:
            raise ConfigError("nothing is of interest: name topics (or set [matchmaker_ring] topics), or ask for nodes")
        for topic in self.topics:
            if not shape.is_topic(topic) or topic == NODES:
                raise ConfigError(f"{topic!r} cannot be a topic of a ring: a name without a colon or white space around it")

    @property
    def followed(self) -> tuple[str, ...]:
        return (*self.topics, NODES) if self.nodes else self.topics

    def store(self, settings: Settings) -> Store:
        """For one asyncio loop.

        :raises ConfigError: its library is not installed, or it has no nodes.
        """
        if not self.nodes:
            return choose.store(settings)
        try:
            from openstack_zeromq.catalog import nodes  # noqa: PLC0415 - only who uses it needs it
        except ImportError as exc:
            raise ConfigError(f"{exc}; pip install 'openstack-zeromq[consul]'") from None
        return nodes.store(settings, self.meta)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: a change is told when nothing changed for `quiet_for`, at the latest `at_most` after it came; told again after
    `first`, twice that, and so on up to `longest`, `attempts` times in all."""

    quiet_for: float = 2.0
    at_most: float = 10.0
    attempts: int = 6
    first: float = 5.0
    longest: float = 300.0

    def pause(self, failures: int) -> float:
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True)
class State:
    """The files of one watch below `directory`."""

    directory: Path

    @property
    def seen(self) -> Disk:
        """What is believed of the catalog, as a ring: `zmqctl ring show|held|release --ringfile` know it."""
        return Disk(self.directory / "seen.json")

    @property
    def _told(self) -> Path:
        return self.directory / "told.json"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """:raises ConfigError: the directory cannot be used, or another watch does."""
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise ConfigError(f"{self.directory}: {exc.strerror}; name a directory that may be written, with --state") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigError(f"{self.directory}: another watch uses it; give each its own --state") from None
        try:
            yield
        finally:
            os.close(lock)

    def told(self) -> Seen | None:
        """What was told last; None: nothing yet.

        :raises ConfigError: it cannot be read.
        """
        try:
            return Seen.from_json(json.loads(self._told.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise ConfigError(f"{self._told}: {exc!r}; remove it, and what is there then counts as told") from None

    def keep(self, told: Seen) -> None:
        """:raises OSError: as the file system says."""
        ring_file.write(self._told, (json.dumps(told.to_json(), indent=1) + "\n").encode(), mode=0o640)


class Watch:
    """To be made and used within one asyncio loop, in a claimed state. `initial`: at the first start all is news."""

    def __init__(self, store: Store, settings: Settings, interest: Interest, state: State, patience: Patience) -> None:
        """:raises ConfigError: what was told cannot be read."""
        self._topics = interest.followed
        self._source, self._state, self._patience = store.name, state, patience
        self._told = state.told()
        plan = Plan(state.seen, self._topics, choose.rules(settings), patience.quiet_for, patience.at_most, prune=True)
        self._sync = Sync(plan, store, lambda _written: self._wake.set())
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        self._failures = 0
        self._strange: set[str] = set()

    async def run(self, way: Way, stop: asyncio.Event, *, initial: bool = False) -> None:
        """Until `stop`; a command that runs then is ended, and its news told at the next start."""
        telling = asyncio.create_task(self._tell(way, initial))
        stopping = asyncio.create_task(_set(stop))
        try:
            async with self._following(stop):
                await asyncio.wait({telling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended((telling, stopping))
        if not telling.cancelled():
            telling.result()  # it ends only by an error

    async def once(self, way: Way, within: float, *, initial: bool = False) -> News | None:
        """The first news, told; None: there was none within so many seconds.

        :raises StoreError: the store did not say enough in that time.
        :raises UndeliveredError: nobody took it.
        """
        stop = asyncio.Event()
        async with self._following(stop):
            try:
                async with asyncio.timeout(within):
                    return await self._next(way, initial, persistent=False)
            except TimeoutError:
                if not self._sync.settled:
                    raise StoreError(f"{self._source} has not said enough within {within:g} s") from None
                return None

    def retry(self) -> None:
        """Look at the store again, and tell at once what waits to be told; SIGHUP."""
        self._failures = 0
        self._hurry.set()
        self._wake.set()
        self._sync.resync()

    # private

    @contextlib.asynccontextmanager
    async def _following(self, stop: asyncio.Event) -> AsyncIterator[None]:
        task = asyncio.create_task(self._sync.watch(stop))
        try:
            yield
        finally:
            stop.set()
            self._sync.wake()
            await task

    async def _tell(self, way: Way, initial: bool) -> None:
        while True:
            await self._next(way, initial, persistent=True)

    async def _next(self, way: Way, initial: bool, *, persistent: bool) -> News:
        """Tell the next news; `persistent`: for as long as it takes.

        :raises UndeliveredError: nobody took it, and it was tried often enough.
        """
        await self._settled()
        while True:
            self._wake.clear()
            self._hurry.clear()
            seen = self._seen()
            found = news(self._known(seen, initial), seen, self._source)
            if not found:
                await self._wake.wait()
                continue
            try:
                LOG.info("%s: told: %s", found.document()["id"], found.summary())
                await way.take(found)
            except UndeliveredError as exc:
                await self._failed(found, exc, persistent)
            else:
                self._take_down(seen)
                self._failures = 0
                return found

    async def _settled(self) -> None:
        """Before everything was heard nothing is known to be news."""
        while not self._sync.settled:
            await asyncio.sleep(_LOOK_EVERY)

    def _known(self, seen: Seen, initial: bool) -> Seen:
        """What was told; topics that were not followed then count as told as they are now."""
        told = self._told or Seen(frozenset(self._topics) if initial else frozenset())
        if told.topics != seen.topics:
            new = seen.topics - told.topics
            ring = {key: hosts for key, hosts in seen.ring.items() if shape.topic_of(key) in new}
            kept = {key: hosts for key, hosts in told.ring.items() if shape.topic_of(key) in seen.topics}
            told = Seen(seen.topics, {**kept, **ring}, {**seen.addresses, **told.addresses}, told.generation)
        if told != self._told:
            self._take_down(told)
        return told

    def _take_down(self, told: Seen) -> None:
        """That it cannot be written is no reason to tell it again now."""
        self._told = told
        try:
            self._state.keep(told)
        except OSError as exc:
            LOG.error("%s: %s; what was told is told again after a restart", self._state.directory, exc.strerror or exc)

    def _seen(self) -> Seen:
        published = self._sync.published
        strange = {host for hosts in published.ring.values() for host in hosts if not is_plain(host)}
        if strange - self._strange:
            LOG.warning("not told, for they are no names of hosts: %s", ", ".join(sorted(map(repr, strange - self._strange))))
        self._strange = strange
        return Seen.of(published, self._topics)

    async def _failed(self, found: News, exc: UndeliveredError, persistent: bool) -> None:
        """Say so, and wait until it is to be tried again.

        :raises UndeliveredError: it is not.
        """
        self._failures += 1
        if self._failures < self._patience.attempts:
            pause = self._patience.pause(self._failures)
            again, most = self._failures + 1, self._patience.attempts
            LOG.warning("%s: %s; attempt %s of %s in %g s", found.document()["id"], exc, again, most, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
            return
        if not persistent:
            raise exc
        systemd.notify(f"STATUS=MISSED: nobody took {found.summary()}: {exc}")
        while not self._wake.is_set():
            LOG.critical(
                "MISSED: %s: nobody took it, %s times: %s. It stays to be told: with the next change, after SIGHUP or a restart",
                found.summary(),
                self._failures,
                exc,
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REMIND_EVERY):
                    await self._wake.wait()
        self._failures = 0
        systemd.notify("STATUS=told what was missed is tried again")


async def _set(event: asyncio.Event) -> None:
    await event.wait()
