"""Trust changes while receivers run: who loses it is cut off at once, new keys are taken up, and nobody else notices."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import oslo_messaging
import pytest
import zmq
from fabric import Fabric, eventually
from strangers import cast, dealer
from two_nodes import RING, Two, assert_nothing_came_in
from zmq.utils import z85

from openstack_zeromq import wire
from openstack_zeromq.security import keys

CUT_WITHIN = 1.0
MUCH = 20_000
"""More messages than a receiver reads between two looks at whom it trusts."""
MANY_NODES = 13_000
IDLE_SHARE = 0.01
"""Of a core: what such a folder may cost more than one of two keys, on the same machine at the same time."""


@pytest.mark.quick("keys")
@pytest.mark.alone
def test_a_host_that_is_trusted_no_more_is_cut_off_at_once_and_comes_back_when_it_is(two: Two) -> None:
    assert two.call("n1") == two.call("n2") == "noted"
    assert (two.link("n1", "n2"), two.link("n2", "n1")) == ("up", "up")
    public = two.fabric.public_file("n2").read_bytes()
    two.fabric.public_file("n2").unlink()
    began = time.monotonic()
    eventually(lambda: two.link("n1", "n2") == "down" and two.fabric.counter("n1", "evicted") > 0, within=CUT_WITHIN)
    assert time.monotonic() - began <= CUT_WITHIN
    with pytest.raises(oslo_messaging.MessagingException):
        two.call("n2", "out", timeout=2)
    with pytest.raises(oslo_messaging.MessagingException):
        two.call("n1", "in", timeout=2)
    assert "in" not in two.heard["n1"].notes
    assert "has no key of it; put its public key there as n2.pub" in two.fabric.log("n1").read_text()

    two.fabric.public_file("n2").write_bytes(public)
    eventually(lambda: two.link("n1", "n2") == "up")
    assert two.call("n2") == "noted"
    assert two.call("n1") == "noted"


def test_what_a_host_said_before_it_was_cut_off_and_nobody_read_counts_for_nothing(two: Two) -> None:
    """It may have said much: here while the receiver stood still."""
    with dealer(two.fabric.door("n1"), pair=two.fabric.pair_of("n2"), server_key=two.fabric.key_of("n1")) as peer:
        peer.send(wire.encode_control(wire.Kind.PING, node="n2", incarnation=5))
        peer.recv()
        two.fabric.processes["n1"].send_signal(signal.SIGSTOP)
        for number in range(MUCH):
            peer.send_multipart(cast("n2", number=number + 1))
        two.fabric.public_file("n2").unlink()
        two.fabric.processes["n1"].send_signal(signal.SIGCONT)
        eventually(lambda: two.fabric.counter("n1", "evicted") > 0, within=5)
        let_in = two.fabric.counter("n1", "arrived")
        time.sleep(1.0)
        assert two.fabric.counter("n1", "arrived") == let_in < MUCH, "no word of it is heard any more"


@pytest.mark.alone
def test_a_removed_key_counts_though_another_file_is_broken(two: Two) -> None:
    assert two.call("n2") == "noted"
    two.fabric.public_file("n9").write_text("half a ke")
    two.fabric.public_file("n2").unlink()
    eventually(lambda: two.link("n1", "n2") == "down", within=CUT_WITHIN)


@pytest.mark.alone
def test_a_key_that_its_host_has_no_more_does_not_come_in(two: Two) -> None:
    lost = two.fabric.pair_of("n2")
    fresh = keys.new()
    keys.write_secret(two.fabric.secret_file("n2"), fresh, "n2")
    keys.write_public(two.fabric.public_file("n2"), (fresh.public,), "n2")
    assert two.fabric.stop("n2") == 0
    two.fabric.start("n2")
    two.seen()
    with dealer(two.fabric.door("n1"), pair=lost, server_key=two.fabric.key_of("n1")) as peer:
        assert_nothing_came_in(two, cast("n2"), peer)


def restart(two: Two, node: str) -> None:
    assert two.fabric.stop(node) == 0
    two.fabric.start(node)


def reload(two: Two, node: str) -> None:
    two.fabric.processes[node].send_signal(signal.SIGHUP)


@pytest.mark.parametrize("take_into_use", [restart, reload], ids=["restart", "reload"])
def test_keys_of_all_nodes_are_rotated_under_calls_and_none_fails(two: Two, take_into_use: Callable[[Two, str], None]) -> None:
    """Over a reload not even those that would rather fail than wait."""
    options = {"transport_options": {"at_least_once": True}} if take_into_use is reload else {}
    stop, failed, done = threading.Event(), [], []

    def calling(host: str) -> None:
        while not stop.is_set():
            try:
                done.append(two.call(host, **options))
            except oslo_messaging.MessagingException as exc:
                failed.append(f"{host}: {exc}")

    callers = [threading.Thread(target=calling, args=(host,)) for host in two.heard]
    for caller in callers:
        caller.start()
    try:
        before = {node: two.fabric.pair_of(node) for node in two.heard}
        after = {node: keys.new() for node in two.heard}
        for node in two.heard:  # published beside the old ones
            keys.write_public(two.fabric.public_file(node), (before[node].public, after[node].public), node)
        for node in two.heard:  # switched, one node after the other
            two.seen()
            keys.write_secret(two.fabric.secret_file(node), after[node], node)
            take_into_use(two, node)
            eventually(lambda node=node: two.key_in_use(node) == after[node].public)
            count = len(done)
            eventually(lambda count=count: len(done) > count + 20)
        for node in two.heard:  # withdrawn
            keys.write_public(two.fabric.public_file(node), (after[node].public,), node)
        two.seen()
        count = len(done)
        eventually(lambda: len(done) > count + 50)
    finally:
        stop.set()
        for caller in callers:
            caller.join(20)
    assert not failed
    assert [two.fabric.counter(node, "evicted") for node in two.heard] == [0, 0]
    assert [two.fabric.counter(node, "refused_by_peers") for node in two.heard] == [0, 0], "the second key is tried at once"
    for node, pair in before.items():
        with dealer(two.fabric.door("n1"), pair=pair, server_key=after["n1"].public) as peer:
            peer.set(zmq.RCVTIMEO, 300)
            peer.send_multipart(cast(node, "old key"))
            with pytest.raises(zmq.Again):
                peer.recv_multipart()
    assert "old key" not in two.heard["n1"].notes


def test_a_node_may_have_more_keys_in_its_life_than_a_peer_connections(make_fabric: Callable[..., Fabric]) -> None:
    two = Two(make_fabric(nodes=2, ring=RING, options={"zmq_connections_per_peer": 4}))
    for number in range(10):
        before, after = two.fabric.pair_of("n1"), keys.new()
        keys.write_public(two.fabric.public_file("n1"), (before.public, after.public), "n1")
        two.seen()
        keys.write_secret(two.fabric.secret_file("n1"), after, "n1")
        reload(two, "n1")
        eventually(lambda after=after: two.key_in_use("n1") == after.public)
        assert two.call("n1", f"{number}") == two.call("n2") == "noted"
        keys.write_public(two.fabric.public_file("n1"), (after.public,), "n1")
        two.seen()
    counters = two.fabric.status("n1")["counters"]
    assert (counters["crowds"], counters["evicted"], counters["refused_keys"]) == (0, 0, 0)


def test_a_key_that_the_others_are_not_told_is_not_taken_into_use(two: Two) -> None:
    """Nor is anything that is no key; and what was put there and not taken into use is told."""
    in_use = two.key_in_use("n1")
    problem = lambda: str(two.fabric.status("n1")["security"]["problem"])  # noqa: E731
    keys.write_secret(two.fabric.secret_file("n1"), keys.new(), "n1")
    eventually(
        lambda: problem().endswith(
            "n1.key was changed; `systemctl reload openstack-zeromq-receiver` (SIGHUP) takes what is there into use"
        )
    )
    reload(two, "n1")
    eventually(lambda: "does not hold the key of this node" in problem())
    two.fabric.secret_file("n1").write_text("%" * 40)  # more than 32 bytes
    reload(two, "n1")
    eventually(lambda: "is no key file" in problem())
    assert two.key_in_use("n1") == in_use
    assert two.call("n1") == two.call("n2") == "noted"
    assert f"{two.fabric.secret_file('n1')} is no key file" in two.fabric.log("n1").read_text()


def test_a_half_written_folder_changes_nothing_and_is_told(two: Two) -> None:
    two.fabric.public_file("n2").write_text("# Public key of node n2\nabc\n")
    eventually(lambda: "is no key file" in two.fabric.status("n1")["security"]["problem"])
    assert two.call("n2") == two.call("n1") == "noted"
    assert "for these hosts trust stays as it was" in two.fabric.log("n1").read_text()


def processor_seconds(pid: int) -> float:
    """Of all its threads, so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@pytest.mark.alone
