"""The pure half of the catalog: when to write, what changed, and a ring that forgets nothing it needs to know again."""

import dataclasses

from catalog_views import HOSTS, VIEWS
from hypothesis import given
from hypothesis import strategies as st
from icehouse import Reader

from openstack_zeromq.catalog import shape
from openstack_zeromq.catalog.changes import Change, changes, topics
from openstack_zeromq.catalog.quiescence import Quiescence
from openstack_zeromq.catalog.shape import Held, Published
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.base import Member, Members
from openstack_zeromq.matchmaker.holding import Held as Hold
from openstack_zeromq.matchmaker.holding import Holding, Known, Mark, Reading, Rules, Why
from openstack_zeromq.matchmaker.ring_file import Endpoint

TIMES = st.floats(0, 20, allow_nan=False)
RINGS = st.dictionaries(st.text(max_size=5), st.lists(HOSTS, min_size=1, max_size=4, unique=True), max_size=4)


# quiescence


@given(st.lists(TIMES, min_size=1), st.floats(0, 5), st.floats(0, 15))
def test_what_changes_is_written_when_it_is_quiet_and_never_too_late(gaps: list[float], quiet_for: float, at_most: float) -> None:
    quiescence = Quiescence(quiet_for, at_most)
    now, first, last = 0.0, None, 0.0
    for gap in gaps:
        due = quiescence.due
        if due is not None and due <= now + gap:
            assert first is not None
            assert due == min(last + quiet_for, first + at_most)
            assert quiescence.is_due(due)
            quiescence.written()
            first = None
        now += gap
        quiescence.changed(now)
        first, last = now if first is None else first, now
        assert quiescence.due is not None, "a change is never forgotten"
        assert now <= quiescence.due <= first + at_most or quiescence.due == first + at_most


def test_with_no_quiet_asked_for_a_change_is_due_at_once_and_only_once() -> None:
    quiescence = Quiescence(0, 10)
    assert not quiescence.is_due(100)
    quiescence.changed(100)
    assert quiescence.is_due(100)
    quiescence.written()
    assert quiescence.due is None


# changes


@given(RINGS, RINGS)
def test_the_changes_turn_one_ring_into_the_other_and_back(before: dict[str, list[str]], after: dict[str, list[str]]) -> None:
    found = changes(before, after)
    ring = {key: set(hosts) for key, hosts in before.items()}
    for change in found:
        ring[change.key] = ring.get(change.key, set()) - set(change.removed) | set(change.added)
    assert {key: hosts for key, hosts in ring.items() if hosts} == {key: set(hosts) for key, hosts in after.items()}
    assert [Change(key, removed, added) for key, added, removed in found] == changes(after, before)


@given(RINGS)
def test_a_ring_does_not_differ_from_itself(ring: dict[str, list[str]]) -> None:
    assert changes(ring, ring) == []


def test_the_keys_of_a_topic_are_one_topic_that_changed() -> None:
    found = changes({"volume": ["v1"]}, {"volume": ["v2"], "volume:v2@lvm": ["v2"], "compute": ["c1"]})
    assert topics(found) == ["compute", "volume"]


# shape


@given(VIEWS)
def test_a_ring_remembers_all_that_it_needs_to_be_written_again(view: dict[str, Members]) -> None:
    published, _ = shape.shape(view)
    ring, meta = shape.render(published)
    read = shape.parse(ring, meta)
    assert read.says() == published.says()
    remembered = shape.memory(read, view)
    again, garbage = shape.shape({topic: remembered[topic].members if topic in remembered else {} for topic in view})
    assert garbage == []
    assert shape.render(again) == (ring, meta)


@given(VIEWS, VIEWS)
def test_topics_that_are_not_asked_for_stay_as_they_are(kept: dict[str, Members], view: dict[str, Members]) -> None:
    before, _ = shape.shape(kept)
    after, _ = shape.shape(view, before)
    alone, _ = shape.shape(view)
    for key, hosts in before.ring.items():
        if shape.topic_of(key) not in view:
            assert after.ring[key] == hosts
    assert {key: hosts for key, hosts in after.ring.items() if shape.topic_of(key) in view} == alone.ring
    assert set(after.hosts) <= {host for hosts in after.ring.values() for host in hosts}


