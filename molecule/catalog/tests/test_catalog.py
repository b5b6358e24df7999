"""What an operator feels when the catalog changes: rings follow by themselves, and so do calls; a new node starts Ansible."""

# ruff: noqa: S101, S603 - as in tests/

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
LAB = CHECKOUT / ".lab" / "molecule-catalog"
RING = "/etc/oslo/matchmaker_ring.json"
ZMQCTL = "/opt/openstack-zeromq/bin/zmqctl"
SYNC = "openstack-zeromq-ring-sync.service"


def ring(node):
    return json.loads(node.file(RING).content)


def within(seconds, check):
    """The seconds that it took until `check` was true."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - began


def definition(node):
    """The agent's file of the topic that bare calls go to."""
    return node.check_output("ls /etc/openstack-zeromq-consul.d/service-*zmq-probe.json").strip()


def test_the_daemon_that_keeps_the_ring_runs(nodes):
    for name in ("node1", "node2", "node3"):
        assert nodes[name].service(SYNC.removesuffix(".service")).is_running


def test_rings_follow_a_service_that_goes_and_comes_and_so_do_calls(nodes):
    """Timed by the nodes' own clocks, which containers share: ssh is not part of it."""
    deployed = {name: nodes[name] for name in ("node1", "node2", "node3")}
    assert all(ring(node)["zmq-probe"] == ["node1", "node2", "node3"] for node in deployed.values())
    file = definition(nodes["node3"])
    left = float(nodes["node3"].check_output(f"date +%s.%N; mv {file} /var/tmp/; /usr/local/bin/consul reload >/dev/null"))
    for node in deployed.values():
        within(10, lambda node=node: ring(node)["zmq-probe"] == ["node1", "node2"])
    took = {name: float(node.check_output(f"date --reference={RING} +%s.%N")) - left for name, node in deployed.items()}
    assert max(took.values()) <= 1.0, took

    answers = {json.loads(line)["answered_by"][0] for line in calls(nodes["node3"], 6)}
    assert answers <= {"node1", "node2"}

    nodes["node3"].check_output(f"mv /var/tmp/{Path(file).name} {file} && /usr/local/bin/consul reload")
    for node in deployed.values():
        within(10, lambda node=node: "node3" in ring(node)["zmq-probe"])


def calls(node, count):
    return [node.check_output("%s ping --json --count 1", ZMQCTL) for _ in range(count)]


@pytest.fixture
def grown(nodes):
    """The inventory with node4."""
    return ("--inventory", str(CHECKOUT / "molecule" / "catalog" / "grown.yml"))


def test_a_new_node_starts_a_redeployment_that_touches_it_and_its_peers_data_only(nodes, playbook, grown, tmp_path):
    address = yaml.safe_load((LAB / "hosts.yml").read_text())["all"]["hosts"]["node1"]["ansible_host"]
    config = tmp_path / "watch.conf"
    config.write_text(f"[matchmaker_consul]\nhost = {address}\n[oslo_messaging_zmq]\nzmq_state_dir = {tmp_path}\n")
    inventories = [LAB / "hosts.yml", CHECKOUT / "molecule" / "catalog" / "inventory", grown[1]]
    command = tmp_path / "redeploy"
    log = tmp_path / "log"
    command.write_text(
        f"#!/bin/sh\ncd {CHECKOUT}\nexec {sys.executable} -m ansible playbook playbooks/redeploy.yml"
        f" {' '.join(f'-i {path}' for path in inventories)} -e zeromq_redeploy_nodes=$ZMQ_NODES_CHANGED >{log} 2>&1\n"
    )
    command.chmod(0o755)
    before = {name: started(nodes[name]) for name in ("node1", "node2", "node3")}
    watcher = subprocess.Popen(
        [
            *(str(Path(sys.executable).parent / "zmqctl"), "catalog", "watch", "--config-file", str(config)),
            *("--nodes", "--node-meta", "zmq=true", "--exec", str(command), "--once", "--within", "10m"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        within(30, lambda: (tmp_path / "catalog").exists() and any((tmp_path / "catalog").iterdir()))
        playbook("playbooks/stores.yml", *grown)  # the agent joins, as a provisioning system would let it
        told, _ = watcher.communicate(timeout=600)
    finally:
        watcher.kill()
    assert watcher.returncode == 0, log.read_text() if log.exists() else "the command did not run"
    assert json.loads(told)["nodes"]["added"] == ["node4"]
    for node in nodes.values():
        within(10, lambda node=node: "node4" in ring(node)["zmq-probe"])
    assert json.loads(nodes["node4"].check_output("%s ping --json --server node1", ZMQCTL))["answered_by"] == ["node1"]
    assert {name: started(nodes[name]) for name in before} == before, "nothing restarts where nothing changed"


def started(node):
    return node.check_output("systemctl show --property ExecMainStartTimestampMonotonic --value openstack-zeromq-receiver")


def test_a_node_leaves_catalog_and_rings_with_one_playbook(nodes, playbook, grown):
    playbook("playbooks/remove_node.yml", *grown, "-e", "zeromq_removed_nodes=node4")
    for name in ("node1", "node2", "node3"):
        within(10, lambda name=name: ring(nodes[name])["zmq-probe"] == ["node1", "node2", "node3"])
    assert not nodes["node4"].file("/opt/openstack-zeromq").exists
    assert "node4" not in nodes["node1"].check_output("/usr/local/bin/consul catalog nodes")
