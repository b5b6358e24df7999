"""What an operator risks when he restarts, upgrades or resizes a fabric under load: nothing.

The load, TRAFFIC_CASTS casts (100) and TRAFFIC_CALLS calls (20) a second, is judged in the end: none lost, none twice, no call
failed. Each test goes on from the one before.
"""

# ruff: noqa: S101, S603 - as in tests/

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
SCENARIO = CHECKOUT / "molecule" / "rolling"
LAB = CHECKOUT / ".lab" / "molecule-rolling"
*FIRST, JOINING = sorted(yaml.safe_load((LAB / "hosts.yml").read_text())["all"]["hosts"])  # the last one joins later
GROWN = ("--inventory", str(SCENARIO / "grown.yml"))
ZMQCTL = "/opt/openstack-zeromq/bin/zmqctl"
RING = "/etc/oslo/matchmaker_ring.json"


@pytest.fixture
def load(playbook):
    """`with load():` puts services under load, and judges them in the end."""

    rates = {"casts": int(os.environ.get("TRAFFIC_CASTS", "100")), "calls": int(os.environ.get("TRAFFIC_CALLS", "20"))}

    @contextmanager
    def load(*arguments):
        arguments = (*arguments, "-e", json.dumps({"traffic_rates": rates}))
        playbook("molecule/traffic/start.yml", *arguments)
        yield
        print(playbook("molecule/traffic/stop.yml", *arguments))

    return load


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """A checkout of another version, with what `spoil` makes of its receiver."""

    def release(version, spoil=lambda text: text):
        copy = tmp_path_factory.mktemp("release")
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(CHECKOUT / name, copy / name)
        shutil.copytree(CHECKOUT / "openstack_zeromq", copy / "openstack_zeromq", ignore=shutil.ignore_patterns("__pycache__"))
        project = copy / "pyproject.toml"
        project.write_text(re.sub(r'^version = ".*"', f'version = "{version}"', project.read_text(), flags=re.MULTILINE))
        receiver = copy / "openstack_zeromq" / "receiver" / "loop.py"
        receiver.write_text(spoil(receiver.read_text()))
        wheels = CHECKOUT / ".build" / "wheels"
        return ("-e", f"zeromq_receiver_source={copy}", "-e", f"zeromq_receiver_wheelhouse={wheels}")

    return release


def status(node):
    return json.loads(node.check_output("%s status --json", ZMQCTL))


def started(node):
    return node.check_output("systemctl show --property ExecMainStartTimestampMonotonic --value openstack-zeromq-receiver")


def ring(node):
    return json.loads(node.file(RING).content)


def test_rolling_restart_under_load_loses_nothing(nodes, playbook, load):
    before = {name: started(nodes[name]) for name in FIRST}
    with load():
        playbook("playbooks/restart.yml", "-e", "zeromq_deploy_serial=1")
    assert all(started(nodes[name]) != moment for name, moment in before.items())


def test_rolling_upgrade_under_load_loses_nothing(nodes, playbook, load, release):
    with load():
        output = playbook("playbooks/upgrade.yml", *release("0.1.91"))
    assert {status(nodes[name])["version"] for name in FIRST} == {"0.1.91"}
    assert "every receiver is openstack-zeromq 0.1.91" in output


@pytest.fixture(scope="session")
def bad(release):
    """A release whose receiver passes every check, and ends as soon as it runs."""
    run = "    def run(self) -> None:\n"
    return release("0.1.92", lambda text: text.replace(run, f"{run}        raise SystemExit(3)\n", 1))


def test_bad_release_stops_the_roll_at_its_first_node_and_the_others_serve(nodes, playbook, load, bad):
    others = {name: started(nodes[name]) for name in FIRST[1:]}
    with load("-e", json.dumps({"traffic_senders": "zeromq:!node1", "traffic_without_receiver": ["node1"]})):
        output = playbook("playbooks/upgrade.yml", *bad, fails=True)
    assert "openstack-zeromq-receiver.service is " in output
    assert {name: started(nodes[name]) for name in others} == others
    answer = json.loads(nodes["node2"].check_output("%s ping --json --server node3", ZMQCTL))
    assert answer["answered_by"] == ["node3"]


