"""A message in memory: its header, the header's bytes, the unopened body, and when its time is up."""

from dataclasses import dataclass

from openstack_zeromq import wire
from openstack_zeromq.wire import Header, MessageId, Stamp


@dataclass(slots=True, eq=False)
class Message:
    """`expires` is monotonic time on this node, in seconds; `frame` is the header as it came."""

    header: Header
    frame: bytes
    body: bytes
    expires: float

    @property
    def id(self) -> MessageId:
        return self.header.id

    @classmethod
    def read(cls, frame: bytes, body: bytes, now: float) -> "Message":
        """:raises MalformedError: as `wire.decode` says."""
        header = wire.decode(frame)
        return cls(header, frame, body, now + header.ttl_ms / 1000)

    @classmethod
    def new(cls, header: Header, body: bytes, now: float) -> "Message":
        return cls(header, wire.encode(header), body, now + header.ttl_ms / 1000)

    def stamped(self, now: float, *, by: int, to: int, resent: bool, round_: int = 0) -> bytes:
        """The header's bytes for the next hop, leaving now: from incarnation `by` to incarnation `to` (0: any)."""
        return wire.restamp(self.frame, Stamp(by, to, int((self.expires - now) * 1000), resent, round_))
