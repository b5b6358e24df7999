"""A consumer that was given up, or whose receiver was replaced, begins only what the receiver says is still its own."""

from messages import FANOUT, REMEMBER, ROOMY, TOPIC, consumer, counts, handed, header, incoming, message, resent

from openstack_zeromq.delivery.inbox import Begin, Inbox, Keeps, Verdict
from openstack_zeromq.delivery.incoming import Incoming, Joined
from openstack_zeromq.delivery.past import GRACE, Former
from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.wire import Kind, MessageId

ONE, TWO = MessageId(7, 1), MessageId(7, 2)
HERE = b""


def _joined(actions: list[object]) -> list[Joined]:
    return [action for action in actions if isinstance(action, Joined)]


def _given(*sequences: int, kind: Kind = Kind.CALL, copies: bool = False) -> Inbox:
    inbox = Inbox(Seen(REMEMBER), copies)
    for sequence in sequences:
        assert inbox.arrive(header(sequence, kind), 0.0) is Verdict.NEW
    return inbox


# the consumer


def test_a_call_in_doubt_does_not_begin_until_the_receiver_says_that_it_may() -> None:
    inbox = _given(1, 2)
    inbox.doubt()
    assert inbox.may_begin(ONE) is Begin.IN_DOUBT
    inbox.settle({ONE})
    assert (inbox.may_begin(ONE), inbox.may_begin(TWO)) == (Begin.NOW, Begin.NEVER)
    assert inbox.holding == [ONE]


def test_what_was_dropped_may_come_again_and_begins_once() -> None:
    inbox = _given(1)
    inbox.doubt()
    inbox.settle(())
    assert inbox.arrive(header(1, Kind.CALL), 1.0) is Verdict.NEW
    assert inbox.may_begin(ONE) is Begin.NOW
    inbox.take(ONE, 1.0)
    assert inbox.may_begin(ONE) is Begin.NEVER


def test_what_comes_before_the_receiver_confirmed_the_join_is_in_doubt() -> None:
    inbox = Inbox(Seen(REMEMBER))
    inbox.arrive(header(1, Kind.CAST), 0.0, in_doubt=True)
    assert inbox.may_begin(ONE) is Begin.IN_DOUBT
    inbox.settle(None)
    assert inbox.may_begin(ONE) is Begin.NOW


def test_copies_of_a_fanout_and_notifications_are_never_in_doubt() -> None:
    for inbox in (_given(1, kind=Kind.FANOUT, copies=True), _given(1, kind=Kind.NOTIFY)):
        inbox.doubt()
        inbox.settle(())
        assert inbox.holding == [ONE]


def test_what_a_consumer_named_and_the_receiver_does_not_leave_to_it_is_dropped_though_nothing_was_in_doubt() -> None:
    """The receiver's grace was over when this consumer joined, and its journal not yet sealed."""
    inbox = _given(1, 2)
    inbox.settle({TWO}, named=[ONE, TWO])
    assert inbox.holding == [TWO]
    assert inbox.may_begin(TWO) is Begin.NOW


# the receiver


def test_what_a_consumer_names_again_before_it_heard_the_first_answer_is_given_to_it_when_it_comes() -> None:
    """It drops it on that answer, and would wait for ever for what it never got again."""
    node = incoming(expected=[])
    for _ in range(2):
        node.join(TOPIC, consumer(1), 0, [ONE], 7.0)
    assert handed(node.arrive(HERE, message(1), 7.1, 1)) == [(consumer(1), 1)]


def test_a_consumer_that_was_given_up_keeps_nothing_of_what_it_names() -> None:
    node = incoming(expected=[])
    node.client_here(1)
    node.join(TOPIC, consumer(1), 1, [], 0.0)
    node.arrive(HERE, message(1), 0.0)
    node.client_gone(1, 4.0)
    again = node.join(TOPIC, consumer(1), 0, [ONE], 7.0)
    assert _joined(again) == [Joined(consumer(1), Keeps.NONE)]
    assert handed(node.arrive(HERE, message(1, round=1), 7.1, 1)) == [(consumer(1), 1)], "it has its whole credit again"


def test_of_what_a_lost_service_had_noted_it_is_told_that_it_may_go_on() -> None:
    node = Incoming(ROOMY, REMEMBER, 0.0, counts(), Former([], lambda _: [ONE], lambda _: [ONE]))
    node.client_here(1)
    node.join(TOPIC, consumer(1), 5, [], 0.0)
    for sequence in (1, 2):
        node.arrive(HERE, message(sequence), 0.0)
    node.client_gone(1, 4.0)
    assert _joined(node.join(TOPIC, consumer(1), 3, [ONE, TWO], 7.0)) == [Joined(consumer(1), Keeps.NONE, (ONE,))]
    assert _joined(node.join(TOPIC, consumer(2), 3, [ONE, TWO], 7.0)) == [Joined(consumer(2), Keeps.NONE)]


def test_one_that_is_here_keeps_all_and_one_that_comes_back_in_time_what_it_names() -> None:
    node = incoming(expected=[1])
    assert _joined(node.join(TOPIC, consumer(1), 3, [ONE], 0.5)) == [Joined(consumer(1), Keeps.NAMED)]
    assert _joined(node.join(TOPIC, consumer(1), 3, [ONE], GRACE + 1)) == [Joined(consumer(1), Keeps.ALL)]
    late = incoming(expected=[1])
    assert _joined(late.join(TOPIC, consumer(1), 3, [ONE], GRACE + 1)) == [Joined(consumer(1), Keeps.NONE)]
    assert _joined(late.join(FANOUT, consumer(1, 2), 3, [ONE], GRACE + 1)) == [Joined(consumer(1, 2), Keeps.NAMED)]


def test_what_a_service_began_after_the_receivers_start_and_never_told_is_read_when_the_grace_ends() -> None:
    journal: list[MessageId] = []
    node = Incoming(ROOMY, REMEMBER, 0.0, counts(), Former([1], lambda _: list(journal), lambda _: list(journal)))
    node.join(TOPIC, consumer(2), 5, [], 0.0)
    for sequence in (1, 2):
        assert node.arrive(HERE, resent(sequence), 0.1) == []
    journal.append(ONE)
    assert handed(node.tick(GRACE + 0.1)) == [(consumer(2), 2)]
