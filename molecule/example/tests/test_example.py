"""The example inventory, deployed: services are on the bus, the port is closed, and the firewall stays."""

# ruff: noqa: S101, S603 - as in tests/

import json
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
LAB = CHECKOUT / ".lab" / "molecule-example"
ZMQCTL = "/opt/openstack-zeromq/bin/zmqctl"
TABLE = "nft list table inet openstack_zeromq"
SERVED = {
    "conductor": "controller1",
    "scheduler": "controller3",
    "compute": "compute01",
    "cinder-scheduler": "controller2",
    "cinder-volume": "storage1",
    "cinder-backup": "storage3",
}
"""A host that serves each topic: what the inventory's groups say."""


@pytest.fixture
def compute(nodes):
    return nodes["compute01.example.com"]


def test_the_inventory_is_the_shipped_one_but_for_the_number_of_computes():
    for path in (CHECKOUT / "inventories" / "example" / "group_vars").iterdir():
        assert (LAB / "inventory" / "group_vars" / path.name).read_bytes() == path.read_bytes()
    shipped = (CHECKOUT / "inventories" / "example" / "hosts.yml").read_text()
    shrunk = shipped.replace("compute[01:20]", "compute01")
    assert (LAB / "inventory" / "hosts.yml").read_text() == shrunk


@pytest.mark.parametrize("caller", ["controller1.example.com", "compute01.example.com", "storage2.example.com"])
def test_messages_arrive_at_every_service(nodes, caller):
    for topic, server in SERVED.items():
        for whom in (f"--server {server}", ""):
            said = nodes[caller].check_output(f"{ZMQCTL} ping {topic} {whom} --exchange openstack --timeout 20 --json")
            assert not json.loads(said)["error"], (topic, whom, said)


def test_every_service_of_the_inventory_is_on_the_bus(nodes):
    groups = {"controller": "controllers", "storage": "storage", "compute": "computes"}
    for name, node in nodes.items():
        group = groups[name.partition(".")[0].rstrip("0123456789")]
        wired = yaml.safe_load((LAB / "inventory" / "group_vars" / f"{group}.yml").read_text())["zeromq_services"]
        assert wired
        for service in wired:
            (config,) = service.get("config_files", [f"/etc/{service['name']}/{service['name']}.conf"])
            assert "transport_url = zmq://\n" in node.file(config).content_string, (name, config)
            assert "openstack" in node.user(service["name"]).groups
            for unit in service["units"]:
                assert node.service(unit).is_running, (name, unit)


def test_a_host_with_several_services_has_nothing_to_do_twice(playbook, changes):
    run = ("playbooks/services.yml", "--limit", "controller1.example.com")
    assert changes(playbook(*run, "--check")) == []
    assert changes(playbook(*run)) == []


def address_of(node):
    return node.check_output("hostname --ip-address").split()[0]


def test_only_the_nodes_reach_the_port(compute):
    with pytest.raises(TimeoutError), socket.create_connection((address_of(compute), 9501), timeout=3):
        pass
    compute.check_output("timeout 5 bash -c %s", "exec 3<>/dev/tcp/controller1.example.com/9501")


def receiver(node):
    """What would change if the receiver, or the socket that it is handed, were restarted."""
    return node.check_output(
        "systemctl show --property InvocationID openstack-zeromq-receiver.service openstack-zeromq-receiver.socket"
    )


def rules_of(node):
    """Return the table without the parts that packets change: counters and connected addresses."""
    table = node.check_output(f"{TABLE} | sed 's/packets.*bytes [0-9]*//'")
    return " ".join(re.sub(r"(set crowd\d {[^}]*?)elements = {[^}]*}", r"\1", table).split())


@pytest.mark.parametrize("verb", ["start", "reload", "restart", "stop"])
def test_the_firewall_comes_back_with_nftables_and_the_receiver_does_not_notice(compute, verb):
    before, rules = receiver(compute), rules_of(compute)
    compute.check_output(f"systemctl {verb} nftables")
    assert rules_of(compute) == rules
    assert receiver(compute) == before


def test_a_table_that_somebody_flushed_is_found_and_repaired_by_the_next_run(compute, playbook, changes):
    compute.check_output("nft flush ruleset")
    run = ("playbooks/deploy.yml", "--limit", "compute01.example.com")
    mended = ["zeromq_receiver : The rules in the kernel are these"]
    assert changes(playbook(*run, "--check")) == mended
    assert compute.run(TABLE).rc != 0
    assert changes(playbook(*run)) == mended
    assert compute.run(TABLE).rc == 0


@contextmanager
def without_names():
    """Take the name service away from all machines: /etc/hosts is all they have."""
    hosts = LAB / "hosts"
    before = hosts.read_text()
    hosts.write_text("127.0.0.1\tlocalhost\n")
    try:
        yield
    finally:
        hosts.write_text(before)


def reboot(name):
    subprocess.run(
        [sys.executable, "tools/lab.py", "reboot", "--name", "molecule-example", "--node", name], cwd=CHECKOUT, check=True
    )


def test_after_a_reboot_without_a_name_service_the_peers_are_let_in_and_others_are_not(nodes, compute):
    peers = [address_of(node) for node in nodes.values()]
    with without_names():
        reboot("compute01.example.com")
        assert compute.run("getent hosts controller1.example.com").rc != 0
        assert compute.check_output("systemctl is-active openstack-zeromq-firewall") == "active"
        rules = compute.check_output(TABLE)
    assert all(address in rules for address in peers)
    assert "counter packets" in rules.splitlines()[-3], "what comes after the peers is dropped"


def test_rules_that_cannot_be_loaded_leave_the_port_closed(nodes, compute):
    rules, script = "/etc/oslo/openstack-zeromq.nft", "exec 3<>/dev/tcp/compute01.example.com/9501"
    compute.check_output(f"echo 'no rule' >>{rules}")
    try:
        reboot("compute01.example.com")
        assert compute.run("systemctl is-active openstack-zeromq-firewall").stdout.strip() == "failed"
        assert nodes["controller1.example.com"].run("timeout 3 bash -c %s", script).rc == 124, "not refused: dropped"
    finally:
        compute.check_output(f"sed --in-place '$d' {rules} && systemctl restart openstack-zeromq-firewall")
    nodes["controller1.example.com"].check_output("timeout 5 bash -c %s", script)
