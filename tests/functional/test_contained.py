"""What nothing foresaw costs one party its connection, and ends no receiver: exceptions are injected into a real one."""

import json
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faulty_receiver
import oslo_messaging
import pytest
from fabric import Fabric, eventually
from strangers import TOPIC, blackholes, dealer, listener
from two_nodes import RING, Endpoint, Two, lets_in

from openstack_zeromq import address, wire
from openstack_zeromq.security import keys
from openstack_zeromq.wire import Kind

PROGRAM = {"n1": [sys.executable, str(Path(faulty_receiver.__file__))]}
PARTS = 4
OFTEN = 1_000_000
NODES = {TOPIC: ["n1", "n2", "n3"], "stranger": ["n3"]}
_SERVICE = """
import sys, zmq
from openstack_zeromq import wire
made = zmq.Context().socket(zmq.DEALER)
made.set(zmq.ROUTING_ID, b"shortlyX")
made.connect(sys.argv[1])
made.send(wire.encode_control(wire.Kind.PING, pid=1))
made.recv()
"""


def _fabric(make_fabric: Callable[..., Fabric], nodes: int = 2) -> Fabric:
    return make_fabric(nodes=nodes, ring=NODES if nodes == 3 else RING, program=PROGRAM)


def _inject(fabric: Fabric, place: str, times: int = 1) -> None:
    faulty_receiver.write(fabric.ipc_dir("n1"), place, times)


def _pending(fabric: Fabric) -> bool:
    return (fabric.ipc_dir("n1") / faulty_receiver.FAULT).exists()


def _provoke_all(two: Two) -> None:
    """Have every handler of n1 something to do."""
    fabric = two.fabric
    receiver = f"ipc://{fabric.ipc_dir('n1')}/{address.RECEIVER_SOCKET}"
    subprocess.run([sys.executable, "-c", _SERVICE, receiver], check=True, timeout=20)  # a service that ends
    with socket.create_connection((fabric.addresses["n1"], fabric.port), timeout=10):
        pass
    lets_in(fabric, "n1", "n2", within=0.1)
    fabric.processes["n1"].send_signal(signal.SIGHUP)
    fabric.status("n1")
    listening = fabric.server("n1", "another", Endpoint(), "n1")
    listening.stop()
    client = fabric.client("n1", "stranger", timeout=1)
    with pytest.raises(oslo_messaging.MessagingException):
        client.prepare(server="n3").call({}, "note", what="nobody is there")


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_every_handler_may_fail(make_fabric: Callable[..., Fabric], part: int) -> None:
    """Whatever the loop calls: the receiver lives, counts it, names it, and calls pass."""
    fabric = _fabric(make_fabric, nodes=3)
    two = Two(fabric)
    fabric.kill("n3")
    handlers = json.loads((fabric.ipc_dir("n1") / faulty_receiver.HANDLERS).read_text())
    assert len(handlers) == len(set(handlers)) > 15
    for name in handlers[part::PARTS]:
        assert fabric.stop("n1") == 0  # a fresh one: what has failed ten times in a minute gives up
        fabric.start("n1")
        assert eventually(lambda: two.call("n1") == "noted", within=20)
        _inject(fabric, name)
        with listener(fabric.door("n3"), keys.new()):  # which is not the key of n3
            _provoke_all(two)
        eventually(lambda: not _pending(fabric))
        assert fabric.processes["n1"].poll() is None, name
        assert two.call("n1") == "noted", name
        assert two.call("n2") == "noted", name
        status = fabric.status("n1")
        assert status is not None, name
        assert status["counters"]["faults"] == 1, name
        assert f"a fault at {name!r}" in status["faults"], name
        assert f"injected at {name}" in fabric.log("n1").read_text(), name


def test_a_message_that_breaks_something_costs_its_peer_the_connection_and_nobody_else(
    make_fabric: Callable[..., Fabric],
) -> None:
    fabric = _fabric(make_fabric, nodes=3)
    two = Two(fabric)
    third = fabric.client("n3", TOPIC).prepare(server="n1")
    assert third.call({}, "note", what="before") == "noted"
    ended = fabric.counter("n1", "disconnects")
    _inject(fabric, "message of n3")
    third.cast({}, "note", what="evil")
    eventually(lambda: not _pending(fabric))
    assert two.call("n1") == "noted"
    eventually(lambda: fabric.counter("n1", "disconnects") > ended)
    assert fabric.counter("n1", "faults") == 1
    assert "n3" in (fabric.status("n1") or {})["faults"]
    # It comes back, and what was not answered comes again.
    assert third.call({}, "note", what="after") == "noted"
    eventually(lambda: "evil" in two.heard["n1"].notes)
    assert two.heard["n1"].notes.count("evil") == 1


def test_a_peer_whose_every_message_breaks_something_stays_its_own_problem(make_fabric: Callable[..., Fabric]) -> None:
    fabric = _fabric(make_fabric, nodes=3)
    two = Two(fabric)
    _inject(fabric, "message of n3", OFTEN)
    third = fabric.client("n3", TOPIC, timeout=5).prepare(server="n1")
    third.cast({}, "note", what="evil")
    eventually(lambda: fabric.counter("n1", "faults") >= 5, within=60)
    for _ in range(50):
        assert two.call("n1", timeout=3) == "noted"
    status = fabric.status("n1")
    assert status is not None
    assert "watchdog" not in status["faults"]
    assert fabric.log("n1").read_text().count("Traceback") == 1


