"""What eight real services were seen to ask of a driver, and what oslo.messaging expects of one, each in its own shape.

Where services are processes of their own, so they are here: see `programs`. What users are promised in general is in
`test_promises`.
"""

import contextlib
import itertools
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oslo_messaging
import pytest
from fabric import Fabric, eventually
from oslo_messaging._drivers import base
from program import MODES, Program


@pytest.fixture
def fabric(make_fabric: Any) -> Fabric:
    """One node that serves every topic."""
    made: Fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy"})
    return made


@pytest.fixture
def start(fabric: Fabric) -> Iterator[Callable[..., Program]]:
    """`start("serve", "native", …)` runs a program on the node."""
    started: list[Program] = []

    def run(name: str, mode: str, *arguments: object) -> Program:
        started.append(Program(name, mode, fabric, *arguments))
        return started[-1]

    yield run
    for program in started:
        program.close()


class Endpoint:
    """An RPC endpoint that remembers what it was told, in its order."""

    def __init__(self, name: str = "", seconds: float = 0.0) -> None:
        self.name = name
        self.seconds = seconds
        self.seen: list[Any] = []

    def who(self, _ctxt: Any) -> str:
        return self.name

    def note(self, _ctxt: Any, what: Any) -> None:
        time.sleep(self.seconds)
        self.seen.append(what)

    def slow(self, _ctxt: Any, seconds: float) -> str:
        time.sleep(seconds)
        return self.name

    def fail(self, _ctxt: Any, kind: str) -> None:
        raise {"builtin": KeyError("k"), "ours": Ours("o"), "oslo": oslo_messaging.MessagingException("m")}[kind]


class Ours(Exception):  # noqa: N818 - it stands for a service's own exception
    """An exception of a module that the caller may or may not trust."""


