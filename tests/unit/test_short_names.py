"""Short and full names of one host meet, and two machines that share a short name are never taken for one."""

import re
from pathlib import Path
from typing import Any

import pytest

from openstack_zeromq.address import short_name
from openstack_zeromq.catalog.nodes import nodes
from openstack_zeromq.matchmaker.base import Matchmaker, Member, Topic, View
from openstack_zeromq.matchmaker.consul.instances import instances, told
from openstack_zeromq.matchmaker.ring_file import Endpoint

FULL = "n2.cloud.example.com"
ROOT = Path(__file__).parents[2]
SHORTENS = re.compile(r"""(?:partition|split)\(['"]\.['"](?:, 1)?\) ?(?:\[0\]|\| ?first)""")
"""How a name is shortened on the spot, in Python and in templates."""


class Fixed(Matchmaker):
    """Knows what it was given."""

    def __init__(self, hosts: tuple[str, ...], endpoints: tuple[str, ...] = (), servers: tuple[str, ...] = ()) -> None:
        members = {host: Member(servers=servers if host == hosts[0] else ()) for host in hosts}
        self.view = View({"compute": Topic.of(members)}, {host: Endpoint("192.0.2.1") for host in endpoints}, complete=True)

    def refresh(self) -> bool:
        return False

    @property
    def problem(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("name", "short"),
    [("n2", "n2"), (FULL, "n2"), ("192.0.2.7", "192.0.2.7"), ("2001:db8::1", "2001:db8::1"), ("host@lvm", "host@lvm")],
)
def test_a_name_is_short_before_its_first_dot_and_an_address_stays(name: str, short: str) -> None:
    assert short_name(name) == short


@pytest.mark.parametrize("where", ["members", "endpoints"])
def test_a_server_with_a_full_name_is_asked_for_first_at_the_node_with_the_short_one_and_the_other_way_round(where: str) -> None:
    def knowing(node: str) -> Matchmaker:
        return Fixed(("n1", "n3", *([node] if where == "members" else [])), (node,) if where == "endpoints" else ())

    assert knowing("n2").directed("compute", FULL)[0] == "n2"  # type: ignore[index]
    assert knowing(FULL).directed("compute", "n2")[0] == FULL  # type: ignore[index]
    assert set(knowing("n2").directed("compute", FULL) or ()) == {"n1", "n2", "n3"}


def test_a_directed_call_needs_no_entry_in_the_ring_for_the_full_name() -> None:
    assert Fixed(("n1",), ("n1", "n2")).directed("nothing", FULL) == ("n2",)


def test_where_two_nodes_share_a_short_name_both_are_asked_and_a_full_name_means_one() -> None:
    both = Fixed(("n2.east.example.com", "n2.west.example.com"))
    assert both.directed("compute", "n2") == ("n2.east.example.com", "n2.west.example.com")
    assert both.directed("compute", "n2.west.example.com") == ("n2.west.example.com",)
    assert both.directed("compute", "n2.north.example.com") == ("n2.east.example.com", "n2.west.example.com")


def test_what_the_store_says_of_a_server_counts_more_than_its_name() -> None:
    assert Fixed(("n1", "n2"), servers=(FULL,)).directed("compute", FULL) == ("n1",)


def _entry(node: str, **meta: str) -> dict[str, Any]:
    service = {"Service": "compute", "Meta": meta, "Address": "", "Port": 0}
    return {"Node": {"Node": node, "Address": "192.0.2.1"}, "Service": service, "Checks": [{"Status": "passing"}]}


def test_two_machines_with_one_short_name_are_refused_as_instances_of_consul_and_others_are_not() -> None:
    garbage: list[str] = []
    content = [_entry("n2.east.example.com"), _entry("n2.west.example.com"), _entry("n3"), _entry("agent", zmq_host="n4")]
    found = told(instances(content, "compute", "f", False, garbage.append))
    assert sorted(found.members) == ["n3", "n4"]
    assert len(garbage) == 1
    assert "n2.east.example.com, n2.west.example.com would all be host n2" in garbage[0]


def test_one_machine_with_several_instances_is_one_host() -> None:
    found = told(instances([_entry(FULL), _entry(FULL), _entry("agent", zmq_host="n2")], "compute", "f", False, pytest.fail))
    assert sorted(found.members) == ["n2"]


def test_two_machines_with_one_short_name_are_refused_as_nodes_of_consul() -> None:
    garbage: list[str] = []
    content = [
        {"Node": name, "Address": "192.0.2.1", "Meta": {}} for name in ("n2.east.example.com", "n2.west.example.com", "n3")
    ]
    assert sorted(nodes(content, {}, garbage.append).members) == ["n3"]
    assert len(garbage) == 1


def test_names_are_shortened_in_one_place() -> None:
    """And in the filters, which do without the package; a test of theirs sees that both do the same."""
    folders = [ROOT / name for name in ("openstack_zeromq", "library", "filter_plugins", "roles", "playbooks", "tools")]
    sources = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".yml", ".j2"}]
    others = [str(path.relative_to(ROOT)) for path in sources if SHORTENS.search(path.read_text())]
    assert others == []
    assert SHORTENS.search("host.partition('.')[0]")
