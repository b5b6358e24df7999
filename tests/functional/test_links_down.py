"""Links that do not come about: dialled rarely, shown with the reason, an alarm only where the operator has something to mend."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import oslo_messaging
import pytest
from fabric import Fabric, eventually
from strangers import TOPIC
from two_nodes import RING, Two

from openstack_zeromq.matchmaker import ring_file

REDIAL = 2.0


@contextmanager
def closing(address: str, port: int, times: int = 1_000_000) -> Iterator[list[float]]:
    """A listener that closes the first `times` connections at once, and then itself; when each of them came."""
    came: list[float] = []
    server = socket.create_server((address, port))

    def accept() -> None:
        while len(came) < times:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            came.append(time.monotonic())
            connection.close()
        server.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield came
    finally:
        if server.fileno() >= 0:
            server.shutdown(socket.SHUT_RDWR)
        thread.join()
        server.close()


def say_where(fabric: Fabric, node: str, address: str) -> None:
    """Replace the address of `node` in the side-car."""
    path = fabric.directory / "ring.json"
    meta = ring_file.meta_path(path)
    facts = json.loads(meta.read_bytes())
    facts["hosts"][node]["address"] = address
    ring_file.write(meta, json.dumps(facts).encode())


def link(fabric: Fabric, node: str, to: str) -> dict[str, object]:
    status = fabric.status(node)
    assert status is not None
    return dict(status["links"].get(to, {}))


def try_to_call(two: Two, host: str) -> None:
    with pytest.raises(oslo_messaging.MessagingException):
        two.call(host, timeout=1)


def test_a_wrong_address_is_dialled_as_rarely_as_zmq_redial_says(make_fabric: Callable[..., Fabric]) -> None:
    """Before: 400 connections in 10 s."""
    fabric, wrong = make_fabric(nodes=2, ring=RING, start=False), "127.0.1.99"
    say_where(fabric, "n2", wrong)
    fabric.start()
    two = Two(fabric)
    with closing(wrong, fabric.port) as came:
        try_to_call(two, "n2")
        eventually(lambda: came)
        eventually(lambda: time.monotonic() - came[0] > 5 * REDIAL, within=6 * REDIAL)
        first = came[0]
        assert 5 <= sum(moment - first <= 5 * REDIAL for moment in came) <= 12
        shown = link(fabric, "n1", "n2")
        assert shown["state"] == "down"
        assert shown["address"] == f"tcp://{wrong}:{fabric.port}"
        assert float(str(shown["since_s"])) > REDIAL
        assert "n2 has another key than the one that is trusted here, or something else listens at" in str(shown["why"])
    say_where(fabric, "n2", fabric.addresses["n2"])
    eventually(lambda: link(fabric, "n1", "n2")["state"] == "up")
    assert two.call("n2") == "noted"


def test_a_wrong_address_that_is_another_nodes_disturbs_that_one_not(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=3, ring={TOPIC: ["n1", "n2", "n3"]}, start=False)
    say_where(fabric, "n3", fabric.addresses["n2"])
    fabric.start()
    two = Two(fabric)
    assert two.call("n2") == "noted"
    refused = lambda: fabric.counter("n2", "refused_handshakes")  # noqa: E731
    client = fabric.client("n1", TOPIC, timeout=1).prepare(server="n3")
    with pytest.raises(oslo_messaging.MessagingException):
        client.call({}, "note", what="lost")
    began, before = time.monotonic(), refused()
    while time.monotonic() - began < 4 * REDIAL:
        assert two.call("n2") == "noted"
    assert refused() - before <= 8
    assert link(fabric, "n1", "n3")["state"] == "down"
    assert fabric.counter("n1", "peers_lost") == 1


def test_a_peer_that_stands_still_or_was_killed_in_a_handshake_is_no_alarm(two: Two) -> None:
    """Before: `refused_by_peers … has another key`."""
    fabric = two.fabric
    fabric.processes["n2"].send_signal(signal.SIGSTOP)
    try:
        try_to_call(two, "n2")
        eventually(lambda: float(str(link(fabric, "n1", "n2").get("since_s", 0))) > 3 * REDIAL, within=20)
        assert link(fabric, "n1", "n2")["state"] == "down"
        assert link(fabric, "n1", "n2")["why"]
    finally:
        fabric.processes["n2"].send_signal(signal.SIGCONT)
    eventually(lambda: link(fabric, "n1", "n2")["state"] == "up")
    fabric.kill("n2")
    eventually(lambda: link(fabric, "n1", "n2")["state"] == "down")
    with closing(fabric.addresses["n2"], fabric.port, times=2) as came:
        eventually(lambda: len(came) == 2)
    eventually(lambda: "closed the connection in the handshake" in str(link(fabric, "n1", "n2")["why"]))
    fabric.start("n2")
    eventually(lambda: link(fabric, "n1", "n2")["state"] == "up")
    assert fabric.counter("n1", "refused_by_peers") == 0
    assert "another key" not in fabric.log("n1").read_text()


def test_a_removed_node_does_not_linger_as_a_link_that_is_down(two: Two) -> None:
    assert two.call("n2") == two.call("n1") == "noted"
    eventually(lambda: link(two.fabric, "n1", "n2")["in_flight"] == 0)
    two.fabric.kill("n2")
    two.fabric.addresses = {"n1": two.fabric.addresses["n1"]}
    two.fabric.write_ring({TOPIC: ["n1"]})
    eventually(lambda: link(two.fabric, "n1", "n2").get("state") == "down")
    eventually(lambda: not link(two.fabric, "n1", "n2"), within=20)
