"""Messages, channels and consumers for tests of the pure core, made with as few words as possible."""

from collections import Counter as Counts
from collections.abc import Iterable

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.channel import Hand
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.incoming import Incoming, Respond
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.past import Former
from openstack_zeromq.wire import NO_ID, Answer, AnswerEntry, Flag, Header, Kind, MessageId

TOPIC = Channel.of_topic("nova", "compute")
FANOUT = Channel.of_fanout("nova", "compute")
POOL = Channel.of_pool("nova", "compute", "audit")
ORIGIN = 7
ROOMY = Bounds(10_000, 1 << 30)
REMEMBER = 900.0


def consumer(client: int, serial: int = 1) -> bytes:
    """The routing id of a consumer: its client's id and a serial number."""
    return client.to_bytes(8, "big") + serial.to_bytes(4, "big")


def header(sequence: int = 1, kind: Kind = Kind.CAST, **facts: object) -> Header:
    """A header to the bare topic of exchange nova; `facts` replace fields."""
    return Header(kind, Flag.NONE, MessageId(ORIGIN, sequence), 1, "a", 1, 300_000, 0, 1, NO_ID, "nova", "compute", "")._replace(
        **facts
    )  # type: ignore[arg-type]


def message(sequence: int = 1, kind: Kind = Kind.CAST, *, now: float = 0.0, body: bytes = b"x", **facts: object) -> Message:
    return Message.new(header(sequence, kind, **facts), body, now)


def resent(sequence: int = 1, kind: Kind = Kind.CAST, **facts: object) -> Message:
    """The same message once more, as its sender marks it."""
    return message(sequence, kind, flags=Flag.RESENT, **facts)  # type: ignore[arg-type]


def said(sequence: int, answer: Answer = Answer.TAKEN, round_: int = 1) -> AnswerEntry:
    """An answer; by default to the copy that went to the first host that was chosen."""
    return AnswerEntry(MessageId(ORIGIN, sequence), answer, "", round_)


def counts() -> Counts[str]:
    return Counts({counter.value: 0 for counter in Counter})


def incoming(bounds: Bounds = ROOMY, started: float = 0.0, expected: Iterable[int] | None = None) -> Incoming:
    """The consumers' side of a receiver that started at `started`."""
    return Incoming(bounds, REMEMBER, started, counts(), Former(None if expected is None else list(expected)))


def handed(actions: list[object]) -> list[tuple[bytes, int]]:
    """(consumer, sequence) of everything that is handed out."""
    return [(action.consumer, action.message.id.sequence) for action in actions if isinstance(action, Hand)]


def answers(actions: list[object]) -> list[tuple[int, Answer]]:
    """(sequence, answer) of everything that is answered to origins."""
    return [(action.entry.id.sequence, action.entry.answer) for action in actions if isinstance(action, Respond)]