def test_a_folder_of_a_large_fabric_with_a_broken_file_costs_next_to_nothing(make_fabric: Callable[..., Fabric]) -> None:
    """Before: 92 % of a core and no calls while the broken file lay there."""
    fabric = make_fabric(nodes=2, ring=RING)
    for number in range(MANY_NODES):
        fabric.public_file(f"h{number}").write_text(z85.encode(os.urandom(32)).decode())
    fabric.public_file("broken").write_text("half a ke")
    eventually(lambda: fabric.status("n1")["security"]["trusted_hosts"] == MANY_NODES + 2, within=60)
    assert "broken.pub is no key file" in fabric.status("n1")["security"]["problem"]
    small = make_fabric(nodes=2, ring=RING)
    receivers, costs = (fabric.processes["n1"].pid, small.processes["n1"].pid), []

    def costs_of_the_folder() -> float:
        before = list(map(processor_seconds, receivers))
        time.sleep(15)  # what is measured is a stretch of time in which nothing happens
        large, few = (processor_seconds(pid) - so_far for pid, so_far in zip(receivers, before, strict=True))
        costs.append((large - few) / 15)
        return costs[-1]

    eventually(lambda: costs_of_the_folder() <= IDLE_SHARE or len(costs) == 3, within=60)
    assert costs[-1] <= IDLE_SHARE, costs
    two = Two(fabric)
    assert two.call("n1") == two.call("n2") == "noted"
    began = time.monotonic()
    keys.write_public(fabric.public_file("n9"), (keys.new().public,), "n9")
    eventually(lambda: fabric.status("n1")["security"]["trusted_hosts"] == MANY_NODES + 3, within=CUT_WITHIN)
    assert time.monotonic() - began <= CUT_WITHIN
    for _ in range(20):
        two.call("n2", timeout=1)
    fabric.public_file("n2").unlink()
    eventually(lambda: two.link("n1", "n2") == "down", within=CUT_WITHIN)
