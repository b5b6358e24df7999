"""Incoming: messages for consumers of this node, from the moment they arrive until they are taken.

A message comes from an origin (a link, or this node's own outgoing side) that wants exactly one answer and asks again
until it has one. It has a **lane** for each consumer that is to get it: a channel, where one of the consumers takes it; or, in
a fanout, a single consumer. TAKEN is said when every lane has its consumer's word.

What is in hand or was taken is recognised and never delivered again. A receiver that has just started does not know what its
predecessor handed out, nor who listens: until every service that was here has said what it holds and what it took, for at most
`GRACE` seconds, it keeps back what was resent and what is for several consumers.
"""

from collections import Counter as Counts
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from openstack_zeromq.address import Channel, Role
from openstack_zeromq.delivery.channel import Bounds, ConsumerId, Copies, Hand, SharedQueue
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Kind, MessageId

Origin = bytes
HERE: Origin = b""
"""The origin of messages that this node's own services send to each other."""

Lane = Channel | ConsumerId

GRACE = 3.0
"""Seconds after which a service that has not come back counts as dead, as everywhere else."""


REFUSED_FOR = 30.0
"""Seconds for which a refusal is remembered: longer than a copy can be on its way over a link that lives."""


class Respond(NamedTuple):
    """Give `origin` its answer."""

    origin: Origin
    entry: AnswerEntry


class Reply(NamedTuple):
    """Send a reply to the service that made the call."""

    client: int
    message: Message


IncomingAction = Hand | Respond | Reply


@dataclass(slots=True)
class _Arrived:
    """A message in hand. `open`: lanes that have not taken it; `full`: those of them that had no room for it yet."""

    origin: Origin
    message: Message
    round: int
    open: set[Lane]
    full: set[Lane] = field(default_factory=set)
    taken: bool = False


@dataclass(slots=True)
class _Before:
    """What consumers said of a message before it arrived here: lanes that took it (from a receiver that is no more), and
    consumers that gave it back. Remembered `until` then."""

    until: float
    lanes: set[Lane] = field(default_factory=set)
    given_back: set[ConsumerId] = field(default_factory=set)


