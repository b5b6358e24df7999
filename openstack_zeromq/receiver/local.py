"""Local: the unix sockets between a receiver and the services of its node.

Services come in through one socket, `receiver`: they say that they are alive, send messages, ask for channels and get replies.
Every channel has a socket of its own, bound when the first consumer asks and removed when the last one has left.
"""

import os
import stat
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import zmq
from oslo_log import log as logging

from openstack_zeromq import address, sockets, wire
from openstack_zeromq.address import Channel, Role
from openstack_zeromq.delivery.channel import ConsumerId
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.incoming import CLIENT_BYTES, Joined
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.node import SILENCE, Action
from openstack_zeromq.delivery.origin import is_of
from openstack_zeromq.delivery.outgoing import Tell
from openstack_zeromq.errors import ConfigError, MalformedError
from openstack_zeromq.options import GROUP
from openstack_zeromq.receiver.channels import rows
from openstack_zeromq.receiver.departures import Departures, Load
from openstack_zeromq.receiver.intake import Frames, Parcel
from openstack_zeromq.receiver.me import Me
from openstack_zeromq.receiver.processes import Processes
from openstack_zeromq.receiver.services import Services
from openstack_zeromq.receiver.walls import Walls
from openstack_zeromq.security.acl import Verb
from openstack_zeromq.sockets import Peer
from openstack_zeromq.wire import Answer, AnswerEntry, Kind

LOG = logging.getLogger(__name__)

_OUTLET_BYTES = 12
_UNUSED_FOR = 3.0
_MESSAGE_FRAMES = 2
_LONG_FRAMES = 3
_JOIN_FRAMES = 2
_LEFT = wire.encode_control(Kind.LEFT)

_DEAF_FOR = 4.5
"""Seconds for which a service is not listened to after a fault: it takes 3 s of silence, and half a second until it looks, for a
service to find that it has no receiver; then it joins and sends anew as it does after a restart."""


