"""Notifications that no listener consumes: senders never wait for one, the newest are kept, and what is dropped is counted."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

import oslo_messaging
import pytest
from click.testing import CliRunner
from fabric import Fabric, eventually

from openstack_zeromq.cli.zmqctl import main

BACKLOG = 1000
SENT = 25_000
TOPIC = "nobody"


class Endpoint:
    """Collects the numbers of the notifications that it gets."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._lock = Lock()

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        with self._lock:
            self.numbers.append(payload["number"])


@pytest.fixture
def fabric(make_fabric: Callable[..., Fabric]) -> Fabric:
    return make_fabric(nodes=1, options={"rpc_zmq_topic_backlog": BACKLOG})


def test_notifications_to_nobody_never_hang_and_a_later_listener_gets_the_newest_in_order(fabric: Fabric) -> None:
    notifier = fabric.notifier("n1", TOPIC)
    slowest = 0.0
    for number in range(SENT):
        begun = time.monotonic()
        notifier.info({}, "test", {"number": number})
        slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 5.0
    assert fabric.counter("n1", "overflowed") == SENT - BACKLOG
    status = fabric.status("n1")
    assert status is not None
    assert status["unconsumed"] == [
        {"topic": f"openstack/{TOPIC}.info", "waiting": BACKLOG, "dropped": SENT - BACKLOG},
    ]
    assert fabric.log("n1").read_text().count("overflowed from") == 1
    shown = CliRunner().invoke(main, ["status", "--config-file", str(fabric.config_file("n1"))]).stdout
    [row] = [line.split() for line in shown.splitlines() if line.startswith("openstack/")]
    assert row == [f"openstack/{TOPIC}.info", str(BACKLOG), str(SENT - BACKLOG)]
    endpoint = Endpoint()
    fabric.notification_listener("n1", TOPIC, endpoint)
    eventually(lambda: len(endpoint.numbers) == BACKLOG, within=20)
    assert endpoint.numbers == list(range(SENT - BACKLOG, SENT))


def test_the_first_notification_of_another_process_does_not_hang_either(fabric: Fabric) -> None:
    """Another connection, as another process has one: the first one fills the queue."""
    notifier = fabric.notifier("n1", TOPIC)
    for number in range(BACKLOG + 1):
        notifier.info({}, "test", {"number": number})
    notifier.transport.cleanup()
    begun = time.monotonic()
    fabric.notifier("n1", TOPIC).info({}, "test", {"number": BACKLOG + 1})
    assert time.monotonic() - begun < 5.0
    assert fabric.counter("n1", "overflowed") == 2


def test_what_waits_survives_a_restart_of_the_receiver_while_its_sender_lives(fabric: Fabric) -> None:
    notifier = fabric.notifier("n1", TOPIC)
    for number in range(3 * BACKLOG):
        notifier.info({}, "test", {"number": number})
    fabric.kill("n1")
    fabric.start("n1")
    endpoint = Endpoint()
    fabric.notification_listener("n1", TOPIC, endpoint)
    eventually(lambda: len(endpoint.numbers) == BACKLOG, within=20)
    assert endpoint.numbers == list(range(2 * BACKLOG, 3 * BACKLOG))


class Slow:
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        self.busy = Lock()

    def info(self, ctxt: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        with self.busy:
            return


def test_a_full_queue_of_a_slow_listener_is_told_at_once_to_a_sender_that_does_not_retry(
    make_fabric: Callable[..., Fabric],
) -> None:
    """The queue cannot drop what a listener may already have; the error says that the queue is full, not that the receiver is
    away."""
    fabric = make_fabric(nodes=1, options={"rpc_zmq_topic_backlog": 10, "zmq_consumer_credit": 1})
    slow = Slow()
    with slow.busy:
        fabric.notification_listener("n1", TOPIC, slow)
        transport = oslo_messaging.get_notification_transport(fabric.conf("n1"), "zmq://")
        target = oslo_messaging.Target(topic=f"{TOPIC}.info")
        note = {"payload": {"number": 0}, "event_type": "t", "publisher_id": "p", "priority": "INFO"}
        begun, failure = time.monotonic(), None
        for _ in range(100):
            begun = time.monotonic()
            try:
                transport._send_notification(target, {}, note, 2.0, retry=0)
            except oslo_messaging.MessageDeliveryFailure as exc:
                failure = str(exc)
                break
        assert failure is not None
        assert time.monotonic() - begun < 0.5
        assert "full" in failure
        assert "running" not in failure
        transport.cleanup()
