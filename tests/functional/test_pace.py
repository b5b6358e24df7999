"""The pace of links is an option: how soon strangers must have said who they are, and a silent node counts as down."""

import signal
import socket
from collections.abc import Callable

import pytest
from fabric import Fabric, eventually
from strangers import until_closed
from two_nodes import RING, Two

SOONER = 2.5
"""Seconds; by default both take three or more."""


@pytest.mark.alone
def test_a_handshake_may_take_as_long_as_the_option_says(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, options={"zmq_handshake_timeout": 0.5})
    with socket.create_connection((fabric.addresses["n1"], fabric.port), timeout=SOONER) as half:
        half.sendall(b"\xff" + bytes(8) + b"\x7f")
        until_closed(half)


@pytest.mark.alone
def test_a_node_that_falls_silent_is_down_as_soon_as_the_option_says(make_fabric: Callable[..., Fabric]) -> None:
    two = Two(make_fabric(nodes=2, ring=RING, options={"zmq_heartbeat": 0.2, "zmq_redial": 0.5}))
    assert two.call("n2") == "noted"
    two.fabric.processes["n2"].send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: two.link("n1", "n2") == "down", within=SOONER)
    finally:
        two.fabric.processes["n2"].send_signal(signal.SIGCONT)
    eventually(lambda: two.link("n1", "n2") == "up", within=SOONER)
    assert two.call("n2") == "noted"
