"""Incoming: one answer for each message, on the consumer's word; nothing twice, nothing forgotten, whoever restarts."""

from typing import Any

import pytest
from messages import FANOUT, ORIGIN, POOL, TOPIC, answers, consumer, handed, incoming, message, resent, said

from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.incoming import Reply
from openstack_zeromq.delivery.past import GRACE
from openstack_zeromq.wire import Answer, Kind, MessageId

ONE, TWO, THREE = consumer(1), consumer(2), consumer(3)
PEER, OTHER = b"peer", b"other"
LATER = GRACE + 0.1
LONG_AGO = -60.0


def _id(sequence: int) -> MessageId:
    return MessageId(ORIGIN, sequence)


# in ordinary times


def test_a_message_is_answered_taken_on_the_consumers_word_and_not_before() -> None:
    node = incoming(started=LONG_AGO)
    node.join(TOPIC, ONE, 1, [], 0.0)
    first = node.arrive(PEER, message(1), 0.1)
    assert (handed(first), answers(first)) == ([(ONE, 1)], [])
    assert answers(node.answered(ONE, said(1), 0.2)) == [(1, Answer.TAKEN)]
    assert node.in_hand == 0


def test_a_message_that_nobody_here_consumes_is_noroute() -> None:
    node = incoming(started=LONG_AGO)
    for kind in (Kind.CALL, Kind.CAST, Kind.FANOUT, Kind.NOTIFY):
        assert answers(node.arrive(PEER, message(1, kind), LATER)) == [(1, Answer.NOROUTE)]
    assert node.in_hand == 0


def test_a_message_that_comes_again_is_not_handed_out_again_and_its_answer_goes_where_it_came_from_last() -> None:
    node = incoming(started=LONG_AGO)
    node.join(TOPIC, ONE, 5, [], 0.0)
    node.arrive(PEER, message(1), LATER)
    assert node.arrive(OTHER, resent(1), LATER) == []
    done = node.answered(ONE, said(1), LATER)
    assert [action.origin for action in done] == [OTHER]
    assert answers(node.arrive(PEER, resent(1), LATER)) == [(1, Answer.TAKEN)]


def test_a_full_queue_is_busy_and_takes_more_once_it_has_room() -> None:
    node = incoming(Bounds(2, 100), started=LONG_AGO)
    node.join(TOPIC, ONE, 1, [], 0.0)
    for sequence in (1, 2, 3):
        assert answers(node.arrive(PEER, message(sequence), 0.0)) == []
    assert answers(node.arrive(PEER, message(4), 0.0)) == [(4, Answer.BUSY)]
    assert handed(node.answered(ONE, said(1), 0.0)) == [(ONE, 2)]
    assert answers(node.arrive(PEER, message(4), 0.0)) == []


def test_a_large_body_fills_a_queue_as_well_as_many_messages_do() -> None:
    node = incoming(Bounds(100, 10), started=LONG_AGO)
    node.join(TOPIC, ONE, 1, [], 0.0)
    for sequence in (1, 2):
        node.arrive(PEER, message(sequence, body=b"12345678"), 0.0)
    assert answers(node.arrive(PEER, message(3, body=b"123"), 0.0)) == [(3, Answer.BUSY)]


def test_what_a_consumer_held_when_it_died_goes_to_another_one_first() -> None:
    node = incoming(started=LONG_AGO)
    node.join(TOPIC, ONE, 2, [], 0.0)
    for sequence in (1, 2, 3):
        node.arrive(PEER, message(sequence), 0.0)
    node.join(TOPIC, TWO, 3, [], 0.0)
    assert handed(node.leave(ONE, 0.0)) == [(TWO, 1), (TWO, 2)]


def test_what_the_last_consumer_held_goes_back_to_its_sender() -> None:
    node = incoming(started=LONG_AGO)
    node.join(TOPIC, ONE, 1, [], 0.0)
    for sequence in (1, 2):
        node.arrive(PEER, message(sequence), 0.0)
    assert answers(node.leave(ONE, 0.0)) == [(1, Answer.NOROUTE), (2, Answer.NOROUTE)]
    assert node.channels == {}
    assert node.in_hand == 0


