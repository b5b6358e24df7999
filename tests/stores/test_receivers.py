"""Receivers that find each other through a store, with real services on them: what joins is found, what leaves is gone, and
nobody notices when the store is away."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from fabric import Fabric, eventually
from matchmakers import on_consul, on_redis, on_sentinels
from servers import ConsulAgent, RedisServer, SentinelGroup

STORES = ("redis", "sentinel", "consul-catalog", "consul-kv")
OUTAGE = 60.0


class Echo:
    """Says where it is, and remembers what it heard."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.heard: list[str] = []

    def echo(self, _ctxt: dict[str, Any], text: str) -> str:
        self.heard.append(text)
        return f"{text} from {self.name}"


@dataclass
class Bed:
    """A store that can be taken away, and what zeromq.conf says of it."""

    sections: Mapping[str, Mapping[str, Any]]
    matchmaker: str
    down: Callable[[], None]
    up: Callable[[], None]


@pytest.fixture
def make_bed() -> Iterator[Callable[[str], Bed]]:
    """`make_bed("redis")` gives a store that runs."""
    with ExitStack() as started:

        def make(kind: str) -> Bed:
            if kind == "redis":
                redis = started.enter_context(RedisServer("redis7", save=True))
                return Bed(on_redis(redis), "redis", redis.kill, redis.start)
            if kind == "sentinel":
                group = started.enter_context(SentinelGroup("valkey"))
                parts = [*group.sentinels, *group.servers]
                return Bed(
                    on_sentinels(group, sentinel_hosts=",".join(f"{host}:{port}" for host, port in group.addresses)),
                    "sentinel",
                    lambda: _each(parts, "stop"),
                    lambda: _each(reversed(parts), "start"),
                )
            consul = started.enter_context(ConsulAgent())
            return Bed(on_consul(consul, mode=kind.removeprefix("consul-")), "consul", consul.kill, consul.start)

        yield make


def _each(parts: Any, what: str) -> None:
    for part in parts:
        getattr(part, what)()


@pytest.fixture
def on_store(make_bed: Callable[[str], Bed], make_fabric: Callable[..., Fabric]) -> Callable[..., tuple[Fabric, Bed]]:
    """`on_store("redis", nodes=2)` gives receivers that use such a store, and the store."""

    def make(kind: str, nodes: int = 2, **options: Any) -> tuple[Fabric, Bed]:
        bed = make_bed(kind)
        chosen = {"rpc_zmq_matchmaker": bed.matchmaker, "zmq_target_expire": 20, "zmq_target_update": 2, **options}
        return make_fabric(nodes=nodes, ring={}, options=chosen, sections=bed.sections), bed

    return make


OnStore = Callable[..., tuple[Fabric, Bed]]


@pytest.mark.alone
@pytest.mark.parametrize("kind", STORES)
def test_a_service_that_starts_is_found_one_that_stops_is_gone_and_one_that_is_killed_too(on_store: OnStore, kind: str) -> None:
    fabric, _ = on_store(kind)
    client = fabric.client("n1", "compute", timeout=20)
    fabric.server("n2", "compute", Echo("n2"), server="compute@n2")
    eventually(lambda: fabric.hosts("n1", "compute") == ["n2"], within=5)
    assert client.call({}, "echo", text="hello") == "hello from n2"
    assert client.prepare(server="compute@n2").call({}, "echo", text="you") == "you from n2"
    other = fabric.server("n1", "compute", Echo("n1"))
    eventually(lambda: fabric.hosts("n2", "compute") == ["n1", "n2"], within=1.5)
    other.stop()
    other.wait()
    eventually(lambda: fabric.hosts("n2", "compute") == ["n2"], within=1.5)
    assert client.call({}, "echo", text="again") == "again from n2"


@pytest.mark.parametrize("kind", STORES)
def test_a_first_fanout_reaches_everybody_who_is_registered(on_store: OnStore, kind: str) -> None:
    fabric, _ = on_store(kind, nodes=3)
    ears = {node: Echo(node) for node in ("n1", "n2", "n3")}
    for node, ear in ears.items():
        fabric.server(node, "agents", ear)
    eventually(lambda: fabric.hosts("n3", "agents") == ["n1", "n2", "n3"], within=5)
    fabric.client("n1", "agents", fanout=True).cast({}, "echo", text="all")
    eventually(lambda: all(ear.heard == ["all"] for ear in ears.values()), within=5)


