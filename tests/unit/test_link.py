"""Link: how soon a peer counts as there, as away, and as worth another try."""

import pytest

from openstack_zeromq.delivery.link import CONNECT_WITHIN, Dial, Link, LinkDown, LinkState, LinkUp, Ping

HEARTBEAT, REDIAL = 2.0, 5.0
DIAL, PING, UP, DOWN = Dial("b"), Ping("b"), LinkUp("b"), LinkDown("b")


@pytest.fixture
def link() -> Link:
    made = Link("b", 0.0, HEARTBEAT, REDIAL, lambda: 1.0)
    assert made.open(0.0) == [DIAL, PING]
    return made


def test_who_does_not_answer_at_once_is_away_and_dialled_again(link: Link) -> None:
    assert link.tick(CONNECT_WITHIN - 0.1) == []
    assert link.tick(CONNECT_WITHIN) == [DOWN]
    assert link.tick(HEARTBEAT) == [PING]
    assert link.tick(REDIAL) == [DIAL, PING]
    assert link.tick(2 * REDIAL) == [DIAL, PING]
    assert link.pong(7, 2 * REDIAL + 0.1) == [UP]


def test_who_misses_three_heartbeats_is_away(link: Link) -> None:
    assert link.pong(7, 0.1) == [UP]
    for beat in (1, 2):
        assert link.tick(beat * HEARTBEAT) == [PING]
    assert link.tick(0.1 + 3 * HEARTBEAT) == [DOWN, DIAL, PING]


def test_a_link_that_is_dialled_anew_is_not_down_for_a_moment(link: Link) -> None:
    """Else what would rather fail than wait would fail; what was on its way is sent again when the peer answers."""
    link.pong(7, 0.1)
    assert link.redial_now(3.0) == [DIAL, PING]
    assert link.state is LinkState.CONNECTING
    assert link.tick(3.0 + CONNECT_WITHIN - 0.1) == []
    assert link.redialled(3.9) == [PING], "with another key, say"
    assert link.tick(3.0 + CONNECT_WITHIN) == []
    assert link.pong(7, 4.1) == [UP]
    assert link.redialled(5.0) == [PING]
    assert link.tick(5.0 + CONNECT_WITHIN) == [DOWN]


def test_a_link_that_was_down_is_so_until_the_peer_answers(link: Link) -> None:
    link.tick(CONNECT_WITHIN)
    assert link.redialled(2.0) == [PING]
    assert link.state is LinkState.DOWN
    assert link.pong(7, 2.1) == [UP]


def test_a_peer_that_is_not_to_be_talked_to_is_away_at_once(link: Link) -> None:
    link.pong(7, 0.1)
    assert link.cut(1.0) == [DOWN]
    assert link.cut(1.1) == []
