"""Outsiders: who has no trusted key, or speaks in another's name, gets nothing in and nothing out, and holds up nobody."""

import socket
import time
from collections.abc import Callable, Iterator

import oslo_messaging
import pytest
from fabric import Fabric, eventually
from strangers import JUNK, cast, dealer, listener, until_closed
from two_nodes import RING, Two, assert_nothing_came_in, lets_in

from openstack_zeromq import wire
from openstack_zeromq.security import keys
from openstack_zeromq.wire import Answer


@pytest.mark.quick("keys")
def test_a_peer_without_a_key_is_refused(two: Two) -> None:
    with dealer(two.fabric.door("n1")) as peer:
        assert_nothing_came_in(two, cast("n2"), peer)
    assert two.fabric.counter("n1", "refused_handshakes") > 0


@pytest.mark.quick("keys")
def test_a_key_that_nobody_trusts_is_refused_and_named(two: Two) -> None:
    stranger = keys.new()
    with dealer(two.fabric.door("n1"), pair=stranger, server_key=two.fabric.key_of("n1")) as peer:
        assert_nothing_came_in(two, cast("n2"), peer)
    assert two.fabric.counter("n1", "refused_keys") > 0
    log = two.fabric.log("n1").read_text()
    assert f"its key is not trusted {stranger.public[:8]}" in log
    assert "refused_keys from 127.0.0.1" in log


def test_who_expects_another_key_of_this_node_gets_nothing_from_it(two: Two) -> None:
    with dealer(two.fabric.door("n1"), pair=two.fabric.pair_of("n2"), server_key=keys.new().public) as peer:
        assert_nothing_came_in(two, cast("n2"), peer)


@pytest.mark.quick("keys")
def test_a_node_with_a_good_key_cannot_speak_in_the_name_of_another(two: Two) -> None:
    with dealer(two.fabric.door("n1"), pair=two.fabric.pair_of("n2"), server_key=two.fabric.key_of("n1")) as peer:
        assert_nothing_came_in(two, cast("n1"), peer)
        assert two.fabric.counter("n1", "misnamed") > 0
        peer.send(wire.encode_control(wire.Kind.PING, node="n1", incarnation=5))
        eventually(lambda: two.fabric.counter("n1", "misnamed") > 1)
        # In its own name it is heard.
        peer.send_multipart(cast("n2", "mine"))
        (entry,) = wire.decode_answers(peer.recv())
        assert entry.answer is Answer.TAKEN
    assert "n2: it speaks in the name of node 'n1'; its rpc_zmq_host must be n2" in two.fabric.log("n1").read_text()


def test_who_listens_in_the_place_of_a_node_gets_nothing_and_is_told_of(two: Two) -> None:
    """It has that node's address, and another key."""
    fabric = two.fabric
    assert fabric.stop("n2") == 0
    with listener(fabric.door("n2"), keys.new()) as there:
        with pytest.raises(oslo_messaging.MessagingException):
            two.call("n2", "secret", timeout=3)
        assert fabric.counter("n1", "refused_by_peers") > 0
        assert not there.poll(0), "not a word"
    assert "n2 has another key than the one that is trusted here" in fabric.log("n1").read_text()


@pytest.mark.quick("keys")
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_what_does_not_speak_our_protocol_is_counted_and_closed(one_of_two: Two, junk: bytes) -> None:
    two = one_of_two
    before = two.fabric.counter("n1", "refused_handshakes")
    for _ in range(3):
        with socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) as connection:
            connection.sendall(junk)
            until_closed(connection)
    eventually(lambda: two.fabric.counter("n1", "refused_handshakes") >= before + 3, within=3)
    assert two.call("n1") == "noted"


@pytest.fixture(scope="module")
def one_of_two() -> Iterator[Two]:
    fabric = Fabric(nodes=2, ring=RING)
    try:
        fabric.start()
        yield Two(fabric)
    finally:
        fabric.close()


def test_a_handshake_that_stops_half_way_or_creeps_is_ended_and_holds_up_nobody(two: Two) -> None:
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(15) + bytes(32)
    began = time.monotonic()
    with (
        socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) as half,
        socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) as slow,
    ):
        half.sendall(greeting)
        for byte in greeting:
            try:
                slow.sendall(bytes([byte]))
            except OSError:
                break
            assert two.call("n1") == "noted"
            time.sleep(0.1)
        until_closed(half)
        until_closed(slow)
    assert time.monotonic() - began < 20
    eventually(lambda: two.fabric.counter("n1", "refused_handshakes") >= 2, within=3)


def test_one_stranger_gets_no_more_connections_than_one_peer_may_have(make_fabric: Callable[..., Fabric]) -> None:
    two = Two(make_fabric(nodes=2, ring=RING, options={"zmq_connections_per_peer": 5}))
    assert two.call("n1") == "noted"  # n2's link comes from this address, too
    open_ = [socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) for _ in range(10)]
    try:
        eventually(lambda: two.fabric.counter("n1", "crowds") >= 5, within=3)
        assert sum(map(_has_ended, open_)) >= 5
        assert (
            "crowds from 127.0.0.1: it has 5 connections (zmq_connections_per_peer); no more" in two.fabric.log("n1").read_text()
        )
        assert two.call("n1") == "noted"
    finally:
        for connection in open_:
            connection.close()
    eventually(lambda: lets_in(two.fabric, "n1", "n2", within=1.0))


def _has_ended(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        while connection.recv(1024):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True