@pytest.mark.parametrize("place", ["answers of n3", "sending to n3"])
def test_a_link_that_breaks_something_is_dialled_anew(make_fabric: Callable[..., Fabric], place: str) -> None:
    fabric = _fabric(make_fabric, nodes=3)
    two = Two(fabric)
    client = fabric.client("n1", TOPIC)
    assert client.prepare(server="n3").call({}, "note", what="before") == "noted"
    _inject(fabric, place)
    client.prepare(server="n3").cast({}, "note", what="once")
    eventually(lambda: not _pending(fabric))
    assert two.call("n1") == "noted"
    assert client.prepare(server="n2").call({}, "note", what="good") == "noted"
    assert client.prepare(server="n3").call({}, "note", what="after") == "noted"
    eventually(lambda: "once" in two.heard["n3"].notes)
    assert two.heard["n3"].notes.count("once") == 1
    assert fabric.counter("n1", "faults") == 1


@pytest.mark.parametrize("place", ["message to poison", "join of poison"])
def test_a_service_that_breaks_something_is_known_no_more_until_it_has_joined_again(
    make_fabric: Callable[..., Fabric], place: str
) -> None:
    """The service is this process; another one, at the same receiver, does not notice."""
    fabric = _fabric(make_fabric)
    two = Two(fabric)
    receiver = f"ipc://{fabric.ipc_dir('n1')}/{address.RECEIVER_SOCKET}"
    with dealer(receiver, b"bystand8") as other:
        other.send(wire.encode_control(Kind.PING, pid=1))
        other.recv()
        _inject(fabric, place)
        if place.startswith("message"):
            fabric.client("n1", "poison").cast({}, "note", what="evil")
        else:
            fabric.server("n1", "poison", Endpoint(), "n1")
        eventually(lambda: not _pending(fabric))
        other.send(wire.encode_control(Kind.PING, pid=1))
        assert wire.kind_of(other.recv()) is Kind.PONG
    assert two.call("n1", timeout=20) == "noted"
    assert fabric.counter("n1", "faults") == 1


@pytest.mark.parametrize("place", ["accepted", "verdict", "who", "status"])
def test_a_connection_that_breaks_something_is_only_that(make_fabric: Callable[..., Fabric], place: str) -> None:
    fabric = _fabric(make_fabric)
    two = Two(fabric)
    _inject(fabric, place)
    lets_in(fabric, "n1", "n2", within=0.2)
    fabric.status("n1")
    eventually(lambda: not _pending(fabric))
    assert eventually(lambda: lets_in(fabric, "n1", "n2"))
    assert two.call("n1") == "noted"
    assert fabric.counter("n1", "faults") == 1


def test_what_belongs_to_nobody_and_goes_on_is_left_to_the_watchdog(
    make_fabric: Callable[..., Fabric], monkeypatch: pytest.MonkeyPatch, short_path: Path
) -> None:
    fabric = make_fabric(nodes=1, ring={TOPIC: ["n1"]}, program=PROGRAM, start=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(short_path / "notify"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        fabric.start()
        _until(systemd, "WATCHDOG=1")
        _inject(fabric, "delivery", OFTEN)
        eventually(lambda: "watchdog" in (fabric.status("n1") or {})["faults"])
        said = _until(systemd, "STATUS=")
        assert "10 faults within" in said or "10 faults within" in _until(systemd, "STATUS=")
        systemd.setblocking(False)
        _drain(systemd)
        systemd.settimeout(1.0)
        with pytest.raises(TimeoutError):
            _until(systemd, "WATCHDOG=1")
    assert fabric.processes["n1"].poll() is None


def _until(systemd: socket.socket, word: str) -> str:
    """Read until a message has `word`; TimeoutError when none comes."""
    while word not in (said := systemd.recv(4096).decode()):
        pass
    return said


def _drain(systemd: socket.socket) -> None:
    try:
        while True:
            systemd.recv(4096)
    except BlockingIOError:
        return


@pytest.mark.long
@pytest.mark.alone
def test_two_thousand_hosts_that_are_not_there_hold_up_nobody(make_fabric: Callable[..., Fabric]) -> None:
    """They are dialled a few at a time; and with descriptors for only a third of them there is one for who asks, at any time."""
    fabric = make_fabric(nodes=2, ring=RING, options={"zmq_security": "none"}, start=False)
    crowd = {f"h{number}": f"127.10.{number // 250}.{1 + number % 250}" for number in range(2000)}
    fabric.write_ring({**RING, "crowd": crowd}, crowd)
    fabric.start()
    resource.prlimit(fabric.processes["n1"].pid, resource.RLIMIT_NOFILE, (700, 700))
    two = Two(fabric)
    with blackholes(crowd.values(), fabric.port):
        fabric.client("n1", "crowd").prepare(fanout=True).cast({}, "note", what="is anybody there?")
        until = time.monotonic() + 15
        while time.monotonic() < until:
            assert two.call("n1") == "noted"
            assert two.call("n2") == "noted"
            assert fabric.status("n1")
    status = fabric.status("n1")
    assert status is not None
    assert status["links"]["h1999"]["state"] == "down"
    assert status["counters"]["faults"] == 0
    assert status["counters"]["stalls"] == 0
