"""A whole fabric in one process and in virtual time: the pure machines of `delivery`, and between them a network that misbehaves.

A `Receiver` does what the receiver's loop does around `Node`, a `Service` what the driver does around `Outbox` and `Inbox`;
frames between them are the real bytes of `wire`. Everything random comes from one seeded generator, so a schedule always runs
the same way. What can go wrong, and does when it is asked to:

* a receiver dies with everything it knows and everything on its way to it, and starts again as a new incarnation;
* two nodes stop hearing each other for a while: frames are late, the connection that was dialled anew overtakes the old one;
* frames of a link are lost, or come twice (TCP does neither within a connection; a receiver that was too slow to read, or
  died between reading and answering, looks just like that);
* consumers stop and start.
"""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from openstack_zeromq import wire
from openstack_zeromq.address import Channel, Role
from openstack_zeromq.delivery.asked import Asked
from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.channel import Hand
from openstack_zeromq.delivery.inbox import Begin, Inbox, Keeps, Verdict
from openstack_zeromq.delivery.incoming import Joined, Reply, Respond
from openstack_zeromq.delivery.link import Close, Dial, Ping
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.node import Action, Node, PeerSays
from openstack_zeromq.delivery.origin import RANDOM_BITS, origin
from openstack_zeromq.delivery.outbox import Outbox, Transmit
from openstack_zeromq.delivery.outgoing import NodeFacts, Send, Tell
from openstack_zeromq.delivery.past import Former
from openstack_zeromq.delivery.pools import Pool
from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.delivery.unconsumed import Note
from openstack_zeromq.receiver.departures import LAZY, Departures
from openstack_zeromq.wire import NO_ID, Answer, AnswerEntry, Flag, Header, Kind, MessageId

EXCHANGE = "nova"
TTL = 300.0
REMEMBER = 900.0
TICK = 0.1
PING_EVERY = 0.5
SILENCE = 3.0
RETRY_EVERY = 0.02


class Fabric:
    """The clock, the network, and who is on it. `topics`: topic -> nodes, as every matchmaker sees it; `unanswered`: topics of
    which no matchmaker can say anything, for its store is away."""

    def __init__(self, seed: int, bounds: Bounds, topics: dict[str, tuple[str, ...]], nodes: Iterable[str]) -> None:
        self.random = Random(seed)  # noqa: S311 - a simulation wants to be repeated
        self.bounds = bounds
        self.topics = topics
        self.unanswered: set[str] = set()
        self.now = 100.0
        self.work: tuple[float, ...] = (0.0, 0.001, 0.01, 0.3)
        self.loss = 0.0
        self.duplication = 0.0
        self.cuts: dict[frozenset[str], float] = {}
        self.receivers = {name: Receiver(self, name) for name in nodes}
        self.services: dict[str, Service] = {}
        self.log = Log()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    # time

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._events, (self.now + seconds, self._serial, what))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as `until` is."""
        end, look = self.now + seconds, self.now
        while self._events and self._events[0][0] <= end:
            when, _, what = heapq.heappop(self._events)
            self.now = max(self.now, when)
            what()
            if self.now >= look:
                look = self.now + 0.25
                if until():
                    return True
        self.now = end
        return until()

    # chance

    def jitter(self) -> float:
        return self.random.uniform(0.8, 1.2)

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability

    def latency(self) -> float:
        """Mostly short; now and then somebody was busy."""
        return self.random.uniform(0.0, 0.05) if self.happens(0.05) else self.random.uniform(0.0001, 0.002)

    def counted(self, name: str) -> int:
        """How often something was counted, by all receivers that there were."""
        alive = [receiver.life for receiver in self.receivers.values() if receiver.life is not None]
        return self.log.counted[name] + sum(life.node.counts[name] for life in alive)

    def cut_until(self, one: str, other: str) -> float:
        return self.cuts.get(frozenset((one, other)), 0.0)


@dataclass
class Log:
    """What the application sees; bodies are names of messages. `ran`: who executed it, in order; `replies`: to each call, and
    `failures`: how often its caller got an error because the server is gone (a caller uses the first outcome only).
    `counted`: what receivers had counted that were killed since."""

    ran: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    order: defaultdict[tuple[str, Channel], list[str]] = field(default_factory=lambda: defaultdict(list))
    replies: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    requeued: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)


class Pipe:
    """Frames from one to the other, in order; those of a process that stands still wait."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._last = 0.0
        self._blocked_until = 0.0

    def put(self, deliver: Callable[[], None]) -> None:
        self._last = max(self._last, self._fabric.now + self._fabric.latency())
        self._fabric.after(self._last - self._fabric.now, lambda: self._deliver(deliver))

    def block(self, seconds: float) -> None:
        self._blocked_until = max(self._blocked_until, self._fabric.now + seconds)
        self._last = max(self._last, self._blocked_until)

    def _deliver(self, deliver: Callable[[], None]) -> None:
        if self._fabric.now < self._blocked_until:
            self._fabric.after(self._blocked_until - self._fabric.now, lambda: self._deliver(deliver))
        else:
            deliver()


