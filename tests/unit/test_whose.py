"""Whose numbers, and who may reply: what a node that was taken over must not get by with."""

from hypothesis import given
from hypothesis import strategies as st

from openstack_zeromq.delivery.asked import Asked
from openstack_zeromq.delivery.origin import RANDOM_BITS, is_of, origin, sibling
from openstack_zeromq.wire import Answer, AnswerEntry, MessageId

CALL = MessageId(7, 1)
RANDOM = st.integers(0, 2**RANDOM_BITS - 1)


@given(RANDOM, st.text(max_size=40))
def test_an_origin_and_its_siblings_are_of_their_node_and_of_no_other(random: int, name: str) -> None:
    mine = origin("n1", random)
    assert is_of(mine, "n1")
    assert is_of(sibling(mine, name), "n1")
    assert sibling(sibling(mine, name), name) == mine
    assert not is_of(mine, "n2")
    assert 0 <= mine < 2**64


@given(RANDOM, RANDOM)
def test_two_streams_of_a_node_have_two_origins(one: int, other: int) -> None:
    assert (origin("n1", one) == origin("n1", other)) == (one == other)


def _told(host: str, call: MessageId = CALL) -> AnswerEntry:
    return AnswerEntry(call, Answer.ACCEPTED, host)


def test_only_those_that_a_call_was_given_to_may_reply() -> None:
    asked = Asked()
    asked.posted(CALL)
    assert not asked.may_reply(CALL, "n1"), "it has gone to nobody yet"
    asked.told(_told(""))
    assert not asked.may_reply(CALL, "n1")
    asked.told(_told("n1"))
    assert asked.may_reply(CALL, "n1")
    assert not asked.may_reply(CALL, "n2")
    asked.told(_told("n2"))
    assert asked.may_reply(CALL, "n1"), "perhaps it had begun"
    assert asked.may_reply(CALL, "n2")
    asked.forget(CALL)
    assert not asked.may_reply(CALL, "n1")


def test_what_a_receiver_that_died_did_not_tell_may_be_anybody() -> None:
    asked, known = Asked(), MessageId(7, 2)
    asked.posted(CALL)
    asked.posted(known)
    asked.told(_told("n1", known))
    asked.receiver_changed()
    assert asked.may_reply(CALL, "n3")
    assert not asked.may_reply(known, "n3")
    asked.told(_told("n2"))
    assert asked.may_reply(CALL, "n3"), "it may have been there first"


def test_only_calls_are_remembered() -> None:
    asked = Asked()
    asked.told(_told("n1"))
    assert not asked.may_reply(CALL, "n1")
