"""Holding: which answers of a store to believe. Pure; the same rules for every store.

Hosts that a store adds are believed at once. That hosts are gone is **held**, and the old answer kept, when the store itself is
in doubt or the loss looks like an accident:

* the store does not answer: nothing changes;
* its generation (Consul: its index) went backwards or its epoch changed (restored, replaced, wiped): for `Rules.warm_up` seconds,
  in which nodes register again;
* it was away for longer than `Rules.outage`, or refuses registrations, so that nodes could not say that they are there: likewise;
* its canary, a thing that is always there, is not: until it is there again;
* a topic lost its last host: until an operator releases it, or a host comes;
* a topic lost more than half of its hosts, and more than two, at once or within that time: for `Rules.shrink_hold` seconds.

A host that said itself that it leaves is believed at once, too.
"""

from collections import Counter as Counts
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from openstack_zeromq.matchmaker.base import Members

EVERY = "*"
"""In `Rules.allow_empty`: every topic."""


class Why(StrEnum):
    """Why something is held."""

    CANARY = "the store has lost what is always there"
    WARM_UP = "the store was away, replaced or restored, or refuses registrations"
    EMPTY = "no host is left"
    SHRINK = "more than half of the hosts vanished at once"


@dataclass(frozen=True, slots=True)
class Rules:
    """Times in seconds; `allow_empty`: topics that may lose their last host."""

    warm_up: float = 60.0
    shrink_hold: float = 60.0
    outage: float = 20.0
    allow_empty: frozenset[str] = frozenset()


class Mark(NamedTuple):
    """How far a store is. `generation` only grows while `epoch` stays."""

    epoch: str = ""
    generation: int = 0


class Reading(NamedTuple):
    """A topic as a store tells it at one moment; `left`: hosts that said themselves that they do not serve it any more; `whole`:
    they may have said so long ago, else just now."""

    topic: str
    members: Members
    mark: Mark = Mark()
    left: Collection[str] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Held:
    """`hosts` would be gone; `since` and `until` are seconds of the caller's clock, `until` None: until somebody acts."""

    why: Why
    hosts: tuple[str, ...]
    since: float
    until: float | None


class Known(NamedTuple):
    """What is remembered of a topic over a restart; `held` in the new clock."""

    members: Members
    mark: Mark
    held: Held | None = None


@dataclass(slots=True)
class _Topic:
    """`members` are believed; `offered` is what the store said last, None while it has said nothing since the start; `lost`:
    hosts whose loss was believed lately, and when, for a loss in many steps is one loss."""

    members: Members
    mark: Mark
    offered: Members | None = None
    held: Held | None = None
    lost: dict[str, float] = field(default_factory=dict)


