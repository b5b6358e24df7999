"""Outgoing: messages of this node's services, from the moment they are accepted until some host has answered for good.

A bare topic goes round robin over its hosts: the sender's count (`turn`) picks the host. A message is sent only over a link that
is up. One that was sent stays with its host until that host answers, for it may have been taken there; one that was not can go to
the next host at once. The sender is told the host, and names it when it has to send again through a restarted receiver.
"""

import heapq
from collections import Counter as Counts
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.channel import Bounds
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.link import LinkState
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Kind, MessageId

ASK_AGAIN_AFTER = 5.0
"""Seconds without an answer over a living link after which a message is sent again (answers can be lost, too)."""

BACK_OFF_FIRST = 0.05
BACK_OFF_MOST = 2.0
LEARNED_MOST = 10_000
ROUNDS = 16


class Routes(Protocol):
    """What outgoing asks the matchmaker's view; answers come from memory."""

    def hosts(self, topic: str) -> tuple[str, ...]:
        """Hosts that serve a topic, sorted; empty when unknown."""

    def directed(self, topic: str, server: str) -> tuple[str, ...]:
        """Hosts where (topic, server) can be, most likely first."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Who this node is, and its limits. `remember`: seconds, longer than any message lives; `jitter()`: a factor around 1."""

    name: str
    bounds: Bounds
    remember: float
    jitter: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What outgoing asks about the world. `reach(host)`: the state of the link to a host, None when there is none yet;
    `serves(channel)`: does anybody on this node consume it?"""

    routes: Routes
    reach: Callable[[str], LinkState | None]
    serves: Callable[[Channel], bool]


class Send(NamedTuple):
    """Send `message` to `host`."""

    host: str
    message: Message
    resent: bool
    round: int = 0


class Tell(NamedTuple):
    """Tell the service what became of its message; `urgent`: somebody waits for just this."""

    client: int
    entry: AnswerEntry
    urgent: bool = True


class Open(NamedTuple):
    """A link to `host` is wanted."""

    host: str


OutgoingAction = Send | Tell | Open


@dataclass(slots=True)
class _Hop:
    """One host that is to take the message. `due`: when to do something about it; `stays`: a former receiver may have sent
    it there, so only that host's answer sets it free."""

    due: float
    round: int
    sends: int = 0
    stays: bool = False

    @property
    def may_be_there(self) -> bool:
        return self.stays or self.sends > 0


@dataclass(slots=True)
class _Pending:
    client: int
    message: Message
    former_host: str
    hops: dict[str, _Hop] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    rounds: int = 0
    choices: int = 0

    def choose(self, host: str, now: float, stays: bool = False) -> _Hop:
        """Another host is to take it."""
        self.choices += 1
        hop = self.hops[host] = _Hop(now, self.choices % ROUNDS, stays=stays)
        return hop