def test_a_call_to_a_topic_that_nobody_serves_times_out_in_time(on_store: OnStore) -> None:
    fabric, _ = on_store("redis")
    begun = time.monotonic()
    with pytest.raises(oslo_messaging.MessagingTimeout):
        fabric.client("n1", "nobody", timeout=1).call({}, "echo", text="?")
    assert time.monotonic() - begun < 3


@pytest.mark.quick("redis")
def test_a_receiver_that_is_killed_and_comes_back_was_never_unregistered(on_store: OnStore) -> None:
    fabric, _ = on_store("redis")
    fabric.server("n2", "compute", Echo("n2"))
    eventually(lambda: fabric.hosts("n1", "compute") == ["n2"], within=5)
    seen: list[list[str] | None] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.append(fabric.hosts("n1", "compute"))

    watcher = threading.Thread(target=look)
    watcher.start()
    fabric.kill("n2")
    fabric.start("n2")
    assert fabric.client("n1", "compute").call({}, "echo", text="back") == "back from n2"
    eventually(lambda: fabric.status("n2")["matchmaker"]["problem"] == "")
    over.set()
    watcher.join()
    assert {tuple(hosts or ()) for hosts in seen} == {("n2",)}


def test_a_node_that_is_gone_is_gone_when_its_time_is_over(on_store: OnStore) -> None:
    fabric, _ = on_store("redis", nodes=3, zmq_target_expire=3, zmq_target_update=1)
    for node in ("n2", "n3"):
        fabric.server(node, "compute", Echo(node))
    eventually(lambda: fabric.hosts("n1", "compute") == ["n2", "n3"], within=5)
    fabric.kill("n3")
    eventually(lambda: fabric.hosts("n1", "compute") == ["n2"], within=4.5)


