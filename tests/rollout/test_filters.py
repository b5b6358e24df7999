"""Filters: inventory in, what roles need out."""

import base64
import configparser

import pytest
from ansible.errors import AnsibleFilterError
from oslo_config import cfg

from openstack_zeromq.address import short_name

from .conftest import CHECKOUT, load

filters = load(CHECKOUT / "filter_plugins" / "zeromq.py")
config_files = load(CHECKOUT / "filter_plugins" / "config_files.py")

HOSTVARS = {
    "n1.example.com": {"zeromq_receiver_bind_address": "192.0.2.1"},
    "n2": {"zeromq_receiver_bind_address": "*", "ansible_host": "192.0.2.2", "zeromq_receiver_port": "9601"},
    "n3": {"zeromq_receiver_bind_address": "*", "zeromq_matchmaker_address": "198.51.100.3", "zeromq_receiver_host": "three"},
}
GROUPS = {"computes": ["n3", "n1.example.com"], "controllers": ["n2", "n3"], "empty": []}


def test_endpoints_are_what_peers_connect_to():
    assert filters.endpoints(HOSTVARS, HOSTVARS) == {
        "n1": {"address": "192.0.2.1", "port": 9501},
        "n2": {"address": "192.0.2.2", "port": 9601},
        "three": {"address": "198.51.100.3", "port": 9501},
    }


def test_ring_has_short_names_sorted_and_once():
    topics = {"compute": "computes", "all": ["computes", "controllers"], "none": "empty"}
    assert filters.ring(topics, GROUPS, HOSTVARS) == {"compute": ["n1", "three"], "all": ["n1", "n2", "three"], "none": []}


def test_ring_takes_nodes_beside_groups_as_zmqctl_ring_missing_prints_them():
    groups = {**GROUPS, "zeromq": list(HOSTVARS)}
    topics = {"cinder-volume.n1@lvm": "n1", "neutron-vo-Port-1.11": ["n1", "three"], "all": ["computes", "n2"]}
    assert filters.ring(topics, groups, HOSTVARS) == {
        "cinder-volume.n1@lvm": ["n1"],
        "neutron-vo-Port-1.11": ["n1", "three"],
        "all": ["n1", "n2", "three"],
    }


@pytest.mark.parametrize("name", ["n2", "n2.cloud.example.com", "192.0.2.7", "host@lvm"])
def test_a_short_name_is_the_same_in_the_filters_and_in_the_package(name):
    assert filters.short_name(name) == short_name(name)


def test_ring_leaves_out_who_leaves():
    assert filters.ring({"compute": "computes"}, GROUPS, HOSTVARS, ["n3"]) == {"compute": ["n1"]}


@pytest.mark.parametrize("names", ["three,n1", "three , n1.example.com,", ["n3", "n1"]])
def test_hosts_are_named_as_nodes_or_as_in_the_inventory(names):
    assert filters.named(names, HOSTVARS, HOSTVARS) == ["n1.example.com", "n3"]


def test_name_that_no_host_has_is_refused():
    with pytest.raises(AnsibleFilterError, match=r"has no node n9; add it to the inventory or correct the name \(it has: n1, "):
        filters.named("n1,n9", HOSTVARS, HOSTVARS)


def test_topic_with_a_group_that_is_missing_is_refused():
    with pytest.raises(AnsibleFilterError, match="topic compute names compute, which is no group and no node of the inventory"):
        filters.ring({"compute": "compute"}, GROUPS, HOSTVARS)


@pytest.mark.parametrize("port", ["x", 0, 65536, None])
def test_port_that_is_none_is_refused(port):
    with pytest.raises(AnsibleFilterError, match="must be a number from 1 to 65535"):
        filters.endpoints(["n"], {"n": {"zeromq_receiver_port": port}})


def test_nodes_that_do_not_contradict_each_other_pass():
    assert filters.contradictions(HOSTVARS, HOSTVARS) == []


def test_names_and_addresses_in_common_are_told_with_the_remedy():
    hostvars = {"n1.a": {"zeromq_receiver_bind_address": "192.0.2.1"}, "n1.b": {"zeromq_receiver_bind_address": "192.0.2.1"}}
    assert filters.contradictions(hostvars, hostvars) == [
        "n1.a and n1.b have the node name n1 in common; give each its own zeromq_receiver_host",
        "n1.a and n1.b have the address 192.0.2.1:9501 in common; "
        "give each its own zeromq_receiver_bind_address or zeromq_receiver_port",
    ]