class Local:
    """:raises ConfigError: the directory cannot hold sockets."""

    def __init__(self, ctx: sockets.ZmqContext, me: Me) -> None:
        self._settings = settings = me.settings
        self._node = me.node
        self.report = me.report
        self._faults = me.faults
        self._incarnation = me.incarnation
        self._pong = me.introduction(Kind.PONG)
        self._bound: dict[Channel, float] = {}
        self._serials: dict[ConsumerId, object] = {}
        self._said_hidden = False
        self._services = Services(settings.ipc_dir, me.report)
        self.processes = Processes()
        self.ingress = sockets.router(ctx, settings.max_message_size)
        self.channels = sockets.router(ctx, settings.max_message_size, handover=False)
        self._to_clients = Departures(partial(sockets.send, self.ingress), self.unsendable)
        self._to_consumers = Departures(partial(sockets.send, self.channels), self.unsendable)
        self._deaf_to: dict[int, float] = {}
        self._broken: list[int] = []
        self.speech = Speech(self)
        self.joining = Joining(self)
        self._walls = Walls(settings, me.report)
        _remove_stale(settings.ipc_dir)
        try:
            self.ingress.bind(f"ipc://{settings.ipc_dir}/{address.RECEIVER_SOCKET}")
        except zmq.ZMQError as exc:
            raise ConfigError(
                f"cannot make a socket in {settings.ipc_dir}: {exc.strerror}; see [{GROUP}] rpc_zmq_ipc_dir"
            ) from None

    # from services

    def from_service(self, now: float) -> Parcel["_Speaker"] | None:
        """Read the common socket."""
        name, frames, peer = sockets.receive(self.ingress, () if self._walls.ask_who else self.processes)
        who = _Speaker(name, peer)
        if self._deaf_to and self._deaf_to.get(who.client, 0.0) > now:
            return None
        if peer is not None and name not in self.processes:
            self._watch(name, peer.address)
        return name[:CLIENT_BYTES], who, frames

    def from_consumer(self, now: float) -> Parcel["_Speaker"] | None:
        """Read the channels' sockets."""
        name, frames, peer = sockets.receive(self.channels, ())
        who = _Speaker(name, peer)
        if self._deaf_to and self._deaf_to.get(who.client, 0.0) > now:
            return None
        return name[:CLIENT_BYTES], who, frames

    def read_client(self, who: "_Speaker", frames: list[bytes], now: float) -> list[Action]:
        """Take in what a service says. It has two connections: one that only sends, and one for all the rest. Both begin with its
        client id.

        :raises MalformedError: it is nothing of ours.
        """
        if len(who.name) not in (CLIENT_BYTES, _OUTLET_BYTES):
            raise MalformedError("identity")
        self._walls.same(who.peer, self.processes.peer(who.name[:CLIENT_BYTES]))
        kind = wire.kind_of(frames[0])
        if len(frames) == _MESSAGE_FRAMES:
            if kind in wire.MESSAGE_KINDS:
                return self._read_message(who, frames[0], frames[1], now)
            return self._read_for_consumer(who.client, kind, frames[0], frames[1], now)
        if len(frames) == _LONG_FRAMES:
            if kind in wire.MESSAGE_KINDS:
                return self._read_message(who, frames[0], frames[1], now, frames[2].decode("utf-8", "replace"))
            return self._read_report(who.client, kind, frames, now)
        if len(frames) != 1:
            raise MalformedError("frames")
        return self._read_control(who, kind, wire.decode_control(frames[0]), now)

    def read_consumer(self, consumer: ConsumerId, peer: Peer | None, frames: list[bytes], now: float) -> list[Action]:
        """Take in that a consumer joins, and what it still works on.

        :raises MalformedError: it is nothing of ours.
        """
        if len(frames) != _JOIN_FRAMES:
            raise MalformedError("frames")
        frame, holding = frames
        if wire.kind_of(frame) is not Kind.JOIN:
            raise MalformedError("kind")
        facts = wire.decode_control(frame)
        channel, credit = _channel(facts), facts.get("credit")
        if not isinstance(credit, int) or credit < 0:
            raise MalformedError("control")
        held = wire.decode_ids(holding)
        self._walls.same(peer, self.processes.peer(consumer[:CLIENT_BYTES]))
        if self._walls.forbidden(peer, Verb.CONSUME, channel, now):
            return []
        LOG.info("consumer %s joins channel %s", consumer.hex(), channel)
        self._serials[consumer] = facts.get("serial")
        return self._node.join(channel, consumer, credit, held, now)

    def refuse(self, who: "_Speaker", item: Frames, now: float) -> None:
        """Ask a service to send a message again later.

        :raises MalformedError: it is none.
        """
        header = wire.decode(item[0])
        self._node.counts[Counter.BUSY] += 1
        self._to_clients.answer(_name(who.client), AnswerEntry(header.id, Answer.BUSY), urgent=False, now=now)

    def cut(self, client: int, now: float) -> list[Action]:
        """After a fault: know a service no more, as if its process had ended, and be deaf to it until it has noticed."""
        self._deaf_to[client] = now + _DEAF_FOR
        self.processes.forget(_name(client))
        return self._node.client_cut(client, now)

    def ended(self, now: float) -> None:
        """Processes of services have ended."""
        for name in self.processes.ended():
            with self._faults.contained("ends of processes", f"service {name.hex()}"):
                self._node.client_ended(int.from_bytes(name[:CLIENT_BYTES], "big"), now)

    # to services

    @property
    def due(self) -> float | None:
        """When `flush` has something to do though nothing new has come."""
        return self._to_clients.due

    def tell(self, action: Tell, now: float) -> None:
        """Tell a service what became of its message."""
        self._to_clients.answer(_name(action.client), action.entry, action.urgent, now)

    def joined(self, action: Joined) -> None:
        """Tell a consumer that it has joined."""
        serial = self._serials.pop(action.consumer, None)
        begun = wire.encode_ids(action.begun).hex()
        frame = wire.encode_control(Kind.JOINED, serial=serial, keeps=action.keeps.value, begun=begun)
        self._to_consumers.item(action.consumer, (frame,), 0)

    def hand(self, consumer: ConsumerId, message: Message, now: float) -> None:
        """Give a message to a consumer."""
        frame = message.stamped(now, by=self._incarnation, to=0, resent=False)
        self._to_consumers.item(consumer, (frame, message.body), len(message.body))

    def reply(self, client: int, message: Message) -> None:
        """Give a reply to the service that called."""
        self._to_clients.item(_name(client), (message.frame, message.body), len(message.body))

    def flush(self, now: float) -> list[Action]:
        """Let leave what has gathered; what follows for those that are gone."""
        self._to_clients.flush(now)
        self._to_consumers.flush(now)
        gone, self._to_consumers.undelivered = self._to_consumers.undelivered, []
        silent, self._to_clients.undelivered = self._to_clients.undelivered, []
        broken, self._broken = self._broken, []
        actions: list[Action] = []
        for consumer, _ in gone:
            with self._faults.contained("consumers that left", f"service {consumer[:CLIENT_BYTES].hex()}"):
                actions += self._node.leave(consumer, now)
        for name, load in silent:
            with self._faults.contained("services that left", f"service {name[:CLIENT_BYTES].hex()}"):
                actions += self._undelivered(name, load, now)
        for client in broken:
            with self._faults.contained("services that left", f"service {_name(client).hex()}"):
                actions += self.cut(client, now)
        return actions

    def tick(self, now: float) -> None:
        """Remove the sockets of channels that nobody consumes any more."""
        if self._deaf_to:
            self._deaf_to = {client: until for client, until in self._deaf_to.items() if until > now}
        self.processes.keep({_name(client) for client in self._node.clients})
        self._services.keep({*self._node.clients, *self._node.incoming.awaited(now)})
        for channel in list(self._bound):
            if channel in self._node.incoming.channels:
                self._bound[channel] = now
            elif now - self._bound[channel] > _UNUSED_FOR:
                self._unbind(channel)
        self._walls.tick(now)

    def channels_shown(self) -> dict[str, Any]:
        """Who consumes what, for the status; and the socket files that are ours."""
        shown = rows(
            self._node.incoming.channels,
            self._settings.ipc_dir,
            lambda consumer: self.processes.peer(consumer[:CLIENT_BYTES]),
        )
        paths = (Path(address.socket_path(self._settings.ipc_dir, channel)).name for channel in self._bound)
        return {"channels": shown, "sockets": sorted(paths)}

    def close(self) -> None:
        for channel in list(self._bound):
            self._unbind(channel)
        self.processes.close()
        self.ingress.close(500)
        self.channels.close(500)
        Path(self._settings.ipc_dir, address.RECEIVER_SOCKET).unlink(missing_ok=True)

    @property
    def unseen(self) -> int:
        """How many services here have processes that cannot be seen."""
        return sum(self.processes.hidden(_name(client)) for client in self._node.clients)

    # private

    def unsendable(self, name: bytes, exc: Exception) -> None:
        """Nothing can be sent to a service or its consumer, for `exc`; `flush` forgets the service."""
        client = int.from_bytes(name[:CLIENT_BYTES], "big")
        self._faults.happened("sending to services", f"service {_name(client).hex()}", exc)
        self._broken.append(client)

    def _undelivered(self, name: bytes, load: Load, now: float) -> list[Action]:
        """A service was not there to get `load`."""
        self._node.counts[Counter.UNANSWERABLE] += len(load.answers)
        replies = [wire.decode(frames[0]) for frames in load.items if len(frames) == _MESSAGE_FRAMES]
        client = int.from_bytes(name[:CLIENT_BYTES], "big")
        return [action for reply in replies for action in self._node.reply_failed(reply.id, client, now)]

    def _watch(self, name: bytes, address_: str) -> None:
        """Know a service by its process; one that we cannot see (in another container, perhaps) has only its pings to show."""
        if len(name) != CLIENT_BYTES:
            self.processes.note(name)
        elif self.processes.watch(name, address_):
            self._node.client_watched(int.from_bytes(name, "big"))
        elif self.processes.hidden(name) and not self._said_hidden:
            self._said_hidden = True
            LOG.warning(
                "cannot see the process of a service: it, or this receiver, has a pid namespace of its own. Such a service is"
                " given up after %.0f s without a ping though it may live: its messages go to others, and it does not execute"
                " them when it goes on. Share the host's pid namespace to avoid that (said once; zmqctl status counts them)",
                SILENCE,
            )

    def _read_control(self, who: "_Speaker", kind: Kind, facts: dict[str, object], now: float) -> list[Action]:
        """What a service says of itself."""
        if kind is Kind.PING and self._node.has_left(who.client):
            return []
        if kind is Kind.PING:
            self._services.open(who.client)
            self._to_clients.item(who.name, (self._pong,), 0)
            return self._node.client_ping(who.client, now, facts.get("settled") == self._incarnation)
        if kind is Kind.LISTEN:
            self._listen(who, _channel(facts), now)
            return []
        if kind is Kind.LEAVE:
            self._to_clients.item(_name(who.client), (_LEFT,), 0)
            return self._node.client_left(who.client, now)
        raise MalformedError("kind")

    def _read_message(self, who: "_Speaker", frame: bytes, body: bytes, now: float, former_host: str = "") -> list[Action]:
        message, client = Message.read(frame, body, now), who.client
        if not wire.is_for(message.header.addressed_to, self._incarnation):
            self._node.counts[Counter.STALE] += 1
            return []
        if message.header.source != self._settings.host:
            self._reject(client, message, f"this node is {self._settings.host}", now)
            raise MalformedError("source")
        if not is_of(message.id.origin, message.header.source):
            self._reject(client, message, f"its number is not one of node {self._settings.host}", now)
            raise MalformedError("origin")
        if len(body) > self._settings.max_message_size:
            self._reject(client, message, "body above zmq_max_message_size", now)
            raise MalformedError("oversized")
        # A reply goes to who asked: whoever may consume the call may answer it.
        if message.header.kind is not Kind.REPLY and (why := self._walls.forbidden(who.peer, Verb.SEND, message.header, now)):
            self._reject(client, message, why, now)
            return []
        return self._node.client_message(client, message, now, former_host)

    def _reject(self, client: int, message: Message, reason: str, now: float) -> None:
        self._to_clients.answer(_name(client), AnswerEntry(message.id, Answer.REJECTED, reason), urgent=True, now=now)

    def _read_for_consumer(self, client: int, kind: Kind, frame: bytes, consumer: ConsumerId, now: float) -> list[Action]:
        """What a service says on behalf of one of its own consumers (or of itself, the consumer of replies)."""
        if int.from_bytes(consumer[:CLIENT_BYTES], "big") != client:
            raise MalformedError("identity")
        if kind is Kind.ANSWERS:
            return self._node.consumer_answers(consumer, wire.decode_answers(frame), now)
        if kind is not Kind.LEAVE:
            raise MalformedError("kind")
        stay = wire.decode_control(frame).get("drain") is True
        return self._node.drain(consumer, now) if stay else self._node.leave(consumer, now)

    def _read_report(self, client: int, kind: Kind, frames: list[bytes], now: float) -> list[Action]:
        """A service tells what it took from an earlier receiver: through a channel, or (a fanout) as one of its consumers."""
        frame, consumer, taken = frames
        if kind is not Kind.REPORT:
            raise MalformedError("kind")
        channel = _channel(wire.decode_control(frame))
        if (channel.role is Role.FANOUT) != bool(consumer):
            raise MalformedError("control")
        if consumer and int.from_bytes(consumer[:CLIENT_BYTES], "big") != client:
            raise MalformedError("identity")
        return self._node.report(consumer or channel, wire.decode_ids(taken), now)

    def _listen(self, who: "_Speaker", channel: Channel, now: float) -> None:
        path = address.socket_path(self._settings.ipc_dir, channel)
        error = self._walls.forbidden(who.peer, Verb.CONSUME, channel, now)
        try:
            if not error and channel not in self._bound:
                self.channels.bind(f"ipc://{path}")
                self._walls.built(channel, path)
            if not error:
                self._bound[channel] = now
        except zmq.ZMQError as exc:
            error = f"cannot make the socket {path}: {exc.strerror}"
            LOG.error("channel %s: %s", channel, error)
        role, exchange, topic, name = channel
        facts = {"role": role.value, "exchange": exchange, "topic": topic, "name": name, "path": path, "error": error}
        self._to_clients.item(who.name, (wire.encode_control(Kind.LISTENING, **facts),), 0)

    def _unbind(self, channel: Channel) -> None:
        del self._bound[channel]
        self._walls.pulled_down(channel)
        path = address.socket_path(self._settings.ipc_dir, channel)
        self.channels.unbind(f"ipc://{path}")
        Path(path).unlink(missing_ok=True)


