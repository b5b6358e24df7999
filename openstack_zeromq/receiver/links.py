"""Links: what goes over TCP between receivers. One socket that peers dial (`door`), one that dials peers (`hosts`).

A link is directed: messages go out over the connection that we dialled and their answers come back on it. What a peer sends
us comes in on the connection that it dialled (`guests` knows who that is).
"""

from functools import partial
from typing import NamedTuple

from oslo_log import log as logging

from openstack_zeromq import sockets, wire
from openstack_zeromq.address import NAME_BYTES
from openstack_zeromq.delivery.announced import AT_MOST
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.incoming import Respond
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.node import Action, PeerSays
from openstack_zeromq.delivery.outgoing import Send
from openstack_zeromq.delivery.past import Origin
from openstack_zeromq.delivery.pools import Pool
from openstack_zeromq.delivery.search import SOUGHT_MOST
from openstack_zeromq.errors import MalformedError
from openstack_zeromq.matchmaker.base import Matchmaker
from openstack_zeromq.matchmaker.ring_file import Endpoint
from openstack_zeromq.options import Settings
from openstack_zeromq.receiver.departures import Departures
from openstack_zeromq.receiver.door import Door
from openstack_zeromq.receiver.guests import Guest, Guests
from openstack_zeromq.receiver.hosts import Hosts
from openstack_zeromq.receiver.intake import Frames, Parcel
from openstack_zeromq.receiver.me import Me
from openstack_zeromq.security.identity import Identity
from openstack_zeromq.security.keys import KeyPair
from openstack_zeromq.security.trust import Trust
from openstack_zeromq.wire import Answer, AnswerEntry, Kind

LOG = logging.getLogger(__name__)

_MESSAGE_FRAMES = 2


class Links:
    """`identity` None: receivers have no keys, and everybody is believed.

    :raises ConfigError: the port cannot be bound.
    """

    def __init__(self, ctx: sockets.ZmqContext, me: Me, matchmaker: Matchmaker, identity: Identity | None) -> None:
        self._settings = settings = me.settings
        self._node = me.node
        self.report = me.report
        self._faults = me.faults
        self._incarnation = me.incarnation
        self._introduction = me.introduction
        self._address = _advertised(settings)
        self._ping = self._ping_for(())
        self._door = Door(ctx, settings, None if identity is None else identity.pair)
        self.guests = Guests(ctx, self._door.socket, None if identity is None else identity.trust, me)
        self.hosts = Hosts(ctx, me, matchmaker, identity)
        self.inward, self.outward = self._door.socket, self.hosts.socket
        self._answers = Departures(partial(sockets.send, self.inward), self.unanswerable)
        self._messages = Departures(partial(sockets.send, self.outward), self._unsendable)
        self._cut: list[str] = []
        self.messages = Messages(self)
        self.answers = Answers(self)

    # keys

    def trust_changed(self, trust: Trust) -> list[str]:
        """End all connections that would not come about now; the hosts that were cut off."""
        self.guests.evict(trust)
        return self.hosts.trust_changed(trust)

    def take_key(self, pair: KeyPair) -> list[str]:
        """Be known by another key from now on: every connection ends, those of peers come anew by themselves. The hosts that we
        had dialled, and that are to be dialled again."""
        cut = self.hosts.take_key(pair)
        self._door.shut()
        self.guests.all_left()
        self._door.open_with(pair)
        return cut

    # outward: messages to peers, their answers back

    def ping(self, host: str) -> None:
        sought = self._node.sought
        self._go(host, (self._ping_for(sought) if sought else self._ping,), 0)

    def send(self, action: Send, now: float) -> None:
        """Put a message on the link; should the link die now, it is sent again when the link is back."""
        message, host = action.message, action.host
        to = self._node.links[host].incarnation or 0
        frame = message.stamped(now, by=self._incarnation, to=to, resent=action.resent, round_=action.round)
        self._go(host, (frame, message.body), len(message.body))

    def read_answer(self, host: str, frames: Frames, now: float) -> list[Action]:
        """Take in what a host that we dialled says.

        :raises MalformedError: it is neither answers nor a pong.
        """
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
        self.hosts.heard(host)
        announces = facts.get("announces", [])
        topics = None if announces is None else _topics(announces, AT_MOST)
        says = PeerSays(_pools(facts.get("pools")), facts.get("draining") is True, topics)
        return self._node.pong(host, incarnation, now, says)

    def break_off(self, host: str) -> None:
        """The connection to `host` is of no use after a fault; `flush` ends it."""
        self._cut.append(host)

    def cut(self, host: str, now: float) -> list[Action]:
        """End the connection to `host` after a fault; it is dialled again a while later."""
        self.hosts.hang_up(host)
        return self._node.peer_cut(host, "a fault of this receiver, see its log", now, pause=True)

    # inward: messages from peers, our answers back

    def read_message(self, origin: Origin, guest: Guest, frames: Frames, now: float) -> list[Action]:
        """Take in what a peer says on a connection that it made.

        :raises MalformedError: it is neither a message nor a ping.
        """
        if len(frames) == 1:
            kind = wire.kind_of(frames[0])
            if kind is not Kind.PING:
                raise MalformedError("truncated" if kind in wire.MESSAGE_KINDS else "kind")
            facts = wire.decode_control(frames[0])
            if not self.guests.may_speak(guest, facts.get("node")):
                return []
            self._introduce(guest, facts)
            self._answers.item(origin, (self._pong(_topics(facts.get("seeks", []), SOUGHT_MOST), now),), 0)
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

    @property
    def due(self) -> float | None:
        """When `flush` has something to do though nothing new has come."""
        return self._answers.due

    def respond(self, action: Respond, now: float) -> None:
        """Answer for a message; nobody waits for TAKEN."""
        self._answers.answer(action.origin, action.entry, action.entry.answer is not Answer.TAKEN, now)

    def flush(self, now: float) -> list[Action]:
        """Let leave what has gathered; what the peer is not there for will be sent or asked for again. Return what follows for
        links that could not be used."""
        self._messages.flush(now)
        self._messages.undelivered.clear()
        self._answers.flush(now)
        for _, load in self._answers.undelivered:
            self._node.counts[Counter.UNANSWERABLE] += len(load.answers)
        self._answers.undelivered.clear()
        cut, self._cut = self._cut, []
        return [action for host in cut for action in self.cut(host, now)]

    def refuse(self, origin: Origin, item: Frames, now: float) -> None:
        """Ask a peer to send a message again later.

        :raises MalformedError: it is none.
        """
        header = wire.decode(item[0])
        self._node.counts[Counter.BUSY] += 1
        self._answers.answer(origin, AnswerEntry(header.id, Answer.BUSY, "", header.round), urgent=False, now=now)

    def unanswerable(self, origin: Origin, exc: Exception) -> None:
        """A peer cannot be answered, for `exc`: its connection is ended."""
        self._faults.happened("answering peers", self.guests.named(origin), exc)
        self.guests.end(origin)

    def close(self) -> None:
        self.guests.close()
        self._door.close()
        self.hosts.close()

    # private

    def _go(self, host: str, frames: tuple[bytes, ...], size: int) -> None:
        name = self.hosts.name_of(host)
        if name is not None:
            self._messages.item(name, frames, size)

    def _unsendable(self, name: bytes, exc: Exception) -> None:
        host = self.hosts.host_of(name) or "a peer"
        self._faults.happened("sending to peers", host, exc)
        self.break_off(host)

    def _ping_for(self, sought: tuple[str, ...]) -> bytes:
        more = {"seeks": sought} if sought else {}
        return self._introduction(Kind.PING, address=self._address, port=self._settings.port, **more)

    def _pong(self, sought: frozenset[str], now: float) -> bytes:
        more: dict[str, object] = {"draining": True} if self._node.draining else {}
        announcement = self._node.announcement(now, sought)
        if announcement is None or announcement:
            more["announces"] = announcement
        return self._introduction(Kind.PONG, pools=self._node.pools.here(), **more)

    def _introduce(self, guest: Guest, facts: dict[str, object]) -> None:
        """A peer says where it listens."""
        host, address, port = facts.get("node"), facts.get("address"), facts.get("port")
        address = address or guest.address
        if isinstance(host, str) and isinstance(address, str) and isinstance(port, int) and 0 < port < 65536:
            self.hosts.introduce(host, Endpoint(address, port))


