"""Timers: which messages are due. Most are set in the order in which they will be due, so that a queue does; the rest sort
themselves in a heap."""

import heapq
from collections import deque
from collections.abc import Iterator

from openstack_zeromq.wire import MessageId


class Timers:
    """A message may be set more than once, and is named at each of its times; times are seconds, monotonic."""

    def __init__(self) -> None:
        self._in_order: deque[tuple[float, MessageId]] = deque()
        self._sorted: list[tuple[float, MessageId]] = []

    def __bool__(self) -> bool:
        return bool(self._in_order or self._sorted)

    def set(self, due: float, message_id: MessageId) -> None:
        """Name `message_id` once `due` has come."""
        queue = self._in_order
        if queue and due < queue[-1][0]:
            if len(queue) > 1 and due < queue[-2][0]:
                heapq.heappush(self._sorted, (due, message_id))
                return
            heapq.heappush(self._sorted, queue.pop())  # it alone was far ahead
        queue.append((due, message_id))

    def due(self, now: float) -> Iterator[MessageId]:
        """What is due by `now`, once."""
        while self._in_order and self._in_order[0][0] <= now:
            yield self._in_order.popleft()[1]
        while self._sorted and self._sorted[0][0] <= now:
            yield heapq.heappop(self._sorted)[1]
