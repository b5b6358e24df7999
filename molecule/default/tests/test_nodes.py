"""What an operator finds on three machines with systemd after a rollout, a reboot and a verification."""

# ruff: noqa: S101, S603 - as in tests/

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
REPORT = CHECKOUT / ".lab" / f"molecule-{os.environ['MOLECULE_SCENARIO_NAME']}" / "verify.json"
UNIT = "openstack-zeromq-receiver"
RING = ["/etc/oslo/matchmaker_ring.json", "/etc/oslo/matchmaker_ring.meta.json"]
CONTROL_ZMQCTL = Path(sys.executable).parent / "zmqctl"
ZMQCTL = "/opt/openstack-zeromq/bin/zmqctl"


@pytest.mark.parametrize("unit", [f"{UNIT}.service", f"{UNIT}.socket", "openstack-zeromq-probe.service"])
def test_units_run_and_start_at_boot(node, unit):
    assert node.run("systemctl is-active %s", unit).stdout.strip() == "active"
    assert node.run("systemctl is-enabled %s", unit).stdout.strip() == "enabled"


def test_no_unit_of_the_machine_has_failed(node):
    assert node.run("systemctl is-system-running").stdout.strip() == "running"


def test_receiver_runs_as_a_user_of_its_own(node):
    pid = node.run("systemctl show --property MainPID --value %s", UNIT).stdout.strip()
    assert node.run("ps --no-headers --format user:32 --pid %s", pid).stdout.strip() == "openstack-zeromq"


def test_receiver_listens_on_its_port(node):
    assert node.run("ss --listening --tcp --numeric --no-header 'sport = :9501'").stdout.strip()


def test_sockets_are_for_the_group_openstack_only(node):
    directory = node.file("/var/run/openstack")
    assert (directory.user, directory.group, oct(directory.mode)) == ("openstack-zeromq", "openstack", "0o2750")
    channels = json.loads(node.check_output("%s status --json", ZMQCTL))["channels"]
    assert len(channels) == 4  # bare, directed, fanout, notifications


@pytest.mark.parametrize(
    ("path", "owner", "group", "mode"),
    [
        ("/etc/oslo/zeromq.conf", "root", "root", "0o644"),
        ("/etc/oslo/zeromq-matchmaker.conf", "root", "openstack-zeromq", "0o640"),
        ("/etc/oslo/matchmaker_ring.json", "root", "root", "0o644"),
    ],
)
def test_files_belong_to_whom_they_should(node, path, owner, group, mode):
    file = node.file(path)
    assert (file.user, file.group, oct(file.mode)) == (owner, group, mode)


def test_unit_is_hardened(node):
    said = node.check_output("systemd-analyze security --no-pager %s.service", UNIT)
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert float(score.group(1)) <= 1.5, said


def test_unit_cannot_write_outside_its_directories(node):
    pid = node.run("systemctl show --property MainPID --value %s", UNIT).stdout.strip()
    mounted = node.check_output("findmnt --noheadings --output OPTIONS --target /usr --task %s", pid)
    assert "ro" in mounted.split(",")


def test_matrix_is_green():
    done = subprocess.run([CONTROL_ZMQCTL, "matrix", REPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 of 9 calls, 3 of 3 bare calls, 3 of 3 fanouts, 3 of 3 notifications" in done.stdout


def test_ring_is_the_same_on_every_node(nodes):
    assert len({ring_of(node) for node in nodes.values()}) == 1
    ring, meta = map(json.loads, ring_of(nodes["node1"]))
    assert ring == {"zmq-probe": sorted(nodes), "zmq-probe-notifications.info": sorted(nodes)}
    assert sorted(meta["hosts"]) == sorted(nodes)


def test_limit_writes_the_same_ring(nodes, playbook, changes):
    before = ring_of(nodes["node2"])
    nodes["node2"].check_output("rm %s %s", *RING)
    output = playbook("playbooks/deploy.yml", "--limit", "node2")
    assert ring_of(nodes["node2"]) == before
    assert "node1" not in changes(output)
    assert changes(output) == ["zeromq_matchmaker : The ring is published"]


def test_check_mode_finds_nothing_to_do(playbook, changes):
    assert changes(playbook("site.yml", "--check")) == []


def test_check_mode_tells_the_change_that_a_real_run_makes(playbook, changes):
    arguments = ("playbooks/deploy.yml", "--diff", "--limit", "node3", "-e", "zeromq_receiver_debug=true")
    told = playbook(*arguments, "--check")
    made = playbook(*arguments)
    assert changes(told) == changes(made) != []
    assert "+debug = true" in told
    assert "+debug = true" in made


def ring_of(node):
    return tuple(node.file(path).content for path in RING)
