"""Nobody sees what nodes say to each other, and nobody sees a secret key: not on the network, in no log, in no output."""

# ruff: noqa: S101 - as in tests/

import os
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
KEY = "/etc/oslo/zeromq/node.key"
TOLD = [CHECKOUT / ".build" / "molecule", CHECKOUT / ".lab" / "molecule-default"]
LOG = os.environ.get("SCENARIO_LOG")
"""What this run has printed so far; tools/scenarios.py says where it is."""

# Runs on a node, with another one: what crosses the network at the receiver's port while it calls that one. A word that is sent
# in the open shows that the capture holds what is said.
CAPTURE = r"""
tcpdump -Z root --immediate-mode -i any -w /tmp/links.pcap tcp port 9501 2> /tmp/tcpdump.log &
timeout 20 sh -c 'until grep -q listening /tmp/tcpdump.log; do sleep 0.05; done' || exit 1
/opt/openstack-zeromq/bin/zmqctl ping --count 20 --server $1 > /dev/null || exit 1
exec 3<> /dev/tcp/$1/9501
printf 'in the open' >&3
sleep 1
kill -INT %1
wait %1
tcpdump -r /tmp/links.pcap 2> /dev/null | wc -l
"""


def test_what_crosses_the_network_cannot_be_read(nodes):
    packets = nodes["node1"].check_output("bash -c %s capture node2", CAPTURE)
    assert int(packets) > 80
    capture = nodes["node1"].run("cat /tmp/links.pcap").stdout_bytes
    assert b"in the open" in capture
    for word in (b"zmq-probe", b"openstack", b'"method"', b"ping", b"node1"):
        assert word not in capture


def test_a_secret_key_is_the_receivers_alone(node):
    file = node.file(KEY)
    assert (file.user, oct(file.mode)) == ("openstack-zeromq", "0o600")
    assert node.run("setpriv --reuid=nobody --clear-groups cat %s", KEY).rc != 0


def test_a_user_outside_the_group_cannot_list_the_sockets(node):
    done = node.run("setpriv --reuid=nobody --clear-groups ls /var/run/openstack/")
    assert "Permission denied" in done.stderr


def test_no_secret_key_is_anywhere_but_in_its_file(nodes):
    secrets = {name: node.check_output("tail -n 1 %s", KEY) for name, node in nodes.items()}
    assert len(set(secrets.values())) == len(nodes)
    for name, node in nodes.items():
        for owner, secret in secrets.items():
            places = "/etc /run/openstack /var/log /var/lib/openstack-zeromq /opt/openstack-zeromq.dist /root /tmp"
            found = node.run(f"grep --recursive --files-with-matches --fixed-strings -e %s {places}", secret).stdout.split()
            assert found == ([KEY] if owner == name else [])
            assert node.run("journalctl --no-pager | grep --count --fixed-strings -e %s", secret).stdout.strip() == "0"
    told = [path.read_text(errors="replace") for place in TOLD for path in place.rglob("*") if path.is_file()]
    assert told, "what was told lies below .lab, at least"
    if LOG:
        assert "zeromq_receiver : This node has a key" in Path(LOG).read_text(errors="replace")
    halves = [half for secret in secrets.values() for half in (secret[:20], secret[20:])]  # lines are folded
    assert not [half for half in halves for text in told if half in text]