def test_rollback_brings_the_bad_node_back_and_leaves_the_others_alone(nodes, playbook, changes, bad):
    others = {name: started(nodes[name]) for name in FIRST[1:]}
    playbook("playbooks/rollback.yml", *bad)
    assert {status(nodes[name])["version"] for name in FIRST} == {"0.1.91"}
    assert {name: started(nodes[name]) for name in others} == others
    assert not changes(playbook("playbooks/rollback.yml", *bad)), "a second run finds nothing to do"


def test_keys_of_all_nodes_are_rotated_under_load_and_nothing_is_lost(nodes, playbook, load):
    running = {name: started(nodes[name]) for name in FIRST}
    before = {name: status(nodes[name])["security"]["public_key"] for name in FIRST}
    with load():
        playbook("playbooks/rotate_keys.yml")
    assert {name: started(nodes[name]) for name in FIRST} == running, "nobody was restarted"
    after = {name: status(nodes[name])["security"] for name in FIRST}
    assert {name: facts["public_key"] for name, facts in after.items()}.items().isdisjoint(before.items())
    assert {facts["trusted_keys"] for facts in after.values()} == {len(FIRST)}, "the old keys are forgotten"


def test_scale_out_under_load_touches_the_new_node_and_its_peers_data_only(nodes, playbook, load, release):
    before = {name: started(nodes[name]) for name in FIRST}
    with load():
        playbook("playbooks/scale_out.yml", *GROWN, *release("0.1.91"))
    assert {name: started(nodes[name]) for name in FIRST} == before
    assert len({nodes[name].file(RING).content for name in (*FIRST, JOINING)}) == 1
    assert JOINING in ring(nodes["node1"])["zmq-probe"]


def test_dead_node_is_removed(nodes, playbook):
    down = [sys.executable, "tools/lab.py", "down", "--name", "molecule-rolling", "--node", JOINING]
    subprocess.run(down, cwd=CHECKOUT, check=True)
    output = playbook("playbooks/remove_node.yml", *GROWN, "-e", f"zeromq_removed_nodes={JOINING}")
    assert output.count("UNREACHABLE!") == 1, "it is tried once"
    for name in FIRST:
        assert JOINING not in nodes[name].file(RING).content_string
        assert JOINING not in nodes[name].file(RING.replace(".json", ".meta.json")).content_string


def test_revoked_host_is_cut_off_by_all_others_and_needs_a_new_key_to_come_back(nodes, playbook):
    revoked, witness = FIRST[-1], nodes[FIRST[0]]
    assert json.loads(witness.check_output("%s ping --json --server %s", ZMQCTL, revoked))["answered_by"] == [revoked]
    playbook("playbooks/revoke.yml", "-e", f"zeromq_revoked_nodes={revoked}")
    for name in FIRST[:-1]:
        seen = status(nodes[name])
        assert seen["links"].get(revoked, {}).get("state") != "up", name
        assert seen["security"]["trusted_hosts"] == len(FIRST) - 1
    silent = witness.run("%s ping --json --timeout 3 --server %s", ZMQCTL, revoked)
    assert silent.rc != 0
    left_out = playbook("site.yml")
    assert f"REVOKED, AND LEFT OUT: {revoked}" in left_out
    assert not nodes[FIRST[0]].file(f"/etc/oslo/zeromq/authorized/{revoked}.pub").exists
    nodes[revoked].check_output("rm -r /etc/oslo/zeromq")
    playbook("playbooks/scale_out.yml", "-e", f"zeromq_new_nodes={revoked}")
    assert json.loads(witness.check_output("%s ping --json --server %s", ZMQCTL, revoked))["answered_by"] == [revoked]


def test_last_host_of_a_topic_is_not_removed(playbook):
    output = playbook("playbooks/remove_node.yml", "-e", f"zeromq_removed_nodes={','.join(FIRST)}", fails=True)
    assert "nobody would serve traffic-calls, traffic-casts, zmq-probe" in output
    assert "put another host into the groups of these topics" in output
