"""A message in memory: its header, the header's bytes, the unopened body, and when its time is up."""

from openstack_zeromq import wire
from openstack_zeromq.wire import Header, Stamp


class Message:
    """`expires` is monotonic time on this node, in seconds; `frame` is the header as it came."""

    __slots__ = ("body", "expires", "frame", "header", "id")

    def __init__(self, header: Header, frame: bytes, body: bytes, now: float) -> None:
        self.id = header.id
        self.header = header
        self.frame = frame
        self.body = body
        self.expires = now + header.ttl_ms / 1000

    @classmethod
    def read(cls, frame: bytes, body: bytes, now: float) -> "Message":
        """:raises MalformedError: as `wire.decode` says."""
        return cls(wire.decode(frame), frame, body, now)

    @classmethod
    def new(cls, header: Header, body: bytes, now: float) -> "Message":
        return cls(header, wire.encode(header), body, now)

    def stamped(self, now: float, *, by: int, to: int, resent: bool, round_: int = 0) -> bytes:
        """The header's bytes for the next hop, leaving now: from incarnation `by` to incarnation `to` (0: any)."""
        return wire.restamp(self.frame, Stamp(by, to, int((self.expires - now) * 1000), resent, round_))
