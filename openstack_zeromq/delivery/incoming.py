"""Incoming: messages for consumers of this node, from the moment they arrive until they are taken.

A message comes from an origin (a link, or this node's own outgoing side) that wants exactly one answer and asks again
until it has one. It has a **lane** for each consumer that is to get it: a channel, where one of the consumers takes it; or, in
a fanout, a single consumer. TAKEN is said when every lane has its consumer's word.

What is in hand or was taken is recognised and never delivered again; `past` knows what an earlier receiver handed out.
"""

from collections import Counter as Counts
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from openstack_zeromq.address import Channel, Role
from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.calls import Calls
from openstack_zeromq.delivery.channel import ConsumerId, Copies, Hand, SharedQueue
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.inbox import Keeps
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.past import Former, Kept, Lane, Origin, Past
from openstack_zeromq.delivery.refusals import Refusals
from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Header, Kind, MessageId

HERE: Origin = b""
"""The origin of messages that this node's own services send to each other."""

CLIENT_BYTES = 8
"""The name of a consumer begins with that of its service."""


class Respond(NamedTuple):
    """Give `origin` its answer."""

    origin: Origin
    entry: AnswerEntry


class Reply(NamedTuple):
    """Send a reply to the service that made the call."""

    client: int
    message: Message


class Fail(NamedTuple):
    """Tell the caller of `call` that nobody will reply to it."""

    call: Header


class Joined(NamedTuple):
    """Tell a consumer that it has joined, and what it keeps. `begun`: of what it named, what its journal showed as begun when its
    service was given up: nobody else will run that."""

    consumer: ConsumerId
    keeps: Keeps
    begun: tuple[MessageId, ...] = ()


IncomingAction = Joined | Hand | Respond | Reply | Fail


class _Arrived:
    """A message in hand. `open`: lanes that have not taken it; `full`: those of them that had no room for it yet; `taken`: has
    any lane taken it?"""

    __slots__ = ("full", "message", "open", "origin", "round", "taken")

    def __init__(self, origin: Origin, message: Message, round_: int, lanes: Iterable[Lane], taken: bool = False) -> None:
        self.origin = origin
        self.message = message
        self.round = round_
        self.open = set(lanes)
        self.full: set[Lane] = set()
        self.taken = taken


