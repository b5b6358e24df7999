"""Faults: receivers and services are killed, restarted, starved and slowed down, and the promises hold.

`make soak` is the long form.
"""

import contextlib
import os
import random
import resource
import signal
import socket
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import oslo_messaging
import pytest
import records
from fabric import Fabric, eventually
from oslo_config import cfg
from population import Population, kill_and_restart

from openstack_zeromq import options, sockets, wire
from openstack_zeromq.address import Channel
from openstack_zeromq.driver.consuming import Consuming
from openstack_zeromq.driver.lead import Lead
from openstack_zeromq.driver.listener import ZmqListener
from openstack_zeromq.driver.sending import Sending
from openstack_zeromq.wire import NO_ID, Answer, Header, Kind, MessageId

CALL_TIMEOUT = 5.0
GAP = 2.0


class Endpoint:
    """Remembers what it ran; `gate` holds up those that are asked to wait."""

    def __init__(self) -> None:
        self.ran: Counter[Any] = Counter()
        self.gate = threading.Event()

    def note(self, _ctxt: dict[str, Any], what: Any) -> Any:
        self.ran[what] += 1
        return what

    def work(self, _ctxt: dict[str, Any], name: Any, seconds: float = 60.0, body: str = "") -> int:
        """Takes until `gate` opens."""
        self.ran[name] += 1
        self.gate.wait(seconds)
        return len(body)


@pytest.fixture
def populated(make_fabric: Any) -> Iterator[Callable[..., Population]]:
    """`populated(nodes=2, ring={...})` gives a running fabric with service processes of its own."""
    made: list[Population] = []

    def make(**settings: Any) -> Population:
        made.append(Population(make_fabric(**settings)))
        return made[-1]

    yield make
    for population in made:
        population.close()


