"""Wire: the frames that cross a link or a unix socket, version 1. Bytes in, values out; no sockets, no clock.

Every frame opens with the same six bytes: `OZ`, major and minor version, kind, flags. Peers that differ in the minor
version understand each other (what a newer minor appends to a header is ignored); another major is refused.

* A **message** is two frames: a header of at most 256 bytes, and a body that only its consumer unpacks. Time in a
  header is what is left to live, in milliseconds: clocks of two nodes are never compared.
* **Answers** carry any number of (message id, answer, reason) in one frame.
* **Control** frames (ping, listen, join ...) are rare and carry a small JSON object.
* A **bundle** is one frame that holds any number of the above, each with all its frames: what goes the same way at the same
  time travels together, for a frame costs more than the bytes in it.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from openstack_zeromq.errors import MalformedError

MAGIC = b"OZ"
MAJOR = 1
MINOR = 0
MAX_HEADER = 256
MAX_CONTROL = 64 * 1024
LARGE = 16 * 1024
"""A body of more bytes is not copied into a bundle."""


class Kind(IntEnum):
    """What a frame is; below 16 it is the header of a message."""

    CALL = 1
    CAST = 2
    FANOUT = 3
    NOTIFY = 4
    REPLY = 5
    PING = 16
    PONG = 17
    ANSWERS = 18
    LISTEN = 19
    LISTENING = 20
    JOIN = 21
    LEAVE = 22
    JOINED = 23
    BUNDLE = 24
    REPORT = 25
    LEFT = 26


class Flag:
    """Bits of a header's flags; plain numbers, for they are asked for each message.

    RESENT: a receiver may have seen it before. MANDATORY: say at once when nobody listens. PROGRESS: a reply that only shows
    that the call is still worked on. FAILED: a reply without a body, from a receiver: the server died before it replied.
    """

    NONE: Final = 0
    RESENT: Final = 1
    MANDATORY: Final = 2
    PROGRESS: Final = 4
    FAILED: Final = 8


class Answer(IntEnum):
    """What a hop says of a message. ACCEPTED is for the local driver only: the receiver will see to the rest."""

    ACCEPTED = 1
    TAKEN = 2
    NOROUTE = 3
    BUSY = 4
    REJECTED = 5
    EXPIRED = 6
    REQUEUED = 7


class MessageId(NamedTuple):
    """Unique for ever: an origin (a stream of one process, see `delivery.origin`) and its sequence number, counted from 1."""

    origin: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.origin:016x}-{self.sequence}"


class Header(NamedTuple):
    """The routing facts of a message.

    `settled`: the origin will never resend a sequence below this, so its memory may be forgotten.
    `turn`: the origin's count of messages to this bare topic; picks the host, the same one on every resend.
    `client`: who gets the reply (in a call), or gets this message (in a reply, together with node `server`).
    `subject`: the call that a reply answers.
    `round`: counts, modulo 16, how often its receiver chose a host for it; a refusal counts only for its own round.
    `addressed_to`: the incarnation (its low 32 bits) that this copy is for; any other drops it. 0: whoever gets it.
    """

    kind: Kind
    flags: int
    id: MessageId
    settled: int
    source: str
    incarnation: int
    ttl_ms: int
    turn: int
    client: int
    subject: MessageId
    exchange: str
    topic: str
    server: str
    round: int = 0
    addressed_to: int = 0


class AnswerEntry(NamedTuple):
    """One answer in an answers frame; `reason` is for people, at most 255 bytes. `round` is that of the message it answers."""

    id: MessageId
    answer: Answer
    reason: str = ""
    round: int = 0


NO_ID = MessageId(0, 0)
MESSAGE_KINDS = frozenset(kind for kind in Kind if kind < 16)

_PREFIX = struct.Struct("!2sBBBB")
_FIXED = struct.Struct("!2sBBBBQQIQIIIQQQ")
_ENTRY = struct.Struct("!QQBB")
_STAMP = struct.Struct("!QII")
_ID = struct.Struct("!QQ")
_ITEM = struct.Struct("!BI")
_LENGTH = struct.Struct("!I")
_STAMP_AT = 26
_LENGTHS_AT = _FIXED.size
_NAMES_AT = _LENGTHS_AT + 4
_MINOR_AT = 3
_KIND_AT = 4
_FLAGS_AT = 5
_OURS = MAGIC + bytes([MAJOR])
_BUNDLE = bytes([Kind.BUNDLE])
_KINDS = {int(kind): kind for kind in Kind}
_ANSWERS = {int(answer): answer for answer in Answer}
_U32 = 0xFFFFFFFF
_FLAG_BITS = 0x0F
_ROUND_SHIFT = 4


@lru_cache(maxsize=16_384)
def _names(tail: bytes) -> tuple[str, str, str, str, int]:
    """The four names at the end of a header, and how many bytes follow them. The few of a fabric come again and again."""
    if len(tail) < 4:
        raise MalformedError("truncated")
    names, at = [], 4
    for length in tail[:4]:
        try:
            names.append(tail[at : at + length].decode())
        except UnicodeDecodeError:
            raise MalformedError("text") from None
        at += length
    if at > len(tail):
        raise MalformedError("truncated")
    source, exchange, topic, server = names
    return source, exchange, topic, server, len(tail) - at


def encode(header: Header) -> bytes:
    """The bytes of `header`; its names must be compact (see `address.compact`)."""
    names = [name.encode() for name in (header.source, header.exchange, header.topic, header.server)]
    fixed = _FIXED.pack(
        MAGIC,
        MAJOR,
        MINOR,
        header.kind,
        header.flags & _FLAG_BITS | header.round << _ROUND_SHIFT,
        *header.id,
        min(header.id.sequence - header.settled, _U32),
        header.incarnation,
        header.addressed_to & _U32,
        max(0, min(header.ttl_ms, _U32)),
        header.turn & _U32,
        header.client,
        *header.subject,
    )
    return fixed + bytes(map(len, names)) + b"".join(names)


def decode(frame: bytes) -> Header:
    """The header in `frame`.

    :raises MalformedError: when it is not the header of a message we speak; the reason is a countable word.
    """
    kind = kind_of(frame)
    if kind not in MESSAGE_KINDS:
        raise MalformedError("kind")
    size = len(frame)
    if size > MAX_HEADER:
        raise MalformedError("oversized")
    if size < _NAMES_AT:
        raise MalformedError("truncated")
    _, _, minor, _, flags, origin, sequence, unsettled, incarnation, addressed_to, ttl, turn, client, to, number = (
        _FIXED.unpack_from(frame)
    )
    source, exchange, topic, server, more = _names(frame[_LENGTHS_AT:])
    if more and minor <= MINOR:
        raise MalformedError("oversized")
    return Header(
        kind,
        flags & _FLAG_BITS,
        MessageId(origin, sequence),
        sequence - unsettled,
        source,
        incarnation,
        ttl,
        turn,
        client,
        MessageId(to, number) if number else NO_ID,
        exchange,
        topic,
        server,
        flags >> _ROUND_SHIFT,
        addressed_to,
    )


class Stamp(NamedTuple):
    """What changes in a header from hop to hop: whose copy it is, whom it is for, what is left to live, whether it went out
    before, and the round."""

    incarnation: int
    addressed_to: int
    ttl_ms: int
    resent: bool
    round: int


def restamp(frame: bytes, stamp: Stamp) -> bytes:
    """`frame` as it leaves for its next hop."""
    copy = bytearray(frame)
    _STAMP.pack_into(copy, _STAMP_AT, stamp.incarnation, stamp.addressed_to & _U32, max(0, min(stamp.ttl_ms, _U32)))
    copy[_FLAGS_AT] = copy[_FLAGS_AT] & _FLAG_BITS | stamp.round << _ROUND_SHIFT | (Flag.RESENT if stamp.resent else 0)
    return bytes(copy)


def is_for(addressed_to: int, incarnation: int) -> bool:
    """Is a copy addressed to `addressed_to` meant for this incarnation? Others lay in a queue while a receiver was replaced."""
    return addressed_to in (0, incarnation & _U32)


def kind_of(frame: bytes) -> Kind:
    """The kind of any frame of ours.

    :raises MalformedError: garbage, another major version, or a kind we do not know.
    """
    if len(frame) < _PREFIX.size:
        raise MalformedError("truncated")
    magic, major, _, kind, _ = _PREFIX.unpack_from(frame)
    if magic != MAGIC:
        raise MalformedError("garbage")
    if major != MAJOR:
        raise MalformedError("version")
    try:
        return _KINDS[kind]
    except KeyError:
        raise MalformedError("kind") from None


def is_message(item: Sequence[bytes]) -> bool:
    """Does `item` look like a message? Cheap, for its header is not read."""
    return len(item) > 1 and len(item[0]) > _KIND_AT and item[0][_KIND_AT] in MESSAGE_KINDS


def encode_answers(entries: list[AnswerEntry]) -> bytes:
    """One frame with all of `entries`."""
    parts = [_PREFIX.pack(MAGIC, MAJOR, MINOR, Kind.ANSWERS, 0)]
    for (origin, sequence), answer, reason, round_ in entries:
        text = reason.encode()[:255] if reason else b""
        parts.append(_ENTRY.pack(origin, sequence, answer | round_ << _ROUND_SHIFT, len(text)))
        if text:
            parts.append(text)
    return b"".join(parts)


def decode_answers(frame: bytes) -> list[AnswerEntry]:
    """The entries of an answers frame.

    :raises MalformedError: truncated, or an answer we do not know.
    """
    entries, at, end = [], _PREFIX.size, len(frame)
    while at < end:
        try:
            origin, sequence, answer, length = _ENTRY.unpack_from(frame, at)
            at += _ENTRY.size + length
            reason = frame[at - length : at].decode("utf-8", "replace") if length else ""
            round_ = answer >> _ROUND_SHIFT
            entries.append(AnswerEntry(MessageId(origin, sequence), _ANSWERS[answer & _FLAG_BITS], reason, round_))
        except (struct.error, KeyError):
            raise MalformedError("answers") from None
    if at != end:
        raise MalformedError("truncated")
    return entries


def encode_control(kind: Kind, **facts: object) -> bytes:
    """A control frame: the prefix and a JSON object."""
    return _PREFIX.pack(MAGIC, MAJOR, MINOR, kind, 0) + json.dumps(facts, separators=(",", ":")).encode()


def decode_control(frame: bytes) -> dict[str, object]:
    """The facts of a control frame.

    :raises MalformedError: oversized, or no JSON object.
    """
    if len(frame) > MAX_CONTROL:
        raise MalformedError("oversized")
    try:
        facts = json.loads(frame[_PREFIX.size :])
    except (ValueError, RecursionError):
        raise MalformedError("control") from None
    if not isinstance(facts, dict):
        raise MalformedError("control")
    return facts


def encode_ids(ids: Iterable[MessageId]) -> bytes:
    """16 bytes for each."""
    return b"".join([_ID.pack(*message_id) for message_id in ids])


def decode_ids(frame: bytes) -> list[MessageId]:
    """:raises MalformedError: truncated."""
    if len(frame) % _ID.size:
        raise MalformedError("truncated")
    return [MessageId(*pair) for pair in _ID.iter_unpack(frame)]


def bundle(items: Iterable[Sequence[bytes]]) -> bytes:
    """One frame with all of `items`; an item is the frames of one message, of answers, or of something of control."""
    parts = [_PREFIX.pack(MAGIC, MAJOR, MINOR, Kind.BUNDLE, 0)]
    for frames in items:
        parts.append(_ITEM.pack(len(frames), len(frames[0])))
        parts.extend([_LENGTH.pack(len(frame)) for frame in frames[1:]])
        parts.extend(frames)
    return b"".join(parts)


def together(items: Sequence[Sequence[bytes]]) -> Iterator[Sequence[bytes]]:
    """How `items` travel, in their order: large ones by themselves, the others in bundles."""
    small: list[Sequence[bytes]] = []
    for frames in items:
        if len(frames) > 1 and len(frames[1]) > LARGE:
            if small:
                yield (bundle(small),)
                small = []
            yield frames
        else:
            small.append(frames)
    if small:
        yield small[0] if len(small) == 1 and len(small[0]) == 1 else (bundle(small),)


def unbundle(frames: list[bytes]) -> Iterator[list[bytes]]:
    """The items in what came as `frames`: those of a bundle, or the one that came by itself.

    :raises MalformedError: a bundle that is truncated, or in which there is nothing, or another bundle.
    """
    first = frames[0]
    if len(frames) > 1 or first[:_MINOR_AT] != _OURS or first[_KIND_AT:_FLAGS_AT] != _BUNDLE:
        yield frames
        return
    at, end = _PREFIX.size, len(first)
    if at >= end:
        raise MalformedError("empty")
    while at < end:
        try:
            count, length = _ITEM.unpack_from(first, at)
            at += _ITEM.size
            lengths = [length]
            for _ in range(count - 1):
                lengths += _LENGTH.unpack_from(first, at)
                at += _LENGTH.size
        except struct.error:
            raise MalformedError("truncated") from None
        item = []
        for length in lengths:
            item.append(first[at : at + length])
            at += length
        if at > end:
            raise MalformedError("truncated")
        yield item