class Listener:
    """A notification endpoint."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.got: list[Any] = []

    def info(self, _ctxt: Any, _publisher: str, _event: str, payload: Any, _metadata: Any) -> None:
        time.sleep(self.seconds)
        self.got.append(payload)


@pytest.fixture
def serve(fabric: Fabric) -> Iterator[Callable[..., Any]]:
    """`serve(transport, endpoint, topic=…)` starts a server on a transport that it shares with others. They are all stopped at
    once: the executor of each takes a second for it."""
    started: list[Any] = []

    def start(transport: Any, endpoint: object, **target: Any) -> Any:
        made = oslo_messaging.get_rpc_server(transport, oslo_messaging.Target(**target), [endpoint], executor="threading")
        made.start()
        started.append(made)
        return made

    yield start
    with ThreadPoolExecutor(100) as pool:
        list(pool.map(_stop, started))


def _stop(server: Any) -> None:
    server.stop()
    server.wait()


def _listen(fabric: Fabric, topic: str, server: str = "s") -> tuple[Any, base.PollStyleListener]:
    """The driver, and a listener of its own as a server would poll it."""
    driver = fabric.transport("n1")._driver
    adapter = driver.listen(oslo_messaging.Target(topic=topic, server=server), 1, None)
    return driver, adapter._poll_style_listener


# processes


@pytest.mark.quick("call")
@pytest.mark.parametrize("mode", MODES)
def test_a_transport_made_before_the_fork_works_in_children_and_grandchildren(
    fabric: Fabric, start: Callable[..., Program], mode: str
) -> None:
    listener = Listener()
    fabric.notification_listener("n1", "forked-notes", listener)
    fabric.server("n1", "forked", Endpoint("outside"), server="outside")
    program = start("fork", mode)
    before, after = program.hear("before")[0], program.hear("after")[0]
    assert after == before
    assert program.hear("unused") == [0]
    names = program.hear("serves", count=4)
    assert sorted(names) == ["c1", "c1.1", "c2", "c2.1"]
    client = fabric.client("n1", "forked")
    pids = {name: client.prepare(server=name).call({}, "who")[1] for name in names}
    assert pids == {facts["serves"]: facts["pid"] for facts in program.said if "serves" in facts}
    assert len(set(pids.values())) == 4
    way = ["c2.1", "c1", "c1.1", "c2"]
    assert client.prepare(server="c1").call({}, "relay", servers=way) == ["c1", *way]
    assert sorted(eventually(lambda: len(listener.got) == 4 and listener.got)) == sorted(names)
    for name in names:
        client.prepare(server=name).cast({}, "stop")
    assert program.hear("children") == [[0, 0]]
    assert program.hear("busy", within=30) == [[0] * 5]
    assert program.hear("calls")[0] > 0
    program.ended()
    assert fabric.counter("n1", "clients_lost") == 0
    assert "cannot be written" not in program.errors()


def test_only_a_service_that_ended_at_work_counts_as_lost_and_a_stop_warns_of_nothing(
    fabric: Fabric, start: Callable[..., Program]
) -> None:
    """Children that oslo.service ends by `os._exit` say no goodbye; what stopped before it ended is no loss."""
    fabric.server("n1", "there", Endpoint("outside"))
    program = start("leave", "native")
    assert program.hear("ended", within=60, count=4) == ["called", "stopped", "returned", "killed"]
    program.ended()
    eventually(lambda: (fabric.status("n1") or {}).get("services") == 1)
    assert fabric.counter("n1", "clients_lost") == 1
    assert "cannot be written" not in program.errors()


@pytest.mark.parametrize("target", [{"server": "0.0.0.0"}, {}])  # noqa: S104 - what mistral's engines call themselves
def test_processes_under_one_name_share_its_messages_fairly_and_one_that_stops_leaves_the_others(
    fabric: Fabric, start: Callable[..., Program], target: dict[str, str]
) -> None:
    programs = {name: start("serve", "native", "engine", "0.0.0.0", name) for name in "abc"}  # noqa: S104
    for program in programs.values():
        program.hear("serves")
    client = fabric.client("n1", "engine").prepare(**target)
    assert Counter(client.call({}, "who")[0] for _ in range(30)) == {"a": 10, "b": 10, "c": 10}
    for number in range(30):
        client.cast({}, "note", what=number)
    noted = {name: program.hear("noted", count=10) for name, program in programs.items()}
    assert sorted(itertools.chain(*noted.values())) == list(range(30))
    assert client.call({}, "stop") is None
    eventually(lambda: sum(program.process.poll() == 0 for program in programs.values()) == 1)
    left = [name for name, program in programs.items() if program.process.poll() is None]
    assert Counter(client.call({}, "who")[0] for _ in range(20)) == dict.fromkeys(left, 10)


@pytest.mark.alone
@pytest.mark.parametrize("mode", MODES)
def test_services_that_are_replaced_one_by_one_under_load_lose_nothing_and_run_nothing_twice(
    fabric: Fabric, start: Callable[..., Program], mode: str
) -> None:
    programs = [start("serve", mode, "rolling", f"s{number}", f"s{number}") for number in range(3)]
    for program in programs:
        program.hear("serves")
    client = fabric.client("n1", "rolling")
    enough = threading.Event()
    sent: list[int] = []
    called: list[str] = []

    def cast() -> None:
        while not enough.wait(0.002):
            client.cast({}, "note", what=len(sent))
            sent.append(len(sent))

    def call() -> None:
        while not enough.wait(0.002):
            called.append(client.call({}, "who")[0])

    with ThreadPoolExecutor(2) as pool:
        load = [pool.submit(cast), pool.submit(call)]
        try:
            for number in range(3, 6):
                programs.append(start("serve", mode, "rolling", f"s{number}", f"s{number}"))
                programs[-1].hear("serves")
                assert client.prepare(server=f"s{number - 3}").call({}, "stop") is None
                programs[number - 3].ended()
        finally:
            enough.set()
        for running in load:
            running.result()

    def noted() -> list[int]:
        return sorted(facts["noted"] for program in programs for facts in list(program.said) if "noted" in facts)

    eventually(lambda: len(noted()) >= len(sent))
    assert noted() == sent
    assert len(set(called)) == 6


@pytest.mark.quick("call")
def test_a_call_whose_server_dies_in_the_middle_has_one_outcome_and_runs_nowhere_else(
    fabric: Fabric, start: Callable[..., Program]
) -> None:
    programs = [start("serve", "native", "mortal", name, name) for name in "ab"]
    for program in programs:
        program.hear("serves")
    client = fabric.client("n1", "mortal", timeout=4)
    begun = time.monotonic()
    with pytest.raises((oslo_messaging.MessagingTimeout, oslo_messaging.MessageDeliveryFailure)):
        client.call({}, "die", after=0.2)
    assert time.monotonic() - begun < 5
    assert len([facts for program in programs for facts in program.said if "dies" in facts]) == 1
    assert client.call({}, "who")[0] in "ab"


@pytest.mark.quick("notification")
def test_notifications_of_a_program_that_is_gone_before_anybody_listens_arrive_later_once(
    fabric: Fabric, start: Callable[..., Program]
) -> None:
    start("bootstrap", "native", 28).ended()
    listener = Listener()
    fabric.notification_listener("n1", "early", listener)
    eventually(lambda: len(listener.got) >= 28)
    assert sorted(listener.got) == list(range(28))


def test_a_service_with_threads_never_imports_eventlet(start: Callable[..., Program]) -> None:
    program = start("no_eventlet", "native")
    assert program.hear("relay") == [["native"] * 3]
    assert program.hear("heard") == [True]
    assert sorted(program.hear("noted", count=2)) == ["cast", "fanout"]
    assert program.hear("eventlet") == [[]]
    assert program.hear("again") == [None]
    program.ended()


# eventlet


@pytest.fixture
def green(fabric: Fabric, start: Callable[..., Program]) -> Callable[[str], Any]:
    """What a check of the program `green` answers, when there is a native server next to it."""
    outside = start("serve", "native", "cinder-volume", "outside", "outside")
    outside.hear("serves")

    def check(name: str) -> Any:
        program = start("green", "eventlet", name)
        (answer,) = program.hear("answer", within=30)
        program.hear("ended", within=30)
        program.ended()
        return answer, Counter(facts["noted"] for facts in program.said if "noted" in facts)

    return check


@pytest.mark.alone
def test_a_blocked_call_of_a_patched_service_does_not_block_its_hub(green: Callable[[str], Any]) -> None:
    ticks, _ = green("ticks_during_a_call")
    assert ticks > 15


@pytest.mark.quick("call")
def test_green_threads_call_at_once(green: Callable[[str], Any]) -> None:
    (answers, seconds), _ = green("calls_at_once")
    assert answers == ["outside"] * 20
    assert seconds < 5


def test_a_patched_service_sends_and_gets_large_bodies(green: Callable[[str], Any]) -> None:
    assert green("big_bodies")[0] == [True] * 10


def test_a_patched_service_gets_remote_exceptions(green: Callable[[str], Any]) -> None:
    assert green("a_remote_exception")[0] == "as asked"


@pytest.mark.alone
def test_a_patched_service_times_out_in_time(green: Callable[[str], Any]) -> None:
    assert 0.9 < green("a_timeout")[0] < 2


def test_patched_and_native_services_call_each_other_in_turns(green: Callable[[str], Any]) -> None:
    assert green("nested_calls")[0] == [["green", "outside", "green", "outside", "green"]] * 10


@pytest.mark.quick("fanout")
def test_a_patched_service_gets_casts_and_fanouts_once(green: Callable[[str], Any]) -> None:
    assert green("casts_and_fanouts")[1] == dict.fromkeys([*range(50), "to all"], 1)


def test_a_patched_service_shows_signs_of_life_during_a_long_call(green: Callable[[str], Any]) -> None:
    assert green("a_monitored_call")[0] == "green"


def test_a_green_thread_that_is_killed_in_a_call_leaves_the_transport_as_it_was(green: Callable[[str], Any]) -> None:
    assert green("a_killed_caller")[0] == "still here"


def test_native_threads_of_a_patched_service_call_too_and_leave_nothing_behind(green: Callable[[str], Any]) -> None:
    (answers, descriptors), _ = green("native_threads")
    assert answers == ["pool 0", "pool 1", "pool 2", *range(8)]
    assert descriptors <= 0


def test_a_patched_service_sends_notifications_before_it_listens_to_them(green: Callable[[str], Any]) -> None:
    assert green("notifications")[0] == list(range(100))


# many servers, many transports, odd names


def test_of_twelve_servers_in_a_process_one_stops_and_the_others_do_not_notice(fabric: Fabric, serve: Callable[..., Any]) -> None:
    transport = fabric.transport("n1")
    topics = [f"neutron-vo-{kind}-1.{minor}" for kind in ("Port", "Subnet", "Network", "QosPolicy") for minor in (1, 11, 111)]
    servers = {topic: serve(transport, Endpoint(topic), topic=topic, server="h1") for topic in topics}
    clients = {topic: fabric.client("n1", topic, server="h1") for topic in topics}
    assert [clients[topic].call({}, "who") for topic in topics] == topics
    in_the_middle = threading.Thread(target=clients[topics[5]].call, args=({}, "slow"), kwargs={"seconds": 1})
    in_the_middle.start()
    _stop(servers[topics[4]])
    in_the_middle.join()
    for _ in range(3):
        assert [clients[topic].call({}, "who") for topic in topics if topic != topics[4]] == topics[:4] + topics[5:]
    with pytest.raises(oslo_messaging.MessagingTimeout):
        clients[topics[4]].prepare(timeout=0.5).call({}, "who")


def test_of_several_transports_in_a_process_one_is_cleaned_up_and_the_others_do_not_notice(fabric: Fabric) -> None:
    fabric.server("n1", "cell", Endpoint("n1"))
    transports = [oslo_messaging.get_rpc_transport(fabric.conf("n1"), "zmq://") for _ in range(4)]
    clients = [
        oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="cell"), timeout=10) for transport in transports
    ]
    assert [client.call({}, "who") for client in clients] == ["n1"] * 4
    answers: list[str] = []
    in_the_middle = threading.Thread(target=lambda: answers.append(clients[0].call({}, "slow", seconds=1)))
    in_the_middle.start()
    for transport in transports[1:3]:
        transport.cleanup()
    assert clients[3].call({}, "who") == "n1"
    in_the_middle.join()
    assert answers == ["n1"]
    for transport in transports:
        transport.cleanup()


def test_a_cast_or_call_that_waits_while_its_transport_is_cleaned_up_raises(fabric: Fabric) -> None:
    transport = oslo_messaging.get_rpc_transport(fabric.conf("n1"), "zmq://")
    client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="cell"), timeout=30)
    client.prepare(fanout=True).cast({}, "note", what="the receiver is known")
    raised: list[str] = []

    def send(how: Callable[..., Any]) -> None:
        try:
            how({}, "note", what=1)
        except oslo_messaging.MessageDeliveryFailure as exc:
            raised.append(str(exc))

    waiting = [threading.Thread(target=send, args=(how,)) for how in (client.cast, client.call)]
    fabric.processes["n1"].send_signal(signal.SIGSTOP)
    try:
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join(0.3)
            assert thread.is_alive()
        transport.cleanup()
        for thread in waiting:
            thread.join(2)
            assert not thread.is_alive()
    finally:
        fabric.processes["n1"].send_signal(signal.SIGCONT)
    assert ["the transport was closed" in text for text in raised] == [True, True]


ODD_NAMES = [
    "cinder-volume",
    "cinder-volume.cvol@b1",
    "cinder-volume.cvol@b1#pool",
    "cvol@b1",
    "ironic.conductor_manager",
    "ironic.conductor",
    "neutron-vo-Port-1.1",
    "neutron-vo-Port-1.11",
    str(uuid.uuid4()),
    "a/b",
    "a",
    "a/../a",
    "ü",
    "\N{SNOWMAN}" * 40,
    "x" * 300,
    "x" * 299 + "y",
    "x" * 301,
    "with space",
    "with:colon",
    "%61",
]


def test_topics_and_servers_with_odd_names_and_prefixes_of_each_other_do_not_mix(
    fabric: Fabric, serve: Callable[..., Any]
) -> None:
    transport = fabric.transport("n1")
    servers = ("cvol@b1", "cvol@b", "x" * 300, "x" * 301)
    for topic in ODD_NAMES:
        for server in servers:
            serve(transport, Endpoint(f"{topic} at {server}"), topic=topic, server=server)
    client = fabric.client("n1", "any")
    for topic in ODD_NAMES:
        found = [client.prepare(topic=topic, server=server).call({}, "who") for server in servers]
        assert found == [f"{topic} at {server}" for server in servers]
        bare = client.prepare(topic=topic)
        assert sorted(bare.call({}, "who") for _ in servers) == sorted(found)


def test_fanouts_to_nobody_return_at_once_however_many(fabric: Fabric) -> None:
    client = fabric.client("n1", "nobody").prepare(fanout=True)
    begun = time.monotonic()
    for number in range(200):
        client.cast({}, "note", what=number)
    assert time.monotonic() - begun < 5


def test_a_listener_whose_target_says_fanout_gets_fanouts_casts_and_calls(fabric: Fabric) -> None:
    endpoints = [Endpoint("h1"), Endpoint("h2")]
    for endpoint in endpoints:
        fabric.server("n1", "q-agent-notifier", endpoint, server=endpoint.name, fanout=True)
    client = fabric.client("n1", "q-agent-notifier")
    client.prepare(fanout=True).cast({}, "note", what="all")
    for endpoint in endpoints:
        client.prepare(server=endpoint.name).cast({}, "note", what=endpoint.name)
        eventually(lambda endpoint=endpoint: sorted(endpoint.seen) == ["all", endpoint.name])
    assert {client.call({}, "who") for _ in range(2)} == {"h1", "h2"}


def test_nested_calls_between_services_do_not_wait_for_each_other(fabric: Fabric, serve: Callable[..., Any]) -> None:
    class Relay:
        def __init__(self, client: Any) -> None:
            self.client = client

        def down(self, _ctxt: Any, depth: int, other: str) -> int:
            if not depth:
                return 0
            me = "b" if other == "a" else "a"
            return 1 + int(self.client.prepare(server=other).call({}, "down", depth=depth - 1, other=me))

    transport = fabric.transport("n1")
    client = fabric.client("n1", "nested")
    for name in ("a", "b"):
        serve(transport, Relay(client), topic="nested", server=name)
    depths: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: depths.append(client.prepare(server="a", timeout=20).call({}, "down", depth=6, other="b"))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert depths == [6] * 8


# notifications


def test_one_listener_on_98_targets_gets_batches_of_them_all_and_again_what_it_gave_back(fabric: Fabric) -> None:
    """As ceilometer does: 14 exchanges with 7 priorities each, batches of 5 or what came in a second, requeue."""
    exchanges = [f"exchange{number}" for number in range(14)]
    priorities = ["audit", "debug", "info", "warn", "error", "critical", "sample"]
    batches: list[list[Any]] = []
    refused: list[Any] = []

    class Endpoint98:
        def _take(self, messages: list[Any]) -> Any:
            payloads = [message["payload"] for message in messages]
            if len(refused) < 20:
                refused.extend(payloads)
                return oslo_messaging.NotificationResult.REQUEUE
            batches.append(payloads)
            return oslo_messaging.NotificationResult.HANDLED

        audit = debug = info = warn = error = critical = sample = _take

    transport = oslo_messaging.get_notification_transport(fabric.conf("n1"), "zmq://")
    targets = [oslo_messaging.Target(topic="notifications", exchange=exchange) for exchange in exchanges]
    listener = oslo_messaging.get_batch_notification_listener(
        transport, targets, [Endpoint98()], executor="threading", allow_requeue=True, batch_size=5, batch_timeout=1
    )
    begun = time.monotonic()
    listener.start()
    assert time.monotonic() - begun < 5
    assert len(fabric.status("n1")["channels"]) == 98
    sent = []
    for exchange in exchanges:
        conf = fabric.conf("n1")
        made = oslo_messaging.get_notification_transport(conf, "zmq://")
        made.cleanup()
        conf.set_override("control_exchange", exchange)
        made = oslo_messaging.get_notification_transport(conf, "zmq://")
        notifier = oslo_messaging.Notifier(made, exchange, driver="messagingv2", topics=["notifications"], retry=-1)
        for priority in priorities:
            for number in range(2):
                sent.append(f"{exchange} {priority} {number}")
                getattr(notifier, priority)({}, "event", sent[-1])
        made.cleanup()
    eventually(lambda: sum(map(len, batches)) >= len(sent), within=30)
    assert sorted(itertools.chain(*batches)) == sorted(sent)
    assert len(refused) >= 20
    assert max(map(len, batches)) <= 5
    _stop(listener)
    transport.cleanup()


def test_a_pool_that_is_started_at_run_time_gets_a_copy_of_all_that_comes_and_its_members_share_it(fabric: Fabric) -> None:
    shared, first, second = Listener(), Listener(), Listener()
    fabric.notification_listener("n1", "notes", shared)
    notifier = fabric.notifier("n1", "notes")
    for number in range(10):
        notifier.info({}, "event", number)
    eventually(lambda: len(shared.got) == 10)
    pools = [fabric.notification_listener("n1", "notes", listener, pool="mistral") for listener in (first, second)]
    for number in range(10, 50):
        notifier.info({}, "event", number)
    eventually(lambda: len(shared.got) == 50 and len(first.got) + len(second.got) == 40)
    assert sorted(first.got + second.got) == list(range(10, 50))
    assert first.got
    assert second.got
    for pool in pools:
        _stop(pool)
    notifier.info({}, "event", 50)
    eventually(lambda: sorted(shared.got) == list(range(51)))


def test_500_notifications_into_a_pool_of_64_threads_are_all_handled(fabric: Fabric) -> None:
    listener = Listener(seconds=0.05)
    notifier = fabric.notifier("n1", "flood")
    for number in range(250):
        notifier.info({}, "event", number)
    fabric.notification_listener("n1", "flood", listener)
    for number in range(250, 500):
        notifier.info({}, "event", number)
    eventually(lambda: len(listener.got) >= 500, within=20)
    assert sorted(listener.got) == list(range(500))


# oslo.messaging


@pytest.mark.alone
def test_timeouts_are_floats(fabric: Fabric) -> None:
    fabric.server("n1", "slow", Endpoint("n1"))
    client = fabric.client("n1", "slow")
    assert client.prepare(timeout=1.5).call({}, "slow", seconds=0.7) == "n1"
    for seconds in (0.25, 0.6):
        begun = time.monotonic()
        with pytest.raises(oslo_messaging.MessagingTimeout):
            client.prepare(timeout=seconds).call({}, "slow", seconds=2)
        assert seconds * 0.95 < time.monotonic() - begun < seconds + 0.5


@pytest.mark.parametrize(("retry", "least", "most"), [(0, 0.0, 2.0), (2, 1.0, 4.0)])
def test_without_a_receiver_calls_and_casts_fail_after_their_retries(
    make_fabric: Any, retry: int, least: float, most: float
) -> None:
    fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy"}, start=False)
    client = fabric.client("n1", "later").prepare(retry=retry)
    for send in (client.call, client.cast):
        begun = time.monotonic()
        with pytest.raises(oslo_messaging.MessageDeliveryFailure):
            send({}, "note", what=1)
        assert least <= time.monotonic() - begun < most


@pytest.mark.parametrize("retry", [-1, None])
def test_without_a_receiver_and_with_retries_for_ever_a_call_times_out_and_the_rest_waits_and_arrives_once(
    make_fabric: Any, retry: int | None
) -> None:
    fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy"}, start=False)
    client = fabric.client("n1", "later").prepare(retry=retry)
    begun = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        client.prepare(timeout=1).call({}, "note", what="too late")
    assert 0.9 < time.monotonic() - begun < 2
    notifier = fabric.notifier("n1", "later-notes")
    waiting = [
        threading.Thread(target=client.cast, args=({}, "note"), kwargs={"what": "cast"}),
        threading.Thread(target=notifier.info, args=({}, "event", "notification")),
    ]
    for thread in waiting:
        thread.start()
    waiting[0].join(0.5)
    assert all(thread.is_alive() for thread in waiting)
    endpoint, listener = Endpoint("n1"), Listener()
    fabric.start()
    fabric.server("n1", "later", endpoint)
    fabric.notification_listener("n1", "later-notes", listener)
    for thread in waiting:
        thread.join(10)
        assert not thread.is_alive()
    eventually(lambda: endpoint.seen and listener.got)
    assert client.call({}, "who") == "n1"
    assert endpoint.seen == ["cast"]
    assert listener.got == ["notification"]


def test_a_limited_retry_of_a_notification_ends_without_an_exception(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy"}, start=False)
    transport = oslo_messaging.get_notification_transport(fabric.conf("n1"), "zmq://")
    notifier = oslo_messaging.Notifier(transport, "p", driver="messagingv2", topics=["t"], retry=1)
    begun = time.monotonic()
    notifier.info({}, "event", 1)
    assert time.monotonic() - begun < 4
    transport.cleanup()


@pytest.mark.alone
def test_after_stop_poll_gives_what_is_there_and_then_nothing_without_waiting(fabric: Fabric) -> None:
    _, listener = _listen(fabric, "drained")
    client = fabric.client("n1", "drained")
    for number in range(5):
        client.cast({}, "note", what=number)
    got = listener.poll(timeout=5)
    eventually(lambda: len(listener._arrived._items) == 4)
    listener.stop()
    begun = time.monotonic()
    while batch := listener.poll(timeout=None, batch_size=2, batch_timeout=5):
        got += batch
    assert listener.poll(timeout=60) == []
    assert time.monotonic() - begun < 1
    assert [incoming.message["args"]["what"] for incoming in got] == list(range(5))
    for incoming in got:
        incoming.acknowledge()
    listener.cleanup()


def test_a_poll_that_waits_ends_when_the_listener_stops(fabric: Fabric) -> None:
    _, listener = _listen(fabric, "quiet")
    polled: list[Any] = []
    waiting = threading.Thread(target=lambda: polled.append(listener.poll()))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    listener.stop()
    waiting.join(5)
    assert polled == [[]]
    listener.cleanup()


def test_messages_that_were_polled_by_nobody_go_to_another_server_when_their_own_stops(fabric: Fabric) -> None:
    _, listener = _listen(fabric, "taken-over", server="first")
    client = fabric.client("n1", "taken-over")
    for number in range(20):
        client.cast({}, "note", what=number)
    eventually(lambda: len(listener._arrived._items) == 20)
    endpoint = Endpoint("second")
    fabric.server("n1", "taken-over", endpoint, server="second")
    listener.cleanup()
    eventually(lambda: len(endpoint.seen) == 20)
    assert sorted(endpoint.seen) == list(range(20))


def test_a_heartbeat_raises_once_the_reply_was_sent(fabric: Fabric) -> None:
    _, listener = _listen(fabric, "watched")
    answers: list[Any] = []
    client = fabric.client("n1", "watched").prepare(call_monitor_timeout=5)
    calling = threading.Thread(target=lambda: answers.append(client.call({}, "who")))
    calling.start()
    (incoming,) = listener.poll(timeout=5)
    assert incoming.client_timeout == 5
    incoming.acknowledge()
    incoming.heartbeat()
    incoming.reply("done")
    calling.join(5)
    assert answers == ["done"]
    with pytest.raises(RuntimeError):
        incoming.heartbeat()
    listener.cleanup()


def test_a_monitored_call_to_a_method_that_does_not_exist_leaves_no_watchdog_behind(fabric: Fabric) -> None:
    fabric.server("n1", "watched", Endpoint("n1"))
    client = fabric.client("n1", "watched").prepare(call_monitor_timeout=2)
    assert client.call({}, "who") == "n1"

    def watchdogs() -> int:
        return sum("_watchdog" in thread.name for thread in threading.enumerate())

    with pytest.raises(oslo_messaging.RemoteError):
        client.call({}, "no_such_method")
    eventually(lambda: not watchdogs(), within=5)


def test_a_reply_and_an_acknowledgement_twice_or_for_a_cast_change_nothing(fabric: Fabric) -> None:
    _, listener = _listen(fabric, "twice")
    client = fabric.client("n1", "twice")
    client.cast({}, "note", what=1)
    (cast,) = listener.poll(timeout=5)
    cast.acknowledge()
    cast.acknowledge()
    cast.reply("nobody waits")
    answers: list[Any] = []
    calling = threading.Thread(target=lambda: answers.append(client.call({}, "who")))
    calling.start()
    (call,) = listener.poll(timeout=5)
    call.acknowledge()
    call.reply("first")
    call.reply("second")
    calling.join(5)
    assert answers == ["first"]
    assert listener.poll(timeout=0.2) == []
    listener.cleanup()


def test_remote_exceptions_keep_their_class_when_their_module_is_allowed_and_only_then(fabric: Fabric) -> None:
    fabric.server("n1", "failing", Endpoint("n1"))
    target = oslo_messaging.Target(topic="failing")

    def calling(**options: Any) -> Any:
        return oslo_messaging.get_rpc_client(fabric.transport("n1", **options), target, timeout=10)

    with pytest.raises(KeyError):
        calling().call({}, "fail", kind="builtin")
    with pytest.raises(oslo_messaging.RemoteError) as raised:
        calling().call({}, "fail", kind="ours")
    assert raised.value.exc_type == "Ours"
    with pytest.raises(Ours, match="o"):
        calling(allowed_remote_exmods=[__name__]).call({}, "fail", kind="ours")
    with pytest.raises(oslo_messaging.RemoteError):
        calling().call({}, "fail", kind="oslo")
    with pytest.raises(oslo_messaging.MessagingException, match="m"):
        calling(allowed_remote_exmods=["oslo_messaging.exceptions"]).call({}, "fail", kind="oslo")


class Detached(dict[str, str]):
    """What an endpoint may return by mistake: a database object whose session is closed."""

    def items(self) -> Any:
        raise RuntimeError("the session is closed")


@pytest.mark.parametrize(
    ("reply", "error"),
    [(Detached(a="b"), "session is closed"), ("x" * 20_000, "zmq_max_message_size"), ({1: {(): 2}}, "keys must be")],
    ids=["raises when it is read", "too large", "no JSON"],
)
def test_a_reply_that_cannot_be_sent_fails_its_call_at_once(make_fabric: Any, reply: object, error: str) -> None:
    fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy", "zmq_max_message_size": 10_000})

    class Mistaken:
        def get(self, _ctxt: Any) -> object:
            return reply

    fabric.server("n1", "mistaken", Mistaken())
    begun = time.monotonic()
    with pytest.raises(Exception, match=error) as raised:
        fabric.client("n1", "mistaken").call({}, "get")
    assert not isinstance(raised.value, oslo_messaging.MessagingTimeout)
    assert time.monotonic() - begun < 5


def test_at_least_once_delivers_to_who_listens_and_raises_when_nobody_does(fabric: Fabric) -> None:
    endpoint = Endpoint("n1")
    fabric.server("n1", "mandatory", endpoint, server="here")
    client = oslo_messaging.get_rpc_client(
        fabric.transport("n1"),
        oslo_messaging.Target(topic="mandatory"),
        timeout=10,
        transport_options=oslo_messaging.TransportOptions(at_least_once=True),
    )
    assert client.call({}, "who") == "n1"
    assert client.prepare(server="here").call({}, "who") == "n1"
    client.cast({}, "note", what=1)
    client.prepare(server="here").cast({}, "note", what=2)
    for send in (
        client.prepare(topic="nobody").cast,
        client.prepare(server="not here").cast,
        client.prepare(server="not here").call,
    ):
        begun = time.monotonic()
        with pytest.raises(oslo_messaging.MessageUndeliverable):
            send({}, "note", what=3)
        assert time.monotonic() - begun < 5
    eventually(lambda: sorted(endpoint.seen) == [1, 2])


@pytest.mark.quick("cast")
def test_casts_of_one_sender_to_one_server_are_polled_in_their_order(fabric: Fabric) -> None:
    _, listener = _listen(fabric, "ordered")
    client = fabric.client("n1", "ordered", server="s")
    for number in range(300):
        client.cast({}, "note", what=number)
    got: list[int] = []
    while len(got) < 300:
        batch = listener.poll(timeout=5, batch_size=16, batch_timeout=0.1)
        assert batch
        for incoming in batch:
            incoming.acknowledge()
            got.append(incoming.message["args"]["what"])
    assert got == list(range(300))
    listener.cleanup()


def test_a_listener_is_given_no_more_than_its_credit_until_it_acknowledges(make_fabric: Any) -> None:
    """The executor's queue has no bound: what was polled and not acknowledged is what a service has bitten off."""
    fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy", "zmq_consumer_credit": 8})
    _, listener = _listen(fabric, "bounded")
    client = fabric.client("n1", "bounded", server="s")
    for number in range(30):
        client.cast({}, "note", what=number)
    held = [incoming for _ in range(8) for incoming in listener.poll(timeout=5)]
    assert listener.poll(timeout=0.5) == []
    for incoming in held[:3]:
        incoming.acknowledge()
    more = [incoming for _ in range(3) for incoming in listener.poll(timeout=5)]
    assert len(more) == 3
    assert listener.poll(timeout=0.3) == []
    for incoming in held[3:] + more:
        incoming.acknowledge()
    listener.cleanup()