class _Speaker(NamedTuple):
    """A connection that a peer made, and who that is."""

    origin: Origin
    guest: Guest


class Messages:
    """What peers send on the connections that they made: a `Source`. Without keys nobody is known, and each connection counts for
    itself."""

    name = "messages of peers"

    def __init__(self, links: Links) -> None:
        self._links = links
        self._guests = links.guests

    @property
    def socket(self) -> sockets.ZmqSocket:
        return self._links.inward

    def receive(self, _now: float) -> Parcel[_Speaker]:
        origin, frames, peer = sockets.receive(self._links.inward, self._guests.known)
        guest = self._guests.who(origin, peer)
        return guest.host or origin, _Speaker(origin, guest), frames

    def handle(self, sender: _Speaker, item: Frames, now: float) -> list[Action]:
        return self._links.read_message(sender.origin, sender.guest, item, now)

    def named(self, sender: _Speaker) -> str:
        return sender.guest.host or sender.guest.address

    def malformed(self, sender: _Speaker, reason: str) -> None:
        self._links.report.bad(Counter.MALFORMED, self.named(sender), f"frames on a link: {reason}")

    def refuse(self, sender: _Speaker, item: Frames, now: float) -> None:
        self._links.refuse(sender.origin, item, now)

    def end(self, sender: _Speaker, _now: float) -> list[Action]:
        self._guests.end(sender.origin)
        return []


class Answers:
    """What peers answer on the connections that we made: a `Source`."""

    name = "answers of peers"

    def __init__(self, links: Links) -> None:
        self._links = links

    @property
    def socket(self) -> sockets.ZmqSocket:
        return self._links.outward

    def receive(self, _now: float) -> Parcel[str] | None:
        frames = self._links.outward.recv_multipart()
        host = self._links.hosts.host_of(frames[0])
        return None if host is None else (host, host, frames[1:])

    def handle(self, sender: str, item: Frames, now: float) -> list[Action]:
        return self._links.read_answer(sender, item, now)

    def named(self, sender: str) -> str:
        return sender

    def malformed(self, sender: str, reason: str) -> None:
        self._links.report.bad(Counter.MALFORMED, sender, f"answer on a link: {reason}")

    def refuse(self, _sender: str, _item: Frames, _now: float) -> None:
        """A message has no business here."""
        raise MalformedError("frames")

    def end(self, sender: str, now: float) -> list[Action]:
        return self._links.cut(sender, now)


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


def _topics(named: object, most: int) -> frozenset[str]:
    """Return the topics in a control frame.

    :raises MalformedError: it is no list of at most `most` names that fit into a header.
    """
    if not isinstance(named, list) or len(named) > most:
        raise MalformedError("control")
    if not all(isinstance(topic, str) and 0 < len(topic.encode("utf-8", "replace")) <= NAME_BYTES for topic in named):
        raise MalformedError("control")
    return frozenset(named)
