"""Node: a whole receiver without its sockets. It joins outgoing, links and incoming, and knows who is alive.

A service is alive while it pings. When its process can be watched, silence alone counts for little: a process that stands still
still has the messages that it was given, and goes on with them when it wakes up.

Every method is an event and returns what the shell must do. A message between two services of this node takes the
same way as one that crosses the network, only that no frame is sent in between.
"""

import math
from collections import Counter as Counts
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery import announced
from openstack_zeromq.delivery.apology import Apologies
from openstack_zeromq.delivery.channel import ConsumerId, Hand
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.incoming import HERE, Fail, Incoming, IncomingAction, Joined, Reply, Respond
from openstack_zeromq.delivery.link import Close, Dial, Link, LinkAction, LinkDown, LinkState, LinkUp, Ping
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.outgoing import NodeFacts, Open, Outgoing, OutgoingAction, Send, Surroundings, Tell
from openstack_zeromq.delivery.past import Former, Lane, Origin
from openstack_zeromq.delivery.pools import Pool, Pools
from openstack_zeromq.delivery.unconsumed import Note
from openstack_zeromq.delivery.whereabouts import Routes
from openstack_zeromq.wire import AnswerEntry, Flag, Kind, MessageId

SILENCE = 3.0
"""Seconds of silence after which a service is given up whose process cannot be watched."""

WATCHED_SILENCE = 60.0
"""Seconds of silence after which a service is given up though its process is there; as RabbitMQ's heartbeats do by default."""

UNHEARD = 10.0
"""Seconds after which a host that was never heard, and is down, is taken to have no pools: a restart takes less."""

GONE_AFTER = UNHEARD
"""Seconds for which a link is down before a host that the matchmaker does not know any more is taken for removed."""

UNLISTED_AFTER = 10.0
"""Seconds after which a topic that this node serves, and that its ring lacks, is reported. A ring that follows a catalog has it
within one."""

LEFT_FOR = 60.0
"""Seconds for which it is remembered that a service has said goodbye. Its last ping takes another connection than its goodbye,
and may come after it."""

LAST_WORDS = 0.25
"""Seconds after a process ended in which what it said before may still come in."""

_WHY_UNLISTED = (
    "services of this node listen to {0}, but the ring does not list {1} for it: only nodes with a link to this one know;"
    " `zmqctl ring missing` prints what to add"
)


class PeerSays(NamedTuple):
    """What a pong says of the peer: the pools that it serves and the topics that it announces (None: it does not know yet), and
    whether it would rather have no new work."""

    pools: frozenset[Pool] | None = None
    draining: bool = False
    topics: frozenset[str] | None = frozenset()


Action = Joined | Hand | Reply | Respond | Send | Tell | Ping | Dial | Close | Note
_Inner = IncomingAction | OutgoingAction | LinkAction