# receivers


@dataclass(eq=False)
class Journal:
    """What a service has begun, as the file of `openstack_zeromq.journal` has it."""

    notes: list[MessageId] = field(default_factory=list)
    sealed: bool = False


class Receiver:
    """A node's receiver: whichever process is it now. `known`: the services, as the directory of sockets remembers them."""

    def __init__(self, fabric: Fabric, name: str) -> None:
        self.fabric = fabric
        self.name = name
        self.life: Life | None = None
        self.known: set[int] = set()
        self.journals: dict[int, Journal] = {}
        self.inward: list[Conn] = []

    def begun(self, client: int) -> list[MessageId]:
        journal = self.journals.get(client)
        return [] if journal is None else list(journal.notes)

    def given_up(self, client: int) -> list[MessageId]:
        """Seal the journal of a service, and put it away."""
        journal = self.journals.pop(client, None)
        if journal is None:
            return []
        journal.sealed = True
        return list(journal.notes)

    def start(self) -> None:
        if self.life is None:
            self.life = Life(self)
            self.inward = [conn for conn in self.inward if conn.open]
            for conn in self.inward:
                self.fabric.after(self.fabric.random.uniform(0.02, 1.0), conn.connect)

    def kill(self) -> None:
        if self.life is not None:
            for conn in list(self.life.conns.values()):
                conn.close()
            self.fabric.log.counted += self.life.node.counts
            self.life = None
            for conn in self.inward:
                conn.at = None


class View:
    """What a matchmaker knows: nothing at first, for its store has not answered yet."""

    def __init__(self, fabric: Fabric, known_at: float) -> None:
        self._fabric = fabric
        self._known_at = known_at

    def hosts(self, topic: str) -> tuple[str, ...] | None:
        known = self._fabric.now >= self._known_at and topic not in self._fabric.unanswered
        return self._fabric.topics.get(topic, ()) if known else None

    def directed(self, topic: str, server: str) -> tuple[str, ...] | None:
        return (server,) if server in self._fabric.receivers else self.hosts(topic)

    def lists(self, topic: str, host: str) -> bool:
        return topic in self._fabric.unanswered or host in self._fabric.topics.get(topic, ())

    def nodes(self) -> tuple[str, ...]:
        return tuple(self._fabric.receivers)


