"""Connection: a process's way to the receiver of its node. One real thread does all socket work, for all transports.

Other threads leave commands in a queue and wake the thread through a pipe; it fills in their `Waiter`s. It never logs: what
there is to say it leaves in `notes`. Made on first use in each process, so services may fork as they like.
"""

import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import zmq
from oslo_log import log as logging

from openstack_zeromq import address, sockets, wire
from openstack_zeromq.address import Channel, Role
from openstack_zeromq.delivery.channel import Bounds
from openstack_zeromq.delivery.inbox import Inbox, Verdict
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.outbox import Outbox, Outcome, Transmit
from openstack_zeromq.driver.waiting import Waiter, original
from openstack_zeromq.errors import MalformedError
from openstack_zeromq.options import Settings
from openstack_zeromq.wire import NO_ID, Answer, AnswerEntry, Flag, Header, Kind, MessageId

if TYPE_CHECKING:
    from openstack_zeromq.driver.listener import ZmqListener

LOG = logging.getLogger(__name__)

_PING_EVERY = 0.5
_TICK = 0.25
_TICK_WAITING = 0.02
_BATCH = 256
_REMEMBER = 600.0
_MESSAGE_FRAMES = 2
_NOTES = 1000
_FLUSH_WITHIN = 5.0


class Letter(NamedTuple):
    """A message before it has an id: `ttl` in seconds, names in any length."""

    kind: Kind
    flags: Flag
    ttl: float
    exchange: str
    topic: str
    server: str
    body: bytes
    client: int = 0
    subject: MessageId = NO_ID


@dataclass(slots=True, eq=False)
class Consumer:
    """One channel that one listener consumes. `name` is its connection to the channel's socket, once there is one."""

    channel: Channel
    listener: "ZmqListener"
    inbox: Inbox
    credit: int
    name: bytes | None = None
    ready: Waiter = field(default_factory=Waiter)


@dataclass(slots=True)
class _Stream:
    """The messages of one kind of traffic, numbered from 1. Notifications may wait long for a listener: a stream of
    their own keeps them from holding back what RPC has settled."""

    origin: int
    outbox: Outbox
    following: int = 1
    early: "deque[tuple[Letter, Waiter | None]]" = field(default_factory=deque)

    def ready_for(self, kind: Kind) -> bool:
        """Is there room? A reply is never held up by the calls of the same process."""
        return kind is Kind.REPLY or not self.outbox.full


