"""Following: the matchmaker of any store. A thread asks the store, `holding` decides what to believe, lookups come from memory.

Only what is asked for is followed: the first lookup of a topic makes it wanted, its answer comes a moment later. While the store
is away what is known stays; the thread tries again for ever.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter as Counts
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace

from oslo_log import log as logging

from openstack_zeromq.errors import StoreError
from openstack_zeromq.matchmaker.base import Matchmaker, Members, Registration, Topic, View
from openstack_zeromq.matchmaker.holding import Holding, Mark, Reading, Rules, Why
from openstack_zeromq.matchmaker.snapshot import Snapshot
from openstack_zeromq.matchmaker.store import Store, Wanted, ended
from openstack_zeromq.options import GROUP

LOG = logging.getLogger(__name__)

WANTED_MOST = 10_000
"""Topics that are followed at a time; whoever invents names cannot make it more."""

IN_DOUBT = Mark("in doubt")
"""How far the store was is not remembered of a topic that is held: a start in the midst of that begins with a warm-up."""

_RETRY_FIRST = 0.1
_RETRY_MOST = 5.0
_TICK = 0.2
_GATHER = 0.01
_SAVE_EVERY = 5.0
_UNUSED_AFTER = 3600.0
_END_WITHIN = 5.0
_NAMED = 10

_READS = "reads"
_BEATS = "registrations"
_CANARY = "canary"
_TIME = "timekeeping"
_SNAPSHOT = "snapshots"
_WANTED = "topics"


class StoreMatchmaker(Matchmaker):
    """`make` makes the store, within the thread's loop; the node is registered every `beat` seconds. May be called from any
    thread."""

    def __init__(
        self, make: Callable[[], Store], registration: Registration, beat: float, rules: Rules, snapshot: Snapshot
    ) -> None:
        self._make = make
        self._beat_every = beat
        self._snapshot = snapshot
        memory = snapshot.load()
        self._saved = memory.saved
        self._former = memory.registered
        self._registration = registration
        self._registered: Mapping[str, frozenset[str]] | None = None
        self._holding = Holding(rules, memory.topics)
        self._arranged: dict[str, tuple[Members, Topic]] = {}
        self._problems: dict[str, str] = {}
        self._failures: Counts[str] = Counts()
        self._counts: Counts[str] = Counts()
        self._used: set[str] = set(memory.topics)
        self._asked: deque[str] = deque(memory.topics)
        self._dropped: set[str] = set()
        self._held: dict[str, tuple[Why, float]] = {}
        self._holds = 0
        self._gathering = self._unsaved = False
        self._save_at = 0.0
        self._forget_at = time.monotonic() + _UNUSED_AFTER
        self._thread: threading.Thread | None = None
        self._refused: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: Callable[[], None] = lambda: None
        self._heard_at: float | None = None
        self._next = self.view = self._arrange()

    # lookups

    def _find(self, topic: str) -> Topic | None:
        if topic not in self._used:
            self._ask(topic)
        return self.view.topics.get(topic)

    def _ask(self, topic: str) -> None:
        """Have it followed."""
        if len(self._used) >= WANTED_MOST:
            self._counts["unwanted"] += 1
            self._problems[_WANTED] = f"{WANTED_MOST} are followed, others beyond that are not; which service invents them?"
            return
        self._used.add(topic)
        self._asked.append(topic)
        self._call(self._take_asked)

    def refresh(self) -> bool:
        if self.view is self._next:
            return False
        self.view = self._next
        return True

    @property
    def alive(self) -> bool:
        return self._thread is None or self._thread.is_alive()

    @property
    def problem(self) -> str:
        reasons: dict[str, list[str]] = {}
        for what, why in list(self._problems.items()):
            reasons.setdefault(why, []).append(what)
        return "; ".join(
            f"{' and '.join(whats)}: {why}" + ("; what is known is kept" if _READS in whats else "")
            for why, whats in reasons.items()
        )

    def status(self) -> dict[str, object]:
        now = time.monotonic()
        holding = self._holding
        return {
            "stale": holding.stale,
            "heard_s_ago": None if self._heard_at is None else round(now - self._heard_at, 1),
            "snapshot_saved": self._saved,
            "topics": {name: len(topic.hosts) for name, topic in sorted(self.view.topics.items())},
            "held": {
                name: {"why": held.why.value, "hosts": list(held.hosts), "for_s": round(now - held.since, 1)}
                for name, held in holding.held.items()
            },
            "counters": dict(sorted({**self._counts, **holding.counts}.items())),
        }

    # what the node does

    def start(self, changed: Callable[[], None]) -> None:
        """:raises ConfigError: the store cannot be made out of what the options say."""
        self._changed = changed
        started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(started),), daemon=True, name="matchmaker")
        self._thread.start()
        started.wait()
        if self._refused is not None:
            self._thread.join()
            raise self._refused

    @property
    def former(self) -> Mapping[str, frozenset[str]]:
        return self._former

    def register(self, topics: Mapping[str, Collection[str]]) -> None:
        registered = {topic: frozenset(servers) for topic, servers in topics.items()}
        if registered != self._registered:
            self._registration = replace(self._registration, topics=registered)
            self._registered = registered
            self._call(self._tell_now)

    def release(self, topic: str) -> bool:
        held = topic in self._holding.held
        self._call(lambda: self._release(topic))
        return held

    def close(self) -> bool:
        if self._thread is not None:
            self._call(self._stop)
            self._thread.join(_END_WITHIN)
            if self._thread.is_alive():
                LOG.error("the matchmaker's thread does not end; the process ends without it")
                return False
        return True

    # from here on: the thread

    async def _main(self, started: threading.Event) -> None:
        self._wanted = Wanted()
        self._beat_due = asyncio.Event()
        self._stopped = asyncio.Event()
        try:
            self._store = self._make()
        except BaseException as exc:  # whoever starts the thread is to know
            self._refused = exc
            return
        finally:
            self._loop = asyncio.get_running_loop()
            started.set()
        self._take_asked()
        work = [
            asyncio.create_task(self._for_ever(_READS, lambda: self._store.follow(self._wanted, self))),
            asyncio.create_task(self._for_ever(_BEATS, self._beat)),
            asyncio.create_task(self._for_ever(_TIME, self._keep_time)),
        ]
        await self._stopped.wait()
        await ended(work)
        self._save()
        await self._store.close()

    def _call(self, function: Callable[[], None]) -> None:
        """Have the thread do it; before the start, and after the end, it is not there to do anything."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(function)

    def _tell_now(self) -> None:
        """The store, and the next receiver should this one be killed."""
        self._beat_due.set()
        self._save()

    def _stop(self) -> None:
        self._stopped.set()

    async def _for_ever(self, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
        """Do it again whatever happens, more slowly while it fails."""
        while True:
            began = time.monotonic()
            try:
                await attempt()
                self._well(what)
                self._failures[what] = 0
                continue
            except StoreError as exc:
                self._failed(what, str(exc), exc.unwritten)
            except Exception as exc:  # the receiver must outlive whatever a store can think of
                LOG.exception("the matchmaker's %s failed", what)
                self._failed(what, f"{type(exc).__name__}: {exc}")
            if time.monotonic() - began > _RETRY_MOST:
                self._failures[what] = 1
            await asyncio.sleep(_back_off(self._failures[what]) * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries

    def _failed(self, what: str, why: str, unwritten: bool = False) -> None:
        self._failures[what] += 1
        if what == _READS:
            self._holding.failed()
        elif unwritten:
            self._holding.refused(time.monotonic())
        self._counts[f"failed_{what}"] += 1
        self._problems[what] = why

    def _well(self, what: str) -> None:
        self._problems.pop(what, None)

    # the thread: registration

    async def _beat(self) -> None:
        """One registration; the next is due in a while, or when there is something new to say."""
        if self._registered is not None:
            self._beat_due.clear()
            await self._store.beat(self._registration)
            self._well(_BEATS)
            self._failures[_BEATS] = 0
        pause = self._beat_every * random.uniform(0.8, 1.2)  # noqa: S311 - spreads the nodes' beats
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._beat_due.wait()

    # the thread: what the store says

    def answers(self) -> None:
        self._heard_at = time.monotonic()
        self._holding.answers(self._heard_at)
        self._well(_READS)

    def reading(self, reading: Reading) -> None:
        self.answers()
        self._problems.pop(f"topic {reading.topic}", None)
        self._note(self._holding.read(reading, time.monotonic()))

    def canary(self, there: bool) -> None:
        if there:
            self._problems.pop(_CANARY, None)
        else:
            self._problems[_CANARY] = Why.CANARY.value
        self._note(self._holding.canary(there, time.monotonic()))

    def unreadable(self, topic: str, why: str) -> None:
        self._counts["unreadable"] += 1
        self._problems[f"topic {topic}"] = why

    def garbage(self, what: str) -> None:
        self._counts["garbage"] += 1
        if self._counts["garbage"] == 1:
            LOG.warning("left out of what the store says: %s (logged once; counted as 'garbage')", what)

    def _note(self, news: bool) -> None:
        """Show the loop what is new, once some more may have come; a loss that is held changes nothing, but is said."""
        if self._holding.counts["held"] != self._holds:
            self._holds = self._holding.counts["held"]
            self._say_held()
        if news and not self._gathering:
            self._gathering = True
            asyncio.get_running_loop().call_later(_GATHER, self._show)

    def _show(self) -> None:
        self._gathering = False
        self._unsaved = True
        before, self._next = self._next, self._arrange()
        self._log(before, self._next)
        self._changed()

    def _log(self, before: View, after: View) -> None:
        """One line for each topic that changed."""
        for name, topic in after.topics.items():
            old = before.topics.get(name)
            if topic is old:
                continue
            was, now = set(old.hosts) if old else set(), set(topic.hosts)
            LOG.info("topic %s: added %s, removed %s, %s hosts", name, _few(now - was), _few(was - now), len(now))

    def _say_held(self) -> None:
        """One line for each hold that is new; and the snapshot is to know of it."""
        self._unsaved = True
        held = self._holding.held
        for name, one in held.items():
            if self._held.get(name) != (one.why, one.since):
                LOG.warning("topic %s: %s are held, though the store has lost them: %s", name, _few(one.hosts), one.why.value)
        self._held = {name: (one.why, one.since) for name, one in held.items()}

    def _arrange(self) -> View:
        """The view of what is believed; topics that are as they were are not arranged again."""
        arranged: dict[str, tuple[Members, Topic]] = {}
        for name, members in self._holding.topics.items():
            before = self._arranged.get(name)
            arranged[name] = before if before is not None and before[0] is members else (members, Topic.of(members))
        self._arranged = arranged
        return View({name: topic for name, (_, topic) in arranged.items()})

    def _release(self, topic: str) -> None:
        self._note(self._holding.release(topic))

    # the thread: what is asked for, and what is remembered

    def _take_asked(self) -> None:
        while self._asked:
            self._wanted.add(self._asked.popleft())

    async def _keep_time(self) -> None:
        now = time.monotonic()
        self._note(self._holding.tick(now))
        if self._unsaved and now >= self._save_at:
            self._save_at = now + _SAVE_EVERY
            self._save()
        if self._dropped:
            self._forget_dropped()
        if now >= self._forget_at:
            self._forget_at = now + _UNUSED_AFTER
            self._forget_unused()
        await asyncio.sleep(_TICK)

    def _save(self) -> None:
        known = {name: one if one.held is None else one._replace(mark=IN_DOUBT) for name, one in self._holding.known.items()}
        try:
            self._snapshot.save(known, self._registered if self._registered is not None else self._former)
            self._unsaved = False
            self._well(_SNAPSHOT)
        except OSError as exc:
            where = self._snapshot.directory
            self._failed(
                _SNAPSHOT, f"[{GROUP}] zmq_state_dir = {where}: {exc.strerror}; a start without the store would know nothing"
            )

    def _forget_unused(self) -> None:
        """Follow no longer what nobody has asked for since the last time and nobody serves; while the store is away, everything.

        What is dropped here is forgotten at the next look: whoever asks for it in between still finds it.
        """
        if _READS in self._problems:
            return
        topics, held = self._holding.topics, self._holding.held
        for topic in [topic for topic in self._wanted if topic not in self._used and not topics.get(topic) and topic not in held]:
            self._wanted.discard(topic)
            self._dropped.add(topic)
        self._used = set()
        self._problems.pop(_WANTED, None)

    def _forget_dropped(self) -> None:
        for topic in self._dropped - set(self._wanted):
            self._holding.forget(topic)
            self._note(True)
        self._dropped.clear()


def _back_off(failures: int) -> float:
    """Seconds, however long it has failed."""
    return min(_RETRY_MOST, _RETRY_FIRST * 2.0 ** min(failures, 16))


def _few(hosts: Collection[str]) -> str:
    """The first of them, for a line of the log."""
    named = sorted(hosts)
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return (", ".join(named[:_NAMED]) or "-") + more
