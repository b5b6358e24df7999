"""What users are promised, checked with real receivers and real oslo.messaging."""

import threading
import time
from collections import Counter
from typing import Any

import oslo_messaging
import pytest
from fabric import Fabric, eventually


class Endpoint:
    """An RPC endpoint that remembers what it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: Counter[Any] = Counter()

    def who(self, _ctxt: dict[str, Any]) -> str:
        return self.name

    def echo(self, _ctxt: dict[str, Any], what: Any) -> Any:
        return what

    def context(self, ctxt: dict[str, Any]) -> dict[str, Any]:
        return ctxt

    def note(self, _ctxt: dict[str, Any], what: Any) -> None:
        self.seen[what] += 1

    def fail(self, _ctxt: dict[str, Any]) -> None:
        raise ValueError("as asked")

    def unserialisable(self, _ctxt: dict[str, Any]) -> object:
        return {("a", "tuple"): "is no JSON key"}

    def slow(self, _ctxt: dict[str, Any], seconds: float) -> str:
        time.sleep(seconds)
        return self.name


class Listener:
    """A notification endpoint."""

    def __init__(self, requeue_first: bool = False) -> None:
        self.got: list[Any] = []
        self.requeue_first = requeue_first

    def info(self, _ctxt: dict[str, Any], _publisher: str, _event: str, payload: Any, _metadata: Any) -> Any:
        self.got.append(payload)
        if self.requeue_first:
            self.requeue_first = False
            return oslo_messaging.NotificationResult.REQUEUE
        return oslo_messaging.NotificationResult.HANDLED


RING = {"compute": ["n1", "n2"], "notes.info": ["n1", "n2"]}


@pytest.fixture
def two(make_fabric: Any) -> Fabric:
    return make_fabric(nodes=2, ring=RING)


def _endpoints(fabric: Fabric, topic: str = "compute") -> dict[str, Endpoint]:
    endpoints = {node: Endpoint(node) for node in fabric.addresses}
    for node, endpoint in endpoints.items():
        fabric.server(node, topic, endpoint)
    return endpoints


@pytest.mark.quick("call")
def test_a_directed_call_reaches_its_node_and_a_bare_one_goes_round_robin(two: Fabric) -> None:
    _endpoints(two)
    client = two.client("n1", "compute")
    assert [client.prepare(server=node).call({}, "who") for node in ("n1", "n2", "n1")] == ["n1", "n2", "n1"]
    assert Counter(client.call({}, "who") for _ in range(10)) == {"n1": 5, "n2": 5}


@pytest.mark.quick("call")
def test_context_and_arguments_travel_verbatim(two: Fabric) -> None:
    _endpoints(two)
    client = two.client("n1", "compute", server="n2")
    context = {"user": "ü", "trace": {"id": [1, 2.5, None, True]}}
    assert client.call(context, "context") == context
    assert client.call({}, "echo", what="x" * 300_000) == "x" * 300_000


@pytest.mark.quick("call")
def test_a_remote_exception_is_raised_in_the_caller_and_an_unserialisable_reply_at_once(two: Fabric) -> None:
    _endpoints(two)
    client = two.client("n1", "compute", server="n2")
    with pytest.raises(ValueError, match="as asked"):
        client.call({}, "fail")
    begun = time.monotonic()
    with pytest.raises((TypeError, ValueError, oslo_messaging.RemoteError)):
        client.call({}, "unserialisable")
    assert time.monotonic() - begun < 5


@pytest.mark.quick("cast")
def test_a_cast_is_delivered_exactly_once_and_a_fanout_to_every_node(two: Fabric) -> None:
    endpoints = _endpoints(two)
    client = two.client("n1", "compute")
    for number in range(200):
        client.cast({}, "note", what=number)
    eventually(lambda: sum(sum(endpoint.seen.values()) for endpoint in endpoints.values()) == 200)
    assert sum((endpoint.seen for endpoint in endpoints.values()), Counter()) == dict.fromkeys(range(200), 1)
    fanout = client.prepare(fanout=True)
    for number in range(100):
        fanout.cast({}, "note", what=f"all {number}")
    for endpoint in endpoints.values():
        eventually(lambda endpoint=endpoint: sum(str(what).startswith("all") for what in endpoint.seen) == 100)
        assert max(endpoint.seen.values()) == 1


@pytest.mark.quick("fanout")
def test_a_fanout_to_a_topic_that_nobody_serves_returns_at_once(two: Fabric) -> None:
    client = two.client("n1", "nobody", fanout=True)
    begun = time.monotonic()
    client.cast({}, "note", what=1)
    assert time.monotonic() - begun < 2


@pytest.mark.quick("notification")
def test_notifications_wait_for_a_listener_and_listeners_share_them(two: Fabric) -> None:
    notifier = two.notifier("n1", "notes")
    for number in range(30):
        notifier.info({}, "event", number)
    listeners = [Listener(), Listener()]
    for node, listener in zip(two.addresses, listeners, strict=True):
        two.notification_listener(node, "notes", listener)
    eventually(lambda: len(listeners[0].got) + len(listeners[1].got) == 30)
    for number in range(30, 60):
        notifier.info({}, "event", number)
    eventually(lambda: len(listeners[0].got) + len(listeners[1].got) == 60)
    assert sorted(listeners[0].got + listeners[1].got) == list(range(60))
    assert listeners[0].got
    assert listeners[1].got


@pytest.mark.quick("notification")
def test_each_pool_gets_a_copy_and_a_requeued_notification_comes_again(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, ring={"notes.info": ["n1"]})
    shared, pool = Listener(), Listener(requeue_first=True)
    fabric.notification_listener("n1", "notes", shared)
    fabric.notification_listener("n1", "notes", pool, pool="audit")
    fabric.notifier("n1", "notes").info({}, "event", "hello")
    eventually(lambda: shared.got == ["hello"] and pool.got == ["hello", "hello"])


@pytest.mark.quick("notification")
def test_a_pool_on_another_node_gets_its_copy_too(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=3, ring={"notes.info": ["n1", "n2", "n3"]})
    shared, pool, elsewhere = Listener(), Listener(), Listener()
    fabric.notification_listener("n1", "notes", shared)
    fabric.notification_listener("n2", "notes", pool, pool="audit")
    fabric.notification_listener("n3", "notes", elsewhere, pool="billing")
    notifier = fabric.notifier("n1", "notes")
    for number in range(20):
        notifier.info({}, "event", number)
    eventually(lambda: all(sorted(listener.got) == list(range(20)) for listener in (shared, pool, elsewhere)))


def test_a_batch_is_filled_even_when_it_is_larger_than_the_credit(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, ring={"notes.info": ["n1"]}, options={"zmq_consumer_credit": 8})
    batches: list[int] = []

    class Batch:
        def info(self, messages: list[Any]) -> None:
            batches.append(len(messages))

    notifier = fabric.notifier("n1", "notes")
    for number in range(60):
        notifier.info({}, "event", number)
    fabric.batch_listener("n1", "notes", Batch(), batch_size=25, batch_timeout=1)
    eventually(lambda: sum(batches) == 60)
    assert batches == [25, 25, 10]


@pytest.mark.quick("call")
def test_exchanges_isolate(two: Fabric) -> None:
    nova, other = Endpoint("nova"), Endpoint("other")
    two.server("n2", "compute", nova, exchange="nova")
    two.server("n2", "compute", other, exchange="other")
    assert two.client("n1", "compute", exchange="nova").call({}, "who") == "nova"
    assert two.client("n1", "compute", exchange="other").call({}, "who") == "other"


@pytest.mark.quick("call")
@pytest.mark.parametrize("server", ["host@lvm#pool", "cvol@b1", "a/../b", "…/ünï", "x" * 300, ".", "with space\nand line"])
def test_server_names_are_free_text(two: Fabric, server: str) -> None:
    two.server("n2", "compute", Endpoint(server), server=server)
    assert two.client("n1", "compute", server=server).call({}, "who") == server


@pytest.mark.quick("call")
def test_names_that_are_prefixes_of_each_other_do_not_mix(make_fabric: Any) -> None:
    topics = ["compute", "compute_agent", "compute.n1", "comp"]
    fabric = make_fabric(nodes=1, ring={topic: ["n1"] for topic in topics})
    for topic in topics:
        fabric.server("n1", topic, Endpoint(topic))
    assert [fabric.client("n1", topic).call({}, "who") for topic in topics] == topics


@pytest.mark.quick("call")
def test_several_servers_under_one_name_share_the_calls_and_stopping_one_leaves_the_others(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, ring={"conductor": ["n1"]})
    servers = [fabric.server("n1", "conductor", Endpoint(str(number)), server="0.0.0.0") for number in range(3)]  # noqa: S104
    client = fabric.client("n1", "conductor", server="0.0.0.0")  # noqa: S104
    assert Counter(client.call({}, "who") for _ in range(9)) == {"0": 3, "1": 3, "2": 3}
    servers[1].stop()
    servers[1].wait()
    assert Counter(client.call({}, "who") for _ in range(8)) == {"0": 4, "2": 4}


@pytest.mark.quick("call")
@pytest.mark.alone
def test_a_call_to_nobody_times_out_in_time(two: Fabric) -> None:
    for target in ({}, {"server": "n2"}):
        client = two.client("n1", "nobody", timeout=1, **target)
        begun = time.monotonic()
        with pytest.raises(oslo_messaging.MessagingTimeout):
            client.call({}, "who")
        assert 0.9 < time.monotonic() - begun < 2


@pytest.mark.quick("call")
@pytest.mark.alone
def test_a_call_to_a_node_that_is_down_times_out_in_time(two: Fabric) -> None:
    _endpoints(two)
    two.kill("n2")
    client = two.client("n1", "compute", server="n2", timeout=1)
    begun = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        client.call({}, "who")
    assert time.monotonic() - begun < 2


def test_at_least_once_says_that_nobody_listens(two: Fabric) -> None:
    options = oslo_messaging.TransportOptions(at_least_once=True)
    client = oslo_messaging.get_rpc_client(
        two.transport("n1"), oslo_messaging.Target(topic="nobody"), timeout=10, transport_options=options
    )
    with pytest.raises(oslo_messaging.MessageUndeliverable):
        client.call({}, "who")


@pytest.mark.quick("call")
def test_a_monitored_call_lives_on_signs_of_life_and_dies_without(two: Fabric) -> None:
    _endpoints(two)
    client = two.client("n1", "compute", server="n2", timeout=20)
    assert client.prepare(call_monitor_timeout=2).call({}, "slow", seconds=3.5) == "n2"
    two.kill("n2")
    begun = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        client.prepare(call_monitor_timeout=2).call({}, "who")
    assert time.monotonic() - begun < 4


@pytest.mark.quick("cast")
def test_without_a_receiver_a_limited_retry_fails_and_says_why(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, ring=RING, start=False)
    client = fabric.client("n1", "compute").prepare(retry=0)
    with pytest.raises(oslo_messaging.MessageDeliveryFailure, match="start oslo-messaging-zmq-receiver"):
        client.cast({}, "note", what=1)


def test_a_listener_that_starts_before_its_receiver_is_served_when_it_comes(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, ring=RING, start=False)
    started = threading.Thread(target=fabric.server, args=("n1", "compute", Endpoint("n1")))
    started.start()
    fabric.start()
    started.join()
    assert fabric.client("n1", "compute").call({}, "who") == "n1"


@pytest.mark.quick("cast")
def test_a_message_above_the_limit_is_refused_by_the_sender(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, ring=RING, options={"zmq_max_message_size": 10_000})
    fabric.server("n1", "compute", Endpoint("n1"))
    client = fabric.client("n1", "compute")
    with pytest.raises(oslo_messaging.MessageDeliveryFailure, match="zmq_max_message_size"):
        client.cast({}, "note", what="x" * 20_000)
    assert client.call({}, "who") == "n1"


@pytest.mark.quick("killed receiver")
@pytest.mark.alone
def test_receivers_killed_under_load_lose_nothing_and_duplicate_nothing(two: Fabric) -> None:
    endpoints = _endpoints(two)
    client = two.client("n1", "compute")
    sent = 0
    for node in ("n2", "n1", "n2", "n1"):
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            client.cast({}, "note", what=sent)
            sent += 1
        two.kill(node)
        two.start(node)
    eventually(lambda: sum(len(endpoint.seen) for endpoint in endpoints.values()) >= sent, within=20)
    assert sum((endpoint.seen for endpoint in endpoints.values()), Counter()) == dict.fromkeys(range(sent), 1)


@pytest.mark.quick("killed receiver")
def test_a_receiver_stops_cleanly_and_its_channels_are_visible_while_it_runs(two: Fabric) -> None:
    _endpoints(two)
    names = {path.name for path in two.ipc_dir("n1").iterdir() if path.is_socket()}
    assert {
        "receiver",
        "receiver.admin",
        "topic:openstack:compute",
        "server:openstack:compute:n1",
        "fanout:openstack:compute",
    } <= names
    assert two.stop("n1") == 0
    assert not [path for path in two.ipc_dir("n1").iterdir() if path.is_socket()]


@pytest.mark.quick("ring")
@pytest.mark.alone
def test_a_changed_ring_is_followed_within_a_second(two: Fabric) -> None:
    two.server("n2", "late", Endpoint("n2"))
    client = two.client("n1", "late", timeout=5)
    two.write_ring({**RING, "late": ["n2"]})
    begun = time.monotonic()
    assert client.call({}, "who") == "n2"
    assert time.monotonic() - begun < 2
    (two.directory / "ring.json").write_text('{"late": [')
    eventually(lambda: two.status("n1")["matchmaker"]["problem"])
    assert client.call({}, "who") == "n2"