class Incoming:
    """The consumers of this node and what is on its way to them."""

    def __init__(self, bounds: Bounds, remember: float, started: float, counts: Counts[str], former: Former) -> None:
        self.calls = Calls()
        self._bounds = bounds
        self._counts = counts
        self._remember = remember
        self._past = Past(bounds, remember, started, former.services)
        self._begun = former.begun
        self._give_up = former.given_up
        self._begun_by_lost: dict[MessageId, tuple[int, float]] = {}
        self._refusals = Refusals()
        self._arrived: dict[MessageId, _Arrived] = {}
        self._seen = Seen(remember)
        self._channels: dict[Channel, SharedQueue | Copies] = {}
        self._joined: dict[ConsumerId, Channel] = {}
        self._clients: set[int] = set()
        self.changes = 0
        """Grows whenever `served` may have changed."""
        for message_id in [begun for service in former.services or () for begun in former.begun(service)]:
            self._seen.add(message_id, started)

    # what is here

    @property
    def channels(self) -> dict[Channel, SharedQueue | Copies]:
        return self._channels

    @property
    def in_hand(self) -> int:
        return len(self._arrived) + len(self._past.kept)

    def serves(self, channel: Channel) -> bool:
        """Does anybody here consume `channel`?"""
        queue = self._channels.get(channel)
        return queue is not None and queue.consumers > 0

    def served(self) -> dict[str, set[str]]:
        """The topics that anybody here consumes, whatever the exchange, each with its servers."""
        topics: dict[str, set[str]] = {}
        for channel in self._channels:
            if self.serves(channel):
                servers = topics.setdefault(channel.topic, set())
                if channel.role is Role.SERVER:
                    servers.add(channel.name)
        return topics

    def consumes(self, client: int) -> bool:
        """Return whether a service has consumers here."""
        name = client.to_bytes(CLIENT_BYTES, "big")
        return any(consumer.startswith(name) for consumer in self._joined)

    def awaits(self, now: float) -> bool:
        """May services of a former receiver still come back?"""
        return self._past.in_grace(now)

    def awaited(self, now: float) -> Collection[int]:
        """Services of a former receiver that have yet to come back."""
        return self._past.awaited(now)

    def pools(self) -> list[Channel]:
        """The pools that are served here."""
        return [channel for channel in self._channels if channel.role is Role.POOL and self.serves(channel)]

    # consumers

    def client_here(self, client: int, now: float = 0.0) -> list[IncomingAction]:
        """A service is connected and can get replies."""
        if client in self._clients:
            return []
        self._clients.add(client)
        early = [message_id for message_id, kept in self._past.kept.items() if _is_reply_to(kept.message, client)]
        return [action for message_id in early for action in self._deliver(*self._past.release(message_id), now)]

    def client_settled(self, client: int, now: float) -> list[IncomingAction]:
        """All consumers of a service have joined; the last service ends the grace."""
        self._past.came_back(client)
        return self._deliver_kept(now)

    def client_gone(self, client: int, now: float) -> list[IncomingAction]:
        """A service is gone: its consumers leave, replies to it have nowhere to go, its own will never come."""
        self._clients.discard(client)
        begun = set(self._give_up(client))
        name = client.to_bytes(CLIENT_BYTES, "big")
        actions: list[IncomingAction] = []
        for reply in [arrived.message for arrived in self._arrived.values() if _is_reply_to(arrived.message, client)]:
            actions += self._close(reply.id, name, Answer.NOROUTE, now)
        for consumer in [consumer for consumer in self._joined if consumer.startswith(name)]:
            actions += self._left(consumer, begun, now)
        return [*actions, *(Fail(header) for header in self.calls.gone(client))]

    def join(
        self, channel: Channel, consumer: ConsumerId, credit: int, holding: Collection[MessageId], now: float
    ) -> list[IncomingAction]:
        """A consumer starts on `channel`; it still works on `holding`, which other consumers must not get, and can hold
        `credit` messages more. What it names is its own if nobody else can have got it: because messages were kept back for it
        since the predecessor's end, or because it gets copies of its own. Of one that is here already it is known what it holds;
        what it names was true before the answer to its first JOIN reached it, and may be dropped by now."""
        keeps, named = self._keeps(channel, consumer, now), holding
        if keeps is not Keeps.NAMED:
            credit, holding = credit + len(holding), ()
        begun = tuple(message_id for message_id in named if self._begun_by_lost.get(message_id, (None,))[0] == _client(consumer))
        self._joined[consumer] = channel
        self.changes += 1
        queue = self._channels.get(channel)
        if queue is None:
            queue = Copies(self._bounds) if channel.role is Role.FANOUT else SharedQueue(self._bounds)
            self._channels[channel] = queue
        lane = self._lane(consumer, channel)
        held = [message_id for message_id in holding if not self._answered_already(message_id, consumer, lane)]
        for message_id in held:
            if message_id not in self._arrived:
                self._past.claim(message_id, consumer)
        hands = self._queue(lane).join(consumer, credit + len(holding) - len(held), held)
        return [Joined(consumer, keeps, begun), *self._hand(hands, now)]

    def leave(self, consumer: ConsumerId, now: float) -> list[IncomingAction]:
        """A consumer stops or died: what it held, and had not begun, goes to another one, or back to where it came from."""
        return self._left(consumer, None, now)

    def _left(self, consumer: ConsumerId, known: Collection[MessageId] | None, now: float) -> list[IncomingAction]:
        """`known`: what its service has begun; None: ask."""
        channel = self._joined.pop(consumer, None)
        if channel is None:
            return []
        self.changes += 1
        self._past.unclaim_all(consumer)
        queue = self._channels[channel]
        held = queue.leave(consumer)
        begun = known if known is not None else set(self._begun(_client(consumer))) if held else ()
        orphans = [message for message in held if message.id not in begun]
        actions = [
            action for message in held if message.id in begun for action in self._begun_by(consumer, channel, message, now)
        ]
        self._counts[Counter.ORPHANED] += len(orphans)
        if queue.empty:
            del self._channels[channel]
        return [*actions, *self._rehome(channel, consumer, queue, orphans, now)]

    def drain(self, consumer: ConsumerId, now: float) -> list[IncomingAction]:
        """A consumer wants no more but finishes what it holds; nothing is kept waiting for it."""
        channel = self._joined.get(consumer)
        if channel is None:
            return []
        self.changes += 1
        self._queue(self._lane(consumer, channel)).drain(consumer)
        queue = self._channels[channel]
        waiting = self._queue(consumer).drop(lambda _: True) if isinstance(queue, Copies) else []
        return self._rehome(channel, consumer, queue, waiting, now)

    def report(self, lane: Lane, ids: Iterable[MessageId], now: float) -> list[IncomingAction]:
        """A service tells what it took in `lane` from an earlier receiver."""
        return [action for message_id in ids for action in self._took(message_id, lane, now)]

    def answered(self, consumer: ConsumerId, entry: AnswerEntry, now: float) -> list[IncomingAction]:
        """A consumer took a message or gave it back."""
        message_id, answer = entry.id, entry.answer
        self._past.unclaim(message_id, consumer)
        channel = self._joined.get(consumer)
        if channel is None:
            return self._answered_before_joining(consumer, entry, now)
        lane = consumer if channel.role is Role.FANOUT else channel
        queue = self._queue(lane)
        message, hands = queue.release(consumer, message_id)
        if answer is Answer.REQUEUED:
            self._counts[Counter.REQUEUED] += 1
            return self._hand([*hands, *(queue.put_back([message]) if message else [])], now)
        if message is None:
            self._withdraw(queue, message_id)
        actions = self._took(message_id, lane, now)
        if message is not None and message.header.kind is Kind.CALL:
            actions += self._call_taken(message, consumer, answer)
        return [*actions, *self._hand(hands, now)] if hands else actions

    def reply_failed(self, message_id: MessageId, client: int, now: float) -> list[IncomingAction]:
        """The service that a reply is for was not connected any more."""
        return self._close(message_id, client.to_bytes(CLIENT_BYTES, "big"), Answer.NOROUTE, now)

    # messages

    def arrive(self, origin: Origin, message: Message, now: float, round_: int = 0) -> list[IncomingAction]:
        """A message (or the same one again) comes in from `origin`. A copy of a round that was refused is refused again: its
        sender has turned to somebody else."""
        message_id = message.id
        taken = self._seen.meet(message.header, now)
        known = self._arrived.get(message_id)
        if known is not None:
            self._counts[Counter.DUPLICATES] += 1
            known.origin, known.round = origin, round_
            return self._offer(known, list(known.full), now) if known.full else []
        if taken:
            self._counts[Counter.DUPLICATES] += 1
            return [Respond(origin, AnswerEntry(message_id, Answer.TAKEN))]
        if self._refusals.has(message_id, round_):
            return [Respond(origin, AnswerEntry(message_id, Answer.NOROUTE, "", round_))]
        if self._past.in_grace(now) and self._unsure_of(message):
            kept = self._past.keep(Kept(origin, message, round_))
            return [] if kept else self._refuse(origin, message, Answer.BUSY, round_, now)
        return self._deliver(origin, message, round_, now)

    def tick(self, now: float) -> list[IncomingAction]:
        """Give up what expired; after the grace, deliver what was kept back."""
        actions = self._deliver_kept(now)
        for lane in self._lanes_with_waiting():
            for message in self._queue(lane).drop(_expired(now)):
                actions += self._close(message.id, lane, Answer.EXPIRED, now)
        self._refusals.tick(now)
        for message_id in [message_id for message_id, (_, until) in self._begun_by_lost.items() if until <= now]:
            del self._begun_by_lost[message_id]
        self._past.tick(now)
        self._seen.tick(now)
        self.calls.tick(now)
        return actions

    # private: from a message to its lanes

    def _deliver(self, origin: Origin, message: Message, round_: int, now: float) -> list[IncomingAction]:
        if message.header.kind is Kind.REPLY:
            return self._deliver_reply(origin, message, round_, now)
        lanes = self._lanes_of(message)
        word = self._past.word(message.id)
        taken = word is not None and bool(word.lanes)
        if word is not None and taken:
            lanes = [lane for lane in lanes if lane not in word.lanes]
            if not lanes or message.header.kind is not Kind.FANOUT:
                self._counts[Counter.DUPLICATES] += 1
                self._remember_taken(message.id, now)
                return [Respond(origin, AnswerEntry(message.id, Answer.TAKEN))]
        if not lanes:
            return self._refuse(origin, message, Answer.NOROUTE, round_, now)
        arrived = self._arrived[message.id] = _Arrived(origin, message, round_, lanes, taken)
        return self._offer(arrived, lanes, now)

    def _deliver_reply(self, origin: Origin, message: Message, round_: int, now: float) -> list[IncomingAction]:
        client = message.header.client
        if client not in self._clients:
            return self._refuse(origin, message, Answer.NOROUTE, round_, now)
        self._arrived[message.id] = _Arrived(origin, message, round_, (client.to_bytes(CLIENT_BYTES, "big"),))
        self._counts[Counter.HANDED] += 1
        return [Reply(client, message)]

    def _lanes_of(self, message: Message) -> list[Lane]:
        """One for most messages; in a fanout every consumer is a lane."""
        header = message.header
        exchange, topic = header.exchange, header.topic
        if header.kind is Kind.FANOUT:
            copies = self._channels.get(Channel(Role.FANOUT, exchange, topic))
            return [*copies.takers()] if isinstance(copies, Copies) else []
        if not header.server:
            channel = Channel(Role.TOPIC, exchange, topic)
        else:
            role = Role.POOL if header.kind is Kind.NOTIFY else Role.SERVER
            channel = Channel(role, exchange, topic, header.server)
        return [channel] if self.serves(channel) else []

    def _offer(self, arrived: _Arrived, lanes: list[Lane], now: float) -> list[IncomingAction]:
        """Put the message into `lanes`; a lane without room makes the origin come again, for that lane alone."""
        message = arrived.message
        hands: list[Hand] = []
        for lane in lanes:
            if self._is_held(message, lane):
                continue
            offered = self._queue(lane).offer(message)
            if offered is None:
                arrived.full.add(lane)
            else:
                arrived.full.discard(lane)
                hands += offered
        actions = self._hand(hands, now)
        if arrived.full:
            if arrived.full == arrived.open and not arrived.taken:
                del self._arrived[message.id]
            actions += self._refuse(arrived.origin, message, Answer.BUSY, arrived.round, now)
        return actions

    def _is_held(self, message: Message, lane: Lane) -> bool:
        """Does a consumer of `lane` have it from before the restart? Then its word is waited for."""
        for consumer in self._past.holders(message.id):
            if self._lane(consumer, self._joined[consumer]) == lane:
                self._past.unclaim(message.id, consumer)
                self._queue(lane).hold(consumer, message)
                self._counts[Counter.DUPLICATES] += 1
                return True
        return False

    def _hand(self, hands: list[Hand], now: float) -> list[IncomingAction]:
        """Hand out, unless time is up just now."""
        actions: list[IncomingAction] = []
        due = deque(hands)
        while due:
            hand = due.popleft()
            if hand.message.expires > now:
                self._counts[Counter.HANDED] += 1
                actions.append(hand)
                continue
            lane = self._lane(hand.consumer, self._joined[hand.consumer])
            actions += self._close(hand.message.id, lane, Answer.EXPIRED, now)
            due.extend(self._queue(lane).release(hand.consumer, hand.message.id)[1])
        return actions

    # private: from a lane to the answer

    def _took(self, message_id: MessageId, lane: Lane, now: float) -> list[IncomingAction]:
        """A lane took a message, whichever receiver had handed it out."""
        if message_id in self._arrived:
            return self._close(message_id, lane, Answer.TAKEN, now)
        if message_id in self._seen:
            return []
        self._past.took(message_id, lane, now)
        kept = self._past.kept.get(message_id)
        if kept is not None and kept.message.header.kind is not Kind.FANOUT:
            return self._deliver(*self._past.release(message_id), now)
        return []

    def _answered_before_joining(self, consumer: ConsumerId, entry: AnswerEntry, now: float) -> list[IncomingAction]:
        """Its answers take another way than its JOIN, and may be faster; or it has left. A service itself answers for replies."""
        if entry.answer is Answer.REJECTED and entry.id in self._arrived:
            return self._close(entry.id, consumer, Answer.REJECTED, now)
        if entry.answer is not Answer.REQUEUED:
            return self._took(entry.id, consumer, now)
        if entry.id not in self._arrived and entry.id not in self._seen:
            self._past.gave_back(entry.id, consumer, now)
        return []

    def _answered_already(self, message_id: MessageId, consumer: ConsumerId, lane: Lane) -> bool:
        """Did its answer overtake its JOIN? Then it does not hold the message any more."""
        word = self._past.word(message_id)
        if word is None:
            return message_id in self._seen
        if consumer in word.lanes:
            word.lanes.add(lane)
        return lane in word.lanes or consumer in word.given_back

    def _begun_by(self, consumer: ConsumerId, channel: Channel, message: Message, now: float) -> list[IncomingAction]:
        """A consumer that is gone had begun to execute it: it counts as taken, though it never said so. Its service may live,
        and ask whether it may go on."""
        self._begun_by_lost[message.id] = _client(consumer), now + self._remember
        if message.header.kind is Kind.CALL:
            self.calls.taken(message.header, _client(consumer), message.expires)
        return self._close(message.id, self._lane(consumer, channel), Answer.TAKEN, now)

    def _call_taken(self, message: Message, consumer: ConsumerId, answer: Answer) -> list[IncomingAction]:
        """Somebody works on a call now; or cannot read it."""
        if answer is Answer.REJECTED:
            return [Fail(message.header)]
        self.calls.taken(message.header, _client(consumer), message.expires)
        return []

    def _close(self, message_id: MessageId, lane: Lane, answer: Answer, now: float) -> list[IncomingAction]:
        """One lane has its answer; the last one answers the origin."""
        arrived = self._arrived.get(message_id)
        if arrived is None or lane not in arrived.open:
            return []
        arrived.open.discard(lane)
        arrived.full.discard(lane)
        arrived.taken |= answer is Answer.TAKEN
        if arrived.open:
            return []
        del self._arrived[message_id]
        if not arrived.taken:
            return self._refuse(arrived.origin, arrived.message, answer, arrived.round, now)
        self._counts[Counter.TAKEN] += 1
        self._remember_taken(message_id, now)
        return [Respond(arrived.origin, AnswerEntry(message_id, Answer.TAKEN))]

    def _rehome(
        self, channel: Channel, consumer: ConsumerId, queue: SharedQueue | Copies, orphans: list[Message], now: float
    ) -> list[IncomingAction]:
        """Messages whose consumer is gone: to another one here, or back to the sender. A copy has no other consumer."""
        if isinstance(queue, Copies):
            gone = [arrived.message for arrived in self._arrived.values() if consumer in arrived.full]
            return [action for orphan in orphans + gone for action in self._close(orphan.id, consumer, Answer.TAKEN, now)]
        if queue.consumers:
            return self._hand(queue.put_back(orphans), now)
        homeless = orphans + queue.drop(lambda _: True)
        return [action for message in homeless for action in self._close(message.id, channel, Answer.NOROUTE, now)]

    def _refuse(self, origin: Origin, message: Message, answer: Answer, round_: int, now: float) -> list[IncomingAction]:
        self._counts[Counter[answer.name]] += 1
        if answer is Answer.NOROUTE:
            self._refusals.add(message.id, round_, now)
        return [Respond(origin, AnswerEntry(message.id, answer, "", round_))]

    def _remember_taken(self, message_id: MessageId, now: float) -> None:
        self._seen.add(message_id, now)
        self._past.settle(message_id)

    # private: services that are given up

    def _keeps(self, channel: Channel, consumer: ConsumerId, now: float) -> Keeps:
        if self._joined.get(consumer) == channel:
            return Keeps.ALL
        if channel.role is Role.FANOUT or self._past.expects(_client(consumer), now):
            return Keeps.NAMED
        return Keeps.NONE

    # private: the start

    def _unsure_of(self, message: Message) -> bool:
        """May the predecessor have handed it out, or are those that it is for still looking for this receiver?"""
        if message.header.kind is Kind.REPLY:
            return message.header.client not in self._clients
        return bool(message.header.flags & Flag.RESENT) or message.header.kind in (Kind.FANOUT, Kind.NOTIFY)

    def _deliver_kept(self, now: float) -> list[IncomingAction]:
        """Once the grace is over. What a service that has not come back began meanwhile, nobody has told."""
        if self._past.in_grace(now):
            return []
        for client in self._past.missing():
            for message_id in self._give_up(client):
                if message_id in self._past.kept:
                    self._begun_by_lost[message_id] = client, now + self._remember
                    self._past.took(message_id, client.to_bytes(CLIENT_BYTES, "big"), now)
        return [action for kept in list(self._past.kept) for action in self._deliver(*self._past.release(kept), now)]

    # private: lanes and queues

    def _lane(self, consumer: ConsumerId, channel: Channel) -> Lane:
        return consumer if channel.role is Role.FANOUT else channel

    def _lanes_with_waiting(self) -> list[Lane]:
        lanes: list[Lane] = []
        for channel, queue in self._channels.items():
            if isinstance(queue, Copies):
                lanes += queue.waiting()
            elif queue.waits:
                lanes.append(channel)
        return lanes

    def _queue(self, lane: Lane) -> SharedQueue:
        """The queue of a lane that is here."""
        queue = self._channels[lane if isinstance(lane, Channel) else self._joined[lane]]
        if isinstance(queue, Copies):
            assert isinstance(lane, bytes)  # noqa: S101 - `_lane` made it
            return queue.queue(lane)
        return queue

    def _withdraw(self, queue: SharedQueue, message_id: MessageId) -> None:
        """Somebody took what still waits for somebody else."""
        if message_id in self._arrived:
            queue.drop(lambda message: message.id == message_id)


def _client(consumer: ConsumerId) -> int:
    """The service that a consumer belongs to."""
    return int.from_bytes(consumer[:CLIENT_BYTES], "big")


def _expired(now: float) -> Callable[[Message], bool]:
    return lambda message: message.expires <= now


def _is_reply_to(message: Message, client: int) -> bool:
    return message.header.kind is Kind.REPLY and message.header.client == client
