"""Past: what is known here of the time before this receiver started.

A receiver that has just started does not know what its predecessor handed out, nor who listens. Services that were here come
back and say what they hold (claims) and what they took (words). Until each of them has, for at most `GRACE` seconds, what may
have been handed out before is kept back.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.channel import ConsumerId
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.wire import MessageId

Origin = bytes
Lane = Channel | ConsumerId

GRACE = 3.0
"""Seconds after which a service that has not come back counts as dead, as everywhere else."""


@dataclass(frozen=True, slots=True)
class Former:
    """What is left of an earlier receiver. `services`: those that it knew; None: nobody can tell. `begun(service)`: what
    a service has begun to execute, as its journal says, also when it is dead. `given_up(service)`: the same, and from then on the
    service begins nothing of what it was given before."""

    services: Collection[int] | None = None
    begun: Callable[[int], list[MessageId]] = lambda _service: []
    given_up: Callable[[int], list[MessageId]] = lambda _service: []


class Kept(NamedTuple):
    """A message that is kept back, with how it came."""

    origin: Origin
    message: Message
    round: int


@dataclass(slots=True)
class Word:
    """What was said of a message before it arrived here: lanes that took it, and consumers that gave it back."""

    until: float
    lanes: set[Lane] = field(default_factory=set)
    given_back: set[ConsumerId] = field(default_factory=set)


class Past:
    """`remember`: seconds for which a word is remembered. `expected`: the services that the predecessor knew; None: nobody can
    tell."""

    def __init__(self, bounds: Bounds, remember: float, started: float, expected: Iterable[int] | None) -> None:
        self.kept: dict[MessageId, Kept] = {}
        self._bounds = bounds
        self._kept_bytes = 0
        self._remember = remember
        self._grace_until = started + GRACE
        self._expected = None if expected is None else set(expected)
        self._words: dict[MessageId, Word] = {}
        self._claims: dict[MessageId, set[ConsumerId]] = {}

    # the grace

    def awaited(self, now: float) -> Collection[int]:
        """Services that have yet to come back."""
        return (self._expected or ()) if self.in_grace(now) else ()

    def expects(self, client: int, now: float) -> bool:
        """May `client` have been given messages by the predecessor that are kept back for it?"""
        return self.in_grace(now) and (self._expected is None or client in self._expected)

    def missing(self) -> Collection[int]:
        """Return, once, the services that did not come back although the grace is over."""
        missing, self._expected = self._expected or (), set()
        return missing

    def came_back(self, client: int) -> None:
        """A service has said everything that there is to say."""
        if self._expected:
            self._expected.discard(client)

    def in_grace(self, now: float) -> bool:
        """Is anybody still waited for?"""
        return now < self._grace_until and (self._expected is None or bool(self._expected))

    def keep(self, kept: Kept) -> bool:
        """Keep a message back; False when there is no room."""
        if kept.message.id not in self.kept:
            size = len(kept.message.body)
            if len(self.kept) >= self._bounds.messages or self._kept_bytes + size > self._bounds.bytes:
                return False
            self._kept_bytes += size
        self.kept[kept.message.id] = kept
        return True

    def release(self, message_id: MessageId) -> Kept:
        """It need not be kept back any longer."""
        kept = self.kept.pop(message_id)
        self._kept_bytes -= len(kept.message.body)
        return kept

    # claims

    def claim(self, message_id: MessageId, consumer: ConsumerId) -> None:
        """`consumer` holds a message that has not arrived here."""
        self._claims.setdefault(message_id, set()).add(consumer)

    def unclaim(self, message_id: MessageId, consumer: ConsumerId) -> None:
        """It does not any more."""
        holders = self._claims.get(message_id)
        if holders is not None:
            holders.discard(consumer)
            if not holders:
                del self._claims[message_id]

    def unclaim_all(self, consumer: ConsumerId) -> None:
        """A consumer is gone."""
        for message_id in [message_id for message_id, holders in self._claims.items() if consumer in holders]:
            self.unclaim(message_id, consumer)

    def holders(self, message_id: MessageId) -> list[ConsumerId]:
        """Who said that it holds this message."""
        return list(self._claims.get(message_id, ())) if self._claims else []

    # words

    def took(self, message_id: MessageId, lane: Lane, now: float) -> None:
        """A lane took a message, before it arrived here."""
        self._word(message_id, now).lanes.add(lane)

    def gave_back(self, message_id: MessageId, consumer: ConsumerId, now: float) -> None:
        """A consumer gave back a message, before it arrived here."""
        self._word(message_id, now).given_back.add(consumer)

    def word(self, message_id: MessageId) -> Word | None:
        """What was said of a message."""
        return self._words.get(message_id)

    def settle(self, message_id: MessageId) -> None:
        """A message was taken in every lane; better is known of it now than any word."""
        self._words.pop(message_id, None)

    def tick(self, now: float) -> None:
        """Forget words that nobody can ask for any more."""
        for message_id in [message_id for message_id, word in self._words.items() if word.until <= now]:
            del self._words[message_id]

    def _word(self, message_id: MessageId, now: float) -> Word:
        return self._words.setdefault(message_id, Word(now + self._remember))