class Holding:
    """`now` is always in seconds of one clock that never goes back. Other threads may look at what is believed."""

    def __init__(self, rules: Rules, former: Mapping[str, Known] | None = None) -> None:
        """`former`: the topics that were known before a restart; they are stale until the store confirms them."""
        self.counts: Counts[str] = Counts()
        self._rules = rules
        remembered = former or {}
        self._topics = {name: _Topic(known.members, known.mark, held=known.held) for name, known in remembered.items()}
        held = [known.held for known in remembered.values() if known.held is not None]
        self._warm_until = max((one.until or 0.0 for one in held if one.why is Why.WARM_UP), default=float("-inf"))
        self._heard: float | None = None
        self._away = False
        self._canary = True

    # what is believed

    @property
    def topics(self) -> dict[str, Members]:
        return {name: topic.members for name, topic in list(self._topics.items())}

    @property
    def known(self) -> dict[str, Known]:
        """What to remember for the next start."""
        return {name: Known(topic.members, topic.mark, topic.held) for name, topic in list(self._topics.items())}

    @property
    def held(self) -> dict[str, Held]:
        return {name: held for name, topic in sorted(self._topics.items()) if (held := topic.held) is not None}

    @property
    def stale(self) -> list[str]:
        """Topics that the store has not confirmed since the start."""
        return sorted(name for name, topic in list(self._topics.items()) if topic.offered is None)

    def warming_up(self, now: float) -> bool:
        return now < self._warm_until

    # events

    def failed(self) -> None:
        """The store does not answer."""
        self._away = True

    def refused(self, now: float) -> None:
        """The store answers, but this node could not say that it is there; so perhaps others cannot, either."""
        self._warm_up(now)

    def answers(self, now: float) -> None:
        """The store answers."""
        if self._away and (self._heard is None or now - self._heard > self._rules.outage):
            self._warm_up(now)
        self._away, self._heard = False, now

    def read(self, reading: Reading, now: float) -> bool:
        """The store tells a topic; does what is believed change?"""
        topic = self._topics.get(reading.topic)
        if topic is None:
            topic = self._topics[reading.topic] = _Topic({}, reading.mark)
            news = True  # that it is known now is news even if nobody serves it
        else:
            news = False
            self._compare(topic.mark, reading.mark, now)
        topic.mark = reading.mark
        topic.offered = reading.members
        old_news = reading.whole and self.warming_up(now)  # a store that went back repeats goodbyes of long ago
        return self._judge(reading.topic, topic, () if old_news else reading.left, now) or news

    def canary(self, there: bool, now: float) -> bool:
        """Is that there which always is? Returns whether what is believed changes."""
        if there == self._canary:
            return False
        self._canary = there
        if not there:
            self.counts["canary_lost"] += 1
        return self._judge_all(now)

    def tick(self, now: float) -> bool:
        """Time passed: some holds end. Returns whether what is believed changes."""
        due = [
            name
            for name, topic in self._topics.items()
            if topic.offered is not None and topic.held is not None and topic.held.until is not None and topic.held.until <= now
        ]
        changes = [self._judge(name, self._topics[name], (), now) for name in due]
        return any(changes)

    def release(self, name: str) -> bool:
        """An operator believes what the store says of a topic; False when nothing of it is held."""
        topic = self._topics.get(name)
        if topic is None or topic.held is None or topic.offered is None:
            return False
        self.counts["released"] += 1
        topic.members, topic.held = topic.offered, None
        return True

    def forget(self, name: str) -> None:
        """Nobody asks for a topic any more."""
        self._topics.pop(name, None)

    # private

    def _compare(self, before: Mark, after: Mark, now: float) -> None:
        """Start a warm-up when the store went back in time."""
        if before == Mark() or (before.epoch == after.epoch and before.generation <= after.generation):
            return
        self._warm_up(now)

    def _warm_up(self, now: float) -> None:
        if not self.warming_up(now):
            self.counts["warm_ups"] += 1
        self._warm_until = now + self._rules.warm_up

    def _judge_all(self, now: float) -> bool:
        judged = [(name, topic) for name, topic in self._topics.items() if topic.offered is not None]
        changes = [self._judge(name, topic, (), now) for name, topic in judged]
        return any(changes)

    def _judge(self, name: str, topic: _Topic, left: Collection[str], now: float) -> bool:
        """Believe what can be believed of what is offered; hold the rest."""
        assert topic.offered is not None  # noqa: S101 - only what was offered is judged
        gone = {host: member for host, member in topic.members.items() if host not in topic.offered and host not in left}
        remembered = now - self._rules.shrink_hold
        topic.lost = {host: when for host, when in topic.lost.items() if when > remembered and host not in topic.offered}
        held = self._doubt(name, topic, gone, now) if gone else None
        if held is None:
            topic.lost |= dict.fromkeys(gone, now)
        if held is not None and (topic.held is None or topic.held.why is not held.why):
            self.counts["held"] += 1
        topic.held = held
        believed = topic.offered if held is None else {**topic.offered, **gone}
        changed = believed != topic.members
        topic.members = believed
        return changed

    def _doubt(self, name: str, topic: _Topic, gone: Members, now: float) -> Held | None:
        """Why `gone` may be an accident; None: it is to be believed."""
        hosts = tuple(sorted(gone))

        def since(why: Why) -> float:
            return topic.held.since if topic.held is not None and topic.held.why is why else now

        if not self._canary:
            return Held(Why.CANARY, hosts, since(Why.CANARY), None)
        if self.warming_up(now):
            return Held(Why.WARM_UP, hosts, since(Why.WARM_UP), self._warm_until)
        if not topic.offered and not self._rules.allow_empty & {name, EVERY}:
            return Held(Why.EMPTY, hosts, since(Why.EMPTY), None)
        until = since(Why.SHRINK) + self._rules.shrink_hold
        losses = len(gone) + len(topic.lost)
        if losses > 2 and 2 * losses > len(topic.members) + len(topic.lost) and now < until:
            return Held(Why.SHRINK, hosts, since(Why.SHRINK), until)
        return None