def test_a_service_that_is_gone_takes_all_its_consumers_with_it_and_nobody_elses() -> None:
    node = incoming(started=LONG_AGO)
    for channel, one in ((TOPIC, consumer(1, 1)), (FANOUT, consumer(1, 2)), (POOL, consumer(2, 1))):
        node.join(channel, one, 1, [], 0.0)
    node.client_gone(1, 0.0)
    assert list(node.channels) == [POOL]


def test_a_consumer_that_drains_gets_nothing_more_but_answers_for_what_it_has() -> None:
    node = incoming(started=LONG_AGO)
    node.join(TOPIC, ONE, 1, [], 0.0)
    for sequence in (1, 2):
        node.arrive(PEER, message(sequence), 0.0)
    assert answers(node.drain(ONE, 0.0)) == [(2, Answer.NOROUTE)]
    assert answers(node.arrive(PEER, message(3), 0.0)) == [(3, Answer.NOROUTE)]
    assert answers(node.answered(ONE, said(1), 0.0)) == [(1, Answer.TAKEN)]


def test_a_message_given_back_is_the_next_to_be_handed_out() -> None:
    node = incoming(started=LONG_AGO)
    node.join(TOPIC, ONE, 1, [], 0.0)
    node.arrive(PEER, message(1, Kind.NOTIFY), 0.0)
    again = node.answered(ONE, said(1, Answer.REQUEUED), 0.0)
    assert (handed(again), answers(again)) == ([(ONE, 1)], [])
    assert answers(node.answered(ONE, said(1), 0.0)) == [(1, Answer.TAKEN)]


def test_a_fanout_is_taken_once_every_listener_has_taken_its_copy() -> None:
    node = incoming(started=LONG_AGO)
    for one in (ONE, TWO):
        node.join(FANOUT, one, 1, [], 0.0)
    assert sorted(handed(node.arrive(PEER, message(1, Kind.FANOUT), 0.0))) == [(ONE, 1), (TWO, 1)]
    assert answers(node.answered(ONE, said(1), 0.0)) == []
    assert answers(node.answered(TWO, said(1), 0.0)) == [(1, Answer.TAKEN)]


def test_a_listener_that_dies_does_not_hold_up_the_fanout_of_the_others() -> None:
    node = incoming(started=LONG_AGO)
    for one in (ONE, TWO):
        node.join(FANOUT, one, 1, [], 0.0)
    node.arrive(PEER, message(1, Kind.FANOUT), 0.0)
    node.answered(ONE, said(1), 0.0)
    assert answers(node.leave(TWO, 0.0)) == [(1, Answer.TAKEN)]


def test_a_notification_goes_to_one_listener_of_the_topic_and_its_copy_to_one_of_the_pool() -> None:
    node = incoming(started=LONG_AGO)
    for channel, one in ((TOPIC, ONE), (TOPIC, TWO), (POOL, THREE)):
        node.join(channel, one, 1, [], 0.0)
    assert handed(node.arrive(PEER, message(1, Kind.NOTIFY), 0.0)) == [(ONE, 1)]
    assert answers(node.answered(ONE, said(1), 0.0)) == [(1, Answer.TAKEN)]
    assert handed(node.arrive(PEER, message(2, Kind.NOTIFY, server="audit"), 0.0)) == [(THREE, 2)]


def test_a_reply_goes_to_the_service_that_called_and_to_nobody_when_that_is_gone() -> None:
    node = incoming(started=LONG_AGO)
    node.client_here(5)
    reply = message(1, Kind.REPLY, client=5)
    assert node.arrive(PEER, reply, LATER) == [Reply(5, reply)]
    assert answers(node.answered((5).to_bytes(8, "big"), said(1), LATER)) == [(1, Answer.TAKEN)]
    node.client_gone(5, LATER)
    assert answers(node.arrive(PEER, message(2, Kind.REPLY, client=5), LATER)) == [(2, Answer.NOROUTE)]


def test_a_message_whose_time_is_up_while_it_waits_is_expired_and_never_handed_out() -> None:
    node = incoming(started=LONG_AGO)
    node.join(TOPIC, ONE, 1, [], 0.0)
    node.arrive(PEER, message(1), 0.0)
    node.arrive(PEER, message(2, ttl_ms=5000), 0.0)
    assert answers(node.tick(6.0)) == [(2, Answer.EXPIRED)]
    assert handed(node.answered(ONE, said(1), 6.0)) == []


