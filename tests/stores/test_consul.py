"""Consul as the matchmaker's store, in both modes, through the matchmaker that a receiver uses."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fabric import eventually
from oslo_config import cfg
from servers import ConsulAgent

from openstack_zeromq import options
from openstack_zeromq.matchmaker.base import Service
from openstack_zeromq.matchmaker.choose import matchmaker, store
from openstack_zeromq.matchmaker.following import StoreMatchmaker

SOON = 3.0
"""Seconds for what takes milliseconds: a second is promised, and the machine may be busy."""

MODES = pytest.mark.parametrize("mode", ["catalog", "kv"])


@dataclass
class Node:
    """The matchmaker of one node, and nothing else of its receiver."""

    matchmaker: StoreMatchmaker

    def sees(self, topic: str, *hosts: str) -> bool:
        self.matchmaker.refresh()
        return self.matchmaker.hosts(topic) == tuple(hosts)

    def serve(self, **topics: set[str]) -> None:
        self.matchmaker.register(topics)

    @property
    def status(self) -> dict[str, Any]:
        return self.matchmaker.status()

    @property
    def held(self) -> dict[str, Any]:
        held: dict[str, Any] = self.status["held"]
        return held

    def counter(self, name: str) -> int:
        return int(self.status["counters"].get(name, 0))


@dataclass
class Fabric:
    """Nodes that share a name of a fabric; the agent may be another for each."""

    directory: Path
    agent: ConsulAgent
    settings: dict[str, Any]
    stack: ExitStack

    def node(self, host: str, agent: ConsulAgent | None = None, **more: Any) -> Node:
        made = matchmaker(self.options(host, agent, **more))
        assert isinstance(made, StoreMatchmaker)
        made.start(lambda: None)
        self.stack.callback(made.close)
        return Node(made)

    def options(self, host: str, agent: ConsulAgent | None = None, **more: Any) -> options.Settings:
        agent = agent or self.agent
        conf = cfg.ConfigOpts()
        options.register(conf)
        conf([], project="test")
        ours = {
            "rpc_zmq_host": host,
            "rpc_zmq_port": 9501,
            "rpc_zmq_matchmaker": "consul",
            "zmq_state_dir": str(self.directory / host),
            "zmq_target_update": 1.0,
        }
        stores = {"host": agent.host, "port": agent.port, "socket_timeout": 2.0}
        for name, value in {**self.settings, **more}.items():
            (ours if name.startswith(("rpc_", "zmq_")) else stores)[name] = value
        for group, values in ((options.GROUP, ours), (options.CONSUL_GROUP, stores)):
            for name, value in values.items():
                conf.set_override(name, value, group=group)
        return options.settings(conf)


MakeFabric = Callable[..., Fabric]


@pytest.fixture
def make(tmp_path: Path, shared_consul: ConsulAgent) -> Iterator[MakeFabric]:
    """`make(agent, mode="kv")` gives a fabric of this test's own."""
    with ExitStack() as stack:

        def made(agent: ConsulAgent = shared_consul, **settings: Any) -> Fabric:
            name = str(uuid4())
            return Fabric(tmp_path / name, agent, {"zmq_fabric": name, "prefix": f"{name}-", **settings}, stack)

        yield made


# joining and leaving


