"""Stranded: messages that nobody takes wait in order, one of them asks, and all follow when it is taken."""

from itertools import pairwise

from openstack_zeromq.delivery.stranded import BACK_OFF_MOST, PATIENCE, Stranded
from openstack_zeromq.wire import MessageId

KEY = ("nova", "compute", "")
OTHER = ("nova", "compute", "b")


def _ids(*sequences: int) -> list[MessageId]:
    return [MessageId(7, sequence) for sequence in sequences]


def _waiting(count: int) -> Stranded:
    stranded = Stranded(lambda: 1.0)
    for number, message_id in enumerate(_ids(*range(1, count + 1))):
        stranded.wait(KEY, number, message_id, 0.0)
    return stranded


def test_only_the_first_asks_and_later_and_later() -> None:
    stranded, now, asked = _waiting(3), 0.0, []
    while len(asked) < 12:
        now += 0.01
        for message_id in stranded.ask(now):
            asked.append(now)
            assert message_id == MessageId(7, 1)
            stranded.wait(KEY, 0, message_id, now)
    pauses = [round(later - earlier, 1) for earlier, later in pairwise(asked)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == BACK_OFF_MOST


def test_when_the_first_is_taken_the_others_follow_in_the_order_in_which_they_came() -> None:
    stranded = _waiting(3)
    stranded.wait(KEY, 10, MessageId(9, 1), 0.0)
    [asking] = stranded.ask(10.0)
    assert stranded.asks(KEY, asking)
    assert stranded.free(KEY) == [*_ids(2, 3), MessageId(9, 1)]
    assert KEY not in stranded
    assert stranded.free(KEY) == []


def test_what_waits_no_longer_does_not_ask() -> None:
    stranded = _waiting(2)
    stranded.forget(KEY, MessageId(7, 1))
    assert stranded.ask(10.0) == _ids(2)
    stranded.forget(KEY, MessageId(7, 2))
    assert KEY not in stranded
    assert stranded.ask(20.0) == []


def test_the_others_do_not_wait_for_ever_for_an_answer_to_the_first() -> None:
    stranded = _waiting(2)
    stranded.ask(10.0)
    assert stranded.overdue(10.0 + PATIENCE / 2) == []
    assert stranded.overdue(10.0 + PATIENCE) == [KEY]


def test_targets_of_a_topic_wait_apart_and_are_found_together() -> None:
    stranded = _waiting(1)
    stranded.wait(OTHER, 5, MessageId(7, 9), 0.0)
    assert stranded.keys("nova", "compute") == [KEY, OTHER]
    assert stranded.keys("cinder", "compute") == []
    stranded.hurry()
    assert stranded.ask(0.0) == [MessageId(7, 1), MessageId(7, 9)]
