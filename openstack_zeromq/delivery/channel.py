"""Channel queues: the consumers of one channel on this node, their credit, and what waits for them.

`SharedQueue` gives each message to one consumer, strictly in turn among those with credit left. `Copies` gives each
consumer its own copy. A message leaves only when its consumer has taken it; until then it can be given to another.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from openstack_zeromq.delivery.message import Message
from openstack_zeromq.wire import MessageId

ConsumerId = bytes


class Hand(NamedTuple):
    """Send `message` to `consumer` (its routing id on the channel's socket)."""

    consumer: ConsumerId
    message: Message


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait in one queue."""

    messages: int
    bytes: int


@dataclass(slots=True)
class _Consumer:
    credit: int
    draining: bool = False
    holding: dict[MessageId, Message] = field(default_factory=dict)


class SharedQueue:
    """Competing consumers."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._consumers: dict[ConsumerId, _Consumer] = {}
        self._turn: deque[ConsumerId] = deque()

    @property
    def consumers(self) -> int:
        """How many take messages; those that only finish what they have do not count."""
        return sum(not consumer.draining for consumer in self._consumers.values())

    @property
    def empty(self) -> bool:
        """Is nobody connected any more?"""
        return not self._consumers

    @property
    def depth(self) -> int:
        """Messages here that nobody has taken."""
        return len(self._waiting) + sum(len(consumer.holding) for consumer in self._consumers.values())

    def join(self, consumer: ConsumerId, credit: int) -> list[Hand]:
        """A consumer starts, able to hold `credit` messages."""
        self._consumers[consumer] = _Consumer(credit)
        if consumer not in self._turn:
            self._turn.append(consumer)
        return self._serve()

    def hold(self, consumer: ConsumerId, message: Message) -> None:
        """`consumer` says that it has `message` already (from an earlier incarnation of this receiver)."""
        self._consumers[consumer].holding[message.id] = message
        self._consumers[consumer].credit -= 1

    def drain(self, consumer: ConsumerId) -> None:
        """A consumer wants no more, but will answer for what it holds."""
        if consumer in self._consumers:
            self._consumers[consumer].draining = True

    def leave(self, consumer: ConsumerId) -> list[Message]:
        """A consumer is gone; what it held without having taken it comes back to the caller, oldest first."""
        gone = self._consumers.pop(consumer, None)
        if gone is None:
            return []
        self._turn.remove(consumer)
        return list(gone.holding.values())

    def offer(self, message: Message) -> list[Hand] | None:
        """Take `message` in; None when the queue is full."""
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
        """`consumer` is done with a message: it has credit for another one."""
        holder = self._consumers.get(consumer)
        message = holder.holding.pop(message_id, None) if holder else None
        if holder is None or message is None:
            return None, []
        holder.credit += 1
        return message, self._serve()

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
            holder = self._consumers[consumer]
            holder.holding[message.id] = message
            holder.credit -= 1
            hands.append(Hand(consumer, message))
        return hands

    def _next(self) -> ConsumerId | None:
        for _ in range(len(self._turn)):
            consumer = self._turn[0]
            self._turn.rotate(-1)
            if self._consumers[consumer].credit > 0 and not self._consumers[consumer].draining:
                return consumer
        return None


class Copies:
    """Every consumer gets every message: a queue of its own for each."""

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

    def join(self, consumer: ConsumerId, credit: int) -> list[Hand]:
        return self._queues.setdefault(consumer, SharedQueue(self._bounds)).join(consumer, credit)

    def drain(self, consumer: ConsumerId) -> list[Message]:
        """A consumer wants no more: what waits for it is its loss alone, and comes back to the caller."""
        queue = self._queues.get(consumer)
        if queue is None:
            return []
        queue.drain(consumer)
        return queue.drop(lambda _: True)

    def leave(self, consumer: ConsumerId) -> list[Message]:
        queue = self._queues.pop(consumer, None)
        return [] if queue is None else [*queue.leave(consumer), *queue.drop(lambda _: True)]

    def offer(self, message: Message) -> tuple[list[Hand], int, int]:
        """What to hand out now; how many copies are on their way; how many consumers were too far behind for one."""
        answers = [queue.offer(message) for queue in self._queues.values() if queue.consumers]
        taken_in = [hands for hands in answers if hands is not None]
        return [hand for hands in taken_in for hand in hands], len(taken_in), len(answers) - len(taken_in)

    def release(self, consumer: ConsumerId, message_id: MessageId) -> tuple[Message | None, list[Hand]]:
        queue = self._queues.get(consumer)
        return (None, []) if queue is None else queue.release(consumer, message_id)

    def drop(self, unwanted: Callable[[Message], bool]) -> list[Message]:
        return [message for queue in self._queues.values() for message in queue.drop(unwanted)]