def test_a_poll_takes_no_longer_than_it_was_given_whatever_the_batch_may_take(fabric: Fabric) -> None:
    _, listener = _listen(fabric, "batches")
    fabric.client("n1", "batches").cast({}, "note", what=1)
    begun = time.monotonic()
    (incoming,) = listener.poll(timeout=1, batch_size=2, batch_timeout=30)
    assert time.monotonic() - begun < 2
    incoming.acknowledge()
    listener.cleanup()


def test_a_transport_whose_first_use_is_by_many_threads_is_gone_after_cleanup(fabric: Fabric) -> None:
    def threads() -> int:
        return sum(thread.name == "zmq-connection" for thread in threading.enumerate())

    before = threads()
    for _ in range(10):
        transport = oslo_messaging.get_rpc_transport(fabric.conf("n1"), "zmq://")
        client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="t", fanout=True))
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number, client=client: client.cast({}, "note", what=number), range(16)))
        transport.cleanup()
        assert threads() == before


def test_notifications_that_waited_for_a_listener_come_in_their_order(fabric: Fabric, start: Callable[..., Program]) -> None:
    start("bootstrap", "native", 28).ended()
    transport = oslo_messaging.get_notification_transport(fabric.conf("n1"), "zmq://")
    adapter = transport._driver.listen_for_notifications([(oslo_messaging.Target(topic="early"), "info")], None, 1, None)
    got = []
    while len(got) < 28:
        (incoming,) = adapter._poll_style_listener.poll(timeout=10)
        incoming.acknowledge()
        got.append(incoming.message["payload"])
    adapter.cleanup()
    transport.cleanup()
    assert got == list(range(28))


