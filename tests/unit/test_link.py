"""Link: how soon a peer counts as there, as away, and as worth another try."""

import itertools

import pytest

from openstack_zeromq.delivery.link import (
    CONNECT_WITHIN,
    REFUSED_FIRST,
    Dial,
    Link,
    LinkAction,
    LinkDown,
    LinkState,
    LinkUp,
    Ping,
)

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
    assert link.cut("revoked", 1.0) == [DOWN]
    assert link.cut("revoked", 1.1) == []


def _dials(actions: list[LinkAction]) -> bool:
    """Actions are tuples: those of another kind for the same host are equal."""
    return any(isinstance(action, Dial) for action in actions)


def test_a_refused_handshake_is_a_failed_dial_and_the_next_one_comes_later_each_time(link: Link) -> None:
    """Before: 400 dials in 10 s at a wrong address, with 5 s asked for between two."""
    now, dials, step = 0.0, [], 0.01
    link.refused("it has another key", now)
    while now < 60.0:
        now += step
        if _dials(link.tick(now)):
            dials.append(now)
            link.refused("it has another key", now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(dials)]
    assert dials[0] == pytest.approx(REFUSED_FIRST, abs=2 * step)
    assert gaps[:5] == pytest.approx([REFUSED_FIRST * 2**number for number in range(1, 6)], abs=2 * step)
    assert all(gap == pytest.approx(REDIAL, abs=2 * step) for gap in gaps[6:])
    assert link.state is LinkState.DOWN
    assert (link.why, link.since) == ("it has another key", pytest.approx(CONNECT_WITHIN, abs=2 * step))
    assert link.pong(7, 60.1) == [UP]
    assert (link.why, link.since) == ("", 60.1)
    link.refused("the connection was closed", 61.0)
    assert _dials(link.tick(61.0 + REFUSED_FIRST)), "the count of refusals began anew"


def test_a_peer_that_refuses_for_a_moment_is_not_away(link: Link) -> None:
    """It was killed in the handshake, and is back; what would rather fail than wait need not."""
    link.pong(7, 0.1)
    assert link.refused("the connection was closed", 1.0) == []
    assert link.state is LinkState.CONNECTING
    assert link.tick(1.0 + REFUSED_FIRST) == [DIAL, PING]
    assert link.pong(8, 1.2) == [UP]


def test_why_a_link_is_down_is_known(link: Link) -> None:
    link.cannot_dial("no key of it here")
    link.tick(CONNECT_WITHIN)
    assert (link.state, link.why, link.since) == (LinkState.DOWN, "no key of it here", CONNECT_WITHIN)
    link.pong(7, 2.0)
    link.tick(2.0 + 3 * HEARTBEAT)
    assert (link.state, link.why) == (LinkState.DOWN, "no answer to 3 pings")