class Connection:
    """The thread and its sockets; use `connect` to get the one of this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.users = 0
        self.client = secrets.randbits(63)
        self._node = ""
        self._bounds = Bounds(settings.topic_backlog, settings.backlog_size)
        self._random = Random()  # noqa: S311 - spreads retries, guards nothing
        self._streams = {kind: self._stream() for kind in (Kind.CALL, Kind.NOTIFY)}
        self._turns: dict[tuple[str, str], int] = {}
        self._waiters: dict[MessageId, Waiter] = {}
        self._replies = Inbox(settings.message_ttl + _REMEMBER)
        self._consumers: list[Consumer] = []
        self._by_name: dict[bytes, Consumer] = {}
        self._serial = 0
        self._answers: dict[bytes | None, list[AnswerEntry]] = {}
        self._incarnation: int | None = None
        self._commands: deque[Callable[[float], None]] = deque()
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._signalled = False
        self._closing = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._thread = original("threading").Thread(target=self._run, name="zmq-connection", daemon=True)
        self._thread.start()

    # for other threads

    def send(self, letter: Letter, waiter: Waiter | None) -> None:
        """Send; `waiter` is told ACCEPTED, how it ended, and the reply."""
        self._command(lambda now: self._post(letter, waiter, now))

    def reply(self, call: Header, body: bytes, final: bool) -> None:
        """Send the reply to `call`, or (not final) a sign of life."""
        flags = Flag.NONE if final else Flag.PROGRESS
        ttl = self.settings.message_ttl
        self.send(Letter(Kind.REPLY, flags, ttl, "", "", call.source, body, call.client, call.id), None)

    def answer(self, consumer: Consumer, message_id: MessageId, answer: Answer) -> None:
        """The server took a message, or gives it back."""
        self._command(lambda now: self._answer(consumer, message_id, answer, now))

    def give_up(self, waiter: Waiter) -> None:
        """Nobody waits for this outcome any more."""
        self._command(lambda _now: self._give_up(waiter))

    def listen(self, listener: "ZmqListener", channels: list[Channel]) -> list[Waiter]:
        """Consume `channels`; each waiter is woken once the receiver knows the consumer."""
        consumers = [self._consumer(channel, listener) for channel in channels]
        self._command(lambda _now: self._listen(consumers))
        return [consumer.ready for consumer in consumers]

    def drain(self, listener: "ZmqListener") -> None:
        """Get nothing more for `listener`, but go on answering for what it has."""
        self._command(lambda _now: self._leave(listener, drain=True))

    def unlisten(self, listener: "ZmqListener") -> None:
        """Leave the channels of `listener`."""
        self._command(lambda _now: self._leave(listener, drain=False))

    def log_notes(self) -> None:
        """Log what the connection's thread had to say; called by threads that may log."""
        while self._notes:
            LOG.warning(self._notes.popleft())

    def close(self) -> None:
        """Wait until the receiver has accepted what was sent (5 s at most), say goodbye, end the thread."""
        self._closing = True
        self._wake()
        self._thread.join(_FLUSH_WITHIN + 1)
        self.log_notes()

    # the thread

    def _run(self) -> None:
        ctx = sockets.context()
        limit = self.settings.max_message_size
        self._common = sockets.Dialer(sockets.router(ctx, limit))
        self._channels = sockets.Dialer(sockets.router(ctx, limit))
        routing_id = self.client.to_bytes(8, "big")
        self._home = self._common.open(f"ipc://{self.settings.ipc_dir}/{address.RECEIVER_SOCKET}", routing_id)
        poller = zmq.Poller()
        for watched in (self._wake_read, self._common.socket, self._channels.socket):
            poller.register(watched, zmq.POLLIN)
        next_ping = next_tick = 0.0
        closing_since: float | None = None
        while True:
            now = time.monotonic()
            if now >= next_ping:
                next_ping = now + _PING_EVERY
                self._to_receiver(wire.encode_control(Kind.PING, pid=os.getpid()))
            if now >= next_tick:
                next_tick = now + _TICK_WAITING
                self._tick(now)
            if self._closing:
                closing_since = closing_since or now
                if self._flushed() or now - closing_since > _FLUSH_WITHIN:
                    break
            self._flush_answers()
            pause = _TICK_WAITING if self._waiting() else min(_TICK, max(0.0, next_ping - now))
            ready = dict(poller.poll(int(pause * 1000) + 1))
            now = time.monotonic()
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._signalled = False  # only now: who comes later writes again, who came before is in the queue
                while self._commands:
                    self._commands.popleft()(now)
            self._read(ready, now)
        self._goodbye()
        ctx.destroy(linger=200)
        os.close(self._wake_read)

    def _read(self, ready: dict[object, int], now: float) -> None:
        for source, read in ((self._channels.socket, self._from_channel), (self._common.socket, self._from_receiver)):
            if source not in ready:
                continue
            for frames in sockets.drain(source, _BATCH):
                try:
                    read(frames, now)
                except MalformedError as exc:
                    self._note(f"the receiver sent something malformed ({exc.reason}); dropped")

    def _waiting(self) -> bool:
        """Is anything due sooner than the next ping: senders held back, refusals to repeat?"""
        return any(stream.early or stream.outbox.refused for stream in self._streams.values())

    def _tick(self, now: float) -> None:
        for stream in self._streams.values():
            for action in stream.outbox.tick(now):
                if isinstance(action, Transmit):
                    self._transmit(action, now)
                else:
                    self._settle(action)
        self._replies.tick(now)
        self._post_early(now)

    # sending

    def _post(self, letter: Letter, waiter: Waiter | None, now: float) -> None:
        stream = self._streams[Kind.NOTIFY if letter.kind is Kind.NOTIFY else Kind.CALL]
        if self._incarnation is None or not stream.ready_for(letter.kind) or (stream.early and letter.kind is not Kind.REPLY):
            stream.early.append((letter, waiter))
        else:
            self._number(stream, self._incarnation, letter, waiter, now)

    def _post_early(self, now: float) -> None:
        """What had to wait for a receiver, or for room, in its order."""
        if self._incarnation is None:
            return
        for stream in self._streams.values():
            while stream.early and stream.ready_for(stream.early[0][0].kind):
                letter, waiter = stream.early.popleft()
                self._number(stream, self._incarnation, letter, waiter, now)

    def _number(self, stream: _Stream, incarnation: int, letter: Letter, waiter: Waiter | None, now: float) -> None:
        """Give the letter its id, keep it in the outbox and send it."""
        message_id = MessageId(stream.origin, stream.following)
        stream.following += 1
        key = (letter.exchange, letter.topic)
        turn = self._turns.get(key, 0)
        if not letter.server:
            self._turns[key] = turn + 1
        message = Message.new(
            Header(
                letter.kind,
                letter.flags,
                message_id,
                stream.outbox.settled(message_id.sequence),
                self._node,
                incarnation,
                int(letter.ttl * 1000),
                turn,
                letter.client or self.client,
                letter.subject,
                address.compact(letter.exchange),
                address.compact(letter.topic),
                address.compact(letter.server),
            ),
            letter.body,
            now,
        )
        if waiter is not None:
            waiter.id = message_id
            self._waiters[message_id] = waiter
        for action in stream.outbox.add(message):
            self._transmit(action, now)

    def _transmit(self, action: Transmit, now: float) -> None:
        message = action.message
        incarnation = self._incarnation or 0
        self._to_receiver(message.stamped(incarnation, now, action.resent), message.body)

    def _settle(self, outcome: Outcome) -> None:
        """Tell the sender; a call goes on waiting for its reply after it was taken."""
        waiter = self._waiters.get(outcome.id)
        if waiter is None:
            if outcome.answer in (Answer.REJECTED, Answer.EXPIRED):
                self._note(f"message {outcome.id} was given up: {outcome.answer.name} {outcome.reason}")
            return
        if outcome.answer is Answer.ACCEPTED:
            waiter.accepted, wanted = True, waiter.on_accepted
        else:
            waiter.answer, waiter.reason = outcome.answer, outcome.reason
            wanted = waiter.on_taken or outcome.answer is not Answer.TAKEN
        if wanted:
            waiter.wake()

    def _give_up(self, waiter: Waiter) -> None:
        for stream in self._streams.values():
            if waiter.id is None:
                stream.early = deque(item for item in stream.early if item[1] is not waiter)
            elif not waiter.on_accepted or not waiter.accepted:
                stream.outbox.give_up(waiter.id)
        if waiter.id is not None:
            self._waiters.pop(waiter.id, None)

    # from the receiver

    def _from_receiver(self, frames: list[bytes], now: float) -> None:
        kind = wire.kind_of(frames[1])
        if kind is Kind.ANSWERS:
            for entry in wire.decode_answers(frames[1]):
                for stream in self._streams.values():
                    for outcome in stream.outbox.answered(entry, now):
                        self._settle(outcome)
            self._post_early(now)
        elif kind is Kind.REPLY and len(frames) == 1 + _MESSAGE_FRAMES:
            self._reply_arrived(Message.read(frames[1], frames[2], now), now)
        elif kind is Kind.PONG:
            self._pong(wire.decode_control(frames[1]), now)
        elif kind is Kind.LISTENING:
            self._listening(wire.decode_control(frames[1]))
        else:
            raise MalformedError("kind")

    def _reply_arrived(self, message: Message, now: float) -> None:
        header = message.header
        self._answers.setdefault(None, []).append(AnswerEntry(header.id, Answer.TAKEN))
        if self._replies.arrive(header, now) is not Verdict.NEW:
            return
        self._replies.take(header.id, now)
        waiter = self._waiters.get(header.subject)
        if waiter is None:
            return  # its caller gave up: MessagingTimeout was its one outcome
        if header.flags & Flag.PROGRESS:
            waiter.signs += 1
        else:
            waiter.body = message.body
            self._waiters.pop(header.subject)
            self._streams[Kind.CALL].outbox.give_up(header.subject)
        waiter.wake()

    def _pong(self, facts: dict[str, object], now: float) -> None:
        incarnation, node = facts.get("incarnation"), facts.get("node")
        if not isinstance(incarnation, int) or not isinstance(node, str):
            raise MalformedError("control")
        if incarnation == self._incarnation:
            return
        self._incarnation, self._node = incarnation, node
        self._listen(self._consumers)
        for stream in self._streams.values():
            for action in stream.outbox.receiver(incarnation):
                self._transmit(action, now)
        self._post_early(now)

    # consuming

    def _consumer(self, channel: Channel, listener: "ZmqListener") -> Consumer:
        inbox = Inbox(self.settings.message_ttl + _REMEMBER)
        return Consumer(channel, listener, inbox, self.settings.consumer_credit)

    def _listen(self, consumers: list[Consumer]) -> None:
        for consumer in consumers:
            if consumer not in self._consumers:
                self._consumers.append(consumer)
            role, exchange, topic, name = consumer.channel
            if self._incarnation is not None:
                self._to_receiver(wire.encode_control(Kind.LISTEN, role=role.value, exchange=exchange, topic=topic, name=name))

    def _listening(self, facts: dict[str, object]) -> None:
        """The receiver has bound a channel's socket: connect its consumers that are not there yet, and join."""
        error, path = facts.get("error"), facts.get("path")
        channel = Channel(Role(facts["role"]), *(str(facts[key]) for key in ("exchange", "topic", "name")))
        if error or not isinstance(path, str):
            self._note(f"channel {channel} cannot be listened to: {error}")
            return
        for consumer in [consumer for consumer in self._consumers if consumer.channel == channel]:
            if consumer.name is None:
                consumer.name = self._channels.spare(f"ipc://{path}") or self._open(f"ipc://{path}")
                self._by_name[consumer.name] = consumer
            self._join(consumer, consumer.name)

    def _open(self, endpoint: str) -> bytes:
        """A connection to a channel's socket; the receiver tells by its routing id which client it belongs to."""
        self._serial += 1
        return self._channels.open(endpoint, self.client.to_bytes(8, "big") + self._serial.to_bytes(4, "big"))

    def _join(self, consumer: Consumer, name: bytes) -> None:
        role, exchange, topic, server = consumer.channel
        holding = consumer.inbox.holding
        frame = wire.encode_control(
            Kind.JOIN,
            role=role.value,
            exchange=exchange,
            topic=topic,
            name=server,
            credit=max(0, consumer.credit - len(holding)),
            holding=holding,
        )
        sockets.send(self._channels.socket, [name, frame])
        taken = [AnswerEntry(message_id, Answer.TAKEN) for message_id in consumer.inbox.taken]
        if taken:
            sockets.send(self._channels.socket, [name, wire.encode_answers(taken)])
        consumer.ready.wake()

    def _leave(self, listener: "ZmqListener", drain: bool) -> None:
        mine = [consumer for consumer in self._consumers if consumer.listener is listener]
        self._flush_answers()
        for consumer in mine:
            if consumer.name is not None:
                sockets.send(self._channels.socket, [consumer.name, wire.encode_control(Kind.LEAVE, drain=drain)])
            if not drain:
                self._consumers.remove(consumer)
                if consumer.name is not None:
                    del self._by_name[consumer.name]
                    self._channels.close(consumer.name)

    def _from_channel(self, frames: list[bytes], now: float) -> None:
        consumer = self._by_name.get(frames[0])
        if consumer is None:
            return  # its listener has left; the receiver gives the message to another one
        if len(frames) != 1 + _MESSAGE_FRAMES:
            raise MalformedError("frames")
        message = Message.read(frames[1], frames[2], now)
        if not _meant_for(message.header, consumer.channel):
            self._reject(consumer, message.id)
            raise MalformedError("target")
        verdict = consumer.inbox.arrive(message.header, now)
        if verdict is Verdict.NEW:
            consumer.listener.put(consumer, message)
        elif verdict is Verdict.TAKEN:
            self._say(consumer, message.id, Answer.TAKEN)

    def _answer(self, consumer: Consumer, message_id: MessageId, answer: Answer, now: float) -> None:
        if answer is Answer.REQUEUED:
            consumer.inbox.give_back(message_id)
        else:
            consumer.inbox.take(message_id, now)
        self._say(consumer, message_id, answer)

    def _reject(self, consumer: Consumer, message_id: MessageId) -> None:
        self._say(consumer, message_id, Answer.REJECTED)

    def _say(self, consumer: Consumer, message_id: MessageId, answer: Answer) -> None:
        if consumer.name is not None:
            self._answers.setdefault(consumer.name, []).append(AnswerEntry(message_id, answer))

    # plumbing

    def _flush_answers(self) -> None:
        if not self._answers:
            return
        answers, self._answers = self._answers, {}
        for name, entries in answers.items():
            if name is None:
                self._to_receiver(wire.encode_answers(entries))
            else:
                sockets.send(self._channels.socket, [name, wire.encode_answers(entries)])

    def _to_receiver(self, *frames: bytes) -> None:
        sockets.send(self._common.socket, [self._home, *frames])

    def _flushed(self) -> bool:
        return not self._commands and all(not s.early and s.outbox.all_accepted for s in self._streams.values())

    def _goodbye(self) -> None:
        self._flush_answers()
        self._to_receiver(wire.encode_control(Kind.LEAVE))
        for waiter in self._waiters.values():
            waiter.answer, waiter.reason = Answer.EXPIRED, "the transport was closed"
            waiter.wake()

    def _stream(self) -> _Stream:
        return _Stream(secrets.randbits(63), Outbox(self._bounds, lambda: self._random.uniform(0.8, 1.2)))

    def _command(self, command: Callable[[float], None]) -> None:
        self._commands.append(command)
        self._wake()

    def _wake(self) -> None:
        if not self._signalled:
            self._signalled = True
            os.write(self._wake_write, b"w")

    def _note(self, text: str) -> None:
        self._notes.append(text)


