"""Module matchmaker_ring: what each state makes of the ring that is there, and what it refuses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openstack_zeromq.catalog import edit, shape
from openstack_zeromq.catalog.disk import Disk
from openstack_zeromq.catalog.shape import Held, Published
from openstack_zeromq.matchmaker.holding import Mark, Why
from openstack_zeromq.matchmaker.ring_file import Endpoint

from .conftest import CHECKOUT, load

matchmaker_ring = load(CHECKOUT / "library" / "matchmaker_ring.py")

RING = {
    "topics": {"compute": ["c2", "c1"], "empty": []},
    "hosts": {"c1": {"address": "192.0.2.1", "port": 9501}, "c2": {"address": "192.0.2.2", "port": 9501}},
}
FIVE = {"compute": ["c1", "c2", "c3", "c4", "c5"], "compute:odd": ["c1"]}


@pytest.fixture
def ring(tmp_path):
    return tmp_path / "etc" / "ring.json"


@pytest.fixture
def publish(run_module, ring):
    """Run the module in check mode and then for real; both must tell the same."""
    ring.parent.mkdir()

    def publish(**arguments):
        before = contents(ring)
        told = run_module(matchmaker_ring, check=True, path=str(ring), **arguments)
        assert contents(ring) == before, "check mode writes nothing"
        done = run_module(matchmaker_ring, path=str(ring), **arguments)
        for what in ("changed", "diff", "changes", "topics", "sha256", "msg"):
            assert told.get(what) == done.get(what)
        assert done.get("failed") or done["changed"] == (contents(ring) != before)
        return done

    return publish


def contents(ring):
    return {path.name: path.read_bytes() for path in sorted(ring.parent.iterdir())}


def topics(ring):
    return json.loads(ring.read_bytes())


class TestExact:
    def test_ring_is_what_is_said_and_a_second_run_changes_nothing(self, publish, ring):
        made = publish(state="exact", **RING)
        assert made["changed"]
        assert topics(ring) == made["topics"] == {"compute": ["c1", "c2"]}
        assert made["changes"] == {"compute": {"added": ["c1", "c2"], "removed": []}}
        again = publish(state="exact", **RING)
        assert not again["changed"]
        assert again["diff"] == []
        assert again["sha256"] == made["sha256"]

    def test_side_car_names_the_ring_it_belongs_to(self, publish, ring):
        made = publish(state="exact", **RING)
        assert json.loads((ring.parent / "ring.meta.json").read_bytes())["sha256"] == made["sha256"]

    def test_new_address_changes_the_side_car_alone(self, publish):
        publish(state="exact", **RING)
        moved = {"c1": {"address": "192.0.2.9", "port": 9501}}
        told = publish(state="exact", **{**RING, "hosts": moved})
        assert [diff["after_header"].rpartition("/")[2] for diff in told["diff"]] == ["ring.meta.json"]

    def test_the_same_ring_is_the_same_bytes_however_it_came_about(self, publish, ring):
        publish(state="exact", **RING)
        once = contents(ring)
        publish(state="exact", topics={"compute": ["c1", "c2", "c3"], "other": ["c3"]}, hosts=RING["hosts"])
        publish(state="exact", **RING)
        assert contents(ring) == once

    def test_what_is_no_ring_is_replaced(self, publish, ring):
        ring.write_bytes(b"{")
        assert publish(state="exact", **RING)["changed"]
        assert topics(ring) == {"compute": ["c1", "c2"]}

    def test_data_that_is_no_ring_is_refused(self, publish, ring):
        assert "compute" in publish(state="exact", topics={"compute": ["c1", ""]})["msg"]
        assert "must be a list" in publish(state="exact", topics={"compute": "c1"})["msg"]
        assert "c1 has no address" in publish(state="exact", topics={}, hosts={"c1": {"port": 1}})["msg"]
        assert "a number from 1 to 65535" in publish(state="exact", hosts={"c1": {"address": "x", "port": "http"}})["msg"]
        assert not list(ring.parent.iterdir())


class TestPresent:
    def test_hosts_come_in_besides_what_is_there(self, publish, ring):
        publish(state="exact", **RING)
        told = publish(topics={"compute": ["c3"], "new": ["c1"]}, hosts={"c3": {"address": "192.0.2.3"}})
        assert told["changes"] == {"compute": {"added": ["c3"], "removed": []}, "new": {"added": ["c1"], "removed": []}}
        assert topics(ring) == {"compute": ["c1", "c2", "c3"], "new": ["c1"]}
        known = Disk(ring).read().hosts
        assert known == {
            "c1": Endpoint("192.0.2.1", 9501),
            "c2": Endpoint("192.0.2.2", 9501),
            "c3": Endpoint("192.0.2.3"),
        }
        assert not publish(topics={"compute": ["c3"]})["changed"]

    def test_first_ring_can_be_made_so(self, publish, ring):
        assert publish(topics={"compute": ["c1"]})["changed"]
        assert topics(ring) == {"compute": ["c1"]}

    @pytest.mark.parametrize("side_car", [None, b"{", b'{"sha256": "of another ring", "hosts": {}, "source": "x"}'])
    def test_side_car_that_is_missing_or_of_another_ring_is_written_anew(self, publish, ring, side_car):
        publish(state="exact", **RING)
        meta = ring.parent / "ring.meta.json"
        meta.unlink() if side_car is None else meta.write_bytes(side_car)
        publish(topics={"compute": ["c3"]}, hosts={"c3": {"address": "192.0.2.3"}})
        assert topics(ring) == {"compute": ["c1", "c2", "c3"]}
        assert Disk(ring).read().hosts == {"c3": Endpoint("192.0.2.3")}

    def test_nothing_is_added_to_what_is_no_ring(self, publish, ring):
        ring.write_bytes(b"{")
        assert "write it with state=exact" in publish(topics={"compute": ["c1"]})["msg"]
        assert ring.read_bytes() == b"{"


class TestAbsent:
    def test_hosts_leave_a_topic_and_its_servers(self, publish, ring):
        publish(state="exact", topics={**FIVE, "other": ["c1"]})
        told = publish(state="absent", topics={"compute": ["c1"]})
        assert told["changes"]["compute"] == {"added": [], "removed": ["c1"]}
        assert topics(ring) == {"compute": ["c2", "c3", "c4", "c5"], "other": ["c1"]}
        assert not publish(state="absent", topics={"compute": ["c1"]})["changed"]

    def test_a_host_that_is_gone_is_in_no_topic_and_forgotten(self, publish, ring):
        publish(state="exact", topics={**FIVE, "other": ["c1"]}, hosts=RING["hosts"])
        publish(state="absent", hosts_gone=["c1"])
        assert topics(ring) == {"compute": ["c2", "c3", "c4", "c5"]}
        assert Disk(ring).read().hosts == {"c2": Endpoint("192.0.2.2", 9501)}
        assert not publish(state="absent", hosts_gone=["c1"])["changed"]

    def test_where_there_is_no_ring_nobody_has_to_leave(self, publish, ring):
        assert not publish(state="absent", hosts_gone=["c1"])["changed"]
        assert not list(ring.parent.iterdir())

    def test_it_says_when_nobody_is_named(self, publish):
        assert "nobody is to leave" in publish(state="absent")["msg"]
        assert "use state=absent" in publish(hosts_gone=["c1"])["msg"]

    def test_a_topic_without_hosts_is_refused(self, publish):
        publish(state="exact", **RING)
        assert "'other' names no host that is to leave it" in publish(state="absent", topics={"other": []})["msg"]


class TestRemoved:
    def test_both_files_go(self, publish, ring):
        publish(state="exact", **RING)
        told = publish(state="removed")
        assert told["changed"]
        assert told["sha256"] == ""
        assert not list(ring.parent.iterdir())
        assert not publish(state="removed")["changed"]


class TestFloor:
    @pytest.mark.parametrize(
        "arguments",
        [
            {"state": "absent", "hosts_gone": ["c1", "c2", "c3"]},
            {"state": "absent", "topics": {"compute": ["c1", "c2", "c3"]}},
            {"state": "exact", "topics": {"compute": ["c4"]}},
            {"state": "exact", "topics": {}},
        ],
    )
    def test_a_topic_that_would_lose_too_many_is_named_with_the_remedy(self, publish, ring, arguments):
        publish(state="exact", topics=FIVE)
        told = publish(**arguments)
        assert "looks like an accident: compute would lose c1, c2, c3" in told["msg"]
        assert "floor=1" in told["msg"]
        assert len(topics(ring)["compute"]) == 5
        assert publish(**arguments, floor=1)["changed"]

    def test_two_hosts_may_go_whatever_their_share(self, publish, ring):
        publish(state="exact", topics={"compute": ["c1", "c2"]})
        assert publish(state="absent", hosts_gone=["c1", "c2"])["changed"]
        assert topics(ring) == {}

    def test_floor_is_a_share(self, publish):
        assert "must be a share from 0 to 1" in publish(topics={"compute": ["c1"]}, floor=50)["msg"]


class TestWhatASyncRemembers:
    SYNCED = Published(
        ring={"compute": ("c1", "c2", "c3"), "scheduler": ("s1",)},
        hosts={"c1": Endpoint("192.0.2.1", 9501)},
        servers={"compute": {"c1.example.com": ("c1",), "c2.example.com": ("c2",)}},
        source="consul 127.0.0.1:8500",
        generation=7,
        held={
            "compute": Held(("c1", "c2"), Why.EMPTY.value, 1000),
            "scheduler": Held(("s1",), Why.EMPTY.value, 1000),
        },
        marks={"compute": Mark("epoch", 42)},
    )

    @pytest.fixture
    def synced(self, publish, ring):
        Disk(ring).write(self.SYNCED, None)
        return publish

    def test_it_survives_for_every_host_that_stays(self, synced, ring):
        synced(topics={"compute": ["c4"]})
        left = Disk(ring).read()
        assert left.held == self.SYNCED.held
        assert left.marks == self.SYNCED.marks
        assert left.servers == self.SYNCED.servers
        assert (left.source, left.generation) == ("ansible", 8)

    def test_it_goes_with_the_hosts_that_go(self, synced, ring):
        synced(state="absent", hosts_gone=["c1", "s1"])
        left = Disk(ring).read()
        assert left.held == {"compute": Held(("c2",), Why.EMPTY.value, 1000)}
        assert left.servers == {"compute": {"c2.example.com": ("c2",)}}

    def test_an_exact_ring_keeps_what_is_held_of_it(self, synced, ring):
        synced(state="exact", topics={"compute": ["c1", "c9"]})
        assert Disk(ring).read().held == {"compute": Held(("c1",), Why.EMPTY.value, 1000)}

    def test_a_run_that_has_nothing_to_add_leaves_the_files_alone(self, synced):
        assert not synced(topics={"compute": ["c1"]})["changed"]
        assert not synced(state="absent", hosts_gone=["c9"])["changed"]


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])
RINGS = st.dictionaries(
    st.sampled_from(["compute", "compute:odd", "scheduler", "x.y"]), st.sets(NAMES, min_size=1).map(sorted), max_size=4
)
FRESH = st.sampled_from(["n1", "n2", "n3", "n4"])
ADDED = st.dictionaries(st.sampled_from(["compute", "scheduler", "new"]), st.sets(FRESH, min_size=1).map(sorted), max_size=3)


def published(ring):
    return edit.exact(shape.NOTHING, ring, {"a": Endpoint("192.0.2.1")}, "test")


@given(RINGS, ADDED)
def test_hosts_that_came_and_left_again_leave_the_ring_as_it_was(ring, added):
    before = published(ring)
    more = edit.present(before, added, {}, "test")
    assert {key: set(hosts) for key, hosts in more.ring.items()} == {
        key: {*ring.get(key, ()), *added.get(key, ())} for key in {*ring, *added}
    }
    assert edit.absent(more, added, (), "test").says() == before.says()
    assert edit.absent(more, {}, {"n1", "n2", "n3", "n4"}, "test").says() == before.says()


@given(RINGS, RINGS, st.sets(NAMES), st.floats(0, 1))
def test_no_list_is_ever_empty_and_the_floor_is_kept(ring, said, gone, floor):
    before = published(ring)
    for after in (edit.exact(before, said, {}, "t"), edit.present(before, said, {}, "t"), edit.absent(before, said, gone, "t")):
        data, meta = shape.render(after)
        assert shape.parse(data, meta).says() == after.says()
        assert all(after.ring.values())
        few = {change.key for change in edit.losses(before.ring, after.ring, floor)}
        for key, hosts in before.ring.items():
            lost = len(set(hosts) - set(after.ring.get(key, ())))
            assert (key in few) == (lost > 2 and lost > floor * len(hosts))


@given(RINGS)
def test_the_same_said_twice_is_said_once(ring):
    once = edit.present(shape.NOTHING, ring, {}, "t")
    assert edit.present(once, ring, {}, "t") is once
    assert edit.losses(once.ring, {}, 1) == []
