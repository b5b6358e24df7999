"""What an operator finds when the matchmaker is Redis with Sentinel, and its first master hangs."""

# ruff: noqa: S101 - as in tests/

import json

ZMQCTL = "/opt/openstack-zeromq/bin/zmqctl"
PASSWORD = "0c5d2f6b8a1e4937"  # noqa: S105 - that of the scenario's inventory
REDIS = f"redis-cli -p 6390 -a {PASSWORD} --no-auth-warning"


def status(node):
    return json.loads(node.check_output("%s status --json", ZMQCTL))


def test_receivers_follow_the_new_master(node):
    matchmaker = status(node)["matchmaker"]
    assert matchmaker["backend"] == "sentinel"
    assert matchmaker["problem"] == ""


def test_every_node_is_known_to_every_node(node, nodes):
    shown = node.check_output("%s hosts zmq-probe", ZMQCTL)
    assert all(name in shown for name in nodes), shown


def test_the_password_is_in_no_file_that_others_may_read(node):
    found = node.run(
        "grep --recursive --files-with-matches 0c5d2f6b8a1e4937 /etc /var/lib/openstack-zeromq* /run/openstack"
    ).stdout
    assert found.split()
    for path in found.split():
        assert node.file(path).mode & 0o007 == 0, path


def test_the_old_master_is_a_replica_when_it_is_back(nodes):
    nodes["node1"].check_output("systemctl kill --signal=CONT openstack-zeromq-redis.service")
    assert nodes["node1"].run(f"timeout 60 sh -c 'until {REDIS} ROLE | grep -q slave; do sleep 0.5; done'").rc == 0
