"""Channel queues: the consumers of one channel on this node, their credit, and what waits for them.

`SharedQueue` gives each message to one consumer, strictly in turn among those with credit left. `Copies` has such a queue
for each consumer, so that everyone gets a copy. A message leaves only when its consumer has taken it; until then it can be given
to another.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.wire import MessageId

ConsumerId = bytes


class Hand(NamedTuple):
    """Send `message` to `consumer` (its routing id on the channel's socket)."""

    consumer: ConsumerId
    message: Message


@dataclass(slots=True)
class _Consumer:
    """`holding`: what it has and has not answered for; None stands for a message that an earlier receiver gave it."""

    credit: int
    holding: dict[MessageId, Message | None] = field(default_factory=dict)
    draining: bool = False


class SharedQueue:
    """Competing consumers. `consumers`: how many take messages; those that only finish what they have do not count."""

    def __init__(self, bounds: Bounds) -> None:
        self.consumers = 0
        self._bounds = bounds
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._consumers: dict[ConsumerId, _Consumer] = {}
        self._turn: deque[ConsumerId] = deque()

    @property
    def empty(self) -> bool:
        """Is nobody connected any more?"""
        return not self._consumers

    @property
    def waits(self) -> bool:
        """Is there a message that nobody holds?"""
        return bool(self._waiting)

    @property
    def depth(self) -> int:
        """Messages here that nobody has taken."""
        return len(self._waiting) + sum(len(consumer.holding) for consumer in self._consumers.values())

    @property
    def loads(self) -> dict[ConsumerId, int]:
        """Who is connected, and how many messages each holds."""
        return {name: len(consumer.holding) for name, consumer in self._consumers.items()}

    def join(self, consumer: ConsumerId, credit: int, holding: Iterable[MessageId]) -> list[Hand]:
        """A consumer starts: it has `holding` from before and can hold `credit` messages more. One that is here already
        only repeats itself."""
        if consumer not in self._consumers:
            self._consumers[consumer] = _Consumer(credit, dict.fromkeys(holding))
            self._turn.append(consumer)
            self.consumers += 1
        return self._serve()

    def hold(self, consumer: ConsumerId, message: Message) -> None:
        """`message` is what `consumer` said that it holds."""
        self._consumers[consumer].holding[message.id] = message

    def drain(self, consumer: ConsumerId) -> None:
        """A consumer wants no more, but will answer for what it holds."""
        known = self._consumers.get(consumer)
        if known is not None and not known.draining:
            known.draining = True
            self.consumers -= 1

    def leave(self, consumer: ConsumerId) -> list[Message]:
        """A consumer is gone; what it held without having taken it comes back to the caller, oldest first."""
        gone = self._consumers.pop(consumer, None)
        if gone is None:
            return []
        self._turn.remove(consumer)
        self.consumers -= not gone.draining
        return [message for message in gone.holding.values() if message is not None]

    def offer(self, message: Message) -> list[Hand] | None:
        """Take `message` in; None when the queue is full."""
        if not self._waiting and (consumer := self._next()) is not None:
            return [self._give(consumer, message)]
        size = len(message.body)
        if len(self._waiting) >= self._bounds.messages or self._waiting_bytes + size > self._bounds.bytes:
            return None
        self._waiting.append(message)
        self._waiting_bytes += size
        return self._serve()

    def put_back(self, messages: list[Message]) -> list[Hand]:
        """Return messages that were taken out before; they go first, and never bounce off a full queue."""
        self._waiting.extendleft(reversed(messages))
        self._waiting_bytes += sum(len(message.body) for message in messages)
        return self._serve()

    def release(self, consumer: ConsumerId, message_id: MessageId) -> tuple[Message | None, list[Hand]]:
        """`consumer` is done with a message (None: one from before that did not come again): it has credit for another."""
        holder = self._consumers.get(consumer)
        if holder is None or message_id not in holder.holding:
            return None, []
        message = holder.holding.pop(message_id)
        holder.credit += 1
        return message, self._serve() if self._waiting else []

    def drop(self, unwanted: Callable[[Message], bool]) -> list[Message]:
        """Remove and return what waits (not what is held) and is unwanted."""
        dropped = [message for message in self._waiting if unwanted(message)]
        if dropped:
            self._waiting = deque(message for message in self._waiting if not unwanted(message))
            self._waiting_bytes -= sum(len(message.body) for message in dropped)
        return dropped

    def _serve(self) -> list[Hand]:
        hands: list[Hand] = []
        while self._waiting and (consumer := self._next()) is not None:
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message.body)
            hands.append(self._give(consumer, message))
        return hands

    def _give(self, consumer: ConsumerId, message: Message) -> Hand:
        holder = self._consumers[consumer]
        holder.holding[message.id] = message
        holder.credit -= 1
        return Hand(consumer, message)

    def _next(self) -> ConsumerId | None:
        turn = self._turn
        for _ in range(len(turn)):
            consumer = turn[0]
            turn.rotate(-1)
            known = self._consumers[consumer]
            if known.credit > 0 and not known.draining:
                return consumer
        return None


class Copies:
    """A queue for each consumer."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._queues: dict[ConsumerId, SharedQueue] = {}

    @property
    def consumers(self) -> int:
        return sum(queue.consumers for queue in self._queues.values())

    @property
    def empty(self) -> bool:
        return not self._queues

    @property
    def depth(self) -> int:
        return sum(queue.depth for queue in self._queues.values())

    @property
    def loads(self) -> dict[ConsumerId, int]:
        """Who is connected, and how many messages wait for each."""
        return {name: queue.depth for name, queue in self._queues.items()}

    def takers(self) -> list[ConsumerId]:
        """Consumers that want a copy of what comes now."""
        return [consumer for consumer, queue in self._queues.items() if queue.consumers]

    def waiting(self) -> list[ConsumerId]:
        """Consumers for which a message waits that they do not hold yet."""
        return [consumer for consumer, queue in self._queues.items() if queue.waits]

    def queue(self, consumer: ConsumerId) -> SharedQueue:
        """The consumer's own queue, made when it has none."""
        if consumer not in self._queues:
            self._queues[consumer] = SharedQueue(self._bounds)
        return self._queues[consumer]

    def leave(self, consumer: ConsumerId) -> list[Message]:
        """A consumer is gone, and with it everything that was meant for it."""
        queue = self._queues.pop(consumer, None)
        return [] if queue is None else [*queue.leave(consumer), *queue.drop(lambda _: True)]
