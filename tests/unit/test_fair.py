"""A fair queue: whatever the order in which parties put things, none waits for another's flood, and each one's order is kept."""

from collections import Counter as Counts

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.fair import FairQueue

TURN = 4
BOUNDS = Bounds(messages=20, bytes=1000)
PARTIES = st.sampled_from("abc")


def _filled(counts: dict[str, int]) -> FairQueue[str, int]:
    queue: FairQueue[str, int] = FairQueue(Bounds(10_000, 10**9), TURN)
    for party, count in counts.items():
        for number in range(count):
            queue.put(party, number, 1, 1)
    return queue


@given(st.integers(1, 500), st.integers(1, 30), st.integers(1, 60))
def test_a_single_item_waits_for_one_turn_of_each_other_party(flood: int, other: int, weight: int) -> None:
    queue = _filled({"flood": flood, "other": other})
    queue.put("quiet", 0, 1, 1)
    before = 0
    while True:
        for party, _ in queue.take(weight):
            if party == "quiet":
                assert before <= 2 * TURN
                return
            before += 1


@given(st.dictionaries(PARTIES, st.integers(1, 100), min_size=2), st.lists(st.integers(1, 30), min_size=1, max_size=60))
def test_those_that_always_have_something_get_the_same(counts: dict[str, int], passes: list[int]) -> None:
    """However short a pass is cut."""
    queue = _filled(counts)
    got: Counts[str] = Counts()
    for weight in passes:
        for party, _ in queue.take(weight):
            got[party] += 1
            busy = [got[name] for name in counts if name in queue]
            assert not busy or max(busy) - min(busy) <= TURN


@given(st.lists(st.tuples(PARTIES, st.integers(1, 9)), max_size=60), st.integers(1, 40))
def test_a_pass_takes_what_it_may_and_nothing_more(put: list[tuple[str, int]], weight: int) -> None:
    queue: FairQueue[str, int] = FairQueue(Bounds(10_000, 10**9), TURN)
    for party, heavy in put:
        queue.put(party, heavy, heavy, 0)
    taken = [item for _, item in queue.take(weight)]
    assert sum(taken[:-1]) < weight
    assert len(taken) == len(put) or sum(taken) >= weight


class Model(RuleBasedStateMachine):
    """Against a list for each party."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[str, int] = FairQueue(BOUNDS, TURN)
        self.lines: dict[str, list[tuple[int, int]]] = {}
        self.serial = 0

    @rule(party=PARTIES, size=st.integers(0, 400), weight=st.integers(1, 9), times=st.sampled_from([1, 2]))
    def put(self, party: str, size: int, weight: int, times: int) -> None:
        line = self.lines.get(party, [])
        full = len(line) >= times * BOUNDS.messages or sum(held for _, held in line) + size > times * BOUNDS.bytes
        assert self.queue.room(party, size, times) == (not line or not full)
        if self.queue.room(party, size, times):
            self.serial += 1
            self.queue.put(party, self.serial, weight, size)
            self.lines.setdefault(party, []).append((self.serial, size))

    @rule(weight=st.integers(1, 40))
    def take(self, weight: int) -> None:
        for party, item in self.queue.take(weight):
            assert self.lines[party].pop(0)[0] == item
            if not self.lines[party]:
                del self.lines[party]

    @rule(party=PARTIES)
    def drop(self, party: str) -> None:
        assert self.queue.drop(party) == [item for item, _ in self.lines.pop(party, [])]

    @rule(party=PARTIES, other=PARTIES, weight=st.integers(1, 40))
    def drop_while_it_is_served(self, party: str, other: str, weight: int) -> None:
        """What ends a party's connection happens while it is served."""
        for taken, item in self.queue.take(weight):
            assert self.lines[taken].pop(0)[0] == item
            if not self.lines[taken]:
                del self.lines[taken]
            if taken == party:
                self.drop(other)

    @invariant()
    def knows_who_waits(self) -> None:
        assert len(self.queue) == len(self.lines)
        assert all(party in self.queue for party in self.lines)


TestModel = Model.TestCase
