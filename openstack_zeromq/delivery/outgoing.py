"""Outgoing: messages of this node's services, from the moment they are accepted until some host has answered for good.

A bare topic goes round robin over its hosts: the sender's count (`turn`) picks the host. One that drains comes last, but it does:
it refuses nothing. A message is sent only over a link that is up. One that was sent stays with its host until that host answers,
for it may have been taken there; one that was not can go to the next host at once. The sender is told the host, and names it when
it has to send again through a restarted receiver.
"""

from collections import Counter as Counts
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.announced import Announced
from openstack_zeromq.delivery.bounds import Bounds, Key, Shares
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.link import LinkState
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.pools import Pools, copy_for
from openstack_zeromq.delivery.search import Search
from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.delivery.stranded import Stranded
from openstack_zeromq.delivery.tally import Tally, Topic
from openstack_zeromq.delivery.timers import Timers
from openstack_zeromq.delivery.unconsumed import Note, Unconsumed
from openstack_zeromq.delivery.unknown import Unknown
from openstack_zeromq.delivery.whereabouts import Candidates, Routes, Whereabouts
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Kind, MessageId

ASK_AGAIN_AFTER = 5.0
"""Seconds without an answer over a living link after which a message is sent again (answers can be lost, too)."""

BACK_OFF_FIRST = 0.05
BACK_OFF_MOST = 2.0
ROUNDS = 16
_ASK_AGAIN_SLOWER = 6

_WHY_DROPPED = (
    "no listener consumes it, and {0.messages} notifications or {0.bytes} bytes wait: for each new one the oldest is dropped;"
    " start a listener, or have the services not send them"
)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Who this node is, and its limits. `remember`: seconds, longer than any message lives; `jitter()`: a factor around 1;
    `link_idle`: seconds after which a link that carries nothing is closed; `heartbeat` and `redial`: see `Link`."""

    name: str
    bounds: Bounds
    remember: float
    jitter: Callable[[], float]
    link_idle: float = 600.0
    heartbeat: float = 1.0
    redial: float = 2.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What outgoing asks about the world. `reach(host)`: the state of the link to a host, None when there is none yet;
    `serves(channel)`: does anybody on this node consume it? `drains(host)`: would it rather have no new work?"""

    routes: Routes
    reach: Callable[[str], LinkState | None]
    serves: Callable[[Channel], bool]
    pools: Pools
    drains: Callable[[str], bool] = lambda _host: False


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


class Waiting(NamedTuple):
    """Messages to a topic (with its exchange) that no host takes: how many wait, and how many notifications were dropped."""

    topic: str
    waiting: int
    dropped: int


OutgoingAction = Send | Tell | Open | Note


class _Hop:
    """One host that is to take the message. `due`: when to do something about it; `stays`: a former receiver may have sent
    it there, so only that host's answer sets it free."""

    __slots__ = ("due", "round", "sends", "stays")

    def __init__(self, due: float, round_: int, stays: bool) -> None:
        self.due = due
        self.round = round_
        self.sends = 0
        self.stays = stays

    @property
    def may_be_there(self) -> bool:
        return self.stays or self.sends > 0


class _Pending:
    """A message that was accepted, as number `arrival`. `hops`: whom it is with; `tried`: hosts that refused it in this turn of
    the hosts; `choices`: how often a host was chosen; `detour`: it is not where a receiver that knows nothing of it would send
    it first; `timed`: a timer is set for when its time is over; `counted`: it has a share of the room. A notification has
    `copies` under way, each with this as its `parent`, once it is `copied`; `taken`: it itself is done."""

    __slots__ = (
        "arrival",
        "choices",
        "client",
        "copied",
        "copies",
        "counted",
        "detour",
        "former_host",
        "hops",
        "key",
        "message",
        "parent",
        "taken",
        "timed",
        "tried",
    )

    def __init__(self, client: int, message: Message, former_host: str, key: Key, arrival: int) -> None:
        self.client = client
        self.message = message
        self.former_host = former_host
        self.key = key
        self.hops: dict[str, _Hop] = {}
        self.tried: tuple[str, ...] = ()
        self.arrival = arrival
        self.choices = 0
        self.detour = False
        self.timed = False
        self.parent: _Pending | None = None
        self.copied = message.header.kind is not Kind.NOTIFY or bool(message.header.server)
        self.copies = 0
        self.taken = False
        self.counted = True

    def choose(self, host: str, now: float, stays: bool) -> _Hop:
        """Another host is to take it."""
        self.choices += 1
        hop = self.hops[host] = _Hop(now, self.choices % ROUNDS, stays)
        return hop


