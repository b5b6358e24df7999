"""Inbox: what one consumer was given, so that nothing is handed to the application twice.

It also knows what to tell a receiver that has just started: which messages are still being worked on here (`holding`). What was
taken, and may be resent by a sender who never heard of it, is in `Seen`: consumers that share a channel share that memory.
"""

from enum import Enum, auto

from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.wire import Header, MessageId


class Verdict(Enum):
    """What to do with a message that came in."""

    NEW = auto()
    HELD = auto()
    TAKEN = auto()


class Inbox:
    """`seen`: what was taken by this consumer, or by others of the same process in its stead."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._holding: dict[MessageId, None] = {}

    @property
    def holding(self) -> list[MessageId]:
        """Given to the application, not yet taken by it."""
        return list(self._holding)

    @property
    def holding_any(self) -> bool:
        """Is there any of it?"""
        return bool(self._holding)

    def arrive(self, header: Header, now: float) -> Verdict:
        """A message came in: hand it out if it is NEW; answer again if it was TAKEN; say nothing while it is HELD."""
        taken = self._seen.meet(header, now)
        if header.id in self._holding:
            return Verdict.HELD
        if taken:
            return Verdict.TAKEN
        self._holding[header.id] = None
        return Verdict.NEW

    def take(self, message_id: MessageId, now: float) -> None:
        """The application has taken it."""
        self._holding.pop(message_id, None)
        self._seen.add(message_id, now)

    def give_back(self, message_id: MessageId) -> None:
        """The application does not want it (now): it may come again."""
        self._holding.pop(message_id, None)
