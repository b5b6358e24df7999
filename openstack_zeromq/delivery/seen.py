"""Seen: which messages were taken already. Exact, and small: it forgets what can not come again.

Each header carries `settled`: below that sequence its origin will never resend. So all that needs remembering of an origin
is the sequences taken since; a quiet origin is forgotten as a whole once every message it could still resend has expired.
"""

from openstack_zeromq.delivery.origin import RANDOM_BITS
from openstack_zeromq.wire import Header, MessageId

MOST_ORIGINS = 10_000
"""Of one node, of which the first is forgotten when there are more: each process of a node has a few, and is forgotten when it is
quiet. A node that makes up origins without end spoils the memory of its own messages, and of no other node's."""


class _Origin:
    __slots__ = ("heard", "settled", "taken")

    def __init__(self, settled: int, heard: float) -> None:
        self.settled = settled
        self.heard = heard
        self.taken: set[int] = set()

    def settle(self, settled: int) -> None:
        """Usually a few steps on, with little or much remembered; after a long silence the other way round."""
        if settled - self.settled < len(self.taken):
            self.taken.difference_update(range(self.settled, settled))
        else:
            self.taken = {sequence for sequence in self.taken if sequence >= settled}
        self.settled = settled


class Seen:
    """`idle` is how long (seconds) a quiet origin is remembered: longer than any message lives."""

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._origins: dict[int, _Origin] = {}
        self._of_node: dict[int, dict[int, None]] = {}

    def __contains__(self, message_id: MessageId) -> bool:
        origin = self._origins.get(message_id.origin)
        return origin is not None and (message_id.sequence in origin.taken or message_id.sequence < origin.settled)

    def __len__(self) -> int:
        return sum(len(origin.taken) for origin in self._origins.values())

    @property
    def empty(self) -> bool:
        """Is no origin remembered?"""
        return not self._origins

    def remembered(self) -> list[MessageId]:
        """Every id that could still come again."""
        return [MessageId(name, sequence) for name, origin in self._origins.items() for sequence in origin.taken]

    def meet(self, header: Header, now: float) -> bool:
        """Learn from a header what its origin has settled; was this very message taken?"""
        name, sequence = header.id
        origin = self._origins.get(name)
        if origin is None:
            self._begin(name, header.settled, now)
            return False
        origin.heard = now
        if header.settled > origin.settled:
            origin.settle(header.settled)
        return sequence in origin.taken or sequence < origin.settled

    def add(self, message_id: MessageId, now: float) -> None:
        """This message was taken."""
        name, sequence = message_id
        origin = self._origins.get(name)
        if origin is None:
            origin = self._begin(name, 0, now)
        origin.heard = now
        if sequence >= origin.settled:
            origin.taken.add(sequence)

    def tick(self, now: float) -> None:
        """Forget origins that were quiet for longer than `idle`."""
        for name in [name for name, origin in self._origins.items() if now - origin.heard > self._idle]:
            self._forget(name)

    def _begin(self, name: int, settled: int, now: float) -> _Origin:
        node = self._of_node.setdefault(name >> RANDOM_BITS, {})
        if len(node) >= MOST_ORIGINS:
            self._forget(next(iter(node)))
        node[name] = None
        origin = self._origins[name] = _Origin(settled, now)
        return origin

    def _forget(self, name: int) -> None:
        del self._origins[name]
        node = self._of_node[name >> RANDOM_BITS]
        del node[name]
        if not node:
            del self._of_node[name >> RANDOM_BITS]