def test_local_nodes_need_directories_of_their_own():
    hostvars = {
        name: {"ansible_connection": "local", "zeromq_receiver_bind_address": address, "zeromq_receiver_ipc_dir": "/run/x"}
        for name, address in (("n1", "127.0.0.1"), ("n2", "127.0.0.2"))
    }
    (told,) = filters.contradictions(hostvars, hostvars)
    assert "the directory of sockets /run/x in common" in told


def test_misspelt_input_is_told_with_the_nearest_name():
    hostvars = {"n1": {"zeromq_receiver_prot": 1, "zeromq_receiver_port": 1, "ansible_host": "x", "__zeromq_receiver_x": 1}}
    assert filters.unknown_inputs(hostvars, hostvars, str(CHECKOUT / "roles")) == [
        "zeromq_receiver_prot: no role has such an input; did you mean zeromq_receiver_port?"
    ]


AWKWARD = {"section": {"b": "50% $HOME $$ ${x}", "a": True, "c": "x,1"}, "other": {"empty": ""}}


NODES = ["n1", "n2", "n3"]


def divided(*asked):
    return "\n".join(filters.divides(*asked))


def looked(**changes):
    return {name: {"__zeromq_receiver_looked": {"security_change": changes.get(name, "")}} for name in NODES}


@pytest.mark.parametrize("serial", ["100%", 3, "3", 7, [3, 1], ["100%"], 0, "100%,1"])
def test_security_may_change_on_all_nodes_at_once(serial):
    assert divided(NODES, looked(n1="none -> curve", n3="none -> curve"), NODES, serial) == ""


@pytest.mark.parametrize(("serial", "first"), [([1, "25%"], 1), ("99%", 2), ("1%", 1), (2, 2), ("1,100%", 1)])
def test_security_that_changes_node_by_node_is_told_with_the_remedy(serial, first):
    assert divided(NODES, looked(n1="none -> curve", n3="none -> curve"), NODES, serial) == (
        f"zmq_security changes (n1: none -> curve, n3: none -> curve), and this run begins with {first} of 3 nodes: one with "
        "keys does not talk to one without, so calls between nodes that have changed and those that have not would fail until "
        "all have. Change all at once, in a quiet hour: site.yml with -e zeromq_deploy_serial=100% and without --limit; calls "
        "between nodes then fail for about a minute"
    )


def test_security_that_changes_on_some_nodes_only_is_told():
    told = divided(NODES, looked(n2="curve -> none"), ["n2"], "100%")
    assert told.startswith("zmq_security changes (n2: curve -> none), and this run has only 1 of 3 nodes: ")


def test_security_that_does_not_change_is_nothing_to_tell():
    assert divided(NODES, looked(), ["n2"], 1) == ""
    assert divided(NODES, {name: {} for name in NODES}, NODES, "what?") == "", "nobody was looked at"


def test_of_many_nodes_that_change_some_are_named():
    hosts = [f"n{number}" for number in range(1, 31)]
    hostvars = {name: {"__zeromq_receiver_looked": {"security_change": "none -> curve"}} for name in hosts}
    assert "(n1: none -> curve, " in (told := divided(hosts, hostvars, hosts, 1))
    assert "n5: none -> curve, and 25 more)" in told


def test_number_of_nodes_at_a_time_that_is_none_is_refused():
    with pytest.raises(AnsibleFilterError, match="zeromq_deploy_serial is 'all': must be a number of nodes, a percentage"):
        divided(NODES, looked(n1="none -> curve"), NODES, "all")


def test_oslo_ini_is_read_back_as_it_was(tmp_path):
    file = tmp_path / "zeromq.conf"
    file.write_text(config_files.oslo_ini(AWKWARD) + "\n")
    conf = cfg.ConfigOpts()
    conf.register_opts([cfg.StrOpt("b"), cfg.BoolOpt("a"), cfg.ListOpt("c")], group="section")
    conf([], default_config_files=[str(file)], default_config_dirs=[])
    assert (conf.section.a, conf.section.b, conf.section.c) == (True, "50% $HOME $$ ${x}", ["x", "1"])


def test_supervisor_ini_is_sorted_and_escaped():
    text = config_files.supervisor_ini(AWKWARD)
    assert text == "[other]\nempty =\n\n[section]\na = true\nb = 50%% $HOME $$ ${x}\nc = x,1"
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert parser["section"]["b"] == "50% $HOME $$ ${x}"


def test_value_of_several_lines_is_refused():
    with pytest.raises(AnsibleFilterError, match="must be one line"):
        config_files.oslo_ini({"s": {"o": "a\n[other]"}})