@given(VIEWS, VIEWS)
def test_a_side_car_counts_for_its_ring_and_for_the_one_it_replaces(old: dict[str, Members], new: dict[str, Members]) -> None:
    before, after = shape.shape(old)[0], shape.shape(new)[0]
    ring_before, _ = shape.render(before)
    ring_after, meta = shape.render(after, ring_before, before.hosts)
    assert ring_file.parse_meta(meta, ring_after) == after.hosts
    if ring_before != ring_after:
        known = ring_file.parse_meta(meta, ring_before)
        assert set(before.hosts) <= set(known)
    assert ring_file.parse_meta(meta, b"another ring") == {}


def test_a_host_that_is_none_is_left_out_and_said() -> None:
    published, garbage = shape.shape({"compute": {"c1": Member(), "c 2": Member(), "": Member(), "a/b": Member()}})
    assert published.ring == {"compute": ("c1",)}
    assert len(garbage) == 3


def test_who_knows_a_hosts_port_is_believed() -> None:
    view = {"a": {"c1": Member("10.0.0.1")}, "b": {"c1": Member("10.0.0.2", 9501)}, "c": {"c1": Member("10.0.0.3")}}
    assert shape.shape(view)[0].hosts == {"c1": Endpoint("10.0.0.2", 9501)}


def test_what_is_held_is_remembered_in_the_clock_of_the_next_process() -> None:
    held = Held(("c1",), Why.SHRINK.value, since=1000, until=1060)
    published = Published({"compute": ("c1", "c2")}, held={"compute": held}, marks={"compute": Mark("e", 7)})
    assert shape.parse(*shape.render(published)).held == {"compute": held}
    remembered = shape.memory(published, ["compute"], now=40.0, offset=-980.0)["compute"]
    assert remembered == Known({"c1": Member(), "c2": Member()}, Mark("e", 7), Hold(Why.SHRINK, ("c1",), 20.0, 80.0))
    assert shape.holds({"compute": remembered.held}, ["compute"], -980.0, {}) == {"compute": held}


def test_a_clock_that_was_put_back_makes_no_hold_longer() -> None:
    published = Published({"compute": ("c1",)}, held={"compute": Held(("c1",), Why.SHRINK.value, since=5000, until=5060)})
    assert shape.memory(published, ["compute"], now=40.0, offset=-980.0)["compute"].held == Hold(Why.SHRINK, ("c1",), 40.0, 100.0)


def test_times_and_counts_alone_are_worth_no_write() -> None:
    one = Published({"a": ("x",)}, held={"a": Held(("x",), Why.EMPTY.value, 1)}, marks={"a": Mark("", 1)}, problem="this")
    other = dataclasses.replace(
        one, generation=9, marks={"a": Mark("", 2)}, held={"a": Held(("x",), Why.EMPTY.value, 2)}, problem="that"
    )
    assert one.says() == other.says()
    for change in ({"problem": ""}, {"held": {}}, {"ring": {}}, {"hosts": {"x": Endpoint("1.1.1.1")}}, {"source": "s"}):
        assert dataclasses.replace(one, **change).says() != one.says()


def test_a_side_car_that_ansible_made_is_understood() -> None:
    ring = ring_file.render({"a": ["x"]})
    meta = ring_file.render_meta(ring, {"x": {"address": "10.0.0.1", "port": 9501}}, "ansible")
    assert shape.parse(ring, meta) == Published({"a": ("x",)}, {"x": Endpoint("10.0.0.1", 9501)}, source="ansible")


# all of it together


@given(st.lists(st.tuples(VIEWS, st.booleans()), min_size=1, max_size=6))
def test_whatever_a_store_says_old_readers_can_live_with_the_ring_and_no_topic_that_had_a_host_loses_its_last(
    said: list[tuple[dict[str, Members], bool]],
) -> None:
    asked = ["compute", "notes.info", "cinder-volume"]
    on_disk, holding = Published(), Holding(Rules())
    for now, (view, restarted) in enumerate(said):
        if restarted:
            holding = Holding(Rules(), shape.memory(on_disk, asked, now, 0.0))
        for topic in asked:
            good = {host: member for host, member in view.get(topic, {}).items() if shape.is_host(host)}
            holding.read(Reading(topic, good), now)
        after, _ = shape.shape(holding.topics, on_disk)
        after = dataclasses.replace(after, held=shape.holds(holding.held, asked, 0.0, on_disk.held))
        ring, meta = shape.render(after, shape.render(on_disk)[0], on_disk.hosts)
        Reader(ring)
        for topic in asked:
            assert topic in after.ring or topic not in on_disk.ring
        on_disk = shape.parse(ring, meta)
        assert on_disk.says() == after.says()