def test_a_server_stops_after_its_transport_was_cleaned_up(fabric: Fabric) -> None:
    transport = oslo_messaging.get_rpc_transport(fabric.conf("n1"), "zmq://")
    target = oslo_messaging.Target(topic="late", server="s")
    server = oslo_messaging.get_rpc_server(transport, target, [Endpoint("s")], executor="threading")
    server.start()
    transport.cleanup()
    _stop(server)


def test_senders_that_wait_for_a_first_receiver_raise_when_their_transport_is_cleaned_up(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy"}, start=False)
    transport = oslo_messaging.get_rpc_transport(fabric.conf("n1"), "zmq://")
    client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="cell"), timeout=30)
    raised: list[Exception] = []

    def send() -> None:
        try:
            client.cast({}, "note", what=1)
        except oslo_messaging.MessageDeliveryFailure as exc:
            raised.append(exc)

    waiting = threading.Thread(target=send, daemon=True)
    waiting.start()
    waiting.join(0.3)
    transport.cleanup()
    waiting.join(2)
    assert len(raised) == 1


@pytest.mark.parametrize("way", ["call", "cast"])
def test_a_message_that_kills_its_server_at_once_kills_no_other(fabric: Fabric, start: Callable[..., Program], way: str) -> None:
    programs = [start("serve", "native", "mortal", name, name) for name in "abc"]
    for program in programs:
        program.hear("serves")
    client = fabric.client("n1", "mortal", timeout=3)
    with contextlib.suppress(oslo_messaging.MessagingTimeout, oslo_messaging.MessageDeliveryFailure):
        getattr(client, way)({}, "die", after=0)
    eventually(lambda: any(program.process.poll() is not None for program in programs))
    deadline = time.monotonic() + 5  # the receiver notices within 3 s that a service is gone
    while time.monotonic() < deadline:
        with contextlib.suppress(oslo_messaging.MessagingTimeout):
            client.prepare(timeout=1).call({}, "who")
    assert sum(program.process.poll() is None for program in programs) == 2
