"""Sending: the way out of a service process. Any thread sends by itself; nobody is woken for it.

One real lock guards the outboxes; what is to go out is put into the outlet in order, and leaves when the lock is free again. What
could not go out (no receiver yet, no room) waits in its order, for each target by itself, and is sent by whoever leads when that
changes.
"""

import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from openstack_zeromq import address, sockets, wire
from openstack_zeromq.delivery.asked import Asked
from openstack_zeromq.delivery.bounds import Bounds, Key
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.origin import RANDOM_BITS, origin
from openstack_zeromq.delivery.outbox import Outbox, Outcome, Transmit
from openstack_zeromq.driver.outlet import Outlet
from openstack_zeromq.driver.waiting import Waiter, original
from openstack_zeromq.options import Settings
from openstack_zeromq.wire import NO_ID, Answer, AnswerEntry, Flag, Header, Kind, MessageId

_ENOUGH_ANSWERS = 16
_LINGER_MS = 200

_REASONS_MOST = 1000
"""Reasons for giving up notifications that are remembered, one for each topic; a cloud has fewer notification topics."""

ANSWERS_WITHIN = 0.01
"""Seconds that an answer may wait for company."""


class Letter(NamedTuple):
    """A message before it has an id: `ttl` in seconds, names in any length."""

    kind: Kind
    flags: int
    ttl: float
    exchange: str
    topic: str
    server: str
    body: bytes
    client: int = 0
    subject: MessageId = NO_ID

    @property
    def key(self) -> Key:
        """Its target."""
        return self.exchange, self.topic, self.server


@dataclass(slots=True)
class _Stream:
    """The messages of one kind of traffic, numbered from 1. Notifications may wait long for a listener: a stream of
    their own keeps them from holding back what RPC has settled. `origin`: once the node is known."""

    outbox: Outbox
    origin: int = 0
    following: int = 1
    early: "dict[Key, deque[tuple[Letter, Waiter | None]]]" = field(default_factory=dict)

    def room(self, letter: Letter) -> bool:
        """Is there room, and is it this letter's turn? A reply is never held up."""
        return letter.kind is Kind.REPLY or (letter.key not in self.early and self.outbox.room(letter.key, len(letter.body)))

    def wait(self, letter: Letter, waiter: Waiter | None) -> None:
        """Not now."""
        self.early.setdefault(letter.key, deque()).append((letter, waiter))

    def ready(self, key: Key) -> bool:
        """May the first that waits for this target go?"""
        letter = self.early[key][0][0]
        return letter.kind is Kind.REPLY or self.outbox.room(key, len(letter.body))

    def next(self, key: Key) -> tuple[Letter, Waiter | None]:
        """The first that waits for this target."""
        found = self.early[key].popleft()
        if not self.early[key]:
            del self.early[key]
        return found


