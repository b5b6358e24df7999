"""The precheck playbook: refuses what cannot work before anything is written, and names the remedy."""

import socket
import sys

import pytest
import yaml
from fabric import eventually

from openstack_zeromq.cli import probe

from .conftest import CHECKOUT


@pytest.fixture
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("r") / "l"


@pytest.fixture
def precheck(playbook, root, tmp_path):
    """Run the precheck on three nodes with addresses of their own; `hosts` overrides variables of single ones."""

    def run(hosts=None, arguments=(), **variables):
        overrides = {f"node{n}": {"zeromq_receiver_bind_address": f"127.0.0.{30 + n}"} for n in (1, 2, 3)}
        for host, facts in (hosts or {}).items():
            overrides.setdefault(host, {}).update(facts)
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"zeromq": {"hosts": overrides}}))
        values = {"zeromq_local_root": str(root), **variables}
        return playbook(
            *("--inventory", "inventories/local", "--inventory", inventory),
            *("--extra-vars", yaml.safe_dump(values, default_flow_style=True, width=10_000)),
            *arguments,
            "playbooks/precheck.yml",
        )

    return run


def assert_refused(done, root, message):
    assert done.returncode != 0, done.stdout
    said = " ".join((done.stdout + done.stderr).split())
    assert message in said, said
    assert not root.exists(), "nothing may be written"


def test_good_input_passes_and_writes_nothing(precheck, root):
    done = precheck()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 nodes were looked at, and nothing was found that cannot work" in " ".join(done.stdout.split())
    assert "PLAY [Refuse what cannot work]" in done.stdout
    assert "changed=0" in done.stdout
    assert not root.exists()


def test_each_fault_is_printed_once_and_without_what_ansible_says_around_it(precheck, root):
    done = precheck(hosts={"node1": {"zeromq_receiver_port": 99999}}, zeromq_matchmaker_backend="rign")
    assert_refused(done, root, "value of zeromq_matchmaker_backend must be one of")
    assert done.stdout.count("FAILED!") == 1, done.stdout
    assert done.stdout.count("zeromq_receiver_port of node1 is 99999: must be a number from 1 to 65535") == 1, done.stdout
    assert "filter plugin" not in done.stdout


# What test_all_faults_of_all_nodes_are_told_at_once has not; a fault may hide others that are looked for after it.
@pytest.mark.parametrize(
    ("hosts", "variables", "messages"),
    [
        (
            {
                "node1": {"zeromq_reciever_port": 9502},
                "node2": {"zeromq_receiver_bind_address": "127.0.0.31"},
                "node3": {"zeromq_services": [{"name": "nova", "unit": "nova-api"}]},
            },
            {
                "zeromq_receiver_extra_options": {"DEFAULT": "debug"},
                "zeromq_matchmaker_extra_options": '{"DEFAULT": {"debug": "true"}}',
                "zeromq_matchmaker_topics": {"t": "nobody", "u": [], "zmq-probe": "zeromq"},
            },
            [
                "zeromq_reciever_port: no role has such an input; did you mean zeromq_receiver_port?",
                "have the address 127.0.0.31:9501 in common; give each its own zeromq_receiver_bind_address",
                "zeromq_services of node3: unit is no input of role zeromq_service; it has name, state,",
                "zeromq_receiver_extra_options must be section -> option -> value; on the command line as JSON",
                "zeromq_matchmaker_extra_options must be section -> option -> value",
                "names nobody, which is no group and no node of the inventory; add it",
                "nobody serves u; put hosts into the group",
                "zeromq_matchmaker_topics lacks zmq-probe-notifications.info, so that no verification could reach the probes",
            ],
        ),
        (
            {"node1": {"zeromq_receiver_port": "http"}},
            {"zeromq_receiver_security": "rot13", "zeromq_local_root": "/" + "x" * 80},
            [
                "zeromq_receiver_port of node1 is 'http': must be a number",
                "value of zeromq_receiver_security must be one of: curve, none, got: rot13",
            ],
        ),
        ({}, {"zeromq_local_root": "/" + "x" * 80}, ["-e zeromq_local_root=/short/dir"]),
    ],
    ids=["nodes and topics", "values", "directory"],
)
def test_what_cannot_work_is_refused(precheck, root, hosts, variables, messages):
    done = precheck(hosts, **variables)
    for message in messages:
        assert_refused(done, root, message)


def test_a_redis_of_ours_has_a_password_and_receivers_have_the_same(precheck, root, tmp_path):
    (tmp_path / "redis.yml").write_text("zeromq_redis: {hosts: {node1: }}")
    asked = {"arguments": ("--inventory", tmp_path / "redis.yml"), "zeromq_matchmaker_backend": "redis"}
    assert_refused(precheck(**asked), root, "zeromq_redis_password is empty")
    two = {"zeromq_redis_password": "a", "zeromq_matchmaker_redis_password": "b"}
    assert_refused(precheck(**asked, **two), root, "zeromq_matchmaker_redis_password is another password than that of the Redis")