def test_thousands_of_messages_that_expired_at_once_are_given_up_one_by_one_without_an_error() -> None:
    node = incoming(started=LONG_AGO)
    node.join(TOPIC, ONE, 1, [], 0.0)
    for sequence in range(1, 5001):
        node.arrive(PEER, message(sequence, ttl_ms=5000), 0.0)
    done = answers(node.answered(ONE, said(1), 6.0))
    assert done[0] == (1, Answer.TAKEN)
    assert sorted(done + answers(node.tick(6.0)))[1:] == [(sequence, Answer.EXPIRED) for sequence in range(2, 5001)]


# after this receiver was started anew


def test_a_resent_message_waits_until_services_had_time_to_say_what_they_have() -> None:
    node = incoming(started=10.0)
    node.join(TOPIC, ONE, 1, [], 10.1)
    assert node.arrive(PEER, resent(1, now=10.2), 10.2) == []
    assert handed(node.tick(10.0 + LATER)) == [(ONE, 1)]


def test_a_message_that_a_consumer_still_works_on_is_not_given_to_another_one() -> None:
    node = incoming()
    node.join(TOPIC, ONE, 0, [_id(1)], 0.1)
    node.join(TOPIC, TWO, 5, [], 0.1)
    node.arrive(PEER, resent(1), 0.2)
    assert handed(node.tick(LATER)) == []
    assert answers(node.answered(ONE, said(1), LATER)) == [(1, Answer.TAKEN)]


def test_a_message_that_was_taken_before_the_restart_is_answered_and_not_handed_out() -> None:
    node = incoming()
    node.join(TOPIC, ONE, 5, [], 0.1)
    before = node.arrive(PEER, resent(1), 0.1)
    answered = [*before, *node.answered(ONE, said(1), 0.2), *node.tick(LATER)]
    assert (handed(answered), answers(answered)) == ([], [(1, Answer.TAKEN)])


@pytest.mark.parametrize("comes_again", [False, True])
def test_a_consumer_has_its_whole_credit_back_once_it_answered_for_what_it_held(comes_again: bool) -> None:
    node = incoming()
    node.join(TOPIC, ONE, 0, [_id(1), _id(2)], 0.1)  # able to hold two, and holds two
    if comes_again:
        for sequence in (1, 2):
            node.arrive(PEER, resent(sequence), 0.2)
        node.tick(LATER)
    for sequence in (1, 2):
        node.answered(ONE, said(sequence), LATER)
    given = [entry for sequence in (3, 4, 5) for entry in handed(node.arrive(PEER, message(sequence), LATER))]
    assert given == [(ONE, 3), (ONE, 4)]


def test_a_message_held_from_before_the_restart_and_given_back_is_handed_out_again() -> None:
    node = incoming()
    node.join(TOPIC, ONE, 1, [_id(1)], 0.1)
    node.answered(ONE, said(1, Answer.REQUEUED), 0.2)
    again = [*node.arrive(PEER, resent(1, Kind.NOTIFY), 0.3), *node.tick(LATER)]
    assert (handed(again), answers(again)) == ([(ONE, 1)], [])


def test_a_reply_to_a_service_that_has_yet_to_find_the_new_receiver_waits_for_it() -> None:
    node = incoming()
    reply = message(1, Kind.REPLY, client=5)
    early = node.arrive(PEER, reply, 0.1)
    assert answers(early) == []
    found: Any = node.client_here(5)
    assert [*(found or []), *node.tick(0.3), *node.tick(LATER)] == [Reply(5, reply)]


def test_a_fanout_that_one_listener_took_before_the_restart_still_reaches_the_others() -> None:
    node = incoming()
    for one in (ONE, TWO):
        node.join(FANOUT, one, 5, [], 0.1)
    node.answered(ONE, said(1), 0.2)
    later = [*node.arrive(PEER, resent(1, Kind.FANOUT), 0.3), *node.tick(LATER)]
    assert (TWO, 1) in handed(later)
    assert answers(later) == []


def test_a_message_that_is_taken_while_it_waits_for_another_consumer_is_not_handed_out_any_more() -> None:
    node = incoming()
    node.join(TOPIC, TWO, 1, [], 0.1)
    node.arrive(PEER, message(1), LATER)
    node.arrive(PEER, resent(2), LATER)  # waits; consumer ONE took it from the receiver before, and joins late
    node.join(TOPIC, ONE, 0, [], LATER)
    assert answers(node.answered(ONE, said(2), LATER)) == [(2, Answer.TAKEN)]
    assert handed(node.answered(TWO, said(1), LATER)) == []


