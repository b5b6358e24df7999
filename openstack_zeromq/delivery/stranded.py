"""Stranded: messages that nobody takes now. They wait in order, for each target; the first of them asks for all.

So a program may notify before any listener exists, and a listener that comes gets everything in the order in which it was sent.
"""

import heapq
from collections.abc import Callable, Iterator
from operator import itemgetter

from openstack_zeromq.delivery.bounds import Key
from openstack_zeromq.wire import MessageId

BACK_OFF_FIRST = 0.05
BACK_OFF_MOST = 2.0
PATIENCE = 1.0
"""Seconds without an answer to the first message after which the others do not wait for it any longer."""


class _Group:
    """`in_order` is a heap of what waits, and of what waited: an entry counts while `waiting` has the same arrival number."""

    __slots__ = ("due", "in_order", "probe", "rounds", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[MessageId, int] = {}
        self.in_order: list[tuple[int, MessageId]] = []
        self.probe: MessageId | None = None
        self.rounds = 0
        self.due = 0.0

    def add(self, arrival: int, message_id: MessageId) -> None:
        """Let a message wait; it may do so already."""
        if self.waiting.get(message_id) != arrival:
            self.waiting[message_id] = arrival
            heapq.heappush(self.in_order, (arrival, message_id))

    def first(self) -> MessageId:
        """Return the message that came first."""
        while self.waiting.get(self.in_order[0][1]) != self.in_order[0][0]:
            heapq.heappop(self.in_order)
        return self.in_order[0][1]

    def first_idle(self) -> tuple[int, MessageId] | None:
        """Return arrival number and id of the first message that does not ask; None: there is none."""
        if self.first() != self.probe:
            return self.in_order[0]
        if len(self.waiting) == 1:
            return None
        asking = heapq.heappop(self.in_order)
        self.first()
        idle = self.in_order[0]
        heapq.heappush(self.in_order, asking)
        return idle


class Stranded:
    """`jitter()` is a factor around 1. An arrival number says in which order messages were accepted."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._groups: dict[Key, _Group] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._groups

    def wait(self, key: Key, arrival: int, message_id: MessageId, now: float) -> None:
        """A message waits; if it was the one that asked, it asks again later."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
            self._later(group, now)
        if group.probe == message_id:
            group.probe = None
            self._later(group, now)
        group.add(arrival, message_id)

    def asks(self, key: Key, message_id: MessageId) -> bool:
        """Is this the message that asks for its target?"""
        group = self._groups.get(key)
        return group is not None and group.probe == message_id

    def free(self, key: Key) -> list[MessageId]:
        """Somebody takes messages for this target: all that wait, in order, but for the one that asked."""
        group = self._groups.pop(key, None)
        if group is None:
            return []
        in_order = sorted(group.waiting.items(), key=itemgetter(1))
        return [message_id for message_id, _ in in_order if message_id != group.probe]

    def forget(self, key: Key, message_id: MessageId) -> None:
        """A message does not wait any more: its time was over."""
        group = self._groups.get(key)
        if group is None:
            return
        group.waiting.pop(message_id, None)
        if group.probe == message_id:
            group.probe = None
        if not group.waiting:
            del self._groups[key]

    def hurry(self) -> None:
        """Something changed: ask for every target again."""
        for group in self._groups.values():
            group.due = 0.0

    def keys(self, exchange: str, topic: str) -> list[Key]:
        """Targets of this topic for which messages wait."""
        return [key for key in self._groups if key[:2] == (exchange, topic)] if self._groups else []

    def waiting(self) -> Iterator[tuple[Key, int]]:
        """Return every target, and how many messages wait for it."""
        return ((key, len(group.waiting)) for key, group in self._groups.items())

    def oldest(self, key: Key) -> MessageId | None:
        """Return the message that has waited longest for this target, besides the one that asks; None: there is none."""
        group = self._groups.get(key)
        first = None if group is None else group.first_idle()
        return None if first is None else first[1]

    def ask(self, now: float) -> list[MessageId]:
        """The first message of every target whose time has come."""
        asking = []
        for group in self._groups.values():
            if group.due <= now and group.probe is None:
                group.probe = group.first()
                group.due = now + PATIENCE
                asking.append(group.probe)
        return asking

    def overdue(self, now: float) -> list[Key]:
        """Targets whose first message went out and has no answer for long."""
        return [key for key, group in self._groups.items() if group.probe is not None and group.due <= now]

    def _later(self, group: _Group, now: float) -> None:
        group.rounds += 1
        group.due = now + min(BACK_OFF_FIRST * 2.0 ** min(group.rounds, 16), BACK_OFF_MOST) * self._jitter()