@pytest.mark.parametrize("kind", ["redis", "consul-catalog"])
def test_a_service_that_is_killed_is_gone_at_once_for_its_receiver_sees_it_end(on_store: OnStore, kind: str) -> None:
    fabric, _ = on_store(kind, zmq_target_expire=60)
    program = Path(__file__).parents[1] / "functional" / "programs" / "serve.py"
    command = [sys.executable, "-W", "ignore", program, "native", fabric.config_file("n2"), "compute", "odd@lvm", "killed"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as service:
        eventually(lambda: fabric.hosts("n1", "compute") == ["n2"], within=15)
        service.kill()
    eventually(lambda: fabric.hosts("n1", "compute") == [], within=3)
    assert fabric.status("n1")["matchmaker"]["held"] == {}


@pytest.mark.parametrize("kind", ["redis", "consul-kv"])
def test_while_the_store_is_away_a_topic_that_was_never_asked_for_is_found_at_peers(on_store: OnStore, kind: str) -> None:
    """The first call of a service to another one, while the store is dead: peers say that they serve it."""
    fabric, bed = on_store(kind)
    fabric.server("n2", "compute", Echo("n2"))
    fabric.server("n2", "cinder-scheduler", Echo("n2"), server="cinder@n2")
    assert fabric.client("n1", "compute").call({}, "echo", text="link") == "link from n2"
    bed.down()
    scheduler = fabric.client("n1", "cinder-scheduler", timeout=30)
    begun = time.monotonic()
    assert scheduler.call({}, "echo", text="first") == "first from n2"
    assert time.monotonic() - begun < 5
    assert scheduler.prepare(server="cinder@n2").call({}, "echo", text="directed") == "directed from n2"
    assert fabric.status("n1")["announced"] == {"cinder-scheduler": ["n2"]}  # type: ignore[index]
    bed.up()
    eventually(lambda: fabric.hosts("n1", "cinder-scheduler") == ["n2"], within=30)
    eventually(lambda: fabric.status("n1")["announced"] == {}, within=5)  # type: ignore[index]
    assert scheduler.call({}, "echo", text="again") == "again from n2"


def test_receivers_that_start_without_their_store_go_on_with_what_they_knew(on_store: OnStore) -> None:
    fabric, bed = on_store("redis")
    fabric.server("n2", "compute", Echo("n2"))
    eventually(lambda: fabric.hosts("n1", "compute") == ["n2"], within=5)
    for node in ("n1", "n2"):
        assert fabric.stop(node) == 0
    bed.down()
    fabric.start()
    assert fabric.client("n1", "compute").call({}, "echo", text="still") == "still from n2"
    status = fabric.status("n1")["matchmaker"]
    assert status["stale"] == ["compute"]
    eventually(lambda: "redis" in fabric.status("n1")["matchmaker"]["problem"], within=5)
    bed.up()
    eventually(lambda: fabric.status("n1")["matchmaker"]["stale"] == [], within=15)


@pytest.mark.long
def test_nobody_notices_a_minute_without_the_store(on_store: OnStore, make_fabric: Callable[..., Fabric]) -> None:
    """For all stores at once, for a minute is long; the ring's file goes away, too."""
    beds = {kind: on_store(kind) for kind in STORES}
    ring = make_fabric(nodes=2, ring={"compute": ["n2"]})
    file, content = ring.directory / "ring.json", {"compute": ["n2"]}
    beds["ring"] = ring, Bed({}, "ring", file.unlink, lambda: ring.write_ring(content))
    calls = dict.fromkeys(beds, 0)
    errors: list[str] = []
    over = threading.Event()

    def keep_calling(kind: str, client: oslo_messaging.RPCClient) -> None:
        while not over.wait(0.02):
            try:
                client.call({}, "echo", text="x")
                calls[kind] += 1
            except oslo_messaging.MessagingException as exc:
                errors.append(f"{kind}: {exc!r}")

    callers = []
    for kind, (fabric, _) in beds.items():
        fabric.server("n2", "compute", Echo("n2"))
        _finds(fabric, ["n2"])
        callers.append(threading.Thread(target=keep_calling, args=(kind, fabric.client("n1", "compute", timeout=5))))
    for caller in callers:
        caller.start()
    for _, bed in beds.values():
        bed.down()
    ends = time.monotonic() + OUTAGE
    for fabric, _ in beds.values():
        eventually(lambda fabric=fabric: fabric.status("n1")["matchmaker"]["problem"], within=OUTAGE)
    eventually(lambda: time.monotonic() > ends, within=OUTAGE + 1)
    during = dict(calls)
    for _, bed in beds.values():
        bed.up()
    for fabric, _ in beds.values():
        eventually(lambda fabric=fabric: not fabric.status("n1")["matchmaker"]["problem"], within=30)
        _finds(fabric, ["n2"])
    over.set()
    for caller in callers:
        caller.join()
    assert errors == []
    assert min(during.values()) > OUTAGE, during


def _finds(fabric: Fabric, hosts: list[str]) -> None:
    eventually(lambda: fabric.hosts("n1", "compute") == hosts, within=5)


def test_services_and_receivers_with_the_urls_of_old_configurations_find_each_other(make_fabric: Callable[..., Fabric]) -> None:
    with RedisServer("redis7", password="p@ss") as redis:
        url = f"zmq+redis://:p%40ss@{redis.host}:{redis.port}/2"
        fabric = make_fabric(nodes=2, ring={}, sections={"DEFAULT": {"transport_url": url}})
        assert fabric.status("n1")["matchmaker"]["backend"] == "redis"
        fabric.server("n2", "compute", Echo("n2"))
        transport = oslo_messaging.get_rpc_transport(fabric.conf("n1"))
        try:
            client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="compute"), timeout=10)
            assert client.call({}, "echo", text="old") == "old from n2"
        finally:
            transport.cleanup()
        assert redis.cli("-n", "2", "zcard", "{zmq:openstack}:topic:compute").strip() == "1"


def test_nothing_that_is_said_to_the_admin_socket_hurts(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]})
    answers = {}
    for said in (b"", b"\n", b'{"ask": "status"}\n', b"garbage\n", b"[1]\n", b'{"ask": "nothing"}\n', b"x" * 100_000, b"\xff\n"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(fabric.ipc_dir("n1") / "receiver.admin"))
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(said)
            with contextlib.suppress(ConnectionResetError), connection.makefile("rb") as file:
                answers[said[:20]] = json.loads(file.read() or b"{}")
    assert {said for said, answer in answers.items() if answer.get("node") == "n1"} == {b"", b"\n", b'{"ask": "status"}\n'}
    assert fabric.hosts("n1", "compute") == ["n1"]
