"""Wire: the frames that cross a link or a unix socket, version 1. Bytes in, values out; no sockets, no clock.

Every frame opens with the same six bytes: `OZ`, major and minor version, kind, flags. Peers that differ in the minor
version understand each other (what a newer minor appends to a header is ignored); another major is refused.

* A **message** is two frames: a header of at most 256 bytes, and a body that only its consumer unpacks. Time in a
  header is what is left to live, in milliseconds: clocks of two nodes are never compared.
* **Answers** carry any number of (message id, answer, reason) in one frame.
* **Control** frames (ping, listen, join ...) are rare and carry a small JSON object.
"""

import json
import struct
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from openstack_zeromq.errors import MalformedError

MAGIC = b"OZ"
MAJOR = 1
MINOR = 0
MAX_HEADER = 256
MAX_CONTROL = 64 * 1024


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


class Flag:
    """Bits of a header's flags; plain numbers, for they are asked for each message.

    RESENT: a receiver may have seen it before. MANDATORY: say at once when nobody listens. PROGRESS: a reply that only shows
    that the call is still worked on. Bits that a newer minor version adds are passed on untouched.
    """

    NONE: Final = 0
    RESENT: Final = 1
    MANDATORY: Final = 2
    PROGRESS: Final = 4


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
    """Unique for ever: a random origin (one driver in one process) and its sequence number, counted from 1."""

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


class AnswerEntry(NamedTuple):
    """One answer in an answers frame; `reason` is for people, at most 255 bytes."""

    id: MessageId
    answer: Answer
    reason: str = ""


NO_ID = MessageId(0, 0)
MESSAGE_KINDS = frozenset(kind for kind in Kind if kind < 16)

_PREFIX = struct.Struct("!2sBBBB")
_FIXED = struct.Struct("!2sBBBBQQIQIIQQQ4B")
_ENTRY = struct.Struct("!QQBB")
_STAMP = struct.Struct("!QI")
_STAMP_AT = 26
_NAMES_AT = _FIXED.size
_FLAGS_AT = 5
_KINDS = {int(kind): kind for kind in Kind}
_ANSWERS = {int(answer): answer for answer in Answer}
_U32 = 0xFFFFFFFF


@lru_cache(maxsize=16_384)
def _text(data: bytes) -> str:
    """The few names of a fabric come again and again."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise MalformedError("text") from None


def encode(header: Header) -> bytes:
    """The bytes of `header`; its names must be compact (see `address.compact`)."""
    names = [name.encode("utf-8", "surrogatepass") for name in (header.source, *header[-3:])]
    fixed = _FIXED.pack(
        MAGIC,
        MAJOR,
        MINOR,
        header.kind,
        header.flags,
        *header.id,
        min(header.id.sequence - header.settled, _U32),
        header.incarnation,
        max(0, min(header.ttl_ms, _U32)),
        header.turn & _U32,
        header.client,
        *header.subject,
        *map(len, names),
    )
    return fixed + b"".join(names)


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
    fields = _FIXED.unpack_from(frame)
    _, _, minor, _, flags, origin, sequence, unsettled, incarnation, ttl, turn, client, to, number, *lengths = fields
    exchange_at = _NAMES_AT + lengths[0]
    topic_at = exchange_at + lengths[1]
    server_at = topic_at + lengths[2]
    end = server_at + lengths[3]
    if end > size:
        raise MalformedError("truncated")
    if end < size and minor <= MINOR:
        raise MalformedError("oversized")
    return Header(
        kind,
        flags,
        MessageId(origin, sequence),
        sequence - unsettled,
        _text(frame[_NAMES_AT:exchange_at]),
        incarnation,
        ttl,
        turn,
        client,
        MessageId(to, number) if number else NO_ID,
        _text(frame[exchange_at:topic_at]),
        _text(frame[topic_at:server_at]),
        _text(frame[server_at:end]),
    )


def restamp(frame: bytes, incarnation: int, ttl_ms: int, resent: bool) -> bytes:
    """`frame` as this node sends it on: its own incarnation, what is left to live, and whether it went out before."""
    copy = bytearray(frame)
    _STAMP.pack_into(copy, _STAMP_AT, incarnation, max(0, min(ttl_ms, _U32)))
    if resent:
        copy[_FLAGS_AT] |= Flag.RESENT
    return bytes(copy)


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


def encode_answers(entries: list[AnswerEntry]) -> bytes:
    """One frame with all of `entries`."""
    parts = [_PREFIX.pack(MAGIC, MAJOR, MINOR, Kind.ANSWERS, 0)]
    for (origin, sequence), answer, reason in entries:
        text = reason.encode()[:255] if reason else b""
        parts.append(_ENTRY.pack(origin, sequence, answer, len(text)))
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
            entries.append(AnswerEntry(MessageId(origin, sequence), _ANSWERS[answer], reason))
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