def test_all_faults_of_all_nodes_are_told_at_once(precheck, root, tmp_path):
    (tmp_path / "nova.conf").write_text("")
    services = [
        {"name": "glance", "config_files": ["/nowhere/glance.conf"], "units": ["no-such-glance"], "user": "no-such-user"},
        {"name": "nova", "config_files": [str(tmp_path / "nova.conf")], "units": ["no-such-unit.service"]},
    ]
    done = precheck(
        {
            "node2": {"zeromq_services": services, "zeromq_receiver_host": "node1"},
            "node3": {"zeromq_receiver_python": "/nowhere/python3", "zeromq_receiver_bind_address": "192.0.2.1"},
        },
        zeromq_matchmaker_backend="redis",
        zeromq_matchmaker_redis_host="127.0.0.1",
        zeromq_matchmaker_redis_port=1,
        zeromq_matchmaker_timeout=1,
        zeromq_matchmaker_fabric="a b",
        zeromq_probe_calls=0,
    )
    assert_refused(done, root, "node1 and node2 have the node name node1 in common")
    last = " ".join(done.stdout.rpartition("TASK [Everything can work]")[2].split())
    for fault in (
        "node1 and node2 have the node name node1 in common; give each its own zeromq_receiver_host",
        "node3: zeromq_receiver_python /nowhere/python3: No such file or directory; "
        "set zeromq_receiver_python to one of 3.11 or newer",
        "node3: zeromq_receiver_bind_address 192.0.2.1: Cannot assign requested address; use an address of this machine",
        "zeromq_matchmaker_fabric must be 1 to 40 letters, digits or any of . _ - (is a b)",
        "redis at 127.0.0.1:1 does not answer within 1 s (Connection refused): start it, open its port, or correct",
        "zeromq_probe_calls must be more than 0 (is 0)",
        "node2: /nowhere/glance.conf is not on node2: install glance first, correct zeromq_service_config_files, or take",
        "node2: no-such-user is no user on node2: install glance first, or correct zeromq_service_user",
        "node2: no-such-glance.service is no unit on node2: install glance first",
        "node2: no-such-unit.service is no unit on node2: install nova first, or correct zeromq_service_units",
    ):
        assert last.count(fault) == 1, (fault, last)


def test_topics_that_services_listen_to_and_the_ring_would_lack_are_refused(precheck, root, tmp_path, make_fabric):
    """Also when the ring takes the place of a store: what a service listens to was registered there by itself."""
    fabric = make_fabric(nodes=1)
    for topic in ("compute", "tmp-1"):
        fabric.server("n1", topic, object())
    eventually(lambda: {"compute", "tmp-1"} <= {row["topic"] for row in fabric.status("n1")["channels"].values()})
    config = root / "node1" / "etc" / "zeromq.conf"
    config.parent.mkdir(parents=True)
    config.write_text(fabric.config_file("n1").read_text())
    asked = {"zeromq_receiver_venv": sys.prefix, "zeromq_receiver_security": fabric.status("n1")["security"]["mode"]}
    done = precheck(**asked, zeromq_matchmaker_unlisted_topics=["tmp-*"])
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "node1: services of this node listen to compute, which the ring would lack, so that bare and fanout messages" in said
    topics = {"zmq-probe": "zeromq", "zmq-probe-notifications.info": "zeromq", "compute": "zeromq"}
    done = precheck(**asked, zeromq_matchmaker_unlisted_topics=["tmp-*"], zeromq_matchmaker_topics=topics)
    assert done.returncode == 0, done.stdout


def test_port_of_a_foreign_process_is_refused(precheck, root):
    with socket.create_server(("127.0.0.32", 0)) as taken:
        port = taken.getsockname()[1]
        done = precheck({"node2": {"zeromq_receiver_port": port}})
    assert_refused(done, root, f"zeromq_receiver_port {port} on 127.0.0.32: process ")


def test_file_in_the_way_of_a_directory_is_refused(precheck, root):
    root.write_text("")
    done = precheck()
    assert done.returncode != 0
    assert "is in the way, it is no directory; remove it" in done.stdout + done.stderr
    root.unlink()


@pytest.fixture
def settled(precheck, root):
    """Run the precheck where each node has a configuration with a `zmq_security`, its own, and none runs."""

    def run(*security, **asked):
        for number, word in enumerate(security, 1):
            config = root / f"node{number}" / "etc" / "zeromq.conf"
            config.parent.mkdir(parents=True, exist_ok=True)
            config.write_text(f"[oslo_messaging_zmq]\nrpc_zmq_ipc_dir = {config.parents[1] / 'run'}\n{word}\n")
        before = tree(root)
        done = precheck(zeromq_receiver_venv=sys.prefix, **asked)
        assert tree(root) == before, "nothing may be written"
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run


def tree(root):
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


