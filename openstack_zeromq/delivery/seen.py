"""Seen: which messages were taken already. Exact, and small: it forgets what can not come again.

Each header carries `settled`: below that sequence its origin will never resend. So all that needs remembering of an origin
is the sequences taken since; a quiet origin is forgotten as a whole once every message it could still resend has expired.
"""

from dataclasses import dataclass, field

from openstack_zeromq.wire import Header, MessageId


@dataclass(slots=True)
class _Origin:
    settled: int
    heard: float
    taken: set[int] = field(default_factory=set)


class Seen:
    """`idle` is how long (seconds) a quiet origin is remembered: longer than any message lives."""

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._origins: dict[int, _Origin] = {}

    def __contains__(self, message_id: MessageId) -> bool:
        origin = self._origins.get(message_id.origin)
        return origin is not None and (message_id.sequence in origin.taken or message_id.sequence < origin.settled)

    def __len__(self) -> int:
        return sum(len(origin.taken) for origin in self._origins.values())

    def remembered(self) -> list[MessageId]:
        """Every id that could still come again."""
        return [MessageId(name, sequence) for name, origin in self._origins.items() for sequence in origin.taken]

    def note(self, header: Header, now: float) -> None:
        """Learn from a header what its origin has settled."""
        origin = self._origins.get(header.id.origin)
        if origin is None:
            self._origins[header.id.origin] = _Origin(header.settled, now)
            return
        origin.heard = now
        if header.settled > origin.settled:
            origin.settled = header.settled
            origin.taken = {sequence for sequence in origin.taken if sequence >= header.settled}

    def add(self, message_id: MessageId, now: float) -> None:
        """This message was taken."""
        origin = self._origins.setdefault(message_id.origin, _Origin(0, now))
        origin.heard = now
        if message_id.sequence >= origin.settled:
            origin.taken.add(message_id.sequence)

    def tick(self, now: float) -> None:
        """Forget origins that were quiet for longer than `idle`."""
        for name in [name for name, origin in self._origins.items() if now - origin.heard > self._idle]:
            del self._origins[name]
