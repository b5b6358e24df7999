"""What the machines remember and count: timers, what was seen, how much room there is. All of it exact, none of it growing."""

from hypothesis import given
from hypothesis import strategies as st
from messages import header

from openstack_zeromq.delivery.bounds import ALL_TARGETS, Bounds, Shares
from openstack_zeromq.delivery.origin import origin
from openstack_zeromq.delivery.refusals import MOST, REMEMBERED_FOR, Refusals
from openstack_zeromq.delivery.seen import MOST_ORIGINS, Seen
from openstack_zeromq.delivery.timers import Timers
from openstack_zeromq.wire import MessageId

MOMENTS = st.floats(0, 100)


@given(st.lists(MOMENTS), st.lists(MOMENTS))
def test_each_timer_rings_once_and_not_before_its_time(set_for: list[float], looks: list[float]) -> None:
    timers = Timers()
    for number, due in enumerate(set_for):
        timers.set(due, MessageId(1, number))
    rung: list[int] = []
    for now in [*sorted(looks), 100.0]:
        for _, number in timers.due(now):
            assert set_for[number] <= now
            rung.append(number)
        assert all(due > now for number, due in enumerate(set_for) if number not in rung)
    assert sorted(rung) == list(range(len(set_for)))
    assert not timers


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), max_size=60))
def test_what_was_taken_is_known_until_its_sender_has_settled_it(steps: list[tuple[int, int]]) -> None:
    seen, taken, settled = Seen(100.0), set[int](), 1
    for sequence, behind in steps:
        low = max(1, sequence - behind)
        known = seen.meet(header(sequence, settled=low), 0.0)
        if not seen.empty and settled != 1:
            settled = max(settled, low)
            assert known == (sequence in taken or sequence < settled)
        settled = max(settled, low)
        seen.add(MessageId(7, sequence), 0.0)
        taken.add(sequence)
        assert all((MessageId(7, one) in seen) for one in taken)
    assert set(seen.remembered()) == {MessageId(7, one) for one in taken if one >= settled}


def test_a_quiet_origin_is_forgotten_as_a_whole() -> None:
    seen = Seen(10.0)
    seen.add(MessageId(7, 1), 0.0)
    seen.tick(10.0)
    assert MessageId(7, 1) in seen
    seen.tick(10.1)
    assert seen.empty


def test_a_node_that_makes_up_origins_without_end_spoils_its_own_memory_only() -> None:
    seen = Seen(10.0)
    honest = MessageId(origin("n1", 1), 1)
    seen.add(honest, 0.0)
    for number in range(3 * MOST_ORIGINS):
        seen.add(MessageId(origin("n2", number), 1), 1.0)
    assert len(seen) == MOST_ORIGINS + 1
    assert honest in seen
    assert MessageId(origin("n2", 0), 1) not in seen
    assert MessageId(origin("n2", 3 * MOST_ORIGINS - 1), 1) in seen
    seen.tick(10.5)
    assert len(seen) == MOST_ORIGINS
    seen.tick(20.0)
    assert seen.empty
    seen.add(honest, 20.0)
    assert honest in seen


def test_refusals_are_remembered_for_a_while_and_the_oldest_forgotten_first() -> None:
    refusals = Refusals()
    for number in range(2 * MOST):
        refusals.add(MessageId(1, number), 3, number / MOST)
    assert len(refusals) == MOST
    assert not refusals.has(MessageId(1, 0), 3)
    assert refusals.has(MessageId(1, MOST), 3)
    assert not refusals.has(MessageId(1, MOST), 4), "it is asked anew in a later round"
    refusals.add(MessageId(1, MOST), 4, 2.0)
    refusals.tick(1.5 + REMEMBERED_FOR)
    assert len(refusals) == MOST // 2
    assert refusals.has(MessageId(1, MOST), 4)
    refusals.tick(2.0 + REMEMBERED_FOR)
    assert len(refusals) == 0


def test_a_target_has_room_for_so_many_messages_and_bytes_and_always_for_one() -> None:
    shares: Shares[str] = Shares(Bounds(2, 100))
    assert shares.room("a", 1000)
    shares.take("a", 60)
    assert shares.room("a", 40)
    assert not shares.room("a", 41)
    shares.take("a", 1)
    assert not shares.room("a", 1)
    shares.give_back("a", 60)
    assert shares.room("a", 99)


def test_many_targets_have_a_bound_together() -> None:
    shares: Shares[int] = Shares(Bounds(10, 100))
    for target in range(ALL_TARGETS):
        shares.take(target, 99)
    assert shares.bytes == ALL_TARGETS * 99
    assert shares.room(0, 1)
    shares.take(ALL_TARGETS, 50)
    assert not shares.room(0, 1)
    assert shares.room(ALL_TARGETS + 1, 50)
