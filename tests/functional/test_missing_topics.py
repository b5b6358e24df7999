"""Topics that a ring lacks: the node that serves them says so, peers route to it, `zmqctl ring missing` prints what to add."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import oslo_messaging
import pytest
from click.testing import CliRunner
from fabric import Fabric, eventually

from openstack_zeromq.cli.zmqctl import main

TOPIC = "q-agent-notifier-port-update"
"""Neutron's; not in the ring."""


class Endpoint:
    """Counts what it is asked to note, and says where it is."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.noted: list[int] = []
        self._lock = Lock()

    def note(self, ctxt: Any, number: int) -> None:
        with self._lock:
            self.noted.append(number)

    def where(self, ctxt: Any) -> str:
        return self.node

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        with self._lock:
            self.noted.append(payload)


@pytest.fixture
def fabric(make_fabric: Callable[..., Fabric]) -> Fabric:
    """The ring has one topic, which nothing here uses."""
    return make_fabric(nodes=2, ring={"compute": ["n1", "n2"]})


def test_fanouts_calls_and_casts_reach_a_listener_whose_topic_the_ring_lacks(fabric: Fabric) -> None:
    endpoint = Endpoint("n2")
    fabric.server("n2", TOPIC, endpoint, server="agent@ovs")
    client = fabric.client("n1", TOPIC)
    for number in range(20):
        client.prepare(fanout=True).cast({}, "note", number=number)
    eventually(lambda: sorted(endpoint.noted) == list(range(20)))
    assert client.call({}, "where") == "n2"
    assert client.prepare(server="agent@ovs").call({}, "where") == "n2"
    client.cast({}, "note", number=20)
    eventually(lambda: 20 in endpoint.noted)
    assert fabric.counter("n1", "fanouts_to_nobody") == 0


def test_at_least_once_finds_it_too_and_fails_at_once_where_nothing_listens(fabric: Fabric) -> None:
    fabric.server("n2", TOPIC, Endpoint("n2"))
    options = oslo_messaging.TransportOptions(at_least_once=True)
    client = fabric.client("n1", TOPIC).prepare(transport_options=options)
    assert client.call({}, "where") == "n2"
    with pytest.raises(oslo_messaging.MessageUndeliverable):
        fabric.client("n1", "nowhere").prepare(transport_options=options).call({}, "where")


def test_notifications_reach_a_listener_whose_topic_the_ring_lacks(fabric: Fabric) -> None:
    endpoint = Endpoint("n2")
    fabric.notification_listener("n2", "versioned_notifications", endpoint)
    fabric.notifier("n1", "versioned_notifications").info({}, "test", 1)
    eventually(lambda: endpoint.noted == [1])


def test_a_fanout_that_goes_to_nobody_is_counted_by_topic_and_returns_at_once(fabric: Fabric) -> None:
    client = fabric.client("n1", "nowhere", exchange="neutron")
    for _ in range(3):
        client.prepare(fanout=True).cast({}, "note", number=1)
    eventually(lambda: fabric.counter("n1", "fanouts_to_nobody") == 3)
    status = fabric.status("n1")
    assert status is not None
    assert status["fanouts_to_nobody"] == {"neutron/nowhere": 3}


def test_the_node_that_serves_it_says_so_in_its_log_once_in_a_counter_and_in_its_status(fabric: Fabric) -> None:
    fabric.server("n2", TOPIC, Endpoint("n2"))
    eventually(lambda: fabric.counter("n2", "unlisted") == 1, within=20)
    assert fabric.counter("n1", "unlisted") == 0
    said = [line for line in fabric.log("n2").read_text().splitlines() if "unlisted" in line]
    assert len(said) == 1
    assert TOPIC in said[0]
    assert "zmqctl ring missing" in said[0]
    shown = CliRunner().invoke(main, ["status", "--config-file", str(fabric.config_file("n2"))]).stdout
    assert f"the ring does not list this node for: {TOPIC}" in shown


def test_ring_missing_asks_all_nodes_and_prints_what_to_add(fabric: Fabric) -> None:
    command = ["ring", "missing", "--config-file", str(fabric.config_file("n1"))]
    nothing = CliRunner().invoke(main, command)
    assert (nothing.exit_code, nothing.stdout) == (0, "# the rings of 2 nodes lack nothing\n")
    fabric.server("n1", TOPIC, Endpoint("n1"))
    fabric.server("n2", TOPIC, Endpoint("n2"))
    fabric.server("n2", "cinder-volume.n2@lvm", Endpoint("n2"))

    def missing() -> Any:
        found = CliRunner().invoke(main, command)
        return found if "cinder-volume.n2@lvm" in found.stdout and "[n1, n2]" in found.stdout else None

    found = eventually(missing, within=20)
    assert found.exit_code == 1
    assert f"  {TOPIC}: [n1, n2]\n" in found.stdout
    assert "  cinder-volume.n2@lvm: [n2]\n" in found.stdout
    assert "zeromq_matchmaker_topics:\n" in found.stdout


def test_ring_missing_names_the_nodes_that_did_not_answer(fabric: Fabric) -> None:
    fabric.stop("n2")
    found = CliRunner().invoke(main, ["ring", "missing", "--config-file", str(fabric.config_file("n1"))])
    assert found.exit_code == 2
    assert "n2 did not answer" in found.stderr


def test_a_ring_that_gets_the_topic_is_believed_and_the_announcement_ends(fabric: Fabric) -> None:
    fabric.server("n2", TOPIC, Endpoint("n2"))
    client = fabric.client("n1", TOPIC)
    assert client.call({}, "where") == "n2"
    fabric.write_ring({"compute": ["n1", "n2"], TOPIC: ["n2"]})
    eventually(lambda: fabric.status("n1")["announced"] == {})  # type: ignore[index]
    assert fabric.status("n2")["unlisted"] == []  # type: ignore[index]
    assert client.call({}, "where") == "n2"