class Outgoing:
    """The messages of this node's services."""

    def __init__(self, facts: NodeFacts, surroundings: Surroundings, counts: Counts[str]) -> None:
        self._name = facts.name
        self._bounds = facts.bounds
        self._jitter = facts.jitter
        self._routes = surroundings.routes
        self._reach = surroundings.reach
        self._serves = surroundings.serves
        self._counts = counts
        self._pending: dict[MessageId, _Pending] = {}
        self._bytes = 0
        self._per_topic: Counts[tuple[str, str]] = Counts()
        self._timers: list[tuple[float, MessageId]] = []
        self._finished = Seen(facts.remember)
        self._learned: dict[tuple[str, str], str] = {}

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def pending_bytes(self) -> int:
        return self._bytes

    def in_flight(self, host: str) -> int:
        """How many messages wait for an answer of `host`."""
        return sum(host in pending.hops for pending in self._pending.values())

    # events

    def accept(self, client: int, message: Message, now: float, former_host: str = "") -> list[OutgoingAction]:
        """A service of this node sends a message, or sends it again; then `former_host` is where it went, if that is known."""
        header = message.header
        self._finished.note(header, now)
        known = self._pending.get(message.id)
        if known is not None:
            known.client = client
            return [_accepted(client, message)]
        if message.id in self._finished:
            return [Tell(client, AnswerEntry(message.id, Answer.TAKEN))]
        key = (header.exchange, header.topic)
        if self._per_topic[key] >= self._bounds.messages or self._bytes + len(message.body) > self._bounds.bytes:
            self._counts[Counter.BUSY] += 1
            return [Tell(client, AnswerEntry(message.id, Answer.BUSY))]
        self._counts[Counter.ACCEPTED] += 1
        self._per_topic[key] += 1
        self._bytes += len(message.body)
        pending = _Pending(client, message, former_host)
        self._pending[message.id] = pending
        actions = self._route(pending, now)
        if any(isinstance(action, Tell) for action in actions):
            return actions
        return [_accepted(client, message), *actions]

    def answered(self, host: str, entry: AnswerEntry, now: float) -> list[OutgoingAction]:
        """`host` says what became of a message."""
        pending = self._pending.get(entry.id)
        if pending is None or host not in pending.hops:
            return []
        if entry.answer in (Answer.NOROUTE, Answer.BUSY) and entry.round != pending.hops[host].round:
            return []  # it refuses an earlier copy; this one is still to be answered
        if entry.answer is Answer.BUSY:
            hop = pending.hops[host]
            hop.due = now + self._back_off(hop.sends)
            self._wake(hop.due, pending)
            return []
        del pending.hops[host]
        if pending.message.header.kind is Kind.FANOUT:
            return [] if pending.hops else self._finish(pending, Answer.TAKEN, "", now)
        if entry.answer is Answer.NOROUTE and pending.message.header.kind is not Kind.REPLY:
            pending.tried.add(host)
            return self._route(pending, now)
        if entry.answer is Answer.TAKEN:
            self._learn(pending.message, host)
        return self._finish(pending, entry.answer, entry.reason, now)

    def link_up(self, host: str, now: float) -> list[OutgoingAction]:
        """The link to `host` is there (again): send whatever it has not answered, for the old link's queue is gone."""
        actions: list[OutgoingAction] = []
        for pending in list(self._pending.values()):
            if (hop := pending.hops.get(host)) is not None:
                actions += self._send(pending, host, hop, now)
            elif not pending.hops:
                actions += self._route(pending, now)
        return actions

    def link_down(self, host: str, now: float) -> list[OutgoingAction]:
        """`host` does not answer: what was never sent there may go elsewhere."""
        actions: list[OutgoingAction] = []
        for pending in list(self._pending.values()):
            hop = pending.hops.get(host)
            if hop is not None and not hop.may_be_there and pending.message.header.kind is not Kind.FANOUT:
                del pending.hops[host]
                actions += self._route(pending, now)
        return actions

    def routes_changed(self, now: float) -> list[OutgoingAction]:
        """The matchmaker knows more: look again for what has no host."""
        actions: list[OutgoingAction] = []
        for pending in [pending for pending in self._pending.values() if not pending.hops]:
            actions += self._route(pending, now)
        return actions

    def tick(self, now: float) -> list[OutgoingAction]:
        """Time passed: expire, ask again, look again for a host."""
        actions: list[OutgoingAction] = []
        while self._timers and self._timers[0][0] <= now:
            _, message_id = heapq.heappop(self._timers)
            pending = self._pending.get(message_id)
            if pending is not None:
                actions += self._look_after(pending, now)
        self._finished.tick(now)
        return actions

    # private

    def _look_after(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        if now >= pending.message.expires:
            return self._finish(pending, Answer.EXPIRED, "nobody took it in time", now)
        if not pending.hops:
            return self._route(pending, now)
        actions: list[OutgoingAction] = []
        for host, hop in pending.hops.items():
            if hop.due > now:
                continue
            if self._reach(host) is LinkState.UP:
                actions += self._send(pending, host, hop, now)
            else:
                hop.due = now + ASK_AGAIN_AFTER * self._jitter()
                self._wake(hop.due, pending)
        return actions

    def _route(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        """Choose the host, or the hosts of a fanout; none: wait, or say so when the sender wants to know."""
        header = pending.message.header
        hosts = self._candidates(pending.message)
        if pending.former_host and header.kind is not Kind.FANOUT:
            hosts = (pending.former_host, *(host for host in hosts if host != pending.former_host))
        if header.kind is Kind.FANOUT:
            if not hosts:
                return self._finish(pending, Answer.TAKEN, "", now)
            hops = [(host, pending.choose(host, now)) for host in hosts]
            return [action for host, hop in hops for action in self._approach(pending, host, hop, now)]
        stays = bool(header.flags & Flag.RESENT) and not pending.tried
        for host in [host for host in hosts if host not in pending.tried]:
            if stays or self._reach(host) is not LinkState.DOWN:
                return self._approach(pending, host, pending.choose(host, now, stays), now)
        if header.flags & Flag.MANDATORY:
            return self._finish(pending, Answer.NOROUTE, "nobody listens", now)
        pending.tried.clear()
        pending.rounds += 1
        self._counts[Counter.NOROUTE] += pending.rounds == 1
        self._wake(now + self._back_off(pending.rounds), pending)
        return []

    def _approach(self, pending: _Pending, host: str, hop: _Hop, now: float) -> list[OutgoingAction]:
        """Send when the link is up; otherwise the message waits for it."""
        reach = self._reach(host)
        if reach is LinkState.UP:
            return self._send(pending, host, hop, now)
        hop.due = now + ASK_AGAIN_AFTER
        self._wake(hop.due, pending)
        return [Open(host)] if reach is None else []

    def _send(self, pending: _Pending, host: str, hop: _Hop, now: float) -> list[OutgoingAction]:
        hop.sends += 1
        hop.due = now + ASK_AGAIN_AFTER * min(hop.sends, 6) * self._jitter()
        self._wake(hop.due, pending)
        resent = hop.sends > 1
        if host != self._name:
            self._counts[Counter.SENT] += 1
            self._counts[Counter.RESENT] += resent
        send = Send(host, pending.message, resent, hop.round)
        if resent or pending.message.header.kind in (Kind.FANOUT, Kind.REPLY):
            return [send]
        return [_accepted(pending.client, pending.message, host), send]

    def _candidates(self, message: Message) -> tuple[str, ...]:
        header = message.header
        if header.kind is Kind.REPLY:
            return (header.server,)
        if header.kind is Kind.FANOUT:
            here = self._serves(Channel.of_fanout(header.exchange, header.topic))
            return _with(self._name, here, self._routes.hosts(header.topic))
        if header.server:
            here = self._serves(Channel.of_server(header.exchange, header.topic, header.server))
            hosts = self._routes.directed(header.topic, header.server)
            learned = self._learned.get((header.topic, header.server))
            hosts = hosts if learned is None else (learned, *(host for host in hosts if host != learned))
            return (self._name,) if here else hosts
        here = self._serves(Channel.of_topic(header.exchange, header.topic))
        hosts = self._routes.hosts(header.topic) or ((self._name,) if here else ())
        if not hosts:
            return ()
        first = (header.turn + header.id.origin) % len(hosts)
        return hosts[first:] + hosts[:first]

    def _learn(self, message: Message, host: str) -> None:
        """Remember where a server was that is not a node: the next message goes there first."""
        header = message.header
        if header.server and header.server != host and header.kind is not Kind.REPLY:
            if len(self._learned) >= LEARNED_MOST:
                self._learned.clear()
            self._learned[header.topic, header.server] = host

    def _finish(self, pending: _Pending, answer: Answer, reason: str, now: float) -> list[OutgoingAction]:
        message = pending.message
        del self._pending[message.id]
        self._finished.add(message.id, now)
        self._bytes -= len(message.body)
        key = (message.header.exchange, message.header.topic)
        self._per_topic[key] -= 1
        if not self._per_topic[key]:
            del self._per_topic[key]
        if answer is not Answer.TAKEN:
            self._counts[Counter[answer.name]] += 1
        urgent = answer is not Answer.TAKEN or bool(message.header.flags & Flag.MANDATORY) or message.header.kind is Kind.FANOUT
        return [Tell(pending.client, AnswerEntry(message.id, answer, reason), urgent)]

    def _back_off(self, rounds: int) -> float:
        return min(BACK_OFF_FIRST * 2.0 ** min(rounds, 16), BACK_OFF_MOST) * self._jitter()

    def _wake(self, due: float, pending: _Pending) -> None:
        heapq.heappush(self._timers, (min(due, pending.message.expires), pending.message.id))


def _accepted(client: int, message: Message, host: str = "") -> Tell:
    """A caller waits for its reply, a server for nothing; only the others wait for this."""
    urgent = message.header.kind not in (Kind.CALL, Kind.REPLY)
    return Tell(client, AnswerEntry(message.id, Answer.ACCEPTED, host), urgent)


def _with(name: str, wanted: bool, hosts: tuple[str, ...]) -> tuple[str, ...]:
    return (*hosts, name) if wanted and name not in hosts else hosts
