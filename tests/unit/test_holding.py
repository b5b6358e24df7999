"""holding: whatever a store says, nobody is lost by accident, and everybody who comes is found."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from openstack_zeromq.matchmaker.base import Member, Members
from openstack_zeromq.matchmaker.holding import Holding, Known, Mark, Reading, Rules, Why

RULES = Rules(warm_up=60.0, shrink_hold=60.0, outage=20.0, allow_empty=frozenset({"scratch"}))


def members(*hosts: str) -> Members:
    return {host: Member() for host in hosts}


def read(holding: Holding, now: float, *hosts: str, topic: str = "compute", generation: int = 1, **more: Any) -> bool:
    mark = Mark(more.pop("epoch", "e"), generation)
    return holding.read(Reading(topic, members(*hosts), mark, **more), now)


def hosts(holding: Holding, topic: str = "compute") -> tuple[str, ...]:
    return tuple(sorted(holding.topics.get(topic, {})))


def test_additions_and_small_losses_are_believed_at_once() -> None:
    holding = Holding(RULES)
    assert read(holding, 0, "a", "b", "c")
    assert read(holding, 1, "a", "b", "c", "d")
    assert not read(holding, 2, "a", "b", "c", "d")
    assert read(holding, 3, "a", "b")
    assert (hosts(holding), holding.held) == (("a", "b"), {})


def test_that_nobody_serves_a_topic_is_news_once() -> None:
    holding = Holding(RULES)
    assert read(holding, 0)
    assert not read(holding, 1)
    assert holding.topics == {"compute": {}}


def test_a_topic_without_any_host_is_held_until_a_host_comes() -> None:
    holding = Holding(RULES)
    read(holding, 0, "a", "b")
    assert not read(holding, 1)
    assert holding.held["compute"].why is Why.EMPTY
    assert not holding.tick(1_000_000)
    assert hosts(holding) == ("a", "b")
    assert read(holding, 1_000_001, "c")
    assert (hosts(holding), holding.held) == (("c",), {})


def test_a_topic_that_may_be_empty_is_believed_to_be() -> None:
    holding = Holding(RULES)
    read(holding, 0, "a", topic="scratch")
    assert read(holding, 1, topic="scratch")
    assert hosts(holding, "scratch") == ()


def test_who_says_goodbye_is_believed_even_if_nobody_is_left() -> None:
    holding = Holding(RULES)
    read(holding, 0, "a", "b", "c", "d")
    assert read(holding, 1, left={"a", "b", "c", "d"})
    assert (hosts(holding), holding.held) == ((), {})


def test_a_loss_of_more_than_half_is_held_for_a_while_then_believed() -> None:
    holding = Holding(RULES)
    read(holding, 0, *"abcdef")
    read(holding, 10, "a")
    assert holding.held["compute"].why is Why.SHRINK
    read(holding, 50, "a", generation=2)
    assert not holding.tick(69.9)
    assert hosts(holding) == tuple("abcdef")
    assert holding.tick(70)
    assert (hosts(holding), holding.held) == (("a",), {})


def test_a_loss_in_many_small_steps_is_held_like_one() -> None:
    holding = Holding(RULES)
    everybody = [f"c{number:03}" for number in range(300)]
    read(holding, 0, *everybody)
    for step in range(1, 30):
        read(holding, step, *everybody[step * 10 :], generation=step + 1)
    assert len(hosts(holding)) >= 150
    assert holding.held["compute"].why is Why.SHRINK
    holding.tick(200)
    assert hosts(holding) == tuple(everybody[290:])


def test_a_store_that_was_away_all_the_time_since_the_start_takes_nobody_away() -> None:
    holding = Holding(RULES, {"compute": Known(members("a", "b"), Mark("e", 5))})
    holding.failed()
    holding.answers(5)
    read(holding, 5, "a", generation=9)
    assert hosts(holding) == ("a", "b")


def test_a_loss_that_heals_was_none() -> None:
    holding = Holding(RULES)
    read(holding, 0, *"abcdef")
    read(holding, 10, "a")
    assert not read(holding, 20, *"abcdef")
    assert holding.held == {}
    assert not holding.tick(1_000)


@pytest.mark.parametrize("mark", [{"generation": 4}, {"generation": 9, "epoch": "another"}])
def test_a_store_that_went_back_takes_nobody_away_for_a_minute_but_adds(mark: dict[str, Any]) -> None:
    holding = Holding(RULES)
    read(holding, 0, "a", "b", generation=5)
    read(holding, 10, "c", **mark)
    assert hosts(holding) == ("a", "b", "c")
    assert holding.held["compute"].why is Why.WARM_UP
    assert holding.tick(70)
    assert hosts(holding) == ("c",)


def test_a_wiped_store_is_held_for_ever_when_nobody_comes_back() -> None:
    holding = Holding(RULES)
    read(holding, 0, "a", generation=5)
    read(holding, 10, generation=0, epoch="")
    holding.tick(1_000)
    assert hosts(holding) == ("a",)
    assert holding.held["compute"].why is Why.EMPTY


def test_after_a_long_outage_nobody_is_lost_who_had_no_chance_to_say_that_he_is_there() -> None:
    holding = Holding(RULES)
    holding.answers(0)
    read(holding, 0, "a", "b")
    holding.failed()
    holding.answers(21)
    read(holding, 21, "a", generation=3)
    assert hosts(holding) == ("a", "b")
    holding.tick(81)
    assert hosts(holding) == ("a",)


def test_a_store_that_refuses_registrations_takes_nobody_away_but_who_says_so_now() -> None:
    holding = Holding(RULES)
    read(holding, 0, "a", "b", "c")
    holding.refused(10)
    read(holding, 20, "a", "c", whole=False)
    assert hosts(holding) == ("a", "b", "c")
    read(holding, 30, "a", left={"c"}, whole=False)
    assert hosts(holding) == ("a", "b")
    holding.tick(70)
    assert hosts(holding) == ("a",)


def test_a_goodbye_in_what_was_restored_is_not_believed() -> None:
    holding = Holding(RULES)
    read(holding, 0, "a", generation=9)
    read(holding, 10, generation=5, left={"a"})
    read(holding, 11, generation=6, left={"a"})
    assert hosts(holding) == ("a",)


def test_after_a_short_outage_losses_are_believed() -> None:
    holding = Holding(RULES)
    holding.answers(0)
    read(holding, 0, "a", "b")
    holding.failed()
    holding.answers(19)
    read(holding, 19, "a", generation=3)
    assert hosts(holding) == ("a",)


def test_without_its_canary_a_store_is_not_believed() -> None:
    holding = Holding(RULES)
    read(holding, 0, "a", "b")
    holding.canary(False, 1)
    read(holding, 2, "b", "c")
    assert hosts(holding) == ("a", "b", "c")
    assert holding.held["compute"].why is Why.CANARY
    assert holding.canary(True, 3)
    assert hosts(holding) == ("b", "c")


def test_an_operator_releases_what_is_held() -> None:
    holding = Holding(RULES)
    read(holding, 0, "a")
    assert not holding.release("compute")
    read(holding, 1)
    assert holding.release("compute")
    assert (hosts(holding), holding.held) == ((), {})


def test_what_was_known_before_a_restart_is_stale_until_the_store_says_it_and_is_held_like_anything_else() -> None:
    holding = Holding(RULES, {"compute": Known(members("a", "b"), Mark("e", 5)), "volume": Known(members("a"), Mark("e", 5))})
    assert holding.stale == ["compute", "volume"]
    read(holding, 0, "a", "c", generation=3)
    assert (hosts(holding), holding.stale) == (("a", "b", "c"), ["volume"])
    assert not holding.release("volume"), "the store has not said anything that could be believed"


HOSTS = st.frozensets(st.sampled_from("abcdefgh"))
TOPICS = st.sampled_from(["compute", "volume"])


class AnyStore(RuleBasedStateMachine):
    """A store that says anything at any time, in any order."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.holding = Holding(RULES)
        self.generation = 1
        self.offered: dict[str, frozenset[str]] = {}

    @rule(topic=TOPICS, offered=HOSTS, left=HOSTS, step=st.integers(-3, 3), whole=st.booleans())
    def says(self, topic: str, offered: frozenset[str], left: frozenset[str], step: int, whole: bool) -> None:
        self.generation = max(0, self.generation + step)
        before = set(self.holding.topics.get(topic, {}))
        self.offered[topic] = offered
        self.holding.read(Reading(topic, members(*offered), Mark("e", self.generation), left, whole), self.now)
        if whole and self.holding.warming_up(self.now):
            left = frozenset()  # a store that went back repeats goodbyes of long ago
        after = set(self.holding.topics[topic])
        assert offered <= after, "who comes is found at once"
        assert after <= before | offered, "nobody is made up"
        assert not (left - offered) & after, "who says goodbye is believed"
        if before - left and not offered:
            assert after == before - left, "no table becomes empty by itself"

    @rule(there=st.booleans())
    def canary(self, there: bool) -> None:
        self.holding.canary(there, self.now)

    @rule(seconds=st.floats(0, 200))
    def waits(self, seconds: float) -> None:
        self.now += seconds
        self.holding.tick(self.now)

    @rule()
    def fails(self) -> None:
        self.holding.failed()

    @rule()
    def answers(self) -> None:
        self.holding.answers(self.now)

    @rule(topic=TOPICS)
    def released(self, topic: str) -> None:
        if self.holding.release(topic):
            assert set(self.holding.topics[topic]) == self.offered[topic]

    @invariant()
    def what_is_believed_is_what_is_offered_and_what_is_held(self) -> None:
        for topic, offered in getattr(self, "offered", {}).items():
            held = self.holding.held.get(topic)
            assert set(self.holding.topics[topic]) == offered | set(held.hosts if held else ())

    @invariant()
    def only_what_has_a_reason_is_held_for_ever(self) -> None:
        for topic, held in self.holding.held.items() if hasattr(self, "holding") else ():
            if held.until is None:
                assert held.why is Why.CANARY or not self.offered[topic]
            else:
                assert held.until <= self.now + RULES.warm_up


TestAnyStore = AnyStore.TestCase


@given(HOSTS, HOSTS)
def test_a_store_that_stays_as_it_is_is_believed_in_the_end_unless_it_is_empty(
    before: frozenset[str], after: frozenset[str]
) -> None:
    holding = Holding(RULES)
    read(holding, 0, *before)
    read(holding, 1, *after, generation=2)
    holding.tick(1_000)
    assert set(hosts(holding)) == (after or before)
