"""Fair queue: what waits of several parties, served in turn, so that the flood of one keeps only that one waiting.

A party is a peer or a service. Each gives up to `turn` items, then it is the next one's turn. Each has room of its own: when that
is full the caller refuses what comes of this party, and nobody else's. The order of one party's items is kept.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

from openstack_zeromq.delivery.bounds import Bounds

Party = TypeVar("Party", bound=Hashable)
Item = TypeVar("Item")


class _Waiting(NamedTuple, Generic[Item]):
    item: Item
    weight: int
    size: int


class _Line(Generic[Item]):
    """What waits of one party."""

    __slots__ = ("items", "size")

    def __init__(self) -> None:
        self.items: deque[_Waiting[Item]] = deque()
        self.size = 0


class FairQueue(Generic[Party, Item]):
    """`bounds`: items and bytes that may wait of one party; `turn`: the weight that it may give before the next one."""

    def __init__(self, bounds: Bounds, turn: int) -> None:
        self._bounds = bounds
        self._turn = turn
        self._lines: dict[Party, _Line[Item]] = {}
        self._order: deque[Party] = deque()
        self._left = turn

    def __len__(self) -> int:
        """Parties of which something waits."""
        return len(self._lines)

    def __contains__(self, party: object) -> bool:
        return party in self._lines

    def room(self, party: Party, size: int, times: int = 1) -> bool:
        """May another item of `size` bytes wait? The first one always may; `times` as much as the bounds say."""
        line = self._lines.get(party)
        return line is None or (
            len(line.items) < times * self._bounds.messages and line.size + size <= times * self._bounds.bytes
        )

    def put(self, party: Party, item: Item, weight: int, size: int) -> None:
        """`item` waits from now on, behind what waits of this party already; see that there is `room`."""
        line = self._lines.get(party)
        if line is None:
            line = self._lines[party] = _Line()
            self._order.append(party)
        line.items.append(_Waiting(item, weight, size))
        line.size += size

    def take(self, weight: int) -> Iterator[tuple[Party, Item]]:
        """The next items, in turn, until they weigh `weight` together or none is left. A turn that is cut short goes on the next
        time. What is put or dropped in between counts."""
        while weight > 0 and self._order:
            party = self._order[0]
            line = self._lines[party]
            waiting = line.items.popleft()
            line.size -= waiting.size
            weight -= waiting.weight
            self._left -= waiting.weight
            if not line.items:
                del self._lines[party]
                self._order.popleft()
                self._left = self._turn
            elif self._left <= 0:
                self._order.rotate(-1)
                self._left = self._turn
            yield party, waiting.item

    def drop(self, party: Party) -> list[Item]:
        """Forget, and return, what waits of `party`."""
        line = self._lines.pop(party, None)
        if line is None:
            return []
        if self._order[0] == party:
            self._left = self._turn
        self._order.remove(party)
        return [waiting.item for waiting in line.items]