class Incoming:
    """The consumers of this node and what is on its way to them."""

    def __init__(
        self, bounds: Bounds, remember: float, started: float, counts: Counts[str], expected: Iterable[int] | None = None
    ) -> None:
        """`expected`: the services that the predecessor knew; None: nobody can tell."""
        self._bounds = bounds
        self._expected = None if expected is None else set(expected)
        self._remember = remember
        self._counts = counts
        self._grace_until = started + GRACE
        self._kept_back: dict[MessageId, tuple[Origin, Message, int]] = {}
        self._refused: dict[MessageId, tuple[int, float]] = {}
        self._kept_bytes = 0
        self._arrived: dict[MessageId, _Arrived] = {}
        self._seen = Seen(remember)
        self._before: dict[MessageId, _Before] = {}
        self._claims: dict[MessageId, set[ConsumerId]] = {}
        self._channels: dict[Channel, SharedQueue | Copies] = {}
        self._joined: dict[ConsumerId, Channel] = {}
        self._clients: set[int] = set()

    # what is here

    @property
    def channels(self) -> dict[Channel, SharedQueue | Copies]:
        return self._channels

    @property
    def in_hand(self) -> int:
        return len(self._arrived) + len(self._kept_back)

    def serves(self, channel: Channel) -> bool:
        """Does anybody here consume `channel`?"""
        queue = self._channels.get(channel)
        return queue is not None and queue.consumers > 0

    # consumers

    def client_here(self, client: int, now: float = 0.0) -> list[IncomingAction]:
        """A service is connected and can get replies."""
        if client in self._clients:
            return []
        self._clients.add(client)
        early = [message_id for message_id, (_, message, _) in self._kept_back.items() if _is_reply_to(message, client)]
        return [action for message_id in early for action in self._deliver(*self._unkeep(message_id), now)]

    def client_settled(self, client: int, now: float) -> list[IncomingAction]:
        """All consumers of a service have joined; the last service ends the grace."""
        if not self._expected:
            return []
        self._expected.discard(client)
        return [] if self._in_grace(now) else self._deliver_kept(now)

    def client_gone(self, client: int, now: float) -> list[IncomingAction]:
        """A service is gone: its consumers leave, replies to it have nowhere to go."""
        self._clients.discard(client)
        name = client.to_bytes(8, "big")
        actions: list[IncomingAction] = []
        for reply in [arrived.message for arrived in self._arrived.values() if _is_reply_to(arrived.message, client)]:
            actions += self._close(reply.id, name, Answer.NOROUTE, now)
        for consumer in [consumer for consumer in self._joined if consumer.startswith(name)]:
            actions += self.leave(consumer, now)
        return actions

    def join(
        self, channel: Channel, consumer: ConsumerId, credit: int, holding: Collection[MessageId], now: float
    ) -> list[IncomingAction]:
        """A consumer starts on `channel`; it still works on `holding`, which other consumers must not get, and can hold
        `credit` messages more."""
        self._joined[consumer] = channel
        queue = self._channels.get(channel)
        if queue is None:
            queue = Copies(self._bounds) if channel.role is Role.FANOUT else SharedQueue(self._bounds)
            self._channels[channel] = queue
        lane = self._lane(consumer, channel)
        held = [message_id for message_id in holding if not self._answered_already(message_id, consumer, lane)]
        for message_id in held:
            if message_id not in self._arrived:
                self._claims.setdefault(message_id, set()).add(consumer)
        return self._hand(self._queue(lane).join(consumer, credit + len(holding) - len(held), held), now)

    def leave(self, consumer: ConsumerId, now: float) -> list[IncomingAction]:
        """A consumer stops or died: what it held goes to another one, or back to where it came from."""
        channel = self._joined.pop(consumer, None)
        if channel is None:
            return []
        for message_id in [message_id for message_id, holders in self._claims.items() if consumer in holders]:
            self._unclaim(message_id, consumer)
        queue = self._channels[channel]
        orphans = queue.leave(consumer)
        self._counts[Counter.ORPHANED] += len(orphans)
        if queue.empty:
            del self._channels[channel]
        return self._rehome(channel, consumer, queue, orphans, now)

    def drain(self, consumer: ConsumerId, now: float) -> list[IncomingAction]:
        """A consumer wants no more but finishes what it holds; nothing is kept waiting for it."""
        channel = self._joined.get(consumer)
        if channel is None:
            return []
        self._queue(self._lane(consumer, channel)).drain(consumer)
        queue = self._channels[channel]
        waiting = self._queue(consumer).drop(lambda _: True) if isinstance(queue, Copies) else []
        return self._rehome(channel, consumer, queue, waiting, now)

    def answered(self, consumer: ConsumerId, entry: AnswerEntry, now: float) -> list[IncomingAction]:
        """A consumer took a message or gave it back."""
        self._unclaim(entry.id, consumer)
        channel = self._joined.get(consumer)
        if channel is None:
            return self._took(entry, consumer, consumer, now)
        lane = self._lane(consumer, channel)
        queue = self._queue(lane)
        message, hands = queue.release(consumer, entry.id)
        if entry.answer is Answer.REQUEUED:
            self._counts[Counter.REQUEUED] += 1
            return self._hand([*hands, *(queue.put_back([message]) if message else [])], now)
        if message is None:
            self._withdraw(queue, entry.id)
        return [*self._took(entry, lane, consumer, now), *self._hand(hands, now)]

    def reply_failed(self, message_id: MessageId, client: int, now: float) -> list[IncomingAction]:
        """The service that a reply is for was not connected any more."""
        return self._close(message_id, client.to_bytes(8, "big"), Answer.NOROUTE, now)

    # messages

    def arrive(self, origin: Origin, message: Message, now: float, round_: int = 0) -> list[IncomingAction]:
        """A message (or the same one again) comes in from `origin`. A copy of a round that was refused is refused again: its
        sender has turned to somebody else."""
        self._seen.note(message.header, now)
        message_id = message.id
        if (known := self._arrived.get(message_id)) is not None:
            self._counts[Counter.DUPLICATES] += 1
            known.origin, known.round = origin, round_
            return self._offer(known, list(known.full), now) if known.full else []
        if message_id in self._seen:
            self._counts[Counter.DUPLICATES] += 1
            return [Respond(origin, AnswerEntry(message_id, Answer.TAKEN))]
        if self._refused.get(message_id, (None,))[0] == round_:
            return [Respond(origin, AnswerEntry(message_id, Answer.NOROUTE, "", round_))]
        if self._in_grace(now) and self._unsure_of(message):
            return self._keep_back(origin, message, round_, now)
        return self._deliver(origin, message, round_, now)

    def tick(self, now: float) -> list[IncomingAction]:
        """Give up what expired; after the grace, deliver what was kept back."""
        actions: list[IncomingAction] = []
        if self._kept_back and not self._in_grace(now):
            actions += self._deliver_kept(now)
        for channel, queue in list(self._channels.items()):
            lanes: list[Lane] = [*queue.takers()] if isinstance(queue, Copies) else [channel]
            for lane in lanes:
                for message in self._queue(lane).drop(_expired(now)):
                    actions += self._close(message.id, lane, Answer.EXPIRED, now)
        for message_id in [message_id for message_id, before in self._before.items() if before.until <= now]:
            del self._before[message_id]
        for message_id in [message_id for message_id, (_, until) in self._refused.items() if until <= now]:
            del self._refused[message_id]
        self._seen.tick(now)
        return actions

    # private: from a message to its lanes

    def _deliver(self, origin: Origin, message: Message, round_: int, now: float) -> list[IncomingAction]:
        if message.header.kind is Kind.REPLY:
            return self._deliver_reply(origin, message, round_, now)
        before = self._before.get(message.id)
        taken = set() if before is None else before.lanes
        lanes = self._lanes_of(message)
        open_lanes = [lane for lane in lanes if lane not in taken]
        if taken and (not open_lanes or message.header.kind not in (Kind.FANOUT, Kind.NOTIFY)):
            self._counts[Counter.DUPLICATES] += 1
            self._remember_taken(message.id, now)
            return [Respond(origin, AnswerEntry(message.id, Answer.TAKEN))]
        if not open_lanes:
            return self._refuse(origin, message, Answer.NOROUTE, round_, now)
        arrived = self._arrived[message.id] = _Arrived(origin, message, round_, set(open_lanes), taken=bool(taken))
        return self._offer(arrived, open_lanes, now)

    def _deliver_reply(self, origin: Origin, message: Message, round_: int, now: float) -> list[IncomingAction]:
        client = message.header.client
        if client not in self._clients:
            return self._refuse(origin, message, Answer.NOROUTE, round_, now)
        self._arrived[message.id] = _Arrived(origin, message, round_, {client.to_bytes(8, "big")})
        self._counts[Counter.HANDED] += 1
        return [Reply(client, message)]

    def _lanes_of(self, message: Message) -> list[Lane]:
        """One lane for a call or cast; for a notification the topic's own and one for each pool; in a fanout every consumer."""
        header = message.header
        if header.kind is Kind.FANOUT:
            copies = self._channels.get(Channel.of_fanout(header.exchange, header.topic))
            return [*copies.takers()] if isinstance(copies, Copies) else []
        if header.server:
            wanted = [Channel(Role.SERVER, header.exchange, header.topic, header.server)]
        elif header.kind is Kind.NOTIFY:
            wanted = [
                channel
                for channel in self._channels
                if channel[1:3] == (header.exchange, header.topic) and channel.role in (Role.TOPIC, Role.POOL)
            ]
        else:
            wanted = [Channel(Role.TOPIC, header.exchange, header.topic)]
        return [channel for channel in wanted if self.serves(channel)]

    def _offer(self, arrived: _Arrived, lanes: list[Lane], now: float) -> list[IncomingAction]:
        """Put the message into `lanes`; a lane without room makes the origin come again, for that lane alone."""
        message, hands = arrived.message, []
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
        for consumer in list(self._claims.get(message.id, ())):
            if self._lane(consumer, self._joined[consumer]) == lane:
                self._unclaim(message.id, consumer)
                self._queue(lane).hold(consumer, message)
                self._counts[Counter.DUPLICATES] += 1
                return True
        return False

    def _hand(self, hands: Iterable[Hand], now: float) -> list[IncomingAction]:
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

    def _took(self, entry: AnswerEntry, lane: Lane, consumer: ConsumerId, now: float) -> list[IncomingAction]:
        """A lane is done with a message, whichever receiver had handed it out."""
        message_id = entry.id
        if message_id in self._arrived:
            return self._close(message_id, lane, Answer.TAKEN, now)
        if message_id in self._seen:
            return []
        before = self._before.setdefault(message_id, _Before(now + self._remember))
        if entry.answer is Answer.REQUEUED:
            before.given_back.add(consumer)
            return []
        before.lanes.add(lane)
        if message_id in self._kept_back and self._kept_back[message_id][1].header.kind not in (Kind.FANOUT, Kind.NOTIFY):
            return self._deliver(*self._unkeep(message_id), now)
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
        final = Answer.TAKEN if arrived.taken else answer
        if final is not Answer.TAKEN:
            return self._refuse(arrived.origin, arrived.message, final, arrived.round, now)
        self._counts[Counter.TAKEN] += 1
        self._remember_taken(message_id, now)
        return [Respond(arrived.origin, AnswerEntry(message_id, final))]

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
            self._refused[message.id] = (round_, now + REFUSED_FOR)
        return [Respond(origin, AnswerEntry(message.id, answer, "", round_))]

    # private: what is known from before the start

    def awaited(self, now: float) -> Collection[int]:
        """Services of a former receiver that have yet to come back."""
        return (self._expected or ()) if self._in_grace(now) else ()

    def _in_grace(self, now: float) -> bool:
        return now < self._grace_until and (self._expected is None or bool(self._expected))

    def _unsure_of(self, message: Message) -> bool:
        """May the predecessor have handed it out, or are those that it is for still looking for this receiver?"""
        if message.header.kind is Kind.REPLY:
            return message.header.client not in self._clients
        return bool(message.header.flags & Flag.RESENT) or message.header.kind in (Kind.FANOUT, Kind.NOTIFY)

    def _deliver_kept(self, now: float) -> list[IncomingAction]:
        return [action for kept in list(self._kept_back) for action in self._deliver(*self._unkeep(kept), now)]

    def _keep_back(self, origin: Origin, message: Message, round_: int, now: float) -> list[IncomingAction]:
        if message.id not in self._kept_back:
            size = len(message.body)
            if len(self._kept_back) >= self._bounds.messages or self._kept_bytes + size > self._bounds.bytes:
                return self._refuse(origin, message, Answer.BUSY, round_, now)
            self._kept_bytes += size
        self._kept_back[message.id] = (origin, message, round_)
        return []

    def _unkeep(self, message_id: MessageId) -> tuple[Origin, Message, int]:
        kept = self._kept_back.pop(message_id)
        self._kept_bytes -= len(kept[1].body)
        return kept

    def _answered_already(self, message_id: MessageId, consumer: ConsumerId, lane: Lane) -> bool:
        """Its answers take another way than its JOIN, and may be faster: then it does not hold the message any more."""
        before = self._before.get(message_id)
        if before is None:
            return message_id in self._seen
        if consumer in before.lanes:
            before.lanes.add(lane)
        return consumer in before.lanes or consumer in before.given_back

    def _unclaim(self, message_id: MessageId, consumer: ConsumerId) -> None:
        holders = self._claims.get(message_id)
        if holders is not None:
            holders.discard(consumer)
            if not holders:
                del self._claims[message_id]

    def _remember_taken(self, message_id: MessageId, now: float) -> None:
        self._seen.add(message_id, now)
        self._before.pop(message_id, None)

    # private: lanes and queues

    def _lane(self, consumer: ConsumerId, channel: Channel) -> Lane:
        return consumer if channel.role is Role.FANOUT else channel

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


def _expired(now: float) -> Callable[[Message], bool]:
    return lambda message: message.expires <= now


def _is_reply_to(message: Message, client: int) -> bool:
    return message.header.kind is Kind.REPLY and message.header.client == client