class Outgoing:
    """The messages of this node's services."""

    def __init__(self, facts: NodeFacts, surroundings: Surroundings, counts: Counts[str]) -> None:
        self._name = facts.name
        self._jitter = facts.jitter
        self._reach = surroundings.reach
        self._drains = surroundings.drains
        self._pools = surroundings.pools
        self._whereabouts = Whereabouts(facts.name, surroundings.routes, surroundings.serves, surroundings.pools)
        self._counts = counts
        self._pending: dict[MessageId, _Pending] = {}
        self._arrivals = 0
        self._bounds = facts.bounds
        self._rpc: Shares[tuple[str, str]] = Shares(facts.bounds)
        self._notifications: Shares[tuple[str, str]] = Shares(facts.bounds)
        self._unconsumed = Unconsumed()
        self._fanouts_to_nobody = Tally()
        self._search = Search(facts.name)
        self._routes = surroundings.routes
        self._stranded = Stranded(facts.jitter)
        self._unknown = Unknown()
        self._uncopied: dict[MessageId, _Pending] = {}
        self._timers = Timers()
        self._remember = facts.remember
        self._finished = Seen(facts.remember)

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def pending_bytes(self) -> int:
        return self._rpc.bytes + self._notifications.bytes

    def in_flight(self) -> Counts[str]:
        """How many messages wait for an answer, by host."""
        return Counts(host for pending in self._pending.values() for host in pending.hops)

    def sends(self, client: int) -> bool:
        """Return whether messages of a service are on their way."""
        return any(pending.client == client for pending in self._pending.values())

    def waiting(self) -> list[Waiting]:
        """Return the topics to which messages wait that no host takes, and those of which notifications were dropped."""
        waiting: Counts[Topic] = Counts()
        for (exchange, topic, _), count in (*self._stranded.waiting(), *self._unknown.waiting()):
            waiting[exchange, topic] += count
        dropped = self._unconsumed.dropped.counts()
        return [Waiting("/".join(topic), waiting[topic], dropped.get(topic, 0)) for topic in sorted({*waiting, *dropped})]

    def fanouts_to_nobody(self) -> dict[str, int]:
        """Return how many fanouts no host took, by topic (with its exchange)."""
        return {"/".join(topic): count for topic, count in sorted(self._fanouts_to_nobody.counts().items())}

    @property
    def announced(self) -> Announced:
        """What peers say they serve, besides what the matchmaker lists."""
        return self._whereabouts.announced

    # events

    def accept(self, client: int, message: Message, now: float, former_host: str = "") -> list[OutgoingAction]:
        """A service of this node sends a message, or sends it again; then `former_host` is where it went, if that is known."""
        header = message.header
        finished = self._finished.meet(header, now)
        known = self._pending.get(message.id)
        if known is not None:
            known.client = client
            return [_accepted(client, message)]
        if finished:
            return [Tell(client, AnswerEntry(message.id, Answer.TAKEN))]
        topic, size = (header.exchange, header.topic), len(message.body)
        shares = self._shares_of(message)
        dropped: list[OutgoingAction] = []
        while not shares.room(topic, size):
            oldest = self._oldest_unconsumed(topic, now) if header.kind is Kind.NOTIFY else None
            if oldest is None:
                self._counts[Counter.BUSY] += 1
                return [*dropped, Tell(client, AnswerEntry(message.id, Answer.BUSY))]
            dropped += self._drop(oldest, now)
        self._counts[Counter.ACCEPTED] += 1
        shares.take(topic, size)
        self._arrivals += 1
        key = (*topic, header.server)
        pending = self._pending[message.id] = _Pending(client, message, former_host, key, self._arrivals)
        queue_up = key in self._stranded and _may_wait(message)
        actions = self._strand(pending, now) if queue_up else self._route(pending, now)
        if not pending.copied:
            actions += self._copy_to_pools(pending, now)
        if any(type(action) is Tell for action in actions):
            return dropped + actions
        return [*dropped, _accepted(client, message), *actions]

    def answered(self, host: str, entry: AnswerEntry, now: float) -> list[OutgoingAction]:
        """`host` says what became of a message."""
        pending = self._pending.get(entry.id)
        hop = None if pending is None else pending.hops.get(host)
        if pending is None or hop is None:
            return []
        if entry.answer in (Answer.NOROUTE, Answer.BUSY) and entry.round != hop.round:
            return []  # it refuses an earlier copy; this one is still to be answered
        if entry.answer is Answer.BUSY:
            hop.due = now + self._back_off(hop.sends)
            self._wake(hop.due, pending)
            return self._free(pending, now)
        del pending.hops[host]
        if pending.message.header.kind is Kind.FANOUT:
            pending.taken |= entry.answer is Answer.TAKEN
            return [] if pending.hops else self._finish_fanout(pending, now)
        return self._answered_for_all(pending, host, entry, now)

    def link_up(self, host: str, now: float) -> list[OutgoingAction]:
        """The link to `host` is there (again): send whatever it has not answered, for the old link's queue is gone."""
        actions: list[OutgoingAction] = []
        for pending in list(self._pending.values()):
            if (hop := pending.hops.get(host)) is not None:
                actions += self._send(pending, host, hop, now)
        self._stranded.hurry()
        return actions + self._ask(now)

    def link_down(self, host: str, now: float) -> list[OutgoingAction]:
        """`host` does not answer: what was never sent there may go elsewhere."""
        actions: list[OutgoingAction] = []
        for pending in list(self._pending.values()):
            hop = pending.hops.get(host)
            if hop is not None and not hop.may_be_there and pending.message.header.kind is not Kind.FANOUT:
                del pending.hops[host]
                actions += self._route(pending, now)
        self._stranded.hurry()
        return actions

    def routes_changed(self, now: float) -> list[OutgoingAction]:
        """The matchmaker knows more: look again for what has no host."""
        straight = []
        for message_id in self._unknown.free(self._whereabouts.served_anywhere):
            pending = self._pending[message_id]
            if pending.message.header.server and _may_wait(pending.message) and not self._whereabouts.known(pending.key[1]):
                # Peers announce a topic, not its servers. One message asks them in turn; the others follow it in order.
                self._stranded.wait(pending.key, pending.arrival, message_id, now)
            else:
                straight.append(message_id)
        self._stranded.hurry()
        return self._route_all(straight, now) + self._ask(now)

    def survey(self, now: float) -> list[Open]:
        """Open links to all hosts that are known, so that they say what they serve."""
        hosts = [host for host in self._routes.nodes() if self._reach(host) is None]
        return [Open(host) for host in self._search.ask(hosts, now)]

    def survey_if_due(self, now: float) -> list[OutgoingAction]:
        """A message has no host that takes it: ask the hosts to which there is no link what they serve, if that is due."""
        return [Open(host) for host in self._search.begin(now, self._routes.nodes, lambda host: self._reach(host) is not None)]

    def announces(self, host: str, topics: frozenset[str]) -> bool:
        """A peer says what it serves besides what is listed; return whether that is news."""
        self._search.answered(host)
        return self.announced.learn(host, topics)

    def sought(self, now: float) -> tuple[str, ...]:
        """Return the topics to ask peers for: messages wait for them, and the matchmaker does not answer."""
        return self._search.sought(now, self._whereabouts.known)

    def served(self, channel: Channel, now: float) -> list[OutgoingAction]:
        """Somebody on this node consumes `channel` now: what waits for it need not wait any longer."""
        unknown = self._unknown.free(lambda topic: topic == channel.topic)
        waiting = [
            message_id for key in self._stranded.keys(channel.exchange, channel.topic) for message_id in self._stranded.free(key)
        ]
        return self._route_all(unknown + waiting, now)

    def tick(self, now: float) -> list[OutgoingAction]:
        """Time passed: expire, ask again, look again for a host."""
        actions: list[OutgoingAction] = []
        for message_id in self._timers.due(now):
            pending = self._pending.get(message_id)
            if pending is not None:
                actions += self._look_after(pending, now)
        if self._search.ends(now, self._reach):
            actions += self.routes_changed(now)
        for key in self._stranded.overdue(now):
            actions += self._route_all(self._stranded.free(key), now)
        self._finished.tick(now)
        return actions + self._ask(now)

    # private

    def _answered_for_all(self, pending: _Pending, host: str, entry: AnswerEntry, now: float) -> list[OutgoingAction]:
        """The one host that was to take it did, or refuses it."""
        if entry.answer is Answer.TAKEN:
            if pending.message.header.kind is Kind.NOTIFY:
                self._unconsumed.taken(pending.key[:2])
            self._whereabouts.learn(pending.message, host)
            followers = self._free(pending, now)
            return [*self._finish(pending, entry.answer, "", now), *followers]
        if entry.answer is Answer.NOROUTE and pending.message.header.kind is not Kind.REPLY:
            pending.tried += (host,)
            return self._route(pending, now)
        return self._finish(pending, entry.answer, entry.reason, now)

    def _look_after(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        if now >= pending.message.expires:
            return self._finish(pending, Answer.EXPIRED, "nobody took it in time", now)
        actions: list[OutgoingAction] = []
        for host, hop in pending.hops.items():
            if hop.due > now:
                continue
            if self._reach(host) is LinkState.UP:
                actions += self._send(pending, host, hop, now)
            else:
                actions += self._wait_for_link(pending, host, hop, now)
        return actions

    def _route(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        """Choose the host, or the hosts of a fanout."""
        header = pending.message.header
        if header.kind is Kind.FANOUT:
            return self._route_fanout(pending, now)
        candidates = self._whereabouts.of_one(pending.message)
        if candidates is None and pending.former_host in ("", *pending.tried):
            return self._wait_until_known(pending, now)
        hosts, first, announced = candidates or Candidates(())
        if pending.former_host:
            hosts, first = (pending.former_host, *(host for host in hosts if host != pending.former_host)), 0
        stays = bool(header.flags & Flag.RESENT) and not pending.tried
        in_turn: Iterable[int] = range(first, first + len(hosts))
        if not header.server and not stays:
            in_turn = sorted(in_turn, key=lambda number: self._drains(hosts[number % len(hosts)]))
        for number in in_turn:
            host = hosts[number % len(hosts)]
            if host in pending.tried:
                continue
            if stays or self._reach(host) is not LinkState.DOWN:
                pending.detour = announced or number != first
                return self._approach(pending, host, pending.choose(host, now, stays), now)
        return self._found_no_host(pending, hosts, now)

    def _found_no_host(self, pending: _Pending, hosts: tuple[str, ...], now: float) -> list[OutgoingAction]:
        """None of `hosts` takes it: have others asked what they serve, and wait; or say so when the sender wants to know."""
        header = pending.message.header
        asked = self.survey_if_due(now) if header.kind is not Kind.REPLY and not pending.parent else []
        if header.flags & Flag.MANDATORY:
            if self._search.under_way:
                return [*asked, *self._wait_for_survey(pending)]
            return self._finish(pending, Answer.NOROUTE, "nobody listens", now)
        if header.kind is Kind.NOTIFY and not header.server:
            sure = self._whereabouts.known(pending.key[1]) and all(host in pending.tried for host in hosts)
            self._unconsumed.found_nobody(pending.key[:2], now, sure=sure)
        pending.tried = ()
        if pending.parent and not hosts:
            return self._finish(pending, Answer.TAKEN, "", now)  # there is no such pool any more
        return [*asked, *self._strand(pending, now)]

    def _wait_until_known(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        """The matchmaker cannot say yet who serves its topic."""
        if pending.message.header.kind is Kind.NOTIFY:
            self._unconsumed.found_nobody(pending.key[:2], now, sure=False)
        self._search.seek(pending.key[1], now)
        return self._wait_for_survey(pending)

    def _wait_for_survey(self, pending: _Pending) -> list[OutgoingAction]:
        """Let it wait until more is known of its topic."""
        self._unknown.wait(pending.key, pending.message.id)
        self._time(pending)
        return []

    def _strand(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        """Nobody takes it now."""
        self._counts[Counter.NOROUTE] += 1
        self._stranded.wait(pending.key, pending.arrival, pending.message.id, now)
        self._time(pending)
        return []

    def _time(self, pending: _Pending) -> None:
        """It has no host that would be looked after; it must end all the same."""
        if not pending.timed:
            pending.timed = True
            self._wake(pending.message.expires, pending)

    def _shares_of(self, message: Message) -> Shares[tuple[str, str]]:
        """Return the room for messages of this kind: notifications may wait for ever, and must not take the room of RPC."""
        return self._notifications if message.header.kind is Kind.NOTIFY else self._rpc

    def _give_back(self, pending: _Pending) -> None:
        """Give back its share of the room; it may have done so before."""
        if pending.counted:
            pending.counted = False
            self._shares_of(pending.message).give_back(pending.key[:2], len(pending.message.body))

    def _oldest_unconsumed(self, topic: tuple[str, str], now: float) -> _Pending | None:
        """Return the notification that has waited longest though nothing consumes `topic`, and that no host has; or None."""
        if not self._unconsumed.may_drop(topic, now):
            return None
        key = (*topic, "")
        oldest = self._stranded.oldest(key) or self._unknown.oldest(key)
        pending = None if oldest is None else self._pending.get(oldest)
        return pending if pending is not None and pending.message.header.kind is Kind.NOTIFY and not pending.hops else None

    def _drop(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        """Give up a notification that nothing consumes, because a newer one needs its room. Copies for pools are not touched.

        To its sender that is EXPIRED, which every version of the driver knows as final: it forgets the message, and will not
        send it to the next receiver."""
        exchange, topic, _ = pending.key
        about = f"{exchange}/{topic}"
        self._counts[Counter.OVERFLOWED] += 1
        actions: list[OutgoingAction] = []
        if self._unconsumed.dropped.add((exchange, topic)):
            actions.append(Note(Counter.OVERFLOWED, about, _WHY_DROPPED.format(self._bounds)))
        if not pending.copies:
            reason = f"no listener consumes {about}: the oldest notifications are dropped"
            return actions + self._finish(pending, Answer.EXPIRED, reason, now, Counter.OVERFLOWED)
        pending.taken = True
        self._stranded.forget(pending.key, pending.message.id)
        self._give_back(pending)
        return actions

    def _ask(self, now: float) -> list[OutgoingAction]:
        copies = [action for pending in list(self._uncopied.values()) for action in self._copy_to_pools(pending, now)]
        return copies + self._route_all(self._stranded.ask(now), now)

    def _free(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        """Its target takes messages: if this one asked for others, they follow."""
        if not self._stranded.asks(pending.key, pending.message.id):
            return []
        return self._route_all(self._stranded.free(pending.key), now)

    def _route_all(self, message_ids: list[MessageId], now: float) -> list[OutgoingAction]:
        actions: list[OutgoingAction] = []
        for pending in [self._pending[message_id] for message_id in message_ids]:
            if not pending.hops:
                actions += self._route(pending, now)
        return actions

    def _copy_to_pools(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        """Copies are made once it is known of every host of the topic which pools listen there."""
        exchange, topic, _ = pending.key
        unknown = self._whereabouts.without_pools(topic)
        if unknown is None or unknown:
            self._uncopied[pending.message.id] = pending
            return [Open(host) for host in unknown or () if self._reach(host) is None]
        self._uncopied.pop(pending.message.id, None)
        pending.copied = True
        copies = [self._copy(pending, pool, now) for pool in self._pools.of(exchange, topic)]
        actions = [action for copy in copies for action in self._route(copy, now)]
        if pending.taken and not pending.copies:
            actions += self._finish(pending, Answer.TAKEN, "", now)
        return actions

    def _copy(self, pending: _Pending, pool: str, now: float) -> _Pending:
        message = copy_for(pool, pending.message, now + self._remember)
        copy = self._pending[message.id] = _Pending(pending.client, message, "", (*pending.key[:2], pool), pending.arrival)
        self._notifications.take(copy.key[:2], len(message.body))
        copy.parent = pending
        pending.copies += 1
        return copy

    def _copy_done(self, parent: _Pending, now: float) -> list[OutgoingAction]:
        parent.copies -= 1
        done = parent.taken and not parent.copies and parent.message.id in self._pending
        return self._finish(parent, Answer.TAKEN, "", now) if done else []

    def _route_fanout(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        """Send to every host that is known to serve the topic, and to this one when a listener is here. Where there is none, wait
        for the end of a survey, then go to nobody."""
        hosts = self._whereabouts.of_all(*pending.key[:2])
        if hosts is None:
            return self._wait_until_known(pending, now)
        if not hosts:
            asked = self.survey_if_due(now)
            return [*asked, *self._wait_for_survey(pending)] if self._search.under_way else self._finish_fanout(pending, now)
        hops = [(host, pending.choose(host, now, stays=False)) for host in hosts]
        return [action for host, hop in hops for action in self._approach(pending, host, hop, now)]

    def _finish_fanout(self, pending: _Pending, now: float) -> list[OutgoingAction]:
        """Every host has answered; count it when none of them took it."""
        if not pending.taken:
            self._counts[Counter.FANOUTS_TO_NOBODY] += 1
            self._fanouts_to_nobody.add(pending.key[:2])
        return self._finish(pending, Answer.TAKEN, "", now)

    def _approach(self, pending: _Pending, host: str, hop: _Hop, now: float) -> list[OutgoingAction]:
        """Send when the link is up; otherwise the message waits for it."""
        if self._reach(host) is LinkState.UP:
            return self._send(pending, host, hop, now)
        return self._wait_for_link(pending, host, hop, now)

    def _wait_for_link(self, pending: _Pending, host: str, hop: _Hop, now: float) -> list[OutgoingAction]:
        hop.due = now + ASK_AGAIN_AFTER
        self._wake(hop.due, pending)
        return [Open(host)] if self._reach(host) is None else []

    def _send(self, pending: _Pending, host: str, hop: _Hop, now: float) -> list[OutgoingAction]:
        message = pending.message
        hop.sends += 1
        resent = hop.sends > 1
        hop.due = now + ASK_AGAIN_AFTER * (1 if not resent else min(hop.sends, _ASK_AGAIN_SLOWER) * self._jitter())
        self._wake(hop.due, pending)
        if host != self._name:
            self._counts[Counter.SENT] += 1
            if resent:
                self._counts[Counter.RESENT] += 1
        send = Send(host, message, resent, hop.round)
        if resent or pending.parent or message.header.kind in (Kind.FANOUT, Kind.REPLY):
            return [send]
        return [_accepted(pending.client, message, host, pending.detour), send]

    def _finish(
        self, pending: _Pending, answer: Answer, reason: str, now: float, counted: Counter | None = None
    ) -> list[OutgoingAction]:
        """End a message; `counted`: how that was counted already, None: it was not."""
        message = pending.message
        if answer is Answer.TAKEN and (pending.copies or not pending.copied):
            pending.taken = True
            return []
        self._uncopied.pop(message.id, None)
        self._unknown.forget(pending.key, message.id)
        del self._pending[message.id]
        self._finished.add(message.id, now)
        self._give_back(pending)
        if pending.key in self._stranded:
            self._stranded.forget(pending.key, message.id)
        if pending.parent is not None:
            return self._copy_done(pending.parent, now)
        urgent = True
        if answer is Answer.TAKEN:
            urgent = message.header.kind is Kind.FANOUT or bool(message.header.flags & Flag.MANDATORY)
        elif counted is None:
            self._counts[Counter[answer.name]] += 1
        else:
            urgent = False
        return [Tell(pending.client, AnswerEntry(message.id, answer, reason), urgent)]

    def _back_off(self, rounds: int) -> float:
        return min(BACK_OFF_FIRST * 2.0 ** min(rounds, 16), BACK_OFF_MOST) * self._jitter()

    def _wake(self, due: float, pending: _Pending) -> None:
        message = pending.message
        self._timers.set(due if due < message.expires else message.expires, message.id)


def _may_wait(message: Message) -> bool:
    """Not who wants to know at once, or who goes to everybody, or back to where a call came from."""
    header = message.header
    return header.kind not in (Kind.FANOUT, Kind.REPLY) and not header.flags & Flag.MANDATORY


def _accepted(client: int, message: Message, host: str = "", detour: bool = False) -> Tell:
    """A caller waits for its reply, a server for nothing; only the others wait for this. But whoever has to send again must know
    of a detour."""
    kind = message.header.kind
    urgent = detour or (kind is not Kind.CALL and kind is not Kind.REPLY)
    return Tell(client, AnswerEntry(message.id, Answer.ACCEPTED, host), urgent)