@MODES
def test_a_host_that_joins_is_found_with_its_address_its_port_and_its_servers(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    reader, joining = fabric.node("r1"), fabric.node("c1", zmq_address="10.1.2.3")
    joining.serve(compute={"c1", "c1@lvm#pool"})
    eventually(lambda: reader.sees("compute", "c1"), within=SOON)
    endpoint = reader.matchmaker.endpoint("c1")
    assert endpoint is not None
    assert (endpoint.address, endpoint.port) == ("10.1.2.3", 9501)
    assert reader.matchmaker.directed("compute", "c1@lvm#pool") == ("c1",)
    assert reader.matchmaker.servers("compute") == {"c1@lvm#pool": ("c1",)}
    assert reader.matchmaker.problem == ""


@MODES
def test_a_node_that_does_not_say_its_address_gets_that_of_its_agent(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    node = fabric.node("c1")
    node.serve(compute={"c1"})
    eventually(lambda: node.sees("compute", "c1"), within=SOON)
    endpoint = node.matchmaker.endpoint("c1")
    assert endpoint is not None
    assert endpoint.address == "127.0.0.1"


@MODES
def test_the_last_host_that_says_goodbye_is_gone_and_nothing_is_held(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    reader, leaving = fabric.node("r1"), fabric.node("c1")
    leaving.serve(compute={"c1"}, cert={"c1"})
    eventually(lambda: reader.sees("compute", "c1") and reader.sees("cert", "c1"), within=SOON)
    leaving.serve(cert={"c1"})
    eventually(lambda: reader.sees("compute"), within=SOON)
    assert reader.held == {}
    assert reader.sees("cert", "c1")


@MODES
def test_a_topic_that_comes_back_before_its_goodbye_is_forgotten_is_there_again(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    reader, node = fabric.node("r1"), fabric.node("c1")
    for _ in range(2):
        node.serve(compute={"c1"})
        eventually(lambda: reader.sees("compute", "c1"), within=SOON)
        node.serve()
        eventually(lambda: reader.sees("compute"), within=SOON)
    assert reader.held == {}


@MODES
def test_a_topic_has_other_servers_as_soon_as_its_host_says_so(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    reader, node = fabric.node("r1"), fabric.node("c1")
    node.serve(volume={"c1@a"})
    eventually(lambda: reader.sees("volume", "c1"), within=SOON)
    node.serve(volume={"c1@a", "c1@b"})
    eventually(lambda: reader.sees("volume", "c1") and set(reader.matchmaker.servers("volume")) == {"c1@a", "c1@b"}, within=SOON)


@MODES
def test_names_that_consul_cannot_bear_are_found_as_they_are(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    names = ["neutron-vo-Port-1.11", "Compute", "compute", "a/b c?d#e", "..", "größe", "cinder-volume.c@b1", "x" * 45]
    node = fabric.node("Host One")
    node.matchmaker.register({name: {f"{name}-s"[:45]} for name in names})
    for name in names:
        eventually(lambda name=name: node.sees(name, "Host One"), within=SOON)
        assert list(node.matchmaker.servers(name)) == [f"{name}-s"[:45]]


@MODES
def test_a_host_with_hundreds_of_servers_of_a_topic_keeps_them_all(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    node = fabric.node("c1")
    servers = {f"{uuid4()}" for _ in range(300)}
    node.serve(conductor=servers)
    eventually(lambda: node.sees("conductor", "c1"), within=SOON)
    assert set(node.matchmaker.servers("conductor")) == servers


@MODES
def test_two_fabrics_in_one_consul_do_not_see_each_other(make: MakeFabric, mode: str) -> None:
    one, two = make(mode=mode, prefix=""), make(mode=mode, prefix="")
    topic = f"topic-{uuid4()}"
    first, second = one.node("c1"), two.node("c2")
    first.matchmaker.register({topic: {"c1"}})
    second.matchmaker.register({topic: {"c2"}})
    eventually(lambda: first.sees(topic, "c1") and second.sees(topic, "c2"), within=SOON)


@MODES
def test_a_receiver_that_starts_again_keeps_what_it_serves_and_withdraws_what_it_does_not(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    reader, before = fabric.node("r1"), fabric.node("c1")
    before.serve(compute={"c1"}, cert={"c1"})
    eventually(lambda: reader.sees("compute", "c1") and reader.sees("cert", "c1"), within=SOON)
    before.matchmaker.close()
    after = fabric.node("c1")
    assert after.matchmaker.former == {"compute": {"c1"}, "cert": {"c1"}}
    after.matchmaker.register(after.matchmaker.former)
    after.serve(compute={"c1"})
    eventually(lambda: reader.sees("cert"), within=SOON)
    assert reader.sees("compute", "c1")
    assert reader.held == {}


@MODES
def test_more_topics_than_an_agent_has_connections_are_all_followed(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    reader, node = fabric.node("r1"), fabric.node("c1")
    topics = [f"t{number}" for number in range(230)]
    node.matchmaker.register({topic: {"c1"} for topic in topics})
    for topic in topics:
        eventually(lambda topic=topic: reader.sees(topic, "c1"), within=30)
    node.matchmaker.register({topic: {"c1"} for topic in topics[:-1]})
    eventually(lambda: reader.sees(topics[-1]), within=30)
    assert reader.matchmaker.problem == node.matchmaker.problem == ""


# liveness


@pytest.mark.parametrize(("mode", "expire"), [("catalog", 3.0), ("kv", 20.0)])
def test_a_node_that_died_is_gone_once_it_is_overdue(make: MakeFabric, mode: str, expire: float) -> None:
    fabric = make(mode=mode, zmq_target_expire=expire)
    alive, died = fabric.node("c1"), fabric.node("c2")
    alive.serve(compute={"c1"})
    died.serve(compute={"c2"})
    eventually(lambda: alive.sees("compute", "c1", "c2"), within=SOON)
    died.matchmaker.close()
    eventually(lambda: alive.sees("compute", "c1"), within=expire + 1 + SOON)
    assert alive.matchmaker.problem == ""


@MODES
def test_who_beats_stays(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode, zmq_target_expire=3.0, zmq_target_update=0.5)
    node, beaten = fabric.node("c1"), time.monotonic()
    node.serve(compute={"c1"})
    eventually(lambda: node.sees("compute", "c1"), within=SOON)
    while time.monotonic() < beaten + 5:
        assert node.sees("compute", "c1")
        time.sleep(0.05)


@MODES
def test_services_are_told_with_topic_server_and_host(make: MakeFabric, mode: str) -> None:
    fabric = make(mode=mode)
    for host in ("c1", "c2"):
        fabric.node(host).serve(compute={host}, volume={f"{host}@a", f"{host}@b"})
    eventually(lambda: len(_services(fabric)) == 6, within=SOON)
    assert _services(fabric) == [
        *(Service("compute", host, host, True, None) for host in ("c1", "c2")),
        *(Service("volume", f"{host}@{end}", host, True, None) for host in ("c1", "c2") for end in "ab"),
    ]


def _services(fabric: Fabric) -> list[Service]:
    async def ask() -> list[Service]:
        made = store(fabric.options("r1"))
        try:
            return await made.services()
        finally:
            await made.close()

    return asyncio.run(ask())
