"""Inbox: what one consumer was given, so that nothing is handed to the application twice.

It also knows what to tell a receiver that has just started: which messages are still being worked on here (`holding`). What was
taken, and may be resent by a sender who never heard of it, is in `Seen`: consumers that share a channel share that memory.

A consumer may have been given up without knowing it: it stood still, or its receiver was replaced. Then what it holds may have
been given to another consumer, and is **in doubt** until it has joined again and the receiver has said what is still its own. A
call or cast in doubt must not begin. To drop it loses nothing: it was never taken, so whoever sent it still has it. Copies of a
fanout are never in doubt, for nobody else gets them; nor are notifications, which may come twice.
"""

from collections.abc import Collection
from enum import Enum, auto

from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.wire import Header, Kind, MessageId


class Verdict(Enum):
    """What to do with a message that came in."""

    NEW = auto()
    HELD = auto()
    TAKEN = auto()


class Begin(Enum):
    """May a call or cast begin?"""

    NOW = auto()
    IN_DOUBT = auto()
    NEVER = auto()


class Keeps(Enum):
    """Which calls and casts a consumer that joins may still begin, of those that it was given before: all, those that it named,
    or none, because they may be another's."""

    ALL = "all"
    NAMED = "named"
    NONE = "none"


class Inbox:
    """`seen`: what was taken by this consumer, or by others of the same process in its stead; `copies`: this consumer gets copies
    that are its alone."""

    def __init__(self, seen: Seen, copies: bool = False) -> None:
        self._seen = seen
        self._copies = copies
        self._holding: dict[MessageId, bool] = {}  # and whether it can come in doubt
        self._doubtful: dict[MessageId, None] = {}

    @property
    def holding(self) -> list[MessageId]:
        """Given to the application, not yet taken by it."""
        return list(self._holding)

    @property
    def holding_any(self) -> bool:
        """Is there any of it?"""
        return bool(self._holding)

    def arrive(self, header: Header, now: float, in_doubt: bool = False) -> Verdict:
        """A message came in: hand it out if it is NEW; answer again if it was TAKEN; say nothing while it is HELD. `in_doubt`: it
        came before the receiver had confirmed that this consumer joined."""
        taken = self._seen.meet(header, now)
        if header.id in self._holding:
            return Verdict.HELD
        if taken:
            return Verdict.TAKEN
        once = header.kind in (Kind.CALL, Kind.CAST) and not self._copies
        self._holding[header.id] = once
        if once and in_doubt:
            self._doubtful[header.id] = None
        return Verdict.NEW

    def may_begin(self, message_id: MessageId) -> Begin:
        """May the application begin with a call or cast that it was given? NEVER: it was taken, or dropped."""
        if message_id not in self._holding:
            return Begin.NEVER
        return Begin.IN_DOUBT if message_id in self._doubtful else Begin.NOW

    def doubt(self) -> None:
        """Another consumer may have been given what this one holds."""
        self._doubtful |= dict.fromkeys(message_id for message_id, once in self._holding.items() if once)

    def settle(self, kept: Collection[MessageId] | None, named: Collection[MessageId] = ()) -> None:
        """The receiver has said what this consumer keeps (None: all). Drop the other calls and casts that are in doubt, or that
        the consumer `named` when it joined: the receiver gives them to any consumer."""
        if kept is not None:
            for message_id in {*self._doubtful, *named}.difference(kept):
                if self._holding.get(message_id):
                    del self._holding[message_id]
        self._doubtful.clear()

    def take(self, message_id: MessageId, now: float) -> None:
        """The application has taken it."""
        self._holding.pop(message_id, None)
        self._doubtful.pop(message_id, None)
        self._seen.add(message_id, now)

    def give_back(self, message_id: MessageId) -> None:
        """The application does not want it (now): it may come again."""
        self._holding.pop(message_id, None)
        self._doubtful.pop(message_id, None)