class Life:
    """One process: everything here dies with it."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.fabric = fabric = receiver.fabric
        self.name = receiver.name
        self.incarnation = fabric.random.getrandbits(62)
        facts = NodeFacts(self.name, fabric.bounds, REMEMBER, fabric.jitter)
        unknown_for = fabric.random.choice((0.0, 0.0, 0.01, 0.3, 1.5))
        former = Former(set(receiver.known), receiver.begun, receiver.given_up)
        self.node = Node(facts, View(fabric, fabric.now + unknown_for), fabric.now, former)
        fabric.after(unknown_for, self.routes_changed)
        self.conns: dict[str, Conn] = {}
        self.consumers: dict[bytes, Consumer] = {}
        self.serials: dict[bytes, int] = {}
        self.to_services = Departures(self._answer_service)
        self.to_peers = Departures(self._answer_peer)
        fabric.after(TICK, self._tick)

    @property
    def alive(self) -> bool:
        return self.receiver.life is self

    def routes_changed(self) -> None:
        if self.alive:
            self.do(self.node.routes_changed(self.fabric.now))

    def do(self, actions: Iterable[Action]) -> None:
        """As the receiver's loop does, one pass."""
        self._carry_out(actions)
        self._flush()

    def _carry_out(self, actions: Iterable[Action]) -> None:
        now = self.fabric.now
        for action in actions:
            match action:
                case Tell():
                    self.to_services.answer(action.client.to_bytes(8, "big"), action.entry, action.urgent, now)
                case Respond():
                    self.to_peers.answer(action.origin, action.entry, action.entry.answer is not Answer.TAKEN, now)
                case Send():
                    to = self.node.links[action.host].incarnation or 0
                    frame = action.message.stamped(now, by=self.incarnation, to=to, resent=action.resent, round_=action.round)
                    self._to_peer(
                        action.host, lambda there, origin, f=frame, b=action.message.body: there.peer_message(origin, f, b)
                    )
                case Joined():
                    self._joined(action)
                case Hand():
                    if not self._hand(action):
                        self._carry_out(self.node.leave(action.consumer, now))
                case Reply():
                    reply = action.message
                    self.to_services.item(action.client.to_bytes(8, "big"), (reply.frame, reply.body), len(reply.body))
                case Dial():
                    self._dial(action.host)
                case Close():
                    self._hang_up(action.host)
                case Ping():
                    self._to_peer(action.host, lambda there, origin, sought=self.node.sought: there.pinged(origin, sought))
                case Note():
                    self.fabric.log.notes[action.counter, action.about] += 1

    def _flush(self) -> None:
        for answers in (self.to_services, self.to_peers):
            answers.flush(self.fabric.now)
            if answers.due is not None:
                self.fabric.after(LAZY, self._flush_later)
        self._see_to_undelivered()

    def _flush_later(self) -> None:
        if self.alive:
            for answers in (self.to_services, self.to_peers):
                answers.flush(self.fabric.now)
            self._see_to_undelivered()

    def _see_to_undelivered(self) -> None:
        """Replies to services that have gone."""
        gone, self.to_services.undelivered = self.to_services.undelivered, []
        for who, load in gone:
            for frame in [frames[0] for frames in load.items]:
                client = int.from_bytes(who, "big")
                self.do(self.node.reply_failed(wire.decode(frame).id, client, self.fabric.now))

    def _tick(self) -> None:
        if self.alive:
            self.do(self.node.tick(self.fabric.now))
            self.receiver.known = {*self.node.clients, *self.node.incoming.awaited(self.fabric.now)}
            self.fabric.after(TICK, self._tick)

    # to services

    def _service(self, client: int) -> "Service | None":
        return next(
            (service for service in self.fabric.services.values() if service.client == client and service.at is self), None
        )

    def _answer_service(self, frames: Sequence[bytes]) -> bool:
        service = self._service(int.from_bytes(frames[0], "big"))
        if service is not None:
            service.from_receiver.put(lambda: service.told(frames[1:]))
        return service is not None

    def _hand(self, hand: Hand) -> bool:
        consumer = self.consumers.get(hand.consumer)
        if consumer is None:
            return False
        message = hand.message
        frame = message.stamped(self.fabric.now, by=self.incarnation, to=0, resent=False)
        consumer.down.put(lambda: consumer.service.given(consumer, frame, message.body))
        return True

    # from services

    def pinged_by(self, service: "Service", settled: int | None) -> None:
        self.receiver.journals.setdefault(service.client, Journal())
        service.from_receiver.put(lambda: service.ponged(self))
        self.do(self.node.client_ping(service.client, self.fabric.now, settled == self.incarnation))

    def reported(self, lane: Channel | bytes, taken: list[MessageId]) -> None:
        self.do(self.node.report(lane, taken, self.fabric.now))

    def joined(self, consumer: "Consumer", credit: int, holding: list[MessageId], serial: int) -> None:
        self.consumers[consumer.id] = consumer
        self.serials[consumer.id] = serial
        self.do(self.node.join(consumer.channel, consumer.id, credit, holding, self.fabric.now))

    def _joined(self, action: Joined) -> None:
        consumer, serial = self.consumers[action.consumer], self.serials[action.consumer]
        consumer.down.put(lambda: consumer.service.knows(consumer, self, serial, action.keeps, action.begun))

    def left(self, consumer: "Consumer", drain: bool) -> None:
        self.do((self.node.drain if drain else self.node.leave)(consumer.id, self.fabric.now))
        if not drain:
            self.consumers.pop(consumer.id, None)

    # peers

    def _hang_up(self, host: str) -> None:
        former = self.conns.pop(host, None)
        if former is not None:
            former.close()

    def _dial(self, host: str) -> None:
        self._hang_up(host)
        self.conns[host] = Conn(self, self.fabric.receivers[host])

    def take_key(self) -> None:
        """Every connection ends; those that this one dialled are dialled anew, and so do the others when they notice."""
        dialled = list(self.conns)
        for host in dialled:
            self._hang_up(host)
        for conn in [conn for conn in self.receiver.inward if conn.at is self]:
            conn.close()
            self.fabric.after(self.fabric.latency(), lambda c=conn: c.home.shut_out_of(c))
        for host in dialled:
            self.do(self.node.redial_peer(host, self.fabric.now))

    def shut_out_of(self, conn: "Conn") -> None:
        host = conn.to.name
        if not self.alive or self.conns.get(host) is not conn:
            return
        if self.fabric.happens(0.5):
            self._hang_up(host)
            self.do(self.node.peer_refused(host, "the handshake failed", self.fabric.now))
        else:
            self._dial(host)
            self.do(self.node.peer_redialled(host, self.fabric.now))

    def _to_peer(self, host: str, deliver: "Callable[[Life, bytes], None]") -> None:
        conn = self.conns.get(host)
        if conn is not None:
            conn.forth(deliver)

    def _answer_peer(self, frames: Sequence[bytes]) -> bool:
        conn = next((conn for conn in self.receiver.inward if conn.id == frames[0] and conn.at is self), None)
        if conn is not None:
            conn.back(lambda home: home.answered_by(conn, frames[1]))
        return conn is not None

    def peer_message(self, origin: bytes, frame: bytes, body: bytes) -> None:
        message = Message.read(frame, body, self.fabric.now)
        if wire.is_for(message.header.addressed_to, self.incarnation):
            self.do(self.node.peer_message(origin, message, self.fabric.now))

    def pinged(self, origin: bytes, sought: tuple[str, ...]) -> None:
        conn = next((conn for conn in self.receiver.inward if conn.id == origin and conn.at is self), None)
        if conn is not None:
            here = self.node.pools.here()
            pools = None if here is None else frozenset(here)
            announced = self.node.announcement(self.fabric.now, sought)
            topics = None if announced is None else frozenset(announced)
            draining = self.node.draining
            conn.back(lambda home: home.ponged(conn, self.incarnation, pools, draining, topics))

    def answered_by(self, conn: "Conn", frame: bytes) -> None:
        if self.conns.get(conn.to.name) is conn:
            self.do(self.node.peer_answers(conn.to.name, wire.decode_answers(frame), self.fabric.now))

    def ponged(
        self, conn: "Conn", incarnation: int, pools: frozenset[Pool] | None, draining: bool, topics: frozenset[str] | None
    ) -> None:
        if self.conns.get(conn.to.name) is conn:
            self.do(self.node.pong(conn.to.name, incarnation, self.fabric.now, PeerSays(pools, draining, topics)))


