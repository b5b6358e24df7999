"""Changes: one topic as it was read, and brought up to date change by change. Pure.

A change whose generation is not the next one means that one was missed: then nothing is known until the topic is read again.
What comes while it is being read is applied afterwards.
"""

import json
from enum import Enum, auto

from openstack_zeromq.matchmaker.base import Member
from openstack_zeromq.matchmaker.holding import Mark, Reading
from openstack_zeromq.matchmaker.redis import schema
from openstack_zeromq.matchmaker.redis.client import State, member


class Outcome(Enum):
    """What became of a change."""

    APPLIED = auto()
    KNOWN = auto()
    LATER = auto()
    MISSED_ONE = auto()
    GARBAGE = auto()


class Followed:
    """`mark` None: the topic is to be read; `subscribed`: its changes are heard from now on."""

    def __init__(self, topic: str) -> None:
        self.subscribed = False
        self.mark: Mark | None = None
        self._topic = topic
        self._members: dict[str, Member] = {}
        self._left: set[str] = set()
        self._early: list[bytes] = []
        self._whole = True

    def read(self, state: State) -> list[Outcome]:
        """It was read; what became of the changes that came meanwhile."""
        self.mark, self._members, self._left = state.mark, dict(state.members), set(state.left)
        self._whole = True
        early, self._early = self._early, []
        return [self.change(data) for data in early]

    def again(self) -> None:
        """It is to be read again."""
        self.mark = None

    def reading(self) -> Reading | None:
        """As it is now, each goodbye once; None while it is to be read."""
        if self.mark is None:
            return None
        left, self._left = self._left, set()
        whole, self._whole = self._whole, False
        return Reading(self._topic, dict(self._members), self.mark, left, whole)

    def change(self, data: bytes) -> Outcome:
        """Somebody came, changed, left or died."""
        if self.mark is None:
            self._early.append(data)
            return Outcome.LATER
        try:
            epoch, generation, what, host, facts = json.loads(data)
            mark = Mark(str(epoch), int(generation))
        except (ValueError, TypeError, OverflowError, RecursionError):
            return Outcome.GARBAGE
        if mark.epoch == self.mark.epoch and mark.generation <= self.mark.generation:
            return Outcome.KNOWN
        if mark != Mark(self.mark.epoch, self.mark.generation + 1):
            self.again()
            return Outcome.MISSED_ONE
        self.mark = mark
        return self._apply(what, str(host), str(facts))

    def _apply(self, what: object, host: str, facts: str) -> Outcome:
        self._left.discard(host)
        if what == schema.PLUS:
            found = member(host.encode(errors="replace"), facts.encode(errors="replace"))
            if found is None:
                return Outcome.GARBAGE
            self._members[host] = found
        else:
            self._members.pop(host, None)
            if what == schema.LEFT:
                self._left.add(host)
        return Outcome.APPLIED
