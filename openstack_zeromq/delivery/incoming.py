"""Incoming: messages for consumers of this node, from the moment they arrive until they are taken.

A message comes from an origin (a link, or this node's own outgoing side) that wants exactly one answer and asks again
until it has one. TAKEN is said only on a consumer's word. What is already in hand, or was taken, is recognised and
never delivered again. A receiver that has just started does not know what its predecessor handed out: it keeps resent messages
back for `GRACE` seconds, in which every service tells what it holds and what it took.
"""

from collections import Counter as Counts
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.channel import Bounds, ConsumerId, Copies, Hand, SharedQueue
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Kind, MessageId

Origin = bytes
HERE: Origin = b""
"""The origin of messages that this node's own services send to each other."""

GRACE = 1.0


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
    """A message in hand; `copies` counts the consumers that have yet to take theirs."""

    origin: Origin
    message: Message
    copies: int = 1


class Incoming:
    """The consumers of this node and what is on its way to them."""

    def __init__(self, bounds: Bounds, remember: float, started: float, counts: Counts[str]) -> None:
        self._bounds = bounds
        self._counts = counts
        self._grace_until = started + GRACE
        self._kept_back: dict[MessageId, tuple[Origin, Message]] = {}
        self._arrived: dict[MessageId, _Arrived] = {}
        self._seen = Seen(remember)
        self._channels: dict[Channel, SharedQueue | Copies] = {}
        self._joined: dict[ConsumerId, Channel] = {}
        self._claims: dict[MessageId, ConsumerId] = {}
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

    def client_here(self, client: int) -> None:
        """A service is connected and can get replies."""
        self._clients.add(client)

    def client_gone(self, client: int, now: float) -> list[IncomingAction]:
        """A service is gone: its consumers leave, replies to it have nowhere to go."""
        self._clients.discard(client)
        prefix = client.to_bytes(8, "big")
        actions: list[IncomingAction] = []
        replies = [arrived.message for arrived in self._arrived.values() if arrived.message.header.kind is Kind.REPLY]
        for reply in replies:
            if reply.header.client == client:
                actions += self._give_up(reply.id, Answer.NOROUTE)
        for consumer in [consumer for consumer in self._joined if consumer.startswith(prefix)]:
            actions += self.leave(consumer, now)
        return actions

    def join(
        self, channel: Channel, consumer: ConsumerId, credit: int, holding: Iterable[MessageId], now: float
    ) -> list[IncomingAction]:
        """A consumer starts on `channel`; it still works on `holding`, which other consumers must not get."""
        self._joined[consumer] = channel
        self._claims.update((message_id, consumer) for message_id in holding if message_id not in self._seen)
        queue = self._channels.get(channel)
        if queue is None:
            queue = Copies(self._bounds) if channel.role.value == "fanout" else SharedQueue(self._bounds)
            self._channels[channel] = queue
        return self._hand(queue.join(consumer, credit), now)

    def leave(self, consumer: ConsumerId, now: float) -> list[IncomingAction]:
        """A consumer stops or died: what it held goes to another one, or back to where it came from."""
        channel = self._joined.pop(consumer, None)
        if channel is None:
            return []
        for message_id in [held for held, holder in self._claims.items() if holder == consumer]:
            del self._claims[message_id]
        queue = self._channels[channel]
        orphans = queue.leave(consumer)
        self._counts[Counter.ORPHANED] += len(orphans)
        if queue.empty:
            del self._channels[channel]
        return self._rehome(queue, orphans, now)

    def drain(self, consumer: ConsumerId, now: float) -> list[IncomingAction]:
        """A consumer wants no more but finishes what it holds; nothing is kept waiting for it."""
        channel = self._joined.get(consumer)
        if channel is None:
            return []
        queue = self._channels[channel]
        return self._rehome(queue, queue.drain(consumer) or [], now)

    def answered(self, consumer: ConsumerId, entry: AnswerEntry, now: float) -> list[IncomingAction]:
        """A consumer took a message or gave it back."""
        if self._claims.pop(entry.id, None) is not None and entry.id not in self._arrived:
            self._seen.add(entry.id, now)
            return []
        channel = self._joined.get(consumer)
        if channel is None:
            return self._took_unasked(entry, now)
        queue = self._channels[channel]
        if entry.answer is Answer.REQUEUED and isinstance(queue, SharedQueue):
            self._counts[Counter.REQUEUED] += 1
            message, hands = queue.release(consumer, entry.id)
            back = [] if message is None else queue.put_back([message])
            return self._hand([*hands, *back], now)
        message, hands = queue.release(consumer, entry.id)
        done = self._copy_taken(entry.id, now) if message else self._took_unasked(entry, now)
        return [*done, *self._hand(hands, now)]

    # messages

    def arrive(self, origin: Origin, message: Message, now: float) -> list[IncomingAction]:
        """A message (or the same one again) comes in from `origin`."""
        self._seen.note(message.header, now)
        message_id = message.id
        if (known := self._arrived.get(message_id)) is not None:
            self._counts[Counter.DUPLICATES] += 1
            known.origin = origin
            return []
        if message_id in self._seen:
            self._counts[Counter.DUPLICATES] += 1
            return [Respond(origin, AnswerEntry(message_id, Answer.TAKEN))]
        if message_id in self._claims:
            return self._claimed(origin, message)
        if now < self._grace_until and message.header.flags & Flag.RESENT and message.header.kind is not Kind.REPLY:
            self._kept_back[message_id] = (origin, message)
            return []
        return self._deliver(origin, message, now)

    def reply_failed(self, message_id: MessageId) -> list[IncomingAction]:
        """The service that a reply is for was not connected any more."""
        return self._give_up(message_id, Answer.NOROUTE)

    def tick(self, now: float) -> list[IncomingAction]:
        """Give up what expired; after the grace, deliver what was kept back."""
        actions: list[IncomingAction] = []
        if self._kept_back and now >= self._grace_until:
            kept, self._kept_back = self._kept_back, {}
            for origin, message in kept.values():
                actions += self.arrive(origin, message, now)
        for queue in self._channels.values():
            for message in queue.drop(_expired(now)):
                actions += self._give_up(message.id, Answer.EXPIRED)
        self._seen.tick(now)
        return actions

    # private

    def _rehome(self, queue: SharedQueue | Copies, orphans: list[Message], now: float) -> list[IncomingAction]:
        """Messages whose consumer is gone: to another one here, or back to the sender. A copy has no other consumer."""
        if isinstance(queue, Copies):
            return [action for orphan in orphans for action in self._copy_taken(orphan.id, now)]
        if queue.consumers:
            return self._hand(queue.put_back(orphans), now)
        homeless = orphans + queue.drop(lambda _: True)
        return [action for message in homeless for action in self._give_up(message.id, Answer.NOROUTE)]

    def _deliver(self, origin: Origin, message: Message, now: float) -> list[IncomingAction]:
        header = message.header
        if header.kind is Kind.REPLY:
            if header.client not in self._clients:
                return self._refuse(origin, message, Answer.NOROUTE)
            self._arrived[message.id] = _Arrived(origin, message)
            self._counts[Counter.HANDED] += 1
            return [Reply(header.client, message)]
        if header.kind is Kind.FANOUT:
            return self._deliver_copies(origin, message, now)
        return self._deliver_shared(origin, message, now)

    def _deliver_shared(self, origin: Origin, message: Message, now: float) -> list[IncomingAction]:
        queues = self._queues_for(message)
        if not queues:
            return self._refuse(origin, message, Answer.NOROUTE)
        offers = [queue.offer(message) for queue in queues]
        taken_in = [hands for hands in offers if hands is not None]
        if not taken_in:
            return self._refuse(origin, message, Answer.BUSY)
        self._counts[Counter.BUSY] += len(offers) - len(taken_in)
        self._arrived[message.id] = _Arrived(origin, message, len(taken_in))
        return self._hand([hand for hands in taken_in for hand in hands], now)

    def _deliver_copies(self, origin: Origin, message: Message, now: float) -> list[IncomingAction]:
        queue = self._channels.get(Channel.of_fanout(message.header.exchange, message.header.topic))
        if not isinstance(queue, Copies):
            return self._refuse(origin, message, Answer.NOROUTE)
        hands, copies, too_slow = queue.offer(message)
        self._counts[Counter.BUSY] += too_slow
        if not copies:
            return self._refuse(origin, message, Answer.BUSY)
        self._arrived[message.id] = _Arrived(origin, message, copies)
        return self._hand(hands, now)

    def _queues_for(self, message: Message) -> list[SharedQueue]:
        """One queue for a call or cast; for a notification the topic's own and one for each pool."""
        header = message.header
        if header.server:
            wanted = [Channel.of_server(header.exchange, header.topic, header.server)]
        elif header.kind is Kind.NOTIFY:
            wanted = [
                channel
                for channel in self._channels
                if channel[1:3] == (header.exchange, header.topic) and channel.role.value in ("topic", "pool")
            ]
        else:
            wanted = [Channel.of_topic(header.exchange, header.topic)]
        queues = (self._channels.get(channel) for channel in wanted)
        return [queue for queue in queues if isinstance(queue, SharedQueue) and queue.consumers]

    def _hand(self, hands: list[Hand], now: float) -> list[IncomingAction]:
        """Hand out, unless time is up just now."""
        actions: list[IncomingAction] = []
        for hand in hands:
            if hand.message.expires > now:
                self._counts[Counter.HANDED] += 1
                actions.append(hand)
                continue
            channel = self._joined[hand.consumer]
            actions += self._give_up(hand.message.id, Answer.EXPIRED)
            _, more = self._channels[channel].release(hand.consumer, hand.message.id)
            actions += self._hand(more, now)
        return actions

    def _claimed(self, origin: Origin, message: Message) -> list[IncomingAction]:
        """Resent, but a consumer has it from before the restart: wait for that consumer's word."""
        self._counts[Counter.DUPLICATES] += 1
        consumer = self._claims.pop(message.id)
        queue = self._channels[self._joined[consumer]]
        if isinstance(queue, SharedQueue):
            self._arrived[message.id] = _Arrived(origin, message)
            queue.hold(consumer, message)
        return []

    def _took_unasked(self, entry: AnswerEntry, now: float) -> list[IncomingAction]:
        """A consumer took what this receiver did not hand to it: its predecessor did."""
        kept = self._kept_back.pop(entry.id, None)
        arrived = self._arrived.get(entry.id)
        if arrived is not None:
            return self._copy_taken(entry.id, now)
        if entry.answer is Answer.TAKEN:
            self._seen.add(entry.id, now)
        return [] if kept is None else self.arrive(*kept, now)

    def _copy_taken(self, message_id: MessageId, now: float) -> list[IncomingAction]:
        arrived = self._arrived.get(message_id)
        if arrived is None:
            return []
        arrived.copies -= 1
        if arrived.copies > 0:
            return []
        del self._arrived[message_id]
        self._seen.add(message_id, now)
        self._counts[Counter.TAKEN] += 1
        return [Respond(arrived.origin, AnswerEntry(message_id, Answer.TAKEN))]

    def _give_up(self, message_id: MessageId, answer: Answer) -> list[IncomingAction]:
        arrived = self._arrived.get(message_id)
        if arrived is None:
            return []
        arrived.copies -= 1
        if arrived.copies > 0:
            return []
        del self._arrived[message_id]
        self._counts[Counter[answer.name]] += 1
        return [Respond(arrived.origin, AnswerEntry(message_id, answer))]

    def _refuse(self, origin: Origin, message: Message, answer: Answer) -> list[IncomingAction]:
        self._counts[Counter[answer.name]] += 1
        return [Respond(origin, AnswerEntry(message.id, answer))]


def _expired(now: float) -> Callable[[Message], bool]:
    return lambda message: message.expires <= now
