"""What an operator finds on three nodes after a rollout, a kill -9 and a verification. The nodes are this machine."""

# ruff: noqa: S101, S603 - as in tests/

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import testinfra

CHECKOUT = Path(__file__).parents[3]
ROOT = Path(os.environ["ZEROMQ_ROOT"])
NODES = {"node1": "127.0.0.21", "node2": "127.0.0.22", "node3": "127.0.0.23"}


@pytest.fixture(scope="module")
def machine():
    return testinfra.get_host("local://")


@pytest.fixture(params=NODES)
def node(request):
    return request.param


def test_each_channel_has_a_socket_in_the_nodes_directory(machine, node):
    sockets = {path.name for path in (ROOT / node / "run").iterdir() if path.is_socket()}
    assert {"receiver", "receiver.admin"} <= sockets
    channels = status_of(machine, node)["channels"]
    assert len(sockets) - 2 == len(channels) == 4  # bare, directed, fanout, notifications
    kinds = sorted(name.partition(":")[0] for name in sockets - {"receiver", "receiver.admin"})
    assert kinds == ["fanout", "server", "topic", "topic"]


def test_receiver_listens_on_the_nodes_address_only(node):
    with socket.create_connection((NODES[node], 9501), timeout=5):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.29", 9501), timeout=5)


def test_status_tells_of_a_running_receiver(machine, node):
    facts = status_of(machine, node)
    assert facts["node"] == node
    assert set(facts["links"]) == set(NODES) - {node}
    assert all(link["state"] == "up" for link in facts["links"].values())


def test_matrix_is_green(machine):
    matrix = machine.run("%s matrix %s", str(ROOT / "venv/bin/zmqctl"), str(ROOT / "verify.json"))
    assert matrix.rc == 0, matrix.stdout
    assert "9 of 9 calls, 3 of 3 bare calls, 3 of 3 fanouts, 3 of 3 notifications" in matrix.stdout


def test_ring_is_the_same_on_every_node():
    assert len({ring_of(node) for node in NODES}) == 1
    ring, meta = map(json.loads, ring_of("node1"))
    assert ring == {"zmq-probe": sorted(NODES), "zmq-probe-notifications.info": sorted(NODES)}
    assert meta["hosts"] == {name: {"address": address, "port": 9501} for name, address in NODES.items()}


def test_limit_changes_nothing_and_writes_the_same_ring():
    before = ring_of("node2")
    for path in ring_files("node2"):
        path.unlink()
    output = playbook("playbooks/deploy.yml", "--limit", "node2")
    assert ring_of("node2") == before
    assert "[node1]" not in output  # where a task ran; that it called node2 as its neighbour changes nothing there
    assert changes(output) == ["zeromq_matchmaker : The ring is published"]


def test_keys_are_rotated_without_a_restart_and_a_run_afterwards_changes_nothing(machine):
    before = {node: status_of(machine, node) for node in NODES}
    playbook("playbooks/rotate_keys.yml")
    after = {node: status_of(machine, node) for node in NODES}
    assert {facts["pid"] for facts in after.values()} == {facts["pid"] for facts in before.values()}
    keys = [{facts["security"]["public_key"] for facts in facts_.values()} for facts_ in (before, after)]
    assert keys[0].isdisjoint(keys[1])
    assert {facts["security"]["trusted_keys"] for facts in after.values()} == {len(NODES)}, "the old ones are forgotten"
    assert {facts["counters"]["evicted"] for facts in after.values()} == {0}
    assert changes(playbook("playbooks/deploy.yml")) == []


def test_check_mode_tells_the_change_that_a_real_run_makes():
    arguments = ("playbooks/deploy.yml", "--diff", "--limit", "node3", "-e", "zeromq_receiver_debug=true")
    told = playbook(*arguments, "--check")
    made = playbook(*arguments)
    assert changes(told) == changes(made) != []
    assert "+debug = true" in told
    assert "+debug = true" in made


def status_of(machine, node):
    config = ROOT / node / "etc" / "zeromq.conf"
    status = machine.run("%s status --json --config-file %s", str(ROOT / "venv/bin/zmqctl"), str(config))
    assert status.rc == 0, status.stderr
    return json.loads(status.stdout)


def ring_files(node):
    return [ROOT / node / "etc" / name for name in ("matchmaker_ring.json", "matchmaker_ring.meta.json")]


def ring_of(node):
    return tuple(path.read_bytes() for path in ring_files(node))


def playbook(*arguments):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook"),
            *("--inventory", "inventories/local", "--inventory", "molecule/local/inventory"),
            *arguments,
        ],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def changes(output):
    """The names of the tasks that changed something."""
    tasks, current = [], ""
    for line in output.splitlines():
        if line.startswith("TASK ["):
            current = line[line.index("[") + 1 : line.rindex("]")]
        elif line.startswith("changed:"):
            tasks.append(current)
    return tasks
