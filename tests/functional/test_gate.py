"""The gate fails closed: without its answer nobody comes in, and what a peer says of itself is none."""

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fabric import Fabric, eventually
from ports import free_port
from strangers import dealer
from two_nodes import RING, Two, lets_in

from openstack_zeromq import sockets
from openstack_zeromq.security import keys
from openstack_zeromq.security.gate import Gate
from openstack_zeromq.security.trust_folder import TrustFolder


def _raised(exc: Exception) -> None:
    raise exc


@pytest.mark.parametrize("gate", ["none", "silent", "answering"])
def test_without_an_answer_from_the_gate_nobody_comes_in(gate: str, short_path: Path) -> None:
    """Whether it was never made, or stands still: what libzmq does with our options, and only the last one lets in."""
    here, there = keys.new(), keys.new()
    keys.write_public(short_path / "n2.pub", (there.public,), "n2")
    folder, port = TrustFolder(short_path), free_port(["127.0.1.78"])
    context = sockets.context()
    inward = sockets.listening_router(context, 4096, sockets.Pace(handshake=3.0, heartbeat=1.0, redial=2.0), here.secret)
    asked = Gate(context, lambda: folder.trust, lambda _verdict: None, _raised) if gate != "none" else None
    inward.bind(f"tcp://127.0.1.78:{port}")
    try:
        with dealer(f"tcp://127.0.1.78:{port}", pair=there, server_key=here.public) as peer:
            peer.send(b"hello")
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline and not inward.poll(20):
                if asked is not None and gate == "answering":
                    asked.answer()
            assert bool(inward.poll(0)) == (gate == "answering")
    finally:
        if asked is not None:
            asked.close()
        inward.close(0)
        context.term()


def test_a_receiver_that_stands_still_lets_nobody_in_and_goes_on(two: Two) -> None:
    two.fabric.processes["n1"].send_signal(signal.SIGSTOP)
    try:
        assert not lets_in(two.fabric, "n1", "n2", within=2.0)
    finally:
        two.fabric.processes["n1"].send_signal(signal.SIGCONT)
    assert lets_in(two.fabric, "n1", "n2", within=10.0)
    assert two.fabric.counter("n1", "stalls") >= 1
    assert "its loop stood still for" in two.fabric.log("n1").read_text()


def test_what_a_peer_says_of_itself_in_the_handshake_counts_for_nothing(make_fabric: Callable[..., Fabric]) -> None:
    """Without keys libzmq hands on what a peer calls itself, even where that is no text."""
    two = Two(make_fabric(nodes=2, ring=RING, options={"zmq_security": "none"}))
    ready = b"\x05READY" + b"\x0bSocket-Type" + b"\x00\x00\x00\x06DEALER" + b"\x07User-Id" + b"\x00\x00\x00\x02\xff\xfe"
    with socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) as peer:
        peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32))
        # Step by step, as a peer does: libzmq stalls when all comes at once.
        peer.recv(64, socket.MSG_WAITALL)
        peer.sendall(b"\x04" + bytes([len(ready)]) + ready)
        peer.recv(43, socket.MSG_WAITALL)
        peer.sendall(b"\x00\x05hello")
        eventually(lambda: two.fabric.counter("n1", "malformed") > 0)
    assert two.call("n1") == "noted"
