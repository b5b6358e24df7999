"""Nobody sees what nodes say to each other, and nobody sees a secret key: not on the network, in no log, in no output."""

# ruff: noqa: S101 - as in tests/

import json
import os
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
KEY = "/etc/oslo/zeromq/node.key"
TOLD = [CHECKOUT / ".build" / "molecule", CHECKOUT / ".lab" / "molecule-default"]
LOG = os.environ.get("SCENARIO_LOG")
"""What this run has printed so far; tools/scenarios.py says where it is."""

# Runs on a node: what crosses its interface at the receiver's port, while it calls another node. A word that is sent in the open
# shows that it does see what is said.
LISTEN = """
import json, socket, struct, subprocess, sys, threading
peer, words = sys.argv[1], [word.encode() for word in sys.argv[2:]]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.settimeout(0.2)
seen, packets, over = bytearray(), 0, threading.Event()
def listen():
    global packets
    while not over.is_set():
        try:
            frame = wire.recv(65536)
        except TimeoutError:
            continue
        if frame[12:14] != b"\\x08\\x00" or frame[23] != 6:
            continue
        at = 14 + (frame[14] & 15) * 4
        if 9501 in struct.unpack("!HH", frame[at:at + 4]):
            packets += 1
            seen.extend(frame[at:])
listener = threading.Thread(target=listen)
listener.start()
ping = ["/opt/openstack-zeromq/bin/zmqctl", "ping", "--count", "20", "--server", peer]
subprocess.run(ping, check=True, stdout=subprocess.DEVNULL)
with socket.create_connection((peer, 9501)) as stranger:
    stranger.sendall(b"in the open")
over.wait(1)
over.set()
listener.join()
print(json.dumps({"packets": packets, "found": [word.decode() for word in words if word in seen]}))
"""


def test_what_crosses_the_network_cannot_be_read(nodes):
    words = ["in the open", "zmq-probe", "openstack", '"method"', "ping", "node1"]
    found = json.loads(nodes["node1"].check_output("python3 -c %s node2 %s %s %s %s %s %s", LISTEN, *words))
    assert found["packets"] > 80
    assert found["found"] == ["in the open"]


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