class Conn:
    """A connection that a receiver has dialled. `at`: the process on the other side, while there is one; what is sent before
    waits. Closed, it may still deliver what the kernel had."""

    def __init__(self, home: Life, to: Receiver) -> None:
        self.id = home.fabric.random.randbytes(8)
        self.home = home
        self.to = to
        self.at: Life | None = None
        self.open = True
        self._fabric = home.fabric
        self._forth = Pipe(home.fabric)
        self._back = Pipe(home.fabric)
        self._waiting: list[Callable[[Life, bytes], None]] = []
        to.inward.append(self)
        self.connect()

    def connect(self) -> None:
        """When the other side is there and can be heard; else later."""
        if not self.open or self.at is not None or self.to.life is None:
            return
        heard = self._fabric.cut_until(self.home.name, self.to.name)
        if heard > self._fabric.now:
            self._fabric.after(heard - self._fabric.now + self._fabric.random.uniform(0.0, 0.2), self.connect)
            return
        self.at = self.to.life
        waiting, self._waiting = self._waiting, []
        for deliver in waiting:
            self.forth(deliver)

    def close(self) -> None:
        self.open = False
        self._waiting.clear()
        if self.at is None and self in self.to.inward:
            self.to.inward.remove(self)

    def forth(self, deliver: Callable[[Life, bytes], None]) -> None:
        if self.at is None:
            self._waiting.append(deliver)
        else:
            self._put(self._forth, self._arrive_there, deliver, self.at)

    def back(self, deliver: Callable[[Life], None]) -> None:
        self._put(self._back, self._arrive_home, deliver, self.home)

    def _put(self, pipe: Pipe, arrive: Callable[..., None], deliver: Callable[..., None], target: Life) -> None:
        if self._fabric.happens(self._fabric.loss):
            return
        for _ in range(2 if self._fabric.happens(self._fabric.duplication) else 1):
            pipe.put(lambda: arrive(deliver, target))

    def _arrive_there(self, deliver: Callable[[Life, bytes], None], target: Life) -> None:
        if self._held_up(lambda: self._arrive_there(deliver, target)):
            return
        if target.alive and (self.open or self._fabric.happens(0.5)):
            deliver(target, self.id)

    def _arrive_home(self, deliver: Callable[[Life], None], target: Life) -> None:
        if self._held_up(lambda: self._arrive_home(deliver, target)):
            return
        if target.alive and self.open:
            deliver(target)

    def _held_up(self, again: Callable[[], None]) -> bool:
        heard = self._fabric.cut_until(self.home.name, self.to.name)
        if heard > self._fabric.now:
            self._fabric.after(heard - self._fabric.now, again)
            return True
        return False


