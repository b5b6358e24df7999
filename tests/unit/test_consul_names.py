"""Names and instances in Consul: what is written can be read, and nothing that others write breaks the reader."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openstack_zeromq import address
from openstack_zeromq.errors import MalformedError
from openstack_zeromq.matchmaker.base import Member
from openstack_zeromq.matchmaker.consul.instances import VALUE_BYTES, instances, servers_meta, told
from openstack_zeromq.matchmaker.consul.names import escape, instance_id, unescape

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(NAMES)
def test_an_escaped_name_is_safe_in_a_url_and_comes_back(name: str) -> None:
    escaped = escape(name)
    assert unescape(escaped) == name
    assert escaped.isascii()
    assert all(letter.isalnum() or letter in "_.-~" for letter in escaped)
    assert not escaped.startswith(".")


@given(NAMES)
def test_a_name_that_nobody_escaped_is_refused_or_is_just_itself(name: str) -> None:
    try:
        found = unescape(name)
    except MalformedError:
        return
    assert escape(found) == name


@given(NAMES, NAMES)
def test_ids_that_differ_differ_also_for_a_catalog_that_does_not_mind_the_case(one: str, other: str) -> None:
    for service in (one, one.swapcase(), other):
        same = instance_id("f", service, "h").lower() == instance_id("f", one, "h").lower()
        assert same == (service == one)


def _entry(meta: dict[str, str], status: str = "passing", **service: Any) -> dict[str, Any]:
    return {
        "Node": {"Node": "c1.example.com", "Address": "10.0.0.1"},
        "Service": {"Service": "compute", "Address": "", "Port": 8774, "Meta": meta, **service},
        "Checks": [{"Status": "passing"}, {"Status": status}],
    }


def _told(*entries: Any, accept_warning: bool = True) -> Any:
    garbage: list[str] = []
    return told(instances(list(entries), "compute", "f", accept_warning, garbage.append)), garbage


@given(st.sets(NAMES.map(address.compact), max_size=80))
def test_servers_are_read_as_they_were_written_within_the_limits_of_meta(servers: set[str]) -> None:
    meta = servers_meta(frozenset(servers))
    assert all(len(value.encode()) <= VALUE_BYTES for value in meta.values())
    (found, left), garbage = _told(_entry({"zmq_host": "c1", **meta}))
    assert found["c1"].servers == tuple(sorted(servers - {"c1"}))
    assert (left, garbage) == (frozenset(), [])


def test_more_servers_than_meta_has_room_for_leave_room_for_other_entries() -> None:
    assert len(servers_meta(frozenset(f"{number:045}" for number in range(5000)))) < 60


def test_a_port_of_somebody_else_is_not_the_receivers() -> None:
    assert _told(_entry({}))[0].members == {"c1": Member("10.0.0.1", None)}
    assert _told(_entry({"zmq_host": "c1"}))[0].members == {"c1": Member("10.0.0.1", 8774)}
    assert _told(_entry({"zmq_port": "9501"}))[0].members == {"c1": Member("10.0.0.1", 9501)}


def test_a_host_with_two_instances_is_there_when_one_is_and_has_the_servers_of_both() -> None:
    other = _entry({"zmq_host": "c1", "zmq_servers": "a"})
    assert _told(_entry({"zmq_servers": '["b"]'}), other)[0].members == {"c1": Member("10.0.0.1", 8774, ("a", "b"))}
    assert "c1" in _told(_entry({}, "critical"), other)[0].members


def test_who_left_is_no_member_and_is_not_missed_unless_another_instance_is_there() -> None:
    left = _entry({"zmq_host": "c1", "zmq_left": "1"}, "critical")
    assert _told(left)[0] == ({}, {"c1"})
    assert _told(left, _entry({}))[0].left == frozenset()


@pytest.mark.parametrize(("status", "accepted", "there"), [("warning", True, 1), ("warning", False, 0), ("critical", True, 0)])
def test_the_worst_check_decides(status: str, accepted: bool, there: int) -> None:
    assert len(_told(_entry({}, status), accept_warning=accepted)[0].members) == there


def test_other_fabrics_and_services_that_differ_in_case_are_not_ours() -> None:
    found, garbage = _told(_entry({"zmq_fabric": "g"}), _entry({}, Service="Compute"))
    assert (dict(found.members), garbage) == ({}, [])


@given(
    st.lists(
        JSON | st.builds(_entry, st.dictionaries(st.sampled_from(["zmq_host", "zmq_port", "zmq_servers"]), JSON)), max_size=4
    )
)
def test_no_answer_breaks_the_reader(content: Any) -> None:
    (members, _), _ = _told(*content)
    assert all(isinstance(host, str) and isinstance(member, Member) for host, member in members.items())
