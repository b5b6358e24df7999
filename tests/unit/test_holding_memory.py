"""Holding over a restart, and one reason after another: a hold is neither forgotten nor cut short."""

from openstack_zeromq.matchmaker.base import Member
from openstack_zeromq.matchmaker.holding import Holding, Known, Mark, Reading, Rules, Why

TEN = {f"c{number}": Member() for number in range(10)}
ONE = {"c0": Member()}


def _shrunk(now: float) -> Holding:
    holding = Holding(Rules())
    holding.read(Reading("compute", TEN), now)
    holding.read(Reading("compute", ONE), now)
    assert holding.held["compute"].why is Why.SHRINK
    return holding


def test_the_first_host_that_comes_back_after_a_long_emptiness_does_not_drop_the_others() -> None:
    holding = Holding(Rules(shrink_hold=60))
    holding.read(Reading("compute", TEN), 0)
    holding.read(Reading("compute", {}), 1)
    holding.read(Reading("compute", ONE), 1000)
    assert holding.topics["compute"] == TEN
    assert not holding.tick(1059)
    assert holding.tick(1061)
    assert holding.topics["compute"] == ONE


def test_a_shrink_that_is_held_ends_when_it_would_have_ended_without_the_restart() -> None:
    known = _shrunk(0).known["compute"]
    again = Holding(Rules(), {"compute": known})
    assert not again.tick(100), "what the store has not said again is not judged"
    again = Holding(Rules(), {"compute": known})
    assert not again.read(Reading("compute", ONE), 30)
    assert again.held["compute"] == known.held
    assert again.tick(60)
    assert again.topics["compute"] == ONE


def test_a_warm_up_goes_on_after_a_restart() -> None:
    holding = Holding(Rules(warm_up=60), {"compute": Known(TEN, Mark("", 100))})
    holding.read(Reading("compute", {}, Mark("", 1)), 0)
    assert holding.held["compute"].why is Why.WARM_UP
    again = Holding(Rules(warm_up=60), holding.known)
    again.read(Reading("compute", ONE, Mark("", 2)), 30)
    assert (again.held["compute"].why, again.held["compute"].until) == (Why.WARM_UP, 60)


def test_what_was_held_before_a_restart_can_be_released_once_the_store_has_answered() -> None:
    holding = Holding(Rules(), {"compute": Known(ONE, Mark())})
    holding.read(Reading("compute", {}), 0)
    again = Holding(Rules(), holding.known)
    assert not again.release("compute")
    again.read(Reading("compute", {}), 10)
    assert again.release("compute")
    assert again.topics["compute"] == {}
