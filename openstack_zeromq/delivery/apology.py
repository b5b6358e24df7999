"""Apologies: replies that a receiver makes itself, without a body, to calls that no service will ever reply to."""

from openstack_zeromq.delivery.message import Message
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Header, Kind, MessageId

TTL = 60.0


class Apologies:
    """`name` is this node's, `origin` random for each start."""

    CLIENT = 0
    """Stands for the receiver where others have the id of a service."""

    def __init__(self, name: str, origin: int) -> None:
        self._name = name
        self._origin = origin
        self._following = 1
        self._unanswered: dict[int, None] = {}

    def to_caller_of(self, call: Header, now: float) -> Message:
        """The reply that says: whoever worked on `call` is gone, or could not read it."""
        sequence = self._following
        self._following += 1
        self._unanswered[sequence] = None
        header = Header(
            Kind.REPLY,
            Flag.FAILED,
            MessageId(self._origin, sequence),
            next(iter(self._unanswered)),
            self._name,
            0,
            int(TTL * 1000),
            0,
            call.client,
            call.id,
            "",
            "",
            call.source,
        )
        return Message.new(header, b"", now)

    def answered(self, entry: AnswerEntry) -> None:
        """What became of one; all but the first word is final."""
        if entry.answer is not Answer.ACCEPTED:
            self._unanswered.pop(entry.id.sequence, None)