class _Speaker(NamedTuple):
    """Who sent something: the name of the connection, and, where it was asked for, what the kernel says of it."""

    name: bytes
    peer: Peer | None

    @property
    def client(self) -> int:
        return int.from_bytes(self.name[:CLIENT_BYTES], "big")


class Speech:
    """What services say through the common socket: a `Source`."""

    name = "messages of services"

    def __init__(self, local: Local) -> None:
        self._local = local
        self.socket = local.ingress

    def receive(self, now: float) -> Parcel[_Speaker] | None:
        return self._local.from_service(now)

    def handle(self, sender: _Speaker, item: Frames, now: float) -> list[Action]:
        return self._local.read_client(sender, item, now)

    def named(self, sender: _Speaker) -> str:
        return f"service {sender.name[:CLIENT_BYTES].hex()}"

    def malformed(self, sender: _Speaker, reason: str) -> None:
        self._local.report.bad(Counter.MALFORMED, f"service {sender.name.hex()}", reason)

    def refuse(self, sender: _Speaker, item: Frames, now: float) -> None:
        self._local.refuse(sender, item, now)

    def end(self, sender: _Speaker, now: float) -> list[Action]:
        return self._local.cut(sender.client, now)


class Joining:
    """What consumers say through the sockets of channels: a `Source`."""

    name = "consumers of services"

    def __init__(self, local: Local) -> None:
        self._local = local
        self.socket = local.channels

    def receive(self, now: float) -> Parcel[_Speaker] | None:
        return self._local.from_consumer(now)

    def handle(self, sender: _Speaker, item: Frames, now: float) -> list[Action]:
        return self._local.read_consumer(sender.name, sender.peer, item, now)

    def named(self, sender: _Speaker) -> str:
        return f"service {sender.name[:CLIENT_BYTES].hex()}"

    def malformed(self, sender: _Speaker, reason: str) -> None:
        self._local.report.bad(Counter.MALFORMED, f"consumer {sender.name.hex()}", reason)

    def refuse(self, _sender: _Speaker, _item: Frames, _now: float) -> None:
        """A message has no business here."""
        raise MalformedError("frames")

    def end(self, sender: _Speaker, now: float) -> list[Action]:
        return self._local.cut(sender.client, now)


def _name(client: int) -> bytes:
    return client.to_bytes(CLIENT_BYTES, "big")


def _channel(facts: dict[str, object]) -> Channel:
    try:
        role = Role(str(facts.get("role")))
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