NONE, CURVE, UNSAID = "zmq_security = none", "zmq_security = curve", ""
ALL_CHANGE = "zmq_security changes (node1: none -> curve, node2: none -> curve, node3: none -> curve), and this run "
REMEDY = "site.yml with -e zeromq_deploy_serial=100% and without --limit; calls between nodes then fail for about a minute"


@pytest.mark.parametrize(
    ("now", "asked", "message"),
    [
        ((NONE, NONE, NONE), {}, ALL_CHANGE + "begins with 1 of 3 nodes: "),
        ((NONE, NONE, NONE), {"arguments": ("--check",)}, ALL_CHANGE + "begins with 1 of 3 nodes: "),
        ((NONE, NONE, NONE), {"zeromq_deploy_serial": "50%"}, ALL_CHANGE + "begins with 1 of 3 nodes: "),
        (
            (NONE, NONE, NONE),
            {"zeromq_deploy_serial": "100%", "arguments": ("--limit", "node2,node3")},
            "zmq_security changes (node2: none -> curve, node3: none -> curve), and this run has only 2 of 3 nodes: ",
        ),
        (
            (UNSAID, CURVE, NONE),
            {"zeromq_receiver_security": "none"},
            "zmq_security changes (node1: curve -> none, node2: curve -> none), and this run begins with 1 of 3 nodes: ",
        ),
        (
            (CURVE + "\nrpc_zmq_matchmaker = dummy",) * 2,
            {},
            "the matchmaker changes (node1: dummy -> ring, node2: dummy -> ring), and this run begins with 1 of 3 nodes: ",
        ),
        (
            (CURVE, CURVE),
            {"zeromq_matchmaker_extra_options": {"oslo_messaging_zmq": {"zmq_security": "none"}}},
            "zmq_security changes (node1: curve -> none, node2: curve -> none), and this run begins with 1 of 3 nodes: ",
        ),
    ],
    ids=["rolling", "check", "half", "limit", "back", "matchmaker", "further options"],
)
def test_security_that_would_not_change_on_all_nodes_at_once_is_refused(settled, now, asked, message):
    returncode, said = settled(*now, **asked)
    assert returncode != 0, said
    assert message in said, said
    assert REMEDY in said, said


@pytest.mark.parametrize(
    ("now", "asked"),
    [
        ((NONE, NONE, NONE), {"zeromq_deploy_serial": "100%"}),
        ((CURVE, UNSAID), {}),
        ((CURVE, UNSAID), {"arguments": ("--limit", "node3")}),
        ((NONE, NONE, NONE), {"zeromq_receiver_security": "none", "arguments": ("--limit", "node2")}),
    ],
    ids=["at once", "same", "new node", "limit"],
)
def test_security_that_changes_on_all_nodes_or_on_none_is_fine(settled, now, asked):
    returncode, said = settled(*now, **asked)
    assert returncode == 0, said


@pytest.mark.parametrize(
    ("name", "variable"),
    [("roll", "zeromq_deploy_serial"), ("rotate_keys", "zeromq_deploy_serial"), ("services", "zeromq_services_serial")],
)
def test_how_many_nodes_come_at_a_time_may_stand_in_the_inventory(playbook, tmp_path, name, variable):
    """Ansible reads a play's `serial` without the variables of any host; the precheck judges by those."""
    (roll,) = [play for play in yaml.safe_load((CHECKOUT / "playbooks" / f"{name}.yml").read_text()) if "serial" in play]
    show = {"name": "Show", "ansible.builtin.debug": {"msg": "batch {{ ansible_play_batch | join(' ') }}"}, "run_once": True}
    before = {"hosts": "zeromq", "gather_facts": False, "tasks": [{"ansible.builtin.meta": "noop"}]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([before, {**before, "serial": roll["serial"], "tasks": [show]}]))

    def batches(*arguments, **variables):
        zeromq = {"hosts": {"n1": {}, "n2": {}, "n3": {}}, "vars": {"ansible_connection": "local", **variables}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"zeromq": zeromq}))
        done = playbook("--inventory", tmp_path / "hosts.yml", *arguments, tmp_path / "play.yml")
        assert done.returncode == 0, done.stdout + done.stderr
        return [line.partition("batch ")[2].strip('"') for line in done.stdout.splitlines() if "batch " in line]

    assert batches() == ["n1", "n2", "n3"]
    assert batches(**{variable: "100%"}) == ["n1 n2 n3"]
    assert batches(**{variable: [2, 1]}) == ["n1 n2", "n3"]
    assert batches("-e", f"{variable}=100%", **{variable: 1}) == ["n1 n2 n3"]
    default = "default([1, '25%'])"
    assert default in roll["serial"]
    assert default in (CHECKOUT / "playbooks" / "precheck.yml").read_text(), "the two mean the same"


def test_the_probes_topics_are_those_of_the_package():
    vars_ = yaml.safe_load((CHECKOUT / "roles" / "zeromq_probe" / "vars" / "main.yml").read_text())
    assert vars_["__zeromq_probe_topics"] == [probe.TOPIC, f"{probe.NOTIFICATION_TOPIC}.info"]