# services


@dataclass(eq=False)
class Consumer:
    """One channel of a service."""

    service: "Service"
    channel: Channel
    id: bytes
    inbox: Inbox
    taken: Seen
    down: Pipe
    joined: bool = False
    arrived: deque[Message] = field(default_factory=deque)
    working: bool = False
    draining: bool = False
    named: dict[int, list[MessageId]] = field(default_factory=dict)


class Letter(NamedTuple):
    """A message before it has an id."""

    kind: Kind
    topic: str
    body: str
    server: str = ""
    client: int = 0
    subject: MessageId = NO_ID

    @property
    def key(self) -> tuple[str, str]:
        """Its target."""
        return self.topic, self.server


@dataclass
class Stream:
    origin: int
    outbox: Outbox
    following: int = 1
    early: "dict[tuple[str, str], deque[Letter]]" = field(default_factory=dict)


class Service:
    """A process with the driver in it. `listens`: the channels it consumes while it listens."""

    def __init__(self, fabric: Fabric, name: str, node: str, listens: tuple[Channel, ...] = (), credit: int = 3) -> None:
        self.fabric = fabric
        self.name = name
        self.receiver = fabric.receivers[node]
        self.client = fabric.random.getrandbits(63)
        self.listens = listens
        self.credit = credit
        self.at: Life | None = None
        self.from_receiver = Pipe(fabric)
        self.consumers: list[Consumer] = []
        self.streams = {kind: self._stream(kind) for kind in (Kind.CALL, Kind.NOTIFY)}
        self._common = Pipe(fabric)
        self._outlet = Pipe(fabric)
        self._outlet_at: Life | None = None
        self._outlet_waiting: list[Callable[[Life], None]] = []
        self._incarnation: int | None = None
        self._heard = fabric.now
        self._told_settled = False
        self._turns: Counter[tuple[str, str]] = Counter()
        self._calls: dict[MessageId, str] = {}
        self._asked = Asked()
        self._replied = Seen(REMEMBER)
        self._replies = Inbox(self._replied)
        self._taken: dict[Channel, Seen] = {}
        self._gathered: dict[bytes, list[AnswerEntry]] = {}
        self._serial = 0
        self._joins = 0
        self._journal: Journal | None = None
        self._stands_still_until = 0.0
        fabric.services[name] = self
        self._after(fabric.random.uniform(0, PING_EVERY), self._look_after)
        self._retries = False

    # what the application does

    def send(self, kind: Kind, topic: str, body: str, server: str = "") -> None:
        """A call, cast, fanout or notification named `body`."""
        self._awake(lambda: self._send(Letter(kind, topic, body, server)))

    def stand_still(self, seconds: float) -> None:
        """As after SIGSTOP. What it wrote last may wait in the process, too; when it goes on everything comes in any order."""
        self._stands_still_until = self.fabric.now + seconds
        incoming = [self.from_receiver, *(consumer.down for consumer in self.consumers)]
        outgoing = [self._common, self._outlet] if self.fabric.happens(0.5) else []
        for pipe in (*incoming, *outgoing):
            pipe.block(seconds + self.fabric.random.choice((0.0, 0.001, 0.05)))

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self.fabric.after(seconds, lambda: self._awake(what))

    def _awake(self, what: Callable[[], None]) -> None:
        """Do it, once the process does not stand still."""
        left = self._stands_still_until - self.fabric.now
        if left > 0:
            self.fabric.after(left + self.fabric.random.choice((0.0, 0.001, 0.05)), lambda: self._awake(what))
        else:
            what()

    def listen(self) -> None:
        self._awake(self._listen)

    def _listen(self) -> None:
        if self.consumers:
            return
        for channel in self.listens:
            self._serial += 1
            name = self.client.to_bytes(8, "big") + self._serial.to_bytes(4, "big")
            taken = Seen(REMEMBER)
            if channel.role is not Role.FANOUT:
                taken = self._taken.setdefault(channel, taken)
            self.consumers.append(
                Consumer(self, channel, name, Inbox(taken, channel.role is Role.FANOUT), taken, Pipe(self.fabric))
            )
        self._ask()

    def stop(self, finish: bool) -> None:
        """Stop to listen; `finish`: first work off what is here, as a server does; else leave it to others."""
        self._awake(lambda: self._stop(finish))

    def _stop(self, finish: bool) -> None:
        for consumer in list(self.consumers):
            if finish:
                consumer.draining = True
                self._control(lambda life, c=consumer: life.left(c, drain=True))
            else:
                consumer.arrived.clear()
            self._leave_when_done(consumer)

    @property
    def pending(self) -> int:
        """What this service would send again."""
        return sum(len(stream.outbox) + sum(map(len, stream.early.values())) for stream in self.streams.values())

    def _leave_when_done(self, consumer: Consumer) -> None:
        if consumer not in self.consumers:
            return
        if consumer.arrived:
            self._after(0.05, lambda: self._leave_when_done(consumer))
            return
        self._control(lambda life: life.left(consumer, drain=False))
        self.consumers.remove(consumer)

    # sending, as driver/sending.py does

    def _stream(self, kind: Kind) -> Stream:
        its = origin(self.receiver.name, self.fabric.random.getrandbits(RANDOM_BITS))
        return Stream(its, Outbox(self.fabric.bounds, self.fabric.jitter, until_accepted=kind is Kind.NOTIFY))

    def _send(self, letter: Letter) -> None:
        kind = letter.kind
        stream = self.streams[Kind.NOTIFY if kind is Kind.NOTIFY else Kind.CALL]
        in_turn = kind is Kind.REPLY or letter.key not in stream.early
        if self._incarnation is not None and in_turn and self._room(stream, letter):
            self._post(stream, letter)
        else:
            stream.early.setdefault(letter.key, deque()).append(letter)
            self._retry_soon()

    def _room(self, stream: Stream, letter: Letter) -> bool:
        key = (EXCHANGE if letter.topic else "", *letter.key)
        return letter.kind is Kind.REPLY or stream.outbox.room(key, len(letter.body))

    def _post(self, stream: Stream, letter: Letter) -> None:
        kind, topic, body, server, client, subject = letter
        message_id = MessageId(stream.origin, stream.following)
        stream.following += 1
        exchange = EXCHANGE if topic else ""
        turn = self._turns[exchange, topic] if not server else 0
        self._turns[exchange, topic] += not server
        header = Header(
            kind,
            Flag.NONE,
            message_id,
            stream.outbox.settled(message_id.sequence),
            self.receiver.name,
            self._incarnation or 0,
            int(TTL * 1000),
            turn,
            client or self.client,
            subject,
            exchange,
            topic,
            server,
            addressed_to=self._incarnation or 0,
        )
        if kind is Kind.CALL:
            self._calls[message_id] = body
            self._asked.posted(message_id)
        for action in stream.outbox.add(Message.new(header, body.encode(), self.fabric.now)):
            self._transmit(action)

    def _transmit(self, action: Transmit) -> None:
        message = action.message
        to = self._incarnation or 0
        frame = message.stamped(self.fabric.now, by=to, to=to, resent=action.resent)
        former = action.former_host

        def deliver(life: Life) -> None:
            now = life.fabric.now
            read = Message.read(frame, message.body, now)
            if wire.is_for(read.header.addressed_to, life.incarnation):
                life.do(life.node.client_message(self.client, read, now, former))

        self._out(deliver)

    def _post_early(self) -> None:
        for stream in self.streams.values():
            for key, early in list(stream.early.items()):
                while self._incarnation is not None and early and self._room(stream, early[0]):
                    self._post(stream, early.popleft())
                if not early:
                    del stream.early[key]

    def _retry_soon(self) -> None:
        """Time and again, as long as something was refused or had no room."""
        if not self._retries and any(stream.early or stream.outbox.refused for stream in self.streams.values()):
            self._retries = True
            self._after(RETRY_EVERY, self._retry)

    def _retry(self) -> None:
        self._retries = False
        self._tick()
        self._retry_soon()

    def _tick(self) -> None:
        for stream in self.streams.values():
            for action in stream.outbox.tick(self.fabric.now):
                if isinstance(action, Transmit):
                    self._transmit(action)
        self._post_early()

    def told(self, frames: Sequence[bytes]) -> None:
        """Answers and replies come together, in their order."""
        for item in wire.unbundle(list(frames)):
            if len(item) == 1:
                self._answered(item[0])
            else:
                self._reply_arrived(*item)

    def _answered(self, frame: bytes) -> None:
        for entry in wire.decode_answers(frame):
            self._asked.told(entry)
            for stream in self.streams.values():
                stream.outbox.answered(entry, self.fabric.now)
        self._post_early()
        self._retry_soon()

    def _reply_arrived(self, frame: bytes, body: bytes) -> None:
        header = Message.read(frame, body, self.fabric.now).header
        self._answer(self.client.to_bytes(8, "big"), AnswerEntry(header.id, Answer.TAKEN))
        if self._replies.arrive(header, self.fabric.now) is not Verdict.NEW:
            return
        self._replies.take(header.id, self.fabric.now)
        call = self._calls.get(header.subject)
        if call is not None:
            assert self._asked.may_reply(header.subject, header.source), f"{header.source} was asked {call}, and nobody knows"
            outcomes = self.fabric.log.failures if header.flags & Flag.FAILED else self.fabric.log.replies
            outcomes[call] += 1
            self.streams[Kind.CALL].outbox.give_up(header.subject)

    # the connection, as driver/connection.py does

    def _look_after(self) -> None:
        self._after(PING_EVERY, self._look_after)
        self._ping()
        self._tick()
        for seen in (self._replied, *self._taken.values(), *(consumer.taken for consumer in self.consumers)):
            seen.tick(self.fabric.now)
        if self._incarnation is not None and self.fabric.now - self._heard > SILENCE:
            self._incarnation = None
            self._outlet_at, self._outlet_waiting = None, []
            for stream in self.streams.values():
                stream.outbox.receiver_lost()

    def _ping(self) -> None:
        self._reconnect()
        self._told_settled = self._incarnation is not None and all(consumer.joined for consumer in self.consumers)
        settled = self._incarnation if self._told_settled else None
        self._to_receiver(lambda life: life.pinged_by(self, settled))

    def _reconnect(self) -> None:
        life = self.receiver.life
        if self.at is not life:
            self.at = life
        if self._outlet_at is not life and life is not None:
            self._outlet_at = life
            waiting, self._outlet_waiting = self._outlet_waiting, []
            for deliver in waiting:
                self._out(deliver)

    def _to_receiver(self, deliver: Callable[[Life], None]) -> None:
        """Over the connection for all the rest; lost when nobody is there."""
        life = self.at
        if life is not None:
            self._common.put(lambda: deliver(life) if life.alive else None)

    def _out(self, deliver: Callable[[Life], None]) -> None:
        """Over the connection that only sends: without a receiver it waits for the next, which may not be the one it is for."""
        life = self._outlet_at
        if life is None or not life.alive:
            self._outlet_waiting.append(deliver)
        else:
            self._outlet.put(lambda: deliver(life) if life.alive else None)

    def ponged(self, life: Life) -> None:
        self._heard = self.fabric.now
        given_up = self._open_journal()
        if life.incarnation == self._incarnation and not given_up:
            return
        self._incarnation, self._told_settled = life.incarnation, False
        self._asked.receiver_changed()
        for consumer in self.consumers:
            consumer.joined = False
        self._report()
        self._ask()
        for stream in self.streams.values():
            for action in stream.outbox.receiver(life.incarnation):
                self._transmit(action)
        self._post_early()

    # consuming, as driver/consuming.py does

    def _open_journal(self) -> bool:
        journal = self.receiver.journals.get(self.client)
        given_up = self._journal is not None and self._journal.sealed
        if journal is not None:
            if given_up:
                self._doubt()
            self._journal = journal
        return given_up and journal is not None

    def _doubt(self) -> None:
        for consumer in self.consumers:
            consumer.inbox.doubt()

    def _begin(self, consumer: Consumer, message_id: MessageId) -> Begin:
        begin = consumer.inbox.may_begin(message_id)
        if begin is Begin.NOW and self._journal is not None:
            if not self._journal.sealed:
                self._journal.notes.append(message_id)
            else:
                self._doubt()
                return Begin.IN_DOUBT
        return begin

    def _ask(self) -> None:
        """LISTEN, answered by LISTENING, on which all consumers of the channel join that have not."""
        if self._incarnation is not None:
            for channel in [consumer.channel for consumer in self.consumers]:
                self._to_receiver(lambda life, c=channel: self.from_receiver.put(lambda: self._listening(life, c)))

    def _report(self) -> None:
        lanes: list[tuple[Channel | bytes, Seen]] = [*self._taken.items()]
        lanes += [(consumer.id, consumer.taken) for consumer in self.consumers if consumer.channel.role is Role.FANOUT]
        for lane, seen in lanes:
            taken = seen.remembered()
            self._to_receiver(lambda life, at=lane, ids=taken: life.reported(at, ids))

    def _listening(self, life: Life, channel: Channel) -> None:
        for consumer in [consumer for consumer in self.consumers if consumer.channel == channel and not consumer.joined]:
            holding = consumer.inbox.holding
            credit = max(0, self.credit - len(holding))
            self._joins += 1
            consumer.named[self._joins] = holding

            def join(c: Consumer = consumer, n: int = credit, h: list[MessageId] = holding, s: int = self._joins) -> None:
                if life.alive and c in self.consumers:
                    life.joined(c, n, h, s)

            self._after(self.fabric.random.uniform(0.0, 0.1), join)

    def knows(self, consumer: Consumer, life: Life, serial: int, keeps: Keeps, begun: tuple[MessageId, ...]) -> None:
        """JOINED."""
        if not life.alive:
            return
        named = consumer.named.pop(serial, [])
        kept = named if keeps is Keeps.NAMED else []
        consumer.inbox.settle(None if keeps is Keeps.ALL else {*kept, *begun}, named)
        if life.incarnation == self._incarnation and not any(later > serial for later in consumer.named):
            consumer.joined = True
            consumer.named.clear()
            if not self._told_settled and all(each.joined for each in self.consumers):
                self._ping()

    def given(self, consumer: Consumer, frame: bytes, body: bytes) -> None:
        if consumer not in self.consumers:
            return
        message = Message.read(frame, body, self.fabric.now)
        assert _meant_for(message.header, consumer.channel), f"{message.header} came through {consumer.channel}"
        verdict = consumer.inbox.arrive(message.header, self.fabric.now, in_doubt=not consumer.joined)
        if verdict is Verdict.TAKEN:
            self._answer(consumer.id, AnswerEntry(message.id, Answer.TAKEN))
        if verdict is Verdict.NEW:
            consumer.arrived.append(message)
            self._work(consumer)

    def _work(self, consumer: Consumer) -> None:
        """One message at a time, in order, as an executor polls."""
        if not consumer.working and consumer.arrived:
            consumer.working = True
            pause = self.fabric.random.choice(self.fabric.work)
            self._after(pause, lambda: self._work_done(consumer))

    def _work_done(self, consumer: Consumer) -> None:
        consumer.working = False
        while consumer.arrived and consumer.arrived[0].header.kind in (Kind.CALL, Kind.CAST):
            begin = self._begin(consumer, consumer.arrived[0].id)
            if begin is Begin.IN_DOUBT and consumer in self.consumers:
                consumer.working = True
                self._after(RETRY_EVERY, lambda: self._work_done(consumer))
                return
            if begin is Begin.NOW:
                break
            consumer.arrived.popleft()
        if consumer.arrived:
            self._run(consumer, consumer.arrived.popleft())
            self._work(consumer)

    def _run(self, consumer: Consumer, message: Message) -> None:
        """Take it and execute it; or, now and then, give a notification back."""
        body, header, log = message.body.decode(), message.header, self.fabric.log
        if header.kind is Kind.NOTIFY and body not in log.requeued and self.fabric.happens(0.1) and not consumer.draining:
            log.requeued.add(body)
            consumer.inbox.give_back(message.id)
            self._answer(consumer.id, AnswerEntry(message.id, Answer.REQUEUED))
            return
        consumer.inbox.take(message.id, self.fabric.now)
        self._answer(consumer.id, AnswerEntry(message.id, Answer.TAKEN))
        if header.kind is not Kind.NOTIFY:
            self._flush_answers()
        log.ran[body].append(f"{self.name} {consumer.channel.role.value}")
        log.order[self.name, consumer.channel].append(body)
        if header.kind is Kind.CALL:
            self._send(Letter(Kind.REPLY, "", f"reply to {body}", header.source, header.client, header.id))

    def _answer(self, consumer: bytes, entry: AnswerEntry) -> None:
        """Answers gather for a few milliseconds."""
        if not self._gathered:
            self._after(LAZY, self._flush_answers)
        self._gathered.setdefault(consumer, []).append(entry)

    def _flush_answers(self) -> None:
        gathered, self._gathered = self._gathered, {}
        for consumer, entries in gathered.items():
            self._out(lambda life, c=consumer, e=entries: life.do(life.node.consumer_answers(c, e, life.fabric.now)))

    def _control(self, deliver: Callable[[Life], None]) -> None:
        self._flush_answers()
        self._out(deliver)


def _meant_for(header: Header, channel: Channel) -> bool:
    """As the driver checks."""
    if channel[1:3] != (header.exchange, header.topic):
        return False
    if channel.role in (Role.SERVER, Role.POOL):
        return header.server == channel.name
    return (header.kind is Kind.FANOUT) == (channel.role is Role.FANOUT)