class Sending:
    """`client` is this process's name at the receiver. Public methods may be called from any thread."""

    def __init__(self, ctx: sockets.ZmqContext, settings: Settings, client: int, notes: "deque[str]") -> None:
        self.lock = original("_thread").allocate_lock()
        self._ctx = ctx
        self._settings = settings
        self._client = client
        self._notes = notes
        self._endpoint = f"ipc://{settings.ipc_dir}/{address.RECEIVER_SOCKET}"
        self._random = Random()  # noqa: S311 - spreads retries, guards nothing
        self._streams = {kind: self._stream(kind) for kind in (Kind.CALL, Kind.NOTIFY)}
        self._turns: dict[tuple[str, str], int] = {}
        self._waiters: dict[MessageId, Waiter] = {}
        self._asked = Asked()
        self._unasked: set[str] = set()
        self._given_up: set[str] = set()
        self._node = ""
        self._incarnation: int | None = None
        self._answers: dict[bytes, list[AnswerEntry]] = {}
        self._gathered = 0
        self.answers_due: float | None = None
        self._outlet = Outlet(self._connect)

    # from any thread

    def send(self, letter: Letter, waiter: Waiter | None) -> None:
        """Send; `waiter` is told what it wants to know."""
        with self.lock:
            stream = self._streams[Kind.NOTIFY if letter.kind is Kind.NOTIFY else Kind.CALL]
            if self._incarnation is not None and stream.room(letter):
                self._post(stream, self._incarnation, letter, waiter)
            elif self._incarnation is None or waiter is None or not waiter.queue_full():
                stream.wait(letter, waiter)
        self._outlet.drain()

    def answer(self, consumer: bytes, entry: AnswerEntry, at_once: bool = False) -> None:
        """Tell the receiver what became of a message that `consumer` (its routing id) was given. Unless it must be `at_once`, it
        goes with the next message, when there are enough of them, or when the connection's thread comes by."""
        with self.lock:
            self._answers.setdefault(consumer, []).append(entry)
            self._gathered += 1
            if self.answers_due is None:
                self.answers_due = time.monotonic() + ANSWERS_WITHIN
            if at_once or self._gathered >= _ENOUGH_ANSWERS:
                self._flush_answers()
        self._outlet.drain()

    def control(self, consumer: bytes, frame: bytes) -> None:
        """A control frame on behalf of `consumer`, in order with its answers."""
        with self.lock:
            self._out((frame, consumer))
        self._outlet.drain()

    def flush_answers(self) -> None:
        """Send the answers that have gathered."""
        with self.lock:
            self._flush_answers()
        self._outlet.drain()

    def give_up(self, waiter: Waiter) -> None:
        """Nobody waits for this outcome any more: a call is forgotten, what was not accepted is withdrawn."""
        with self.lock:
            for stream in self._streams.values():
                if waiter.id is None:
                    kept = {key: deque(item for item in early if item[1] is not waiter) for key, early in stream.early.items()}
                    stream.early = {key: early for key, early in kept.items() if early}
                else:
                    stream.outbox.give_up(waiter.id)
            if waiter.id is not None:
                self._waiters.pop(waiter.id, None)
                self._asked.forget(waiter.id)

    @property
    def busy(self) -> bool:
        """Is anything due soon: senders held back, refusals to repeat?"""
        return any(stream.early or stream.outbox.refused for stream in self._streams.values())

    @property
    def flushed(self) -> bool:
        """Has the receiver accepted everything?"""
        return all(not stream.early and stream.outbox.all_accepted for stream in self._streams.values())

    # from the connection's thread

    def receiver(self, node: str, incarnation: int, now: float) -> None:
        """A receiver is there, and it is another one than before: it gets again what is not answered."""
        with self.lock:
            self._incarnation = incarnation
            if node != self._node:
                self._node = node
                for stream in self._streams.values():
                    stream.origin = origin(node, secrets.randbits(RANDOM_BITS))
            self._asked.receiver_changed()
            for stream in self._streams.values():
                for action in stream.outbox.receiver(incarnation):
                    self._transmit(action, now)
            self._post_early()
        self._outlet.drain()

    def receiver_lost(self) -> None:
        """It fell silent: what waits in the socket must not be sent when its time is over, so it goes with the socket."""
        with self.lock:
            self._incarnation = None
            for stream in self._streams.values():
                stream.outbox.receiver_lost()
            self._outlet.start_afresh()

    def answered(self, entries: list[AnswerEntry], now: float) -> None:
        """The receiver says what became of messages."""
        with self.lock:
            for entry in entries:
                self._asked.told(entry)
                for kind, stream in self._streams.items():
                    for outcome in stream.outbox.answered(entry, now):
                        self._settle(kind, outcome)
            self._post_early()
        self._outlet.drain()

    def may_reply(self, reply: Header) -> bool:
        """Was the call given to whoever replies? Of calls that nobody waits for it does not matter."""
        with self.lock:
            if reply.subject not in self._waiters or self._asked.may_reply(reply.subject, reply.source):
                return True
            if reply.source not in self._unasked:
                self._unasked.add(reply.source)
                self._notes.append(f"node {reply.source} replies to a call that it was not given: refused (logged once)")
            return False

    def replied(self, reply: Header, body: bytes) -> None:
        """The reply to a call, or a sign of life, is here. A caller that gave up had its one outcome: MessagingTimeout."""
        call = reply.subject
        with self.lock:
            waiter = self._waiters.get(call)
            if waiter is None:
                return
            if reply.flags & Flag.PROGRESS:
                waiter.signs += 1
            else:
                if reply.flags & Flag.FAILED:
                    waiter.answer, waiter.reason = Answer.REJECTED, "the server went away before it replied"
                else:
                    waiter.body = body
                del self._waiters[call]
                self._asked.forget(call)
                self._streams[Kind.CALL].outbox.give_up(call)
            waiter.wake()

    def say_goodbye(self) -> None:
        """Nothing more will come; the receiver confirms that it has all that came before."""
        with self.lock:
            self._out((wire.encode_control(Kind.LEAVE),))
        self._outlet.drain()

    def tick(self, now: float) -> None:
        """Time passed."""
        with self.lock:
            for kind, stream in self._streams.items():
                for action in stream.outbox.tick(now):
                    if isinstance(action, Transmit):
                        self._transmit(action, now)
                    else:
                        self._settle(kind, action)
            self._post_early()
        self._outlet.drain()

    def close(self) -> None:
        """Whoever still waits is told so."""
        with self.lock:
            unsent = [waiter for stream in self._streams.values() for early in stream.early.values() for _, waiter in early]
            for waiter in (*self._waiters.values(), *unsent):
                if waiter is not None:
                    waiter.answer, waiter.reason = Answer.EXPIRED, "the transport was closed"
                    waiter.wake()
            self._outlet.close(_LINGER_MS)

    # private, with the lock held

    def _post(self, stream: _Stream, incarnation: int, letter: Letter, waiter: Waiter | None) -> None:
        """Give the letter its id, keep it in the outbox and send it."""
        now = time.monotonic()
        message_id = MessageId(stream.origin, stream.following)
        stream.following += 1
        header = Header(
            letter.kind,
            letter.flags,
            message_id,
            stream.outbox.settled(message_id.sequence),
            self._node,
            incarnation,
            int(letter.ttl * 1000),
            self._turn(letter),
            letter.client or self._client,
            letter.subject,
            address.compact(letter.exchange),
            address.compact(letter.topic),
            address.compact(letter.server),
            addressed_to=incarnation,
        )
        if waiter is not None:
            waiter.id = message_id
            self._waiters[message_id] = waiter
            if waiter.for_reply:
                self._asked.posted(message_id)
        for action in stream.outbox.add(Message.new(header, letter.body, now)):
            self._out((action.message.frame, letter.body))

    def _turn(self, letter: Letter) -> int:
        """How many messages went to this bare topic before."""
        if letter.server:
            return 0
        key = (letter.exchange, letter.topic)
        turn = self._turns.get(key, 0)
        self._turns[key] = turn + 1
        return turn

    def _post_early(self) -> None:
        """What had to wait for a receiver, or for room, in its order."""
        if self._incarnation is None:
            return
        for stream in self._streams.values():
            for key in list(stream.early):
                while key in stream.early and stream.ready(key):
                    self._post(stream, self._incarnation, *stream.next(key))

    def _transmit(self, action: Transmit, now: float) -> None:
        message = action.message
        incarnation = self._incarnation or 0
        frame = message.stamped(now, by=incarnation, to=incarnation, resent=action.resent)
        self._out((frame, message.body, action.former_host.encode()) if action.former_host else (frame, message.body))

    def _settle(self, kind: Kind, outcome: Outcome) -> None:
        """Tell the sender. A call goes on waiting for its reply; a cast is content once it was accepted."""
        waiter = self._waiters.get(outcome.id)
        if waiter is None:
            if outcome.answer in (Answer.REJECTED, Answer.EXPIRED):
                self._note_given_up(kind, outcome)
            return
        if outcome.answer is Answer.BUSY:
            if waiter.queue_full():
                self._forget(waiter, outcome.id)
            return
        if outcome.answer is Answer.ACCEPTED:
            waiter.accepted, wanted = True, waiter.on_accepted
        else:
            waiter.answer, waiter.reason = outcome.answer, outcome.reason
            wanted = waiter.on_accepted or waiter.on_taken or outcome.answer is not Answer.TAKEN
        if wanted:
            if not waiter.for_reply:
                del self._waiters[outcome.id]
            waiter.wake()

    def _note_given_up(self, kind: Kind, outcome: Outcome) -> None:
        """Have it logged that a message was given up of which the sender has been told that it is accepted. Of the notifications
        that no listener consumes one line for each topic is enough: the receiver counts them."""
        why = f"{outcome.answer.name}, {outcome.reason}"
        if kind is not Kind.NOTIFY:
            self._notes.append(f"message {outcome.id} was given up: {why}")
        elif why not in self._given_up and len(self._given_up) < _REASONS_MOST:
            self._given_up.add(why)
            self._notes.append(f"notification {outcome.id} was given up: {why} (logged once)")

    def _forget(self, waiter: Waiter, message_id: MessageId) -> None:
        """The message of `waiter` is not sent again."""
        del self._waiters[message_id]
        self._asked.forget(message_id)
        for stream in self._streams.values():
            stream.outbox.give_up(message_id)

    def _flush_answers(self) -> None:
        if self._answers:
            self._out()

    def _out(self, *items: tuple[bytes, ...]) -> None:
        """Put into the outlet, behind the answers that have gathered."""
        if self._answers:
            for consumer, entries in self._answers.items():
                self._outlet.add((wire.encode_answers(entries), consumer))
            self._answers, self._gathered, self.answers_due = {}, 0, None
        for frames in items:
            self._outlet.add(frames)

    def _connect(self) -> sockets.ZmqSocket:
        routing_id = self._client.to_bytes(8, "big") + secrets.token_bytes(4)
        return sockets.outlet(self._ctx, self._endpoint, routing_id, self._settings.max_message_size)

    def _stream(self, kind: Kind) -> _Stream:
        bounds = Bounds(self._settings.topic_backlog, self._settings.backlog_size)
        return _Stream(Outbox(bounds, lambda: self._random.uniform(0.8, 1.2), until_accepted=kind is Kind.NOTIFY))