def _rss(pid: int) -> int:
    """Bytes that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


# under load


@pytest.mark.alone
def test_receivers_killed_under_load_lose_no_cast_run_none_twice_and_give_each_call_one_outcome(
    populated: Callable[..., Population],
) -> None:
    population = populated(nodes=2, ring={"casts": ["n1", "n2"], "calls": ["n1", "n2"]})
    fabric = population.fabric
    listeners = [
        population.start("listen", node, topic=topic, server=node)
        for node in fabric.addresses
        for topic in ("casts", "casts", "calls")
    ]
    population.wait_up()
    casters = [population.start("cast", node, topic="casts", rate=150, threads=2) for node in fabric.addresses]
    callers = [
        population.start("call", node, topic="calls", rate=20, threads=4, timeout=CALL_TIMEOUT, work=0.1)
        for node in fabric.addresses
    ]
    population.wait_up()
    for node in ("n2", "n1", "n2"):
        population.run_on(1 + random.random())  # noqa: S311
        kill_and_restart(fabric, node)
    population.run_on(1)
    assert [service.end() for service in (*casters, *callers)] == [0] * 4
    eventually(lambda: not records.judge_casts(population.lines("casts")).broken, within=20)
    assert records.judge_casts(population.lines("casts"), longest_gap=GAP).broken == []
    assert records.judge_calls(population.lines("calls"), CALL_TIMEOUT).broken == []
    assert [service.end() for service in listeners] == [0] * 6


@pytest.mark.alone
def test_services_restarted_gracefully_under_load_lose_nothing_and_run_nothing_twice(
    populated: Callable[..., Population],
) -> None:
    population = populated(nodes=2, ring={"casts": ["n1", "n2"], "calls": ["n1", "n2"]})
    nodes = population.fabric.addresses
    listeners = [population.start("listen", node, topic=topic, server=node) for node in nodes for topic in ("casts", "calls")]
    population.wait_up()
    casters = [population.start("cast", node, topic="casts", rate=150, threads=2) for node in nodes]
    callers = [
        population.start("call", node, topic="calls", rate=20, threads=4, timeout=CALL_TIMEOUT, work=0.1) for node in nodes
    ]
    population.wait_up()
    for listener in list(listeners):
        assert listener.end() == 0
        listeners.append(population.again(listener))
        population.wait_up()
    assert [service.end() for service in (*casters, *callers)] == [0] * 4
    eventually(lambda: not records.judge_casts(population.lines("casts")).broken, within=20)
    assert records.judge_casts(population.lines("casts"), longest_gap=GAP).broken == []
    calls = records.judge_calls(population.lines("calls"), CALL_TIMEOUT)
    assert calls.broken == []
    assert calls.figures["replied"] == calls.figures["begun"]


@pytest.mark.alone
def test_a_receiver_that_is_stopped_under_load_drains_and_loses_nothing(populated: Callable[..., Population]) -> None:
    population = populated(nodes=2, ring={"casts": ["n1", "n2"]})
    fabric = population.fabric
    for node in fabric.addresses:
        population.start("listen", node, topic="casts", server=node)
    population.wait_up()
    casters = [population.start("cast", node, topic="casts", rate=150, threads=2) for node in fabric.addresses]
    population.wait_up()
    for node in ("n1", "n2"):
        population.run_on(1)
        assert fabric.stop(node) == 0
        assert not [path for path in fabric.ipc_dir(node).iterdir() if path.is_socket()]
        fabric.start(node)
    population.run_on(1)
    assert [service.end() for service in casters] == [0, 0]
    eventually(lambda: not records.judge_casts(population.lines("casts")).broken, within=20)
    assert records.judge_casts(population.lines("casts"), longest_gap=GAP).broken == []


@pytest.mark.quick("killed receiver")
def test_a_cast_that_went_past_its_own_node_does_not_run_there_when_the_receiver_was_killed_at_once(make_fabric: Any) -> None:
    """Nobody listens on n2 yet, so its receiver passes the cast on, and dies before it can say to whom."""
    fabric = make_fabric(nodes=2, ring={"compute": ["n1", "n2"]})
    ran: Counter[Any] = Counter()
    killed = threading.Event()

    class There:
        def note(self, _ctxt: dict[str, Any], name: Any) -> None:
            ran[name] += 1
            if name != "first" and not killed.is_set():
                fabric.processes["n2"].kill()
                killed.set()

    class Here:
        def note(self, _ctxt: dict[str, Any], name: Any) -> None:
            ran[name] += 1

    fabric.server("n1", "compute", There())
    client = fabric.client("n2", "compute")
    client.cast({}, "note", name="first")
    eventually(lambda: ran["first"])
    fabric.processes["n2"].send_signal(signal.SIGSTOP)  # so that all of them are there in one pass of its loop
    casters = [threading.Thread(target=client.cast, args=({}, "note"), kwargs={"name": number}) for number in range(150)]
    for caster in casters:
        caster.start()
    fabric.processes["n2"].send_signal(signal.SIGCONT)
    assert killed.wait(10)
    fabric.processes["n2"].wait()
    listening = threading.Thread(target=fabric.server, args=("n2", "compute", Here()))
    listening.start()
    fabric.start("n2")
    for thread in (listening, *casters):
        thread.join()
    eventually(lambda: len(ran) == 151)
    eventually(lambda: _at_rest(fabric, "n1") and _at_rest(fabric, "n2"))
    assert ran == dict.fromkeys(["first", *range(150)], 1)


@pytest.mark.parametrize("ticks", [False, True])
def test_what_a_listener_takes_is_reported_even_when_the_clock_ticked_before_it_began(short_path: Path, ticks: bool) -> None:
    conf = cfg.ConfigOpts()
    options.register(conf)
    conf(["--config-file", "/dev/null"])
    conf.set_override("rpc_zmq_ipc_dir", str(short_path), options.GROUP)
    settings, notes = options.settings(conf), deque[str]()
    context = sockets.context()
    sending = Sending(context, settings, 1, notes)
    consuming = Consuming(context, settings, 1, sending, notes)
    lead = Lead(lambda _seconds: None, lambda: None)  # nobody waits here
    listener = ZmqListener(SimpleNamespace(lead=lead))  # type: ignore[arg-type]  # it is not polled
    consumer = consuming.new(Channel.of_topic("openstack", "compute"), listener, 1, lead)
    if ticks:
        consuming.tick(1.0)  # the connection's thread comes by before it is told of the consumer
    consuming.listen([consumer])
    header = Header(Kind.CAST, 0, MessageId(5, 1), 0, "n1", 1, 1000, 0, 1, NO_ID, "openstack", "compute", "", addressed_to=1)
    consumer.inbox.arrive(header, 2.0)
    consuming.answer(consumer, header, Answer.TAKEN, 2.0)
    assert [wire.decode_ids(ids) for _, _, ids in consuming.reports()] == [[MessageId(5, 1)]]
    context.destroy(0)


# who goes away, and comes back


def test_a_client_recovers_by_itself_when_the_only_server_of_a_topic_was_away_for_long(
    populated: Callable[..., Population],
) -> None:
    ring = {"only": ["n2"], "other": ["n1"]}
    population = populated(nodes=2, ring=ring)
    fabric = population.fabric
    client = fabric.client("n1", "only", timeout=10)
    server = population.start("listen", "n2", topic="only", server="n2")
    population.wait_up()
    assert client.call({}, "work", name="before", seconds=0) == "before"
    server.kill()
    eventually(lambda: fabric.counter("n2", "clients_lost") == 1)
    fabric.write_ring({"other": ["n1"]})  # as a matchmaker does whose entry has expired
    with pytest.raises(oslo_messaging.MessagingTimeout):
        client.prepare(timeout=1).call({}, "work", name="away", seconds=0)
    fabric.kill("n2")
    eventually(lambda: fabric.counter("n1", "peers_lost") == 1)
    fabric.start("n2")
    population.again(server)
    fabric.write_ring(ring)
    assert client.call({}, "work", name="after", seconds=0) == "after"
    population.wait_up()
    assert client.prepare(server="n2").call({}, "work", name="directed", seconds=0) == "directed"
    ran = Counter(line.id for line in population.lines("only") if line.what is records.What.GOT)
    assert ran == {"before": 1, "after": 1, "directed": 1}


def test_a_caller_that_vanishes_leaves_nothing_behind(populated: Callable[..., Population]) -> None:
    population = populated(nodes=2, ring={"compute": ["n2"]})
    fabric, endpoint = population.fabric, Endpoint()
    fabric.server("n2", "compute", endpoint)
    caller = population.start("call", "n1", topic="compute", rate=50, threads=10, timeout=60, work=60)
    eventually(lambda: endpoint.ran.total() == 10, within=20)
    caller.kill()
    eventually(lambda: fabric.status("n1")["services"] == 0)
    endpoint.gate.set()
    for node in fabric.addresses:
        eventually(lambda node=node: _at_rest(fabric, node))
    assert fabric.client("n1", "compute").call({}, "note", what="good") == "good"
    assert max(endpoint.ran.values()) == 1


@pytest.mark.quick("call")
def test_a_call_whose_server_vanishes_fails_long_before_its_timeout(populated: Callable[..., Population]) -> None:
    population = populated(nodes=2, ring={"compute": ["n2"]})
    fabric = population.fabric
    server = population.start("listen", "n2", topic="compute", server="n2")
    population.wait_up()
    client = fabric.client("n1", "compute", timeout=60)
    outcome: list[BaseException] = []

    def call() -> None:
        try:
            client.call({}, "work", name="long", seconds=60)
        except oslo_messaging.MessagingException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    eventually(lambda: any(line.what is records.What.GOT for line in server.lines()))
    server.kill()
    thread.join(10)
    assert outcome
    population.again(server)
    population.wait_up()
    assert client.call({}, "work", name="next", seconds=0) == "next"
    assert Counter(line.id for line in population.lines("compute") if line.what is records.What.GOT)["long"] == 1


def _log_lines(fabric: Fabric, node: str) -> list[str]:
    return fabric.log(node).read_text().splitlines()


def _at_rest(fabric: Fabric, node: str) -> bool:
    status = fabric.status(node)
    return status is not None and status["outgoing"]["messages"] == 0 and status["incoming"]["messages"] == 0


# too much


class Flood:
    """A thread that casts to `topic` for as long as it is allowed to."""

    def __init__(self, fabric: Fabric, topic: str, body: str) -> None:
        self.sent = 0
        self._client = fabric.client("n1", topic)
        self._body = body
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._enough.is_set():
            self._client.cast({}, "work", name=self.sent, body=self._body)
            self.sent += 1


FLOODS = {
    "many messages": ("x", {"rpc_zmq_topic_backlog": 200}),
    "large messages": ("x" * 50_000, {"zmq_backlog_size": 5_000_000}),
}


@pytest.mark.parametrize(("body", "limits"), FLOODS.values(), ids=FLOODS)
@pytest.mark.parametrize("neighbour", ["the same process", "another process"])
def test_a_slow_consumer_pushes_its_own_sender_back_and_harms_no_neighbour(
    populated: Callable[..., Population], body: str, limits: dict[str, int], neighbour: str
) -> None:
    population = populated(nodes=2, ring={"slow": ["n2"], "quick": ["n2"]}, options=limits)
    fabric, slow, quick = population.fabric, Endpoint(), Endpoint()
    quick.gate.set()
    fabric.server("n2", "slow", slow)
    fabric.server("n2", "quick", quick)
    client = fabric.client("n1", "quick", timeout=CALL_TIMEOUT)
    before = {node: _rss(fabric.processes[node].pid) for node in fabric.addresses}
    with Flood(fabric, "slow", body) as flood:
        try:
            _until_still(fabric, flood)
            stands_at = flood.sent
            if neighbour == "the same process":
                assert [client.call({}, "work", name=number) for number in range(50)] == [0] * 50
            else:
                caller = population.start("call", "n1", topic="quick", rate=100, threads=1, timeout=CALL_TIMEOUT)
                eventually(lambda: quick.ran.total() >= 50)
                assert caller.end() == 0
                assert records.judge_calls(caller.lines(), CALL_TIMEOUT).figures["replied"] >= 50
            assert flood.sent == stands_at
            assert all(_rss(fabric.processes[node].pid) - before[node] < 100_000_000 for node in fabric.addresses)
        finally:
            slow.gate.set()
    eventually(lambda: slow.ran.total() == flood.sent, within=30)
    assert max(slow.ran.values()) == 1


def _until_still(fabric: Fabric, flood: Flood) -> None:
    """The flood is stopped, and so are the receivers behind it."""
    seen: list[object] = []

    def still() -> bool:
        seen.append((flood.sent, fabric.counter("n1", "accepted"), fabric.counter("n2", "handed")))
        return len(seen) > 50 and len(set(seen[-50:])) == 1

    eventually(still, within=20)


def test_a_receiver_out_of_descriptors_serves_those_it_has_says_so_and_recovers(make_fabric: Any) -> None:
    fabric, endpoint, client = _one_server(make_fabric)
    pid = fabric.processes["n2"].pid
    with _descriptors_left(pid, 10), contextlib.ExitStack() as strangers:
        for number in range(50):
            stranger = strangers.enter_context(socket.socket(socket.AF_INET))
            stranger.setblocking(False)
            stranger.connect_ex((fabric.addresses["n2"], fabric.port))
            assert client.call({}, "work", name=number) == 0
        eventually(lambda: "descriptors" in fabric.log("n2").read_text())
    assert eventually(lambda: fabric.status("n2"))["pid"] == pid
    assert fabric.client("n2", "compute", timeout=CALL_TIMEOUT).call({}, "work", name="after") == 0
    assert max(endpoint.ran.values()) == 1


def test_a_receiver_says_that_descriptors_run_short_before_its_unix_sockets_are_out_of_them(make_fabric: Any) -> None:
    """libzmq ends the process when a unix socket cannot have one, so this has to be known before."""
    fabric, _endpoint, client = _one_server(make_fabric)
    with _descriptors_left(fabric.processes["n2"].pid, 80), contextlib.ExitStack() as strangers:
        for _ in range(60):
            stranger = strangers.enter_context(socket.socket(socket.AF_UNIX))
            stranger.connect(str(fabric.ipc_dir("n2") / "receiver"))
        eventually(lambda: fabric.counter("n2", "short_of_descriptors"))
        assert "descriptors" in fabric.log("n2").read_text()
        assert client.call({}, "work", name="still") == 0


def test_whoever_asks_a_receiver_without_descriptors_is_hung_up_on_and_it_goes_on(make_fabric: Any) -> None:
    fabric, _endpoint, client = _one_server(make_fabric)
    with _descriptors_left(fabric.processes["n2"].pid, 0), socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(5)
        asker.connect(str(fabric.ipc_dir("n2") / "receiver.admin"))
        assert asker.recv(1) == b""
        assert client.call({}, "work", name="meanwhile") == 0
    eventually(lambda: fabric.counter("n2", "short_of_descriptors"))
    assert "from the admin socket" in fabric.log("n2").read_text()
    assert client.call({}, "work", name="after") == 0


def _one_server(make_fabric: Any) -> tuple[Fabric, Endpoint, Any]:
    """Two nodes, a server on n2 and a client on n1 that has called it."""
    fabric, endpoint = make_fabric(nodes=2, ring={"compute": ["n2"]}), Endpoint()
    endpoint.gate.set()
    fabric.server("n2", "compute", endpoint)
    client = fabric.client("n1", "compute", timeout=CALL_TIMEOUT)
    assert client.call({}, "work", name="before") == 0
    return fabric, endpoint, client


@contextlib.contextmanager
def _descriptors_left(pid: int, number: int) -> Iterator[None]:
    """Meanwhile a process can have only `number` descriptors more."""
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + number, usual[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


def test_casts_to_ten_thousand_topics_that_nobody_serves_stay_bounded_and_the_next_good_call_works(make_fabric: Any) -> None:
    fabric, _endpoint, client = _one_server(make_fabric)
    before = _rss(fabric.processes["n1"].pid)
    caster = fabric.client("n1", "nobody")
    for number in range(10_000):
        caster.prepare(topic=f"nobody.{number}").cast({}, "work", name=number)
    assert client.call({}, "work", name="after") == 0
    assert fabric.counter("n1", "noroute") >= 10_000
    assert _rss(fabric.processes["n1"].pid) - before < 100_000_000
    assert len(_log_lines(fabric, "n1")) < 200


def test_five_hundred_notifications_pass_through_a_listener_that_holds_sixty_four(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=2, ring={"notes.info": ["n2"]})
    gate, running, got = threading.Event(), [], Counter[int]()

    class Slow:
        def info(self, _ctxt: Any, _publisher: str, _event: str, payload: int, _metadata: Any) -> None:
            running.append(payload)
            gate.wait(60)
            got[payload] += 1

    fabric.notification_listener("n2", "notes", Slow())
    notifier = fabric.notifier("n1", "notes")
    for number in range(500):
        notifier.info({}, "event", number)
    eventually(lambda: len(running) >= 64)
    assert fabric.status("n2")["channels"]["topic openstack/notes.info"]["depth"] >= 500 - 64
    gate.set()
    eventually(lambda: got == dict.fromkeys(range(500), 1))


@pytest.mark.quick("cast")
def test_a_cast_that_nobody_takes_in_time_is_given_up_and_counted(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, options={"zmq_message_ttl": 1})
    fabric.client("n1", "nobody").cast({}, "note", name="x")
    eventually(lambda: fabric.counter("n1", "expired") == 1)
    assert _at_rest(fabric, "n1")


# too little


def test_a_link_that_idles_is_closed_and_opens_again_without_loss(make_fabric: Any) -> None:
    fabric, endpoint = make_fabric(nodes=2, ring={"compute": ["n2"]}, options={"zmq_link_idle": 1}), Endpoint()
    endpoint.gate.set()
    fabric.server("n2", "compute", endpoint)
    client = fabric.client("n1", "compute", timeout=CALL_TIMEOUT)
    for number in range(3):
        client.cast({}, "work", name=f"cast {number}")
        assert client.call({}, "work", name=f"call {number}") == 0
        for node in fabric.addresses:
            eventually(lambda node=node: fabric.status(node)["links"] == {})
    assert fabric.counter("n1", "peers_lost") == fabric.counter("n2", "peers_lost") == 0
    eventually(lambda: endpoint.ran.total() == 6)
    assert max(endpoint.ran.values()) == 1


def test_messages_on_their_way_while_links_close_for_idleness_run_once(make_fabric: Any) -> None:
    fabric, endpoint = make_fabric(nodes=2, ring={"compute": ["n2"]}, options={"zmq_link_idle": 1}), Endpoint()
    endpoint.gate.set()
    fabric.server("n2", "compute", endpoint)
    client = fabric.client("n1", "compute", timeout=CALL_TIMEOUT)
    pause = threading.Event()
    for number in range(6):
        client.cast({}, "work", name=number)
        assert client.call({}, "work", name=f"call {number}") == 0
        pause.wait(0.95 + number / 40)  # the link closes in the very moment, or just before or after
    eventually(lambda: endpoint.ran.total() == 12)
    assert max(endpoint.ran.values()) == 1


# names


NAMES = {
    "up": "../../x",
    "slash": "a/b/../../..",
    "dot": ".",
    "hidden": ".hidden",
    "our own": "receiver.admin",
    "colons": "topic:openstack:x",
    "line": "a\nb",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_name_leads_out_of_the_directory_of_sockets(named: Fabric, name: str) -> None:
    before = _tree(named.directory) - _tree(named.ipc_dir("n1"))
    endpoint = Endpoint()
    endpoint.gate.set()
    named.server("n1", name, endpoint, server=name, exchange=name)
    client = named.client("n1", name, exchange=name, timeout=CALL_TIMEOUT)
    assert client.prepare(server=name).call({}, "work", name="directed") == 0
    client.prepare(fanout=True).cast({}, "work", name="fanout")
    eventually(lambda: endpoint.ran["fanout"])
    assert _tree(named.directory) - _tree(named.ipc_dir("n1")) == before
    assert all(path.parent == named.ipc_dir("n1") for path in _tree(named.ipc_dir("n1")))
    assert named.status("n1")


def test_a_name_of_a_megabyte_works_and_is_short_everywhere_else(named: Fabric) -> None:
    name, endpoint = "long" * 250_000, Endpoint()
    endpoint.gate.set()
    named.server("n1", name, endpoint, server=name, exchange=name)
    client = named.client("n1", name, exchange=name, timeout=CALL_TIMEOUT)
    assert client.prepare(server=name).call({}, "work", name=1) == 0
    other = named.client("n1", name, exchange=name, timeout=1, server=name + "r")
    with pytest.raises(oslo_messaging.MessagingTimeout):
        other.call({}, "work", name=2)
    assert endpoint.ran == {1: 1}
    assert max(map(len, _log_lines(named, "n1"))) < 1000


@pytest.fixture(scope="module")
def named() -> Iterator[Fabric]:
    """A node for tests of names."""
    fabric = Fabric(nodes=1)
    try:
        fabric.start()
        kept = fabric.directory / "state" / "n1" / "matchmaker_ring.n1.json"
        eventually(kept.exists)  # the last file that a receiver writes when it starts
        yield fabric
    finally:
        fabric.close()


def _tree(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_socket() or path.is_file()}


# signals


@pytest.mark.alone
def test_a_receiver_looks_at_the_ring_at_once_when_it_gets_sighup(make_fabric: Any) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]})
    ring = fabric.directory / "ring.json"
    took = []
    for number in range(9):
        ring.write_text("broken" if number % 2 == 0 else '{"compute": ["n1"]}\n')
        begun = time.monotonic()
        fabric.processes["n1"].send_signal(signal.SIGHUP)
        eventually(lambda number=number: bool(fabric.status("n1")["matchmaker"]["problem"]) == (number % 2 == 0))
        took.append(time.monotonic() - begun)
    assert statistics.median(took) < 0.1  # it looks every half second anyway


def test_transports_that_come_and_go_leave_nothing_behind_in_the_receiver(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]})
    descriptors = Path(f"/proc/{fabric.processes['n1'].pid}/fd")
    here = len(list(fabric.ipc_dir("n1").iterdir()))
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        transport = fabric.transport("n1")
        oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="nobody", fanout=True)).cast({}, "work")
        transport.cleanup()
    eventually(lambda: len(list(descriptors.iterdir())) <= before)
    eventually(lambda: len(list(fabric.ipc_dir("n1").iterdir())) <= here)