class Node:
    """`started` and every `now` are monotonic seconds of the same clock."""

    def __init__(self, facts: NodeFacts, routes: Routes, started: float, former: Former | None = None, origin: int = 0) -> None:
        """`origin`: random, for messages of the receiver itself."""
        self.counts: Counts[str] = Counts({counter.value: 0 for counter in Counter})
        self.links: dict[str, Link] = {}
        self.draining = False
        """Set it, and new messages of peers and of this node go to other hosts, where there are any."""
        self.sought: tuple[str, ...] = ()
        """Topics to ask peers for in every ping."""
        self._name = facts.name
        self._facts = facts
        self._routes = routes
        self._unlisted: dict[str, float] = {}
        self._reported: set[str] = set()
        self._looked_at = -1
        self._clients: dict[int, float] = {}
        self._watched: dict[int, float] = {}
        self._left: dict[int, float] = {}
        former = former or Former()
        self.incoming = Incoming(facts.bounds, facts.remember, started, self.counts, former)
        self.pools = Pools(facts.name, self.incoming.pools)
        self.outgoing = Outgoing(
            facts, Surroundings(routes, self._reach, self.incoming.serves, self.pools, self._drains), self.counts
        )
        self._apologies = Apologies(facts.name, origin)

    @property
    def unlisted(self) -> list[str]:
        """Topics that this node serves, and for which its ring does not list it."""
        return sorted(self._unlisted)

    def announcement(self, now: float, sought: Iterable[str] = ()) -> list[str] | None:
        """Return what to tell a peer that asks for the topics `sought`: those of them that are served here, and those that no
        ring would tell it. None: not known yet, because services of an earlier receiver may still come back."""
        if not self.pools.sure:
            return None
        self._see_unlisted(now)  # a service that has just joined is there for who asks now
        served = self.incoming.served() if sought else {}
        return sorted({*self._unlisted, *(topic for topic in sought if topic in served)})[: announced.AT_MOST]

    def missing(self) -> tuple[dict[str, list[str]], list[str]]:
        """Return the topics that rings lack, with the nodes that serve them, and the nodes that have not said whether their own
        lacks any. Any thread may ask."""
        announced_ = self.outgoing.announced
        lacking = {topic: list(hosts) for topic, hosts in dict(announced_.topics).items()}
        for topic in self.unlisted:
            lacking[topic] = sorted([*lacking.get(topic, []), self._name])
        silent = [host for host in self._routes.nodes() if host != self._name and not announced_.heard(host)]
        return dict(sorted(lacking.items())), sorted(silent)

    def has_left(self, client: int) -> bool:
        """Return whether a service has said goodbye; what still comes of it was sent before that."""
        return client in self._left

    @property
    def clients(self) -> Collection[int]:
        """Services connected now."""
        return self._clients.keys()

    # events from services

    def client_ping(self, client: int, now: float, settled: bool = True) -> list[Action]:
        """A service shows that it is alive; `settled`: all its consumers have joined this receiver."""
        if client in self._left:
            return []
        self._clients[client] = now
        inner = self.incoming.client_here(client, now)
        if settled:
            inner += self.incoming.client_settled(client, now)
        return self._settle(inner, now)

    def client_watched(self, client: int) -> None:
        """The shell watches the process of a service, and will tell when it ends."""
        self._watched[client] = math.inf

    def client_ended(self, client: int, now: float) -> None:
        """The process of a service has ended."""
        if client in self._watched:
            self._watched[client] = now

    def client_left(self, client: int, now: float) -> list[Action]:
        """A service said goodbye: a ping that comes after that was sent before it."""
        self._left[client] = now
        return self.client_cut(client, now)

    def client_cut(self, client: int, now: float) -> list[Action]:
        """Forget a service, as if its process had ended. Its next ping begins anew."""
        self._clients.pop(client, None)
        self._watched.pop(client, None)
        return self._settle(self.incoming.client_gone(client, now), now)

    def client_message(self, client: int, message: Message, now: float, former_host: str = "") -> list[Action]:
        """A service sends; see `Outgoing.accept`."""
        header = message.header
        if header.kind is Kind.REPLY and not header.flags & Flag.PROGRESS:
            self.incoming.calls.replied(header.subject)
        return self._settle(self.outgoing.accept(client, message, now, former_host), now)

    def join(
        self, channel: Channel, consumer: ConsumerId, credit: int, holding: Collection[MessageId], now: float
    ) -> list[Action]:
        """A consumer starts on a channel; see `Incoming.join`."""
        inner = self.incoming.join(channel, consumer, credit, holding, now)
        return self._settle([*inner, *self.outgoing.served(channel, now)], now)

    def leave(self, consumer: ConsumerId, now: float) -> list[Action]:
        """A consumer stops."""
        return self._settle(self.incoming.leave(consumer, now), now)

    def drain(self, consumer: ConsumerId, now: float) -> list[Action]:
        """A consumer wants no more."""
        return self._settle(self.incoming.drain(consumer, now), now)

    def report(self, lane: Lane, ids: Iterable[MessageId], now: float) -> list[Action]:
        """A service tells what it took from an earlier receiver; see `Incoming.report`."""
        return self._settle(self.incoming.report(lane, ids, now), now)

    def consumer_answers(self, consumer: ConsumerId, entries: Iterable[AnswerEntry], now: float) -> list[Action]:
        """A consumer, or the caller that got a reply, says what became of messages."""
        inner: list[_Inner] = []
        for entry in entries:
            inner += self.incoming.answered(consumer, entry, now)
        return self._settle(inner, now)

    def reply_failed(self, message_id: MessageId, client: int, now: float) -> list[Action]:
        """A reply could not be given to the service that waits for it: it is not connected any more."""
        return self._settle(self.incoming.reply_failed(message_id, client, now), now)

    # events from peers

    def peer_message(self, origin: Origin, message: Message, now: float) -> list[Action]:
        """A message came over a link; `origin` is where its answer goes."""
        self.counts[Counter.ARRIVED] += 1
        return self._settle(self.incoming.arrive(origin, message, now, message.header.round), now)

    def peer_answers(self, host: str, entries: Iterable[AnswerEntry], now: float) -> list[Action]:
        """A peer answered for messages we sent it."""
        inner: list[_Inner] = []
        for entry in entries:
            inner += self.outgoing.answered(host, entry, now)
        return self._settle(inner, now)

    def pong(self, host: str, incarnation: int, now: float, says: PeerSays | None = None) -> list[Action]:
        """A peer is there, as `incarnation`, and says this of itself."""
        pools, draining, topics = says or PeerSays()
        link = self.links.get(host)
        if link is None:
            return []
        link.draining = draining
        inner: list[_Inner] = [*link.pong(incarnation, now)]
        news = pools is not None and self.pools.learn(host, pools)
        if topics is not None and self.outgoing.announces(host, topics):
            news = True
        if news:
            inner += self.outgoing.routes_changed(now)
        return self._settle(inner, now)

    def peer_cut(self, host: str, why: str, now: float, pause: bool = False) -> list[Action]:
        """The connection to a peer was ended on this side; `pause`: it is not to be dialled again at once."""
        link = self.links.get(host)
        return [] if link is None else self._settle(link.cut(why, now, pause), now)

    def peer_refused(self, host: str, why: str, now: float) -> list[Action]:
        """The handshake with a peer failed, and the connection was closed on this side."""
        link = self.links.get(host)
        return [] if link is None else self._settle(link.refused(why, now), now)

    def cannot_dial(self, host: str, why: str) -> None:
        """This side opened no connection to a peer; `why` empty: it did."""
        if (link := self.links.get(host)) is not None:
            link.cannot_dial(why)

    def redial_peer(self, host: str, now: float) -> list[Action]:
        """The connection to a peer was ended on this side, to be opened anew at once."""
        link = self.links.get(host)
        return [] if link is None else self._settle(link.redial_now(now), now)

    def peer_redialled(self, host: str, now: float) -> list[Action]:
        """The connection to a peer was lost, and is dialled again already."""
        link = self.links.get(host)
        return [] if link is None else self._settle(link.redialled(now), now)

    # time and routes

    def routes_changed(self, now: float) -> list[Action]:
        """The matchmaker's view changed."""
        self._looked_at = -1
        return self._settle(self.outgoing.routes_changed(now), now)

    def close_gone_links(self, is_node: Callable[[str], bool], now: float) -> list[Action]:
        """End the links to hosts that are down, that nothing waits for, and that the matchmaker (`is_node`) does not know."""
        down = [host for host, link in self.links.items() if link.state is LinkState.DOWN and now - link.since > GONE_AFTER]
        gone = [host for host in down if not is_node(host)]
        busy = self.outgoing.in_flight() if gone else {}
        return self._settle(self._close_links(host for host in gone if host not in busy), now)

    def tick(self, now: float) -> list[Action]:
        """To be called several times a second."""
        inner: list[_Inner] = [
            *self._close_idle_links(now),
            *self._assume_gone(now),
            *self._seek(now),
            *self._report_unlisted(now),
        ]
        if not self.pools.sure and not self.incoming.awaits(now):
            self.pools.sure = True
            inner += self.outgoing.routes_changed(now)
        inner += [action for link in self.links.values() for action in link.tick(now)]
        for client in [client for client, heard in self._clients.items() if self._lost(client, heard, now)]:
            self.counts[Counter.CLIENTS_LOST] += self.incoming.consumes(client) or self.outgoing.sends(client)
            del self._clients[client]
            self._watched.pop(client, None)
            inner += self.incoming.client_gone(client, now)
        while self._left and now - next(iter(self._left.values())) > LEFT_FOR:
            del self._left[next(iter(self._left))]
        inner += self.incoming.tick(now)
        inner += self.outgoing.tick(now)
        return self._settle(inner, now)

    # private

    def _lost(self, client: int, heard: float, now: float) -> bool:
        ended = self._watched.get(client)
        if ended is None:
            return now - heard > SILENCE
        return now - heard > WATCHED_SILENCE or now - ended > LAST_WORDS

    def _reach(self, host: str) -> LinkState | None:
        if host == self._name:
            return LinkState.UP
        link = self.links.get(host)
        return None if link is None else link.state

    def _drains(self, host: str) -> bool:
        if host == self._name:
            return self.draining
        link = self.links.get(host)
        return link is not None and link.draining

    def _settle(self, inner: Iterable[_Inner], now: float) -> list[Action]:
        """Carry out what concerns only this node until nothing but work for the shell is left, in order."""
        outside: list[Action] = []
        work = deque(inner)
        while work:
            action = work.popleft()
            match action:
                case Send() if action.host == self._name:
                    work.extend(self.incoming.arrive(HERE, action.message, now, action.round))
                case Send():
                    self.links[action.host].used = now
                    outside.append(action)
                case Respond() if action.origin == HERE:
                    work.extend(self.outgoing.answered(self._name, action.entry, now))
                case Tell() if action.client == self._apologies.CLIENT:
                    self._apologies.answered(action.entry)
                case Joined() | Hand() | Reply() | Respond() | Tell() | Ping() | Dial() | Close() | Note():
                    outside.append(action)
                case _:
                    work.extend(self._within(action, now))
        return outside

    def _within(self, action: Open | LinkUp | LinkDown | Fail, now: float) -> Iterable[_Inner]:
        """The rarer work."""
        match action:
            case Open():
                return self._open(action.host, now)
            case LinkUp():
                return self.outgoing.link_up(action.host, now)
            case LinkDown():
                self.counts[Counter.PEERS_LOST] += 1
                return self.outgoing.link_down(action.host, now)
            case Fail():
                self.counts[Counter.ABANDONED] += 1
                return self.outgoing.accept(self._apologies.CLIENT, self._apologies.to_caller_of(action.call, now), now)

    def _open(self, host: str, now: float) -> list[LinkAction]:
        if host in self.links:
            return []
        link = self.links[host] = Link(host, now, self._facts.heartbeat, self._facts.redial, self._facts.jitter)
        return link.open(now)

    def survey(self, now: float) -> list[Action]:
        """Ask all hosts that are known what they serve; see `Outgoing.survey`."""
        return self._settle(self.outgoing.survey(now), now)

    def _assume_gone(self, now: float) -> list[OutgoingAction]:
        """A host that has not been heard for long holds up no notification any more, and what it announced counts no more."""
        announced_ = self.outgoing.announced
        away = [host for host, link in self.links.items() if link.state is LinkState.DOWN and link.silent_for(now) > UNHEARD]
        gone = [host for host in away if not self.pools.known(host) or announced_.by(host)]
        for host in gone:
            announced_.forget(host)
            if not self.pools.known(host):
                self.pools.learn(host, frozenset())
        return self.outgoing.routes_changed(now) if gone else []

    def _seek(self, now: float) -> list[_Inner]:
        """Ask peers for topics for which the matchmaker has no answer: all of them at once for a new one, then in every ping."""
        before, self.sought = self.sought, self.outgoing.sought(now)
        if not set(self.sought) - set(before):
            return []
        linked = [Ping(host) for host, link in self.links.items() if link.state is LinkState.UP]
        return [*linked, *self.outgoing.survey_if_due(now)]

    def _see_unlisted(self, now: float) -> None:
        """See which topics are served here that the ring lacks."""
        if self._looked_at != self.incoming.changes:
            self._looked_at = self.incoming.changes
            lacking = [topic for topic in self.incoming.served() if not self._routes.lists(topic, self._name)]
            self._unlisted = {topic: self._unlisted.get(topic, now) for topic in lacking}
            self._reported &= self._unlisted.keys()

    def _report_unlisted(self, now: float) -> list[Note]:
        """Count and report each topic that the ring has lacked for a while."""
        self._see_unlisted(now)
        due = [topic for topic, since in self._unlisted.items() if now - since >= UNLISTED_AFTER and topic not in self._reported]
        self._reported.update(due)
        self.counts[Counter.UNLISTED] += len(due)
        return [Note(Counter.UNLISTED, topic, _WHY_UNLISTED.format(topic, self._name)) for topic in due]

    def _close_idle_links(self, now: float) -> list[Close]:
        """Those that carried nothing for a while and that nobody waits for; they open again when they are needed."""
        announced_, idle_for = self.outgoing.announced, self._facts.link_idle
        idle = [host for host, link in self.links.items() if now - link.used > idle_for and not announced_.by(host)]
        busy = self.outgoing.in_flight() if idle else {}
        return self._close_links(host for host in idle if host not in busy)

    def _close_links(self, hosts: Iterable[str]) -> list[Close]:
        closing = list(hosts)
        for host in closing:
            del self.links[host]
            self.pools.forget(host)
            self.outgoing.announced.forget(host)
        return [Close(host) for host in closing]