def test_faults_are_one_list_in_which_each_stands_once():
    hostvars = {
        "n1": {
            "__zeromq_faults": ["the port is taken\nno python", "all have it"],
            "__zeromq_common_faults": ["n1 and n2 are one"],
        },
        "n2": {"__zeromq_faults": ["no python", "all have it", "all have it"]},
        "n3": {"__zeromq_faults": ["all have it"]},
    }
    assert filters.faults(NODES, hostvars, ["n4"]) == [
        "n1 and n2 are one",
        "n1: the port is taken",
        "n1, n2: no python",
        "all have it",
        "n4: cannot be reached; correct its address, start it, or leave it out",
    ]
    assert filters.faults(NODES, {name: {"__zeromq_faults": []} for name in NODES}, []) == []
    assert filters.faults(["n1"], {"n1": {"__zeromq_faults": ["x"]}}, []) == ["n1: x"]


def test_matchmakers_that_would_change_node_by_node_are_told_beside_security():
    found = {"__zeromq_receiver_looked": {"security_change": "none -> curve", "matchmaker_change": "redis -> ring"}}
    told = filters.divides(NODES, dict.fromkeys(NODES, found), NODES, 1)
    assert [sentence.partition(" (")[0] for sentence in told] == ["zmq_security changes", "the matchmaker changes"]
    assert "receivers that follow different stores do not find each other's topics" in told[1]
    assert filters.divides(NODES, dict.fromkeys(NODES, found), NODES, "100%") == []


def test_topics_that_fit_a_pattern_are_not_told():
    assert filters.unmatched(["b", "a", "tmp-1"], ["tmp-*"]) == ["a", "b"]


def answer(*lines, trusted=()):
    """Return what playbooks/revoked.yml registers of a host."""
    content = base64.b64encode("".join(f"{line}\n" for line in lines).encode()).decode()
    return {
        "__zeromq_revoked_file": {"content": content},
        "__zeromq_trusted_files": {"files": [{"path": f"/etc/oslo/zeromq/authorized/{name}.pub"} for name in trusted]},
    }


SILENT = {"__zeromq_revoked_file": {"unreachable": True, "msg": "no route"}}
ABSENT = {"__zeromq_revoked_file": {"failed": False, "msg": "file not found: /etc/oslo/zeromq/revoked"}}
BY_ALL = answer("# NODE KEY: …", "n3 old", trusted=["n1", "n2"])


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        ({"n1": BY_ALL, "n2": BY_ALL, "n3": ABSENT}, {"n3": ["old"]}),
        ({"n1": BY_ALL, "n2": BY_ALL, "n3": SILENT}, {"n3": ["old"]}),
        ({"n1": BY_ALL, "n2.example.com": SILENT, "n3": ABSENT}, {"n3": ["old"]}),
        ({"n1": BY_ALL, "n2": answer("n3 older", "n3 old"), "n3": ABSENT}, {"n3": ["old", "older"]}),
        ({"n1": BY_ALL, "n2": BY_ALL, "n3": answer("n1 a", "n2 b")}, {"n3": ["old"]}),
        ({"n1": ABSENT, "n2": ABSENT, "n3": answer("n1 a", "n2 b")}, {}),
        ({"n1": BY_ALL, "n2": ABSENT, "n3": ABSENT}, {}),
        ({"n1": answer("n3 old", trusted=["n1", "n3"]), "n2": answer("n3 old", trusted=["n3"]), "n3": ABSENT}, {}),
        ({"n1": ABSENT, "n2": ABSENT, "n3": ABSENT}, {}),
        ({"n3": answer("n3 old")}, {}),
    ],
    ids=["all", "it is down", "another is down", "keys", "it says so of others", "one alone", "half", "new key", "none", "limit"],
)
def test_a_node_is_revoked_if_most_of_the_others_refuse_it(hosts, found):
    assert filters.revoked(hosts, hosts) == found


def test_each_topic_that_names_what_is_not_there_has_a_line_and_all_that_nobody_serves_have_one():
    topics = {"a": "computes", "b": "computers", "c": ["controllers", "n9"], "d": "empty", "e": "empty"}
    unknown_group, unknown_host, empty = filters.topic_faults(topics, GROUPS, HOSTVARS)
    assert "topic b names computers, which is no group and no node" in unknown_group
    assert "topic c names n9, which is no group and no node" in unknown_host
    assert "nobody serves d, e;" in empty


def test_a_topic_is_bereft_when_all_of_its_hosts_leave():
    topics = {"compute": "computes", "conductor": "controllers", "nothing": "empty"}
    assert filters.bereft(topics, GROUPS, HOSTVARS, ["n2"]) == []
    assert filters.bereft(topics, GROUPS, HOSTVARS, ["n2", "n3"]) == ["conductor"]