def test_the_last_service_that_was_here_before_ends_the_wait() -> None:
    node = incoming(expected=[1, 2])
    node.join(TOPIC, ONE, 5, [], 0.1)
    node.arrive(PEER, resent(1), 0.1)
    assert handed(node.client_settled(1, 0.2)) == []
    assert handed(node.client_settled(2, 0.3)) == [(ONE, 1)]


def test_a_first_start_waits_for_nobody() -> None:
    node = incoming(expected=[])
    node.join(TOPIC, ONE, 5, [], 0.0)
    assert handed(node.arrive(PEER, resent(1), 0.0)) == [(ONE, 1)]


def test_a_copy_of_a_refused_round_is_refused_although_somebody_listens_now() -> None:
    """Its sender has turned to another host; a copy of a later round means that it came back."""
    node = incoming(started=LONG_AGO)
    assert answers(node.arrive(PEER, message(1), 0.0, 1)) == [(1, Answer.NOROUTE)]
    node.join(TOPIC, ONE, 5, [], 0.1)
    assert answers(node.arrive(PEER, resent(1), 0.2, 1)) == [(1, Answer.NOROUTE)]
    assert handed(node.arrive(PEER, message(1), 0.3, 3)) == [(ONE, 1)]


# joining again


def test_a_consumer_that_joins_again_still_answers_for_what_it_held() -> None:
    node = incoming()
    node.join(TOPIC, ONE, 2, [], 0.0)
    node.arrive(PEER, message(1), LATER)
    node.join(TOPIC, ONE, 1, [_id(1)], LATER)
    assert node.channels[TOPIC].depth == 1
    node.join(TOPIC, TWO, 5, [], LATER)
    assert handed(node.leave(ONE, LATER)) == [(TWO, 1)]


def test_joining_twice_does_not_change_a_consumers_credit() -> None:
    node = incoming()
    node.join(TOPIC, ONE, 2, [], 0.0)
    node.arrive(PEER, message(1), LATER)
    node.join(TOPIC, ONE, 1, [_id(1)], LATER)
    node.answered(ONE, said(1), LATER)
    given: list[Any] = [entry for sequence in (2, 3, 4) for entry in handed(node.arrive(PEER, message(sequence), LATER))]
    assert given == [(ONE, 2), (ONE, 3)]


def test_what_a_consumer_says_again_it_took_does_not_count_for_another_copy() -> None:
    node = incoming()
    for one in (ONE, TWO):
        node.join(FANOUT, one, 5, [], 0.0)
    node.arrive(PEER, message(1, Kind.FANOUT), LATER)
    assert answers(node.answered(ONE, said(1), LATER)) == []
    assert answers(node.answered(ONE, said(1), LATER)) == []
    assert answers(node.answered(TWO, said(1), LATER)) == [(1, Answer.TAKEN)]


# bounds


def test_what_is_kept_back_after_a_start_is_bounded_like_everything_else() -> None:
    node = incoming(Bounds(10, 1000))
    node.join(TOPIC, ONE, 1, [], 0.1)
    refused = [entry for sequence in range(1, 101) for entry in answers(node.arrive(PEER, resent(sequence), 0.2))]
    assert node.in_hand <= 11
    assert {answer for _, answer in refused} == {Answer.BUSY}


def test_a_full_listener_does_not_lose_its_copy_of_a_fanout() -> None:
    node = incoming(Bounds(1, 1000))
    node.join(FANOUT, ONE, 5, [], 0.0)
    node.join(FANOUT, TWO, 1, [], 0.0)
    copies: list[tuple[bytes, int]] = []
    for sequence in (1, 2, 3):
        arrived = node.arrive(PEER, message(sequence, Kind.FANOUT), LATER)
        copies += handed(arrived)
        if (sequence, Answer.BUSY) not in answers(arrived):
            copies += handed(node.answered(ONE, said(sequence), LATER))
    for sequence in (1, 2, 3):
        copies += handed(node.answered(TWO, said(sequence), LATER))
        copies += handed(node.arrive(PEER, resent(3, Kind.FANOUT), LATER))
    assert {(TWO, 1), (TWO, 2), (TWO, 3)} <= set(copies)