def _meant_for(header: Header, channel: Channel) -> bool:
    """Does the target in the header agree with the channel it came through?"""
    if channel[1:3] != (header.exchange, header.topic):
        return False
    if channel.role is Role.SERVER:
        return header.server == channel.name
    return (header.kind is Kind.FANOUT) == (channel.role is Role.FANOUT)


class _Registry:
    """The connections of this process; a forked child starts with none."""

    def __init__(self) -> None:
        self.clear()
        os.register_at_fork(after_in_child=self.clear)

    def clear(self) -> None:
        self.lock = original("_thread").allocate_lock()
        self.connections: dict[str, Connection] = {}


_REGISTRY = _Registry()


def connect(settings: Settings) -> Connection:
    """The connection of this process to the receiver of `settings.ipc_dir`, made if there is none; see `release`."""
    with _REGISTRY.lock:
        found = _REGISTRY.connections.get(settings.ipc_dir)
        if found is None:
            found = _REGISTRY.connections[settings.ipc_dir] = Connection(settings)
        found.users += 1
        return found


def release(connection: Connection) -> None:
    """One user less; the last one closes it."""
    with _REGISTRY.lock:
        connection.users -= 1
        if connection.users:
            return
        _REGISTRY.connections.pop(connection.settings.ipc_dir, None)
    connection.close()
