"""Links: the TCP side of a receiver. One socket that peers dial, perhaps opened by systemd, one that dials peers.

A link is directed: messages go out over the connection that we dialled and their answers come back on it. What a peer sends
us comes in on the connection that it dialled (`guests` knows who that is). With keys, only who has the key of a host is
dialled as that host. A host whose key is being changed has two, and the one that it does not have is noticed at once.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import zmq
from oslo_log import log as logging

from openstack_zeromq import sockets, systemd, wire
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.incoming import Respond
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.node import Action
from openstack_zeromq.delivery.outgoing import Send
from openstack_zeromq.delivery.past import Origin
from openstack_zeromq.delivery.pools import Pool
from openstack_zeromq.errors import ConfigError, MalformedError
from openstack_zeromq.matchmaker.base import Matchmaker
from openstack_zeromq.matchmaker.ring_file import Endpoint
from openstack_zeromq.options import GROUP, Settings
from openstack_zeromq.receiver.departures import Departures
from openstack_zeromq.receiver.guests import Guest, Guests
from openstack_zeromq.receiver.me import Me
from openstack_zeromq.security.identity import Identity
from openstack_zeromq.security.keys import KeyPair
from openstack_zeromq.security.trust import Trust
from openstack_zeromq.wire import Answer, AnswerEntry, Kind

LOG = logging.getLogger(__name__)

_KNOWN_PEERS = 10_000
_MESSAGE_FRAMES = 2
_PORT_FREE_WITHIN = 2.0
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


_WHY_REFUSED = {
    True: "the handshake fails: {0} has another key than the one that is trusted here, or does not trust the one of this node;"
    " compare `zmqctl keys list` on both",
    False: "the handshake fails: {0} has another zmq_security, or something else listens there",
}


@dataclass(slots=True)
class _Dialled:
    """A connection to a host: where to, as who has which key, and which keys it turned out not to have. `heard`: it is who has
    that key."""

    endpoint: str
    key: str
    refused: frozenset[str]
    heard: bool = False


class Links:
    """`identity` None: receivers have no keys, and everybody is believed.

    :raises ConfigError: the port cannot be bound.
    """

    def __init__(self, ctx: sockets.ZmqContext, me: Me, matchmaker: Matchmaker, identity: Identity | None) -> None:
        self._settings = settings = me.settings
        self._matchmaker = matchmaker
        self._node = me.node
        self._report = me.report
        self._incarnation = me.incarnation
        self._introduction = me.introduction
        self._ping = me.introduction(Kind.PING, address=_advertised(settings), port=settings.port)
        self._trust = identity.trust if identity is not None else None
        public, secret = (identity.pair.public, identity.pair.secret) if identity is not None else ("", "")
        pace = sockets.Pace(settings.handshake_timeout, settings.heartbeat, settings.redial)
        self.inward = sockets.listening_router(ctx, settings.max_message_size, pace, secret)
        self.guests = Guests(ctx, self.inward, self._trust, me)
        self.outward = sockets.dialing_router(ctx, settings.max_message_size, pace, public, secret)
        self.refusals = sockets.monitor(ctx, self.outward, _FAILED)
        self._dialer = sockets.Dialer(self.outward)
        self._host_of: dict[bytes, str] = {}
        self._name_of: dict[str, bytes] = {}
        self._dialled: dict[str, _Dialled] = {}
        self._introduced: dict[str, Endpoint] = {}
        self._answers = Departures(partial(sockets.send, self.inward))
        self._messages = Departures(partial(sockets.send, self.outward))
        self._handed = systemd.listening(settings.bind_address, settings.port)
        self._bind()

    # outward: messages to peers, their answers back

    def dial(self, host: str) -> None:
        """Open a fresh connection to `host`, instead of the one there was."""
        keys = self._keys_of(host)
        if not keys:
            self.hang_up(host)
            folder = self._settings.authorized_keys
            self._report.bad(Counter.UNTRUSTED, host, f"{folder} has no key of it; put its public key there as {host}.pub")
            return
        self._open(host, _best(keys, self._dialled.get(host)))

    def hang_up(self, host: str) -> None:
        """Close the connection to `host`, if there is one."""
        name = self._name_of.pop(host, None)
        self._dialled.pop(host, None)
        if name is not None:
            del self._host_of[name]
            self._dialer.close(name)

    def refused(self) -> list[str]:
        """Handshakes with peers have failed: try the next key of a peer that has several. The hosts that were dialled again."""
        again = []
        for frames in sockets.drain(self.refusals, 100):
            address = _plain(frames[1].decode("ascii", "replace"))
            for host in [host for host, dialled in self._dialled.items() if _plain(dialled.endpoint) == address]:
                refused = self._dialled[host].refused | {self._dialled[host].key}
                if others := [key for key in self._keys_of(host) if key not in refused]:
                    self._open(host, others[0], refused)
                    again.append(host)
                else:
                    self._report.bad(Counter.REFUSED_BY_PEERS, host, _WHY_REFUSED[self._trust is not None].format(host))
        return again

    def take_key(self, pair: KeyPair) -> list[str]:
        """Be known by another key from now on: every connection ends, those of peers come anew by themselves. The hosts that we
        had dialled, and that are to be dialled again."""
        cut = list(self._dialled)
        for host in cut:
            self.hang_up(host)
        sockets.take_key(self.outward, pair.public, pair.secret)
        sockets.unbind(self.inward)
        sockets.take_key(self.inward, "", pair.secret)
        self._bind(_PORT_FREE_WITHIN)
        return cut

    def trust_changed(self, trust: Trust) -> list[str]:
        """End all connections that would not come about now; the hosts that were cut off."""
        self.guests.evict(trust)
        cut = [host for host, dialled in self._dialled.items() if dialled.key not in trust.keys_of(host)]
        for host in cut:
            self.hang_up(host)
        return cut

    def ping(self, host: str) -> None:
        self._go(host, (self._ping,), 0)

    def send(self, action: Send, now: float) -> None:
        """Put a message on the link; should the link die now, it is sent again when the link is back."""
        message, host = action.message, action.host
        to = self._node.links[host].incarnation or 0
        frame = message.stamped(now, by=self._incarnation, to=to, resent=action.resent, round_=action.round)
        self._go(host, (frame, message.body), len(message.body))

    def from_peers(self, limit: int, now: float) -> Iterator[list[Action]]:
        """Read answers and pongs, at most `limit`."""
        for frames in sockets.drain(self.outward, limit):
            host = self._host_of.get(frames[0])
            if host is None:
                continue
            try:
                for item in wire.unbundle(frames[1:]):
                    yield self._read_answer(host, item, now)
            except MalformedError as exc:
                self._report.bad(Counter.MALFORMED, host, f"answer on a link: {exc.reason}")

    # inward: messages from peers, our answers back

    def messages(self, limit: int, now: float) -> Iterator[list[Action]]:
        """Read what peers send, at most `limit`."""
        for _ in range(limit):
            if not sockets.readable(self.inward):
                return
            origin, frames, peer = sockets.receive(self.inward, self.guests.known)
            guest = self.guests.who(origin, peer)
            try:
                for item in wire.unbundle(frames):
                    yield self._read_message(origin, guest, item, now)
            except MalformedError as exc:
                self._report.bad(Counter.MALFORMED, guest.host or guest.address, f"frames on a link: {exc.reason}")

    @property
    def due(self) -> float | None:
        """When `flush` has something to do though nothing new has come."""
        return self._answers.due

    def respond(self, action: Respond, now: float) -> None:
        """Answer for a message; nobody waits for TAKEN."""
        self._answers.answer(action.origin, action.entry, action.entry.answer is not Answer.TAKEN, now)

    def flush(self, now: float) -> None:
        """Let leave what has gathered; what the peer is not there for will be sent or asked for again."""
        self._messages.flush(now)
        self._messages.undelivered.clear()
        self._answers.flush(now)
        for _, load in self._answers.undelivered:
            self._node.counts[Counter.UNANSWERABLE] += len(load.answers)
        self._answers.undelivered.clear()

    def close(self) -> None:
        self.guests.close()
        self.outward.disable_monitor()
        self.refusals.close(0)
        self.inward.close(500)
        self.outward.close(0)

    # private

    def _bind(self, patience: float = 0.0) -> None:
        """libzmq closes what it listened on some time after it was told not to any more; systemd's socket must stay open."""
        address, port = self._settings.bind_address, self._settings.port
        if self._handed is not None:
            self.inward.set(zmq.USE_FD, os.dup(self._handed))
        try:
            sockets.bind(self.inward, sockets.tcp_endpoint(address, port), patience)
        except zmq.ZMQError as exc:
            if exc.errno == zmq.EADDRINUSE:
                remedy = f"another program listens there; stop it, or set [{GROUP}] rpc_zmq_port"
            elif exc.errno == zmq.EADDRNOTAVAIL or "No such device" in str(exc):
                remedy = f"this machine has no such address; set [{GROUP}] rpc_zmq_bind_address"
            else:
                remedy = f"see [{GROUP}] rpc_zmq_bind_address and rpc_zmq_port"
            raise ConfigError(f"cannot listen on {address} port {port}: {exc.strerror}: {remedy}") from None

    def _keys_of(self, host: str) -> tuple[str, ...]:
        """The keys that `host` may have; an empty one where receivers have none."""
        return ("",) if self._trust is None else self._trust.trust.keys_of(host)

    def _open(self, host: str, key: str, refused: frozenset[str] = frozenset()) -> None:
        """Dial `host` as who has `key`, and not those that it `refused`. What was refused before tells nothing of this
        connection, and who else was refused will be again."""
        self.hang_up(host)
        for _ in sockets.drain(self.refusals, 1000):
            pass
        address, port = self._endpoint(host)
        try:
            endpoint = sockets.tcp_endpoint(address, port)
            name = self._dialer.open(endpoint, server_key=key)
        except (zmq.ZMQError, ValueError) as exc:
            self._report.bad(Counter.UNREACHABLE, host, f"no connection to {address!r} port {port}: {exc}")
            return
        self._name_of[host], self._host_of[name] = name, host
        self._dialled[host] = _Dialled(endpoint, key, refused)

    def _go(self, host: str, frames: tuple[bytes, ...], size: int) -> None:
        name = self._name_of.get(host)
        if name is not None:
            self._messages.item(name, frames, size)

    def _endpoint(self, host: str) -> tuple[str, int]:
        """Where `host` listens: as the matchmaker says, or it said itself when it dialled us; or its name is its address."""
        known = self._matchmaker.endpoint(host) or self._introduced.get(host) or Endpoint(host)
        return known.address, known.port or self._settings.port

    def _pong(self) -> bytes:
        more = {"draining": True} if self._node.draining else {}
        return self._introduction(Kind.PONG, pools=self._node.pools.here(), **more)

    def _introduce(self, guest: Guest, facts: dict[str, object]) -> None:
        """A peer that sends calls wants replies, whatever the matchmaker knows of it."""
        host, address, port = facts.get("node"), facts.get("address"), facts.get("port")
        address = address or guest.address
        if not (isinstance(host, str) and isinstance(address, str) and isinstance(port, int) and 0 < port < 65536):
            return
        if host not in self._introduced and len(self._introduced) >= _KNOWN_PEERS:
            self._introduced.clear()
        self._introduced[host] = Endpoint(address, port)

    def _read_message(self, origin: Origin, guest: Guest, frames: list[bytes], now: float) -> list[Action]:
        if len(frames) == 1:
            kind = wire.kind_of(frames[0])
            if kind is not Kind.PING:
                raise MalformedError("truncated" if kind in wire.MESSAGE_KINDS else "kind")
            facts = wire.decode_control(frames[0])
            if not self.guests.may_speak(guest, facts.get("node")):
                return []
            self._introduce(guest, facts)
            self._answers.item(origin, (self._pong(),), 0)
            return []
        if len(frames) != _MESSAGE_FRAMES:
            raise MalformedError("frames")
        message = Message.read(frames[0], frames[1], now)
        if not self.guests.may_send(guest, message.header):
            return []
        if not wire.is_for(message.header.addressed_to, self._incarnation):
            self._node.counts[Counter.STALE] += 1
            return []
        if len(message.body) > self._settings.max_message_size:
            entry = AnswerEntry(message.id, Answer.REJECTED, "body above zmq_max_message_size")
            self._answers.answer(origin, entry, urgent=True, now=now)
            raise MalformedError("oversized")
        return self._node.peer_message(origin, message, now)

    def _read_answer(self, host: str, frames: list[bytes], now: float) -> list[Action]:
        if len(frames) != 1:
            raise MalformedError("frames")
        kind = wire.kind_of(frames[0])
        if kind is Kind.ANSWERS:
            return self._node.peer_answers(host, wire.decode_answers(frames[0]), now)
        if kind is not Kind.PONG:
            raise MalformedError("kind")
        facts = wire.decode_control(frames[0])
        node, incarnation = facts.get("node"), facts.get("incarnation")
        if node != host:
            LOG.error("who answers for host %s calls itself %r: correct its address in the matchmaker", host, node)
            return []
        if not isinstance(incarnation, int):
            raise MalformedError("control")
        self._dialled[host].heard = True
        return self._node.pong(host, incarnation, now, _pools(facts.get("pools")), facts.get("draining") is True)


def _best(keys: Sequence[str], before: _Dialled | None) -> str:
    """The key to try first: the one with which the host was heard before, or the one after that with which it was not."""
    if before is None or before.key not in keys:
        return keys[0]
    return keys[(keys.index(before.key) + (not before.heard)) % len(keys)]


def _plain(endpoint: str) -> str:
    """An endpoint as libzmq tells it, of IPv4 in whichever dress."""
    return endpoint.replace("[::ffff:", "").replace("]:", ":").replace("[", "")


def _advertised(settings: Settings) -> str:
    """Empty: the address that peers see."""
    return settings.address or ("" if settings.bind_address == "*" else settings.bind_address)


def _pools(named: object) -> frozenset[Pool] | None:
    """What a peer says it serves; None: it does not know yet."""
    if named is None:
        return None
    if not isinstance(named, list):
        raise MalformedError("control")
    try:
        return frozenset((str(exchange), str(topic), str(name)) for exchange, topic, name in named)
    except (TypeError, ValueError):
        raise MalformedError("control") from None
