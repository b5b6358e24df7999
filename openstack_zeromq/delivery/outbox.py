"""Outbox: messages of one service process, kept until somebody has taken them.

The receiver may die at any moment: whatever it has not finally answered is sent again to its next incarnation, marked as
resent, under the same id. The outbox is bounded for each target, so that a slow one holds up nobody else; the shell makes senders
wait for `room`.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from openstack_zeromq.delivery.bounds import Bounds, Key, Shares
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.timers import Timers
from openstack_zeromq.wire import Answer, AnswerEntry, MessageId

BACK_OFF_FIRST = 0.02
BACK_OFF_MOST = 1.0
FINAL = frozenset({Answer.TAKEN, Answer.NOROUTE, Answer.REJECTED, Answer.EXPIRED})


class Transmit(NamedTuple):
    """Send `message` to the local receiver; again: name the host that it went to, if that is known."""

    message: Message
    resent: bool
    former_host: str = ""


class Outcome(NamedTuple):
    """Tell the sender: ACCEPTED (once), BUSY (it will be sent again), or how it ended."""

    id: MessageId
    answer: Answer
    reason: str


class _Kept:
    """A message; `counted`: it has a share of the room."""

    __slots__ = ("accepted", "counted", "host", "message", "refusals", "sends")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.counted = True
        self.sends = 0
        self.accepted = False
        self.refusals = 0
        self.host = ""


class Outbox:
    """`jitter()` is a factor around 1. `until_accepted`: what the receiver has accepted takes no room here. So it is with
    notifications: the receiver bounds how many wait for a listener, and says which of them it dropped."""

    def __init__(self, bounds: Bounds, jitter: Callable[[], float], *, until_accepted: bool = False) -> None:
        self._jitter = jitter
        self._until_accepted = until_accepted
        self._kept: OrderedDict[MessageId, _Kept] = OrderedDict()
        self._shares: Shares[Key] = Shares(bounds)
        self._timers = Timers()
        self._next_expiry_check = 0.0
        self._incarnation: int | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def room(self, key: Key, size: int) -> bool:
        """Is there room for another message of `size` bytes to this target now?"""
        return self._shares.room(key, size)

    @property
    def refused(self) -> bool:
        """Is anything to be sent again because the receiver was busy?"""
        return bool(self._timers)

    @property
    def all_accepted(self) -> bool:
        """Has the receiver taken over everything?"""
        return all(kept.accepted for kept in self._kept.values())

    def settled(self, following: int) -> int:
        """The sequence below which nothing will ever be sent again; `following` is the next one to be used."""
        oldest = next(iter(self._kept), None)
        return following if oldest is None else oldest.sequence

    def add(self, message: Message) -> list[Transmit]:
        """A new message, to be sent as soon as a receiver is there."""
        kept = self._kept[message.id] = _Kept(message)
        self._shares.take(_key(message), len(message.body))
        return [] if self._incarnation is None else [self._transmit(kept)]

    def receiver(self, incarnation: int) -> list[Transmit]:
        """The local receiver is there, as `incarnation`; a new one gets everything again."""
        if incarnation == self._incarnation:
            return []
        self._incarnation = incarnation
        return [self._transmit(kept) for kept in self._kept.values()]

    def receiver_lost(self) -> None:
        """There is no receiver now; what comes waits for the next."""
        self._incarnation = None

    def answered(self, entry: AnswerEntry, now: float) -> list[Outcome]:
        """The receiver says what became of a message."""
        kept = self._kept.get(entry.id)
        if kept is None:
            return []
        if entry.answer in FINAL:
            self._forget(entry.id)
            return [Outcome(entry.id, entry.answer, entry.reason)]
        if entry.answer is Answer.BUSY:
            kept.refusals += 1
            pause = min(BACK_OFF_FIRST * 2.0 ** min(kept.refusals, 10), BACK_OFF_MOST) * self._jitter()
            self._timers.set(now + pause, entry.id)
            return [Outcome(entry.id, entry.answer, entry.reason)]
        kept.host = entry.reason or kept.host
        if kept.accepted:
            return []
        kept.accepted = True
        if self._until_accepted:
            self._give_back(kept)
        return [Outcome(entry.id, entry.answer, entry.reason)]

    def give_up(self, message_id: MessageId) -> None:
        """The sender does not want an answer any more (a call that timed out)."""
        if message_id in self._kept:
            self._forget(message_id)

    def tick(self, now: float) -> list[Transmit | Outcome]:
        """Time passed: send again what was refused for now, expire what is over."""
        actions: list[Transmit | Outcome] = []
        for message_id in self._timers.due(now):
            kept = self._kept.get(message_id)
            if kept is not None and self._incarnation is not None:
                actions.append(self._transmit(kept))
        if now >= self._next_expiry_check:
            self._next_expiry_check = now + 1.0
            for message_id in [key for key, kept in self._kept.items() if kept.message.expires <= now]:
                self._forget(message_id)
                actions.append(Outcome(message_id, Answer.EXPIRED, "no receiver took it in time"))
        return actions

    def _transmit(self, kept: _Kept) -> Transmit:
        kept.sends += 1
        resent = kept.sends > 1 and kept.sends - 1 > kept.refusals
        return Transmit(kept.message, resent, kept.host if resent else "")

    def _forget(self, message_id: MessageId) -> None:
        self._give_back(self._kept.pop(message_id))

    def _give_back(self, kept: _Kept) -> None:
        """Give back its share of the room; it may have done so before."""
        if kept.counted:
            kept.counted = False
            self._shares.give_back(_key(kept.message), len(kept.message.body))


def _key(message: Message) -> Key:
    header = message.header
    return header.exchange, header.topic, header.server
