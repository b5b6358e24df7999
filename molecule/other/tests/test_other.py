"""What an operator finds when no input has its default, a node does without systemd, and a service moves to the bus and back."""

# ruff: noqa: S101 - as in tests/

import json
import re

ZMQCTL = "/srv/zeromq/package/bin/zmqctl"
CONFIG = "--config-file /etc/zmq/zeromq.conf"


def status(node):
    return json.loads(node.check_output(f"{ZMQCTL} status --json {CONFIG}"))


def test_names_and_numbers_are_those_of_the_inventory(node):
    told = status(node)
    assert told["node"] in {"the-node1", "the-node2"}
    assert node.check_output("ss --listening --tcp --numeric --no-header 'sport = :9777'").strip()
    assert not node.run("ss --listening --tcp --numeric --no-header 'sport = :9501'").stdout.strip()
    assert json.loads(node.file("/etc/zmq/ring.json").content)["demo"] == ["the-node1", "the-node2"]


def test_nothing_lies_where_defaults_would_put_it(node):
    for path in (
        "/opt/openstack-zeromq",
        "/etc/oslo",
        "/run/openstack",
        "/var/log/openstack-zeromq",
        "/var/lib/openstack-zeromq",
    ):
        assert not node.file(path).exists, path


def test_the_node_without_systemd_has_no_unit_of_ours(nodes):
    assert not nodes["node2"].run("systemctl list-unit-files --no-legend '*zeromq*'").stdout.strip()
    assert "RUNNING" in nodes["node2"].check_output(
        "/srv/zeromq/package/bin/supervisorctl -c /srv/zeromq/supervisor/supervisord.conf status receiver"
    )


def test_the_firewall_lets_only_nodes_and_the_named_network_in(nodes):
    rules = nodes["node1"].check_output("nft list table inet openstack_zeromq")
    peers = re.search(r"set peers4 {[^}]*elements = {([^}]*)}", rules)[1].replace(",", " ").split()
    assert len(peers) == 3
    assert "192.0.2.0/24" in peers
    assert "tcp dport 9777 ip saddr @peers4 accept" in rules
    assert "tcp dport 9777 ct state new add @crowd4 { ip saddr ct count over 32 }" in rules
    assert re.search(r"tcp dport 9777 counter packets \d+ bytes \d+ drop", rules)


def test_the_service_answers_on_the_bus(nodes):
    assert answers(nodes)


def answers(nodes):
    ping = f"{ZMQCTL} ping demo --server the-node1 --exchange openstack --timeout 30 --json {CONFIG}"
    return not json.loads(nodes["node2"].check_output(ping))["error"]


def test_the_service_goes_back_to_rabbitmq_to_the_byte_and_to_the_bus_again(nodes, playbook):
    node = nodes["node1"]
    assert "zmq://" in node.file("/etc/demo/demo.conf").content_string
    assert "cloud" in node.user("demo").groups
    after = "systemctl show --property=After demo.service"
    assert "openstack-zeromq-receiver.service" in node.check_output(after)
    playbook("playbooks/services.yml", "-e", "zeromq_services_state=absent")
    node.check_output("cmp /etc/demo/demo.conf /var/lib/demo/demo.conf.was")
    assert "cloud" not in node.user("demo").groups
    assert "openstack-zeromq" not in node.check_output(after)
    assert not node.file("/etc/systemd/system/demo.service.d").exists
    assert not node.run("find /opt/demo -name openstack-zeromq.pth").stdout
    playbook("playbooks/services.yml")
    assert "zmq://" in node.file("/etc/demo/demo.conf").content_string
    assert answers(nodes)


def test_wrong_inputs_are_refused_before_anything_is_written(playbook):
    for wrong, remedy in {
        "zeromq_receiver_port=eleven": "must be a number from 1 to 65535",
        "zeromq_receiver_manager=cron": "systemd, supervisor",
        "zeromq_receiver_prot=9501": "did you mean zeromq_receiver_port?",
        "zeromq_matchmaker_backend=redis": "zeromq_matchmaker_redis_host is empty",
        "zeromq_receiver_host=same": "in common; give each its own zeromq_receiver_host",
        "zeromq_receiver_python=/bin/true": "set zeromq_receiver_python",
        "zeromq_receiver_port=22": "stop that, or set zeromq_receiver_port",
    }.items():
        output = playbook("site.yml", "-e", wrong, fails=True)
        assert remedy in " ".join(output.split()), (wrong, output)
        assert "Install and configure" not in output
