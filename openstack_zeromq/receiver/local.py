"""Local: the unix sockets between a receiver and the services of its node.

Services come in through one socket, `receiver`: they say that they are alive, send messages, ask for channels and get replies.
Every channel has a socket of its own, bound when the first consumer asks and removed when the last one has left.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import zmq
from oslo_log import log as logging

from openstack_zeromq import address, sockets, wire
from openstack_zeromq.address import Channel, Role
from openstack_zeromq.delivery.channel import ConsumerId
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.node import Action
from openstack_zeromq.errors import ConfigError, MalformedError
from openstack_zeromq.options import GROUP
from openstack_zeromq.receiver.answers import Answers
from openstack_zeromq.receiver.me import Me
from openstack_zeromq.receiver.services import Services
from openstack_zeromq.wire import Answer, AnswerEntry, Kind, MessageId

LOG = logging.getLogger(__name__)

_CLIENT_BYTES = 8
_OUTLET_BYTES = 12
_UNUSED_FOR = 3.0
_MESSAGE_FRAMES = 2
_RESENT_FRAMES = 3
_JOIN_FRAMES = 2
_JOINED = wire.encode_control(Kind.JOINED)


class Local:
    """:raises ConfigError: the directory cannot hold sockets."""

    def __init__(self, ctx: sockets.ZmqContext, me: Me) -> None:
        self._settings = settings = me.settings
        self._node = me.node
        self._report = me.report
        self._incarnation = me.incarnation
        self._pong = me.introduction(Kind.PONG)
        self.answers: Answers[int] = Answers(self._send_answers, self._lost_answers)
        self._bound: dict[Channel, float] = {}
        self._services = Services(settings.ipc_dir)
        self.ingress = sockets.router(ctx, settings.max_message_size)
        self.channels = sockets.router(ctx, settings.max_message_size)
        _remove_stale(settings.ipc_dir)
        try:
            self.ingress.bind(f"ipc://{settings.ipc_dir}/{address.RECEIVER_SOCKET}")
        except zmq.ZMQError as exc:
            raise ConfigError(
                f"cannot make a socket in {settings.ipc_dir}: {exc.strerror}; see [{GROUP}] rpc_zmq_ipc_dir"
            ) from None

    # from services

    def from_clients(self, limit: int, now: float) -> Iterator[list[Action]]:
        """Read the common socket, at most `limit` messages."""
        for frames in sockets.drain(self.ingress, limit):
            try:
                yield self._read_client(frames, now)
            except MalformedError as exc:
                self._report.bad(Counter.MALFORMED, f"service {frames[0].hex()}", exc.reason)

    def from_consumers(self, limit: int, now: float) -> Iterator[list[Action]]:
        """Read the channels' sockets, at most `limit` messages."""
        for frames in sockets.drain(self.channels, limit):
            try:
                yield self._read_consumer(frames, now)
            except MalformedError as exc:
                self._report.bad(Counter.MALFORMED, f"consumer {frames[0].hex()}", exc.reason)

    # to services

    def hand(self, consumer: ConsumerId, message: Message, now: float) -> bool:
        """Give a message to a consumer; False when it is gone."""
        return sockets.send(
            self.channels, [consumer, message.stamped(now, by=self._incarnation, to=0, resent=False), message.body]
        )

    def reply(self, client: int, message: Message) -> bool:
        """Give a reply to the service that called; False when it is gone."""
        return sockets.send(self.ingress, [client.to_bytes(_CLIENT_BYTES, "big"), message.frame, message.body])

    def tick(self, now: float) -> None:
        """Remove the sockets of channels that nobody consumes any more."""
        self._services.keep({*self._node.clients, *self._node.incoming.awaited(now)})
        for channel in list(self._bound):
            if channel in self._node.incoming.channels:
                self._bound[channel] = now
            elif now - self._bound[channel] > _UNUSED_FOR:
                self._unbind(channel)

    def close(self) -> None:
        for channel in list(self._bound):
            self._unbind(channel)
        self.ingress.close(500)
        self.channels.close(500)
        Path(self._settings.ipc_dir, address.RECEIVER_SOCKET).unlink(missing_ok=True)

    # private

    def _read_client(self, frames: list[bytes], now: float) -> list[Action]:
        """A service has two connections: one that only sends, and one for all the rest. Both begin with its client id."""
        if len(frames[0]) not in (_CLIENT_BYTES, _OUTLET_BYTES):
            raise MalformedError("identity")
        client = int.from_bytes(frames[0][:_CLIENT_BYTES], "big")
        if len(frames) == 1 + _RESENT_FRAMES:
            return self._read_message(client, frames[1], frames[2], now, frames[3].decode("utf-8", "replace"))
        if len(frames) == 1 + _MESSAGE_FRAMES:
            kind = wire.kind_of(frames[1])
            if kind in wire.MESSAGE_KINDS:
                return self._read_message(client, frames[1], frames[2], now)
            return self._read_for_consumer(client, kind, frames[1], frames[2], now)
        if len(frames) != _MESSAGE_FRAMES:
            raise MalformedError("frames")
        kind = wire.kind_of(frames[1])
        facts = wire.decode_control(frames[1])
        if kind is Kind.PING:
            sockets.send(self.ingress, [frames[0], self._pong])
            return self._node.client_ping(client, now, facts.get("settled") == self._incarnation)
        if kind is Kind.LISTEN:
            self._listen(frames[0], _channel(facts), now)
            return []
        if kind is Kind.LEAVE:
            return self._node.client_left(client, now)
        raise MalformedError("kind")

    def _read_message(self, client: int, frame: bytes, body: bytes, now: float, former_host: str = "") -> list[Action]:
        message = Message.read(frame, body, now)
        if not wire.is_for(message.header.addressed_to, self._incarnation):
            self._node.counts[Counter.STALE] += 1
            return []
        if message.header.source != self._settings.host:
            self._reject(client, message, f"this node is {self._settings.host}", now)
            raise MalformedError("source")
        if len(body) > self._settings.max_message_size:
            self._reject(client, message, "body above zmq_max_message_size", now)
            raise MalformedError("oversized")
        return self._node.client_message(client, message, now, former_host)

    def _reject(self, client: int, message: Message, reason: str, now: float) -> None:
        self.answers.add(client, AnswerEntry(message.id, Answer.REJECTED, reason), urgent=True, now=now)

    def _send_answers(self, client: int, frame: bytes) -> bool:
        return sockets.send(self.ingress, [client.to_bytes(_CLIENT_BYTES, "big"), frame])

    def _lost_answers(self, count: int) -> None:
        self._node.counts[Counter.UNANSWERABLE] += count

    def _read_for_consumer(self, client: int, kind: Kind, frame: bytes, consumer: ConsumerId, now: float) -> list[Action]:
        """What a service says on behalf of one of its own consumers (or of itself, the consumer of replies)."""
        if int.from_bytes(consumer[:_CLIENT_BYTES], "big") != client:
            raise MalformedError("identity")
        if kind is Kind.ANSWERS:
            return self._node.consumer_answers(consumer, wire.decode_answers(frame), now)
        if kind is not Kind.LEAVE:
            raise MalformedError("kind")
        stay = wire.decode_control(frame).get("drain") is True
        return self._node.drain(consumer, now) if stay else self._node.leave(consumer, now)

    def _read_consumer(self, frames: list[bytes], now: float) -> list[Action]:
        """A consumer joins, and says in the same breath what it has taken from an earlier receiver."""
        if len(frames) != 1 + _JOIN_FRAMES:
            raise MalformedError("frames")
        consumer, frame, taken = frames
        if wire.kind_of(frame) is not Kind.JOIN or wire.kind_of(taken) is not Kind.ANSWERS:
            raise MalformedError("kind")
        facts = wire.decode_control(frame)
        credit, holding = facts.get("credit"), facts.get("holding")
        if not isinstance(credit, int) or credit < 0 or not isinstance(holding, list):
            raise MalformedError("control")
        try:
            held = [MessageId(int(origin), int(sequence)) for origin, sequence in holding]
        except (TypeError, ValueError, OverflowError):
            raise MalformedError("control") from None
        LOG.info("consumer %s joins channel %s", consumer.hex(), _channel(facts))
        answers = wire.decode_answers(taken)
        actions = self._node.join(_channel(facts), consumer, credit, held, now)
        actions += self._node.consumer_answers(consumer, answers, now)
        sockets.send(self.channels, [consumer, _JOINED])
        return actions

    def _listen(self, client: bytes, channel: Channel, now: float) -> None:
        path = address.socket_path(self._settings.ipc_dir, channel)
        error = ""
        try:
            if channel not in self._bound:
                self.channels.bind(f"ipc://{path}")
            self._bound[channel] = now
        except zmq.ZMQError as exc:
            error = f"cannot make the socket {path}: {exc.strerror}"
            LOG.error("channel %s: %s", channel, error)
        role, exchange, topic, name = channel
        sockets.send(
            self.ingress,
            [
                client,
                wire.encode_control(
                    Kind.LISTENING, role=role.value, exchange=exchange, topic=topic, name=name, path=path, error=error
                ),
            ],
        )

    def _unbind(self, channel: Channel) -> None:
        del self._bound[channel]
        path = address.socket_path(self._settings.ipc_dir, channel)
        self.channels.unbind(f"ipc://{path}")
        Path(path).unlink(missing_ok=True)


def _channel(facts: dict[str, object]) -> Channel:
    try:
        role = Role(facts.get("role"))
    except ValueError:
        raise MalformedError("control") from None
    names = [facts.get(key) for key in ("exchange", "topic", "name")]
    if not all(isinstance(name, str) and name == address.compact(name) for name in names):
        raise MalformedError("control")
    return Channel(role, *map(str, names))


def _remove_stale(ipc_dir: str) -> None:
    """Sockets that a receiver left behind when it was killed; the caller holds the directory's lock."""
    roles = tuple(f"{role.value}:" for role in Role)
    for entry in os.scandir(ipc_dir):
        if entry.name.startswith(roles) and stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
            Path(entry.path).unlink(missing_ok=True)
