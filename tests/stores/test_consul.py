"""Consul as the matchmaker's store, in both modes, through the matchmaker that a receiver uses."""

import asyncio
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from fabric import eventually
from oslo_config import cfg
from servers import Authority, ConsulAgent

from openstack_zeromq import options
from openstack_zeromq.errors import ConfigError
from openstack_zeromq.matchmaker.base import Service
from openstack_zeromq.matchmaker.choose import matchmaker, store
from openstack_zeromq.matchmaker.consul import catalog, keys
from openstack_zeromq.matchmaker.following import StoreMatchmaker
from openstack_zeromq.matchmaker.holding import Why

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
    agent: "ConsulAgent | Replay"
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
        stores = {"host": agent.host, "port": agent.port, "socket_timeout": 2.0, "wait": 5.0}
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

        def made(agent: ConsulAgent | Replay = shared_consul, **settings: Any) -> Fabric:
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
def test_who_left_is_removed_after_a_while_and_nothing_is_held_then(
    make: MakeFabric, shared_consul: ConsulAgent, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(catalog, "LEFT_SHOWN", 0.5)
    monkeypatch.setattr(keys, "LEFT_SHOWN", 0.5)
    fabric = make(mode=mode)
    reader, leaving = fabric.node("r1"), fabric.node("c1")
    leaving.serve(compute={"c1"})
    eventually(lambda: reader.sees("compute", "c1"), within=SOON)
    leaving.serve()
    eventually(lambda: reader.sees("compute"), within=SOON)
    client, prefix = shared_consul.client(), fabric.settings["prefix"]

    def removed() -> bool:
        found = client.kv.get(f"{prefix}zeromq/{fabric.settings['zmq_fabric']}/topics/", recurse=True)[1]
        return not found and not client.catalog.service(f"{prefix}compute")[1]

    eventually(removed, within=SOON)
    assert reader.sees("compute")
    assert reader.held == {}


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
def test_more_topics_than_an_agent_has_connections_are_all_followed(
    make: MakeFabric, make_consul: Callable[..., ConsulAgent], mode: str
) -> None:
    fabric = make(make_consul(), mode=mode)
    reader, node = fabric.node("r1"), fabric.node("c1")
    topics = [f"t{number}" for number in range(205)]
    node.matchmaker.register({topic: {"c1"} for topic in topics})
    for topic in topics:
        reader.sees(topic)
    eventually(lambda: all(reader.sees(topic, "c1") for topic in topics), within=30)
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


@pytest.mark.parametrize(("mode", "expire"), [("catalog", 3.0), ("kv", 20.0)])
def test_who_beats_stays(make: MakeFabric, mode: str, expire: float) -> None:
    fabric = make(mode=mode, zmq_target_expire=expire, zmq_target_update=expire / 6)
    node, beaten = fabric.node("c1"), time.monotonic()
    node.serve(compute={"c1"})
    eventually(lambda: node.sees("compute", "c1"), within=SOON)
    while time.monotonic() < beaten + expire + 2:
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


# health and the catalog of others


def test_critical_is_out_and_warning_is_in_unless_it_is_not_accepted(make: MakeFabric, shared_consul: ConsulAgent) -> None:
    fabric = make()
    service = f"{fabric.settings['prefix']}compute"
    for host, status in (("c1", "passing"), ("c2", "warning"), ("c3", "critical")):
        shared_consul.register(
            service, f"{service}-{host}", f"{fabric.settings['prefix']}{host}", meta={"zmq_host": host}, status=status
        )
    lenient, strict = fabric.node("r1"), fabric.node("r2", accept_warning=False)
    eventually(lambda: lenient.sees("compute", "c1", "c2") and strict.sees("compute", "c1"), within=SOON)


def test_a_node_whose_own_check_is_critical_is_out(make: MakeFabric, shared_consul: ConsulAgent) -> None:
    fabric = make()
    name = fabric.settings["prefix"]
    for host in ("c1", "c2"):
        shared_consul.register(f"{name}compute", f"{name}{host}", f"{name}{host}", meta={"zmq_host": host})
    reader = fabric.node("r1")
    eventually(lambda: reader.sees("compute", "c1", "c2"), within=SOON)
    check = {"CheckID": "disk", "Name": "disk", "Status": "critical"}
    shared_consul.put("catalog/register", Node=f"{name}c2", Address="127.0.0.1", Check=check)
    eventually(lambda: reader.sees("compute", "c1"), within=SOON)


def test_a_service_that_is_deregistered_is_gone(make: MakeFabric, shared_consul: ConsulAgent) -> None:
    fabric = make()
    name = fabric.settings["prefix"]
    for host in ("c1", "c2"):
        shared_consul.register(f"{name}compute", f"{name}{host}", f"{name}{host}", meta={"zmq_host": host})
    reader = fabric.node("r1")
    eventually(lambda: reader.sees("compute", "c1", "c2"), within=SOON)
    shared_consul.deregister(f"{name}c2", f"{name}c2")
    eventually(lambda: reader.sees("compute", "c1"), within=SOON)


def test_services_of_an_operator_are_topics_by_the_map_without_their_ports(make: MakeFabric, shared_consul: ConsulAgent) -> None:
    name = str(uuid4())
    shared_consul.register(f"{name}-nova-compute", f"{name}-1", f"{name}-c1.example.com", address="10.0.0.1", port=8774)
    shared_consul.register(
        f"{name}-nova-cells",
        f"{name}-2",
        f"{name}-c2.example.com",
        address="10.0.0.2",
        port=8775,
        meta={"zmq_servers": "cell1, cell2"},
    )
    reader = make(services={f"{name}-nova-compute": "compute", f"{name}-nova-cells": "compute"}).node("r1")
    hosts = (f"{name}-c1", f"{name}-c2")
    eventually(lambda: reader.sees("compute", *hosts), within=SOON)
    first, second = (reader.matchmaker.endpoint(host) for host in hosts)
    assert first is not None
    assert second is not None
    assert (first.address, first.port, second.address, second.port) == ("10.0.0.1", None, "10.0.0.2", None)
    assert reader.matchmaker.directed("compute", "cell2") == (f"{name}-c2",)


def test_what_is_garbage_in_the_catalog_is_left_out_and_counted(make: MakeFabric, shared_consul: ConsulAgent) -> None:
    fabric = make()
    name = fabric.settings["prefix"]
    for number, meta in enumerate(
        [{"zmq_port": "none"}, {"zmq_port": "70000"}, {"zmq_servers": "[1]"}, {"zmq_servers": "[{"}, {"zmq_host": "h" * 80}, {}]
    ):
        shared_consul.register(f"{name}compute", f"{name}{number}", f"{name}{number}", meta={"zmq_host": f"c{number}", **meta})
    reader = fabric.node("r1")
    eventually(lambda: reader.sees("compute", "c5"), within=SOON)
    assert reader.counter("garbage") == 5


def test_what_is_garbage_among_the_keys_is_left_out_and_counted(make: MakeFabric, shared_consul: ConsulAgent) -> None:
    fabric = make(mode="kv")
    name, keys = fabric.settings["prefix"], shared_consul.client().kv
    session = shared_consul.client().session.create(ttl=60, behavior="delete", lock_delay=0)
    root = f"{name}zeromq/{fabric.settings['zmq_fabric']}/topics/compute"
    for key, value in {
        "c2": "no JSON", "c3": "[]", "c4": '{"port": "x"}', "c5": '{"servers": [1]}', "~zz": "{}", "c6": b"\xff", "a/b": "{}"
    }.items():  # fmt: skip
        keys.put(f"{root}/{key}", value, acquire=session)
    keys.put(f"{root}/c7", "{}")
    node = fabric.node("c1")
    node.serve(compute={"c1"})
    eventually(lambda: node.sees("compute", "c1"), within=SOON)
    assert node.counter("garbage") >= 8


def test_a_receiver_that_is_not_to_register_registers_nothing(make: MakeFabric, shared_consul: ConsulAgent) -> None:
    fabric = make()
    node, silent = fabric.node("c1"), fabric.node("c2", register=False)
    node.serve(compute={"c1"})
    silent.serve(compute={"c2"})
    eventually(lambda: silent.sees("compute", "c1"), within=SOON)
    ours = [key for key in shared_consul.client().agent.services() if fabric.settings["zmq_fabric"] in key]
    assert [key.rpartition(":")[2] for key in ours] == ["c1"]


# Consul itself fails


@MODES
def test_an_agent_that_is_down_at_the_start_leaves_what_was_known_and_says_so(
    make: MakeFabric, make_consul: Callable[..., ConsulAgent], mode: str
) -> None:
    agent = make_consul()
    fabric = make(agent, mode=mode)
    node, reader = fabric.node("c1"), fabric.node("r1")
    node.serve(compute={"c1"})
    eventually(lambda: reader.sees("compute", "c1"), within=SOON)
    reader.matchmaker.close()
    agent.kill()
    again = fabric.node("r1")
    assert again.sees("compute", "c1")
    assert again.status["stale"] == ["compute"]
    eventually(lambda: "refused" in again.matchmaker.problem, within=SOON)
    agent.start()
    eventually(lambda: again.matchmaker.problem == "" and again.status["stale"] == [], within=15)
    assert again.sees("compute", "c1")


def test_a_host_that_has_just_registered_is_there_when_its_agent_was_killed(
    make: MakeFabric, make_consul: Callable[..., ConsulAgent]
) -> None:
    agent = make_consul()
    node = make(agent, mode="catalog", zmq_target_update=60.0, zmq_target_expire=180.0).node("c1")
    eventually(lambda: node.sees("compute"))  # from now on it beats once when it is told something, and then in a minute
    node.serve(compute={"c1"})
    kept = agent.directory / "data" / "checks" / "state"
    eventually(lambda: kept.exists() and any(kept.iterdir()))
    agent.kill()
    agent.start()
    assert [check["Status"] for check in agent.client().agent.checks().values()] == ["passing"]


@MODES
def test_an_agent_that_comes_and_goes_changes_nothing(
    make: MakeFabric, make_consul: Callable[..., ConsulAgent], mode: str
) -> None:
    agent = make_consul()
    fabric = make(agent, mode=mode, zmq_target_expire=180.0)  # after a third of it, an agent that starts slowly were an outage
    nodes = [fabric.node(f"c{number}") for number in range(3)]
    for number, node in enumerate(nodes):
        node.serve(compute={f"c{number}"})
    eventually(lambda: all(node.sees("compute", "c0", "c1", "c2") for node in nodes), within=SOON)
    for _ in range(3):
        agent.kill()
        eventually(lambda: "refused" in nodes[0].matchmaker.problem)
        agent.start()
        eventually(lambda: all(node.matchmaker.problem == "" for node in nodes), within=15)
        assert all(node.sees("compute", "c0", "c1", "c2") for node in nodes)
    nodes[2].serve()
    eventually(lambda: nodes[0].sees("compute", "c0", "c1"), within=15)


@MODES
def test_an_agent_that_says_nothing_is_away(make: MakeFabric, make_consul: Callable[..., ConsulAgent], mode: str) -> None:
    agent = make_consul()
    fabric = make(agent, mode=mode, socket_timeout=0.5, wait=1.0)
    node = fabric.node("c1")
    node.serve(compute={"c1"})
    eventually(lambda: node.sees("compute", "c1"), within=SOON)
    agent.pause()
    eventually(lambda: "no answer within" in node.matchmaker.problem)
    assert node.sees("compute", "c1")
    agent.resume()
    eventually(lambda: node.matchmaker.problem == "", within=15)


@MODES
def test_a_wiped_consul_changes_nothing_and_everything_is_in_it_again(
    make: MakeFabric, make_consul: Callable[..., ConsulAgent], mode: str
) -> None:
    agent = make_consul()
    fabric = make(agent, mode=mode)
    nodes = [fabric.node(f"c{number}") for number in range(4)]
    for number, node in enumerate(nodes):
        node.serve(compute={f"c{number}"}, cert={f"c{number}"})
    reader = fabric.node("r1")
    everybody = ("c0", "c1", "c2", "c3")
    eventually(lambda: reader.sees("compute", *everybody), within=SOON)
    for node in nodes[1:]:
        node.matchmaker.close()  # only c0 registers again
    agent.wipe()
    eventually(lambda: reader.counter("warm_ups") > 0, within=15)
    eventually(lambda: {service.host for service in _services(fabric)} == {"c0"}, within=15)
    assert reader.sees("compute", *everybody)
    for number in range(1, len(nodes)):
        back = fabric.node(f"c{number}")
        back.serve(compute={f"c{number}"}, cert={f"c{number}"})
    eventually(lambda: len(_services(fabric)) == 8, within=15)
    eventually(lambda: reader.sees("compute", *everybody) and reader.held == {}, within=SOON)


@MODES
def test_a_consul_that_is_restored_from_an_old_dump_changes_nothing(
    make: MakeFabric, make_consul: Callable[..., ConsulAgent], mode: str
) -> None:
    agent = make_consul()
    fabric = make(agent, mode=mode)
    nodes = [fabric.node(f"c{number}") for number in range(4)]
    nodes[0].serve(compute={"c0"})
    eventually(lambda: nodes[0].sees("compute", "c0"), within=SOON)
    dump = requests.get(f"{agent.url}/v1/snapshot", timeout=10).content
    for number, node in enumerate(nodes):
        node.serve(compute={f"c{number}"})
    everybody = ("c0", "c1", "c2", "c3")
    eventually(lambda: nodes[0].sees("compute", *everybody), within=SOON)
    for node in nodes[1:]:
        node.matchmaker.close()
    requests.put(f"{agent.url}/v1/snapshot", data=dump, timeout=10).raise_for_status()
    eventually(lambda: nodes[0].counter("warm_ups") > 0, within=15)
    assert nodes[0].sees("compute", *everybody)


# rights, and TLS


def _all_rights(fabric: Fabric) -> dict[str, Any]:
    return {
        "service_prefix": {"": {"policy": "write"}},
        "node_prefix": {"": {"policy": "read"}},
        "agent_prefix": {"": {"policy": "read"}},
        "key_prefix": {fabric.settings["prefix"]: {"policy": "write"}},
        "session_prefix": {"": {"policy": "write"}},
    }


@pytest.fixture(scope="session")
def guarded() -> Iterator[ConsulAgent]:
    """An agent that denies everything without a token; shared."""
    with ConsulAgent(acl=True) as agent:
        yield agent


@MODES
def test_a_token_with_the_rights_we_ask_for_is_enough(
    make: MakeFabric, guarded: ConsulAgent, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "not ours")
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
    fabric = make(guarded, mode=mode)
    node = fabric.node("c1", token=guarded.make_token(_all_rights(fabric)))
    node.serve(compute={"c1"})
    eventually(lambda: node.sees("compute", "c1"), within=SOON)
    assert node.matchmaker.problem == ""


@MODES
def test_a_wrong_token_loses_nothing_and_is_told(make: MakeFabric, guarded: ConsulAgent, mode: str) -> None:
    fabric = make(guarded, mode=mode)
    node = fabric.node("c1", token=guarded.make_token(_all_rights(fabric)))
    node.serve(compute={"c1"})
    eventually(lambda: node.sees("compute", "c1"), within=SOON)
    node.matchmaker.close()
    wrong = str(uuid4())
    again = fabric.node("c1", token=wrong)
    again.serve(compute={"c1"})
    eventually(lambda: "403" in again.matchmaker.problem, within=SOON)
    assert again.sees("compute", "c1")
    assert "see [matchmaker_consul] token" in again.matchmaker.problem
    assert wrong not in again.matchmaker.problem


def test_a_token_that_may_not_read_services_loses_nothing_and_the_reason_can_be_read(
    make: MakeFabric, guarded: ConsulAgent
) -> None:
    fabric = make(guarded)
    node = fabric.node("c1", token=guarded.make_token(_all_rights(fabric)))
    node.serve(compute={"c1"})
    eventually(lambda: node.sees("compute", "c1"), within=SOON)
    node.matchmaker.close()
    again = fabric.node("c1", token=guarded.make_token({"node_prefix": {"": {"policy": "read"}}}))
    eventually(
        lambda: 'token: the service consul is not in its catalog; it needs service_prefix "" read' in again.matchmaker.problem,
        within=SOON,
    )
    assert again.sees("compute", "c1")
    assert again.matchmaker.hosts("never-asked") is None


@MODES
def test_tls_with_an_authority_of_our_own_and_a_certificate_of_the_client_works(
    make: MakeFabric, make_consul: Callable[..., ConsulAgent], authority: Authority, mode: str
) -> None:
    agent = make_consul(tls=authority)
    certificate, key = authority.issue("client", "client")
    fabric = make(agent, mode=mode, scheme="https", ca_file=str(authority.ca_file), cert_file=str(certificate), key_file=str(key))
    node = fabric.node("c1")
    node.serve(compute={"c1"})
    eventually(lambda: node.sees("compute", "c1"), within=SOON)
    distrustful = fabric.node("c2", ca_file="")
    eventually(lambda: "certificate" in distrustful.matchmaker.problem, within=SOON)


def test_a_certificate_that_is_none_stops_the_start_and_names_the_option(make: MakeFabric, tmp_path: Path) -> None:
    no_certificate = tmp_path / "ca.pem"
    no_certificate.write_text("none")
    with pytest.raises(ConfigError, match="ca_file"):
        make(scheme="https", ca_file=str(no_certificate)).node("c1")


# what Consul says only in a crash: replayed, as a real one said it


class Replay:
    """Answers GET like an agent: `services` are the answers of health (service -> index and instances)."""

    def __init__(self, real: ConsulAgent) -> None:
        health = requests.get(f"{real.url}/v1/health/service/consul", timeout=5)
        self.canary: Any = health.json()
        self.headers = {"X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0"}
        self.services: dict[str, tuple[int, Any]] = {}
        self.status = 200
        self.changed = threading.Event()
        replay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                replay.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host, self.port = "127.0.0.1", self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def say(self, **services: tuple[int, Any]) -> None:
        """Change, and wake up all blocking queries."""
        self.services.update(services)
        self.changed.set()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        service, asked = path.rpartition("/")[2], urllib.parse.parse_qs(query)
        if "index" in asked:
            self.changed.wait(0.2)
            self.changed.clear()
        index, content = self.services.get(service, (5, []))
        if service == "consul":
            index, content = 7, self.canary
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request.send_response(self.status)
        for name, value in {**self.headers, "X-Consul-Index": str(index), "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)


@pytest.fixture
def replay(shared_consul: ConsulAgent) -> Iterator[Replay]:
    made = Replay(shared_consul)
    yield made
    made.server.shutdown()
    made.server.server_close()


def _instances(agent: ConsulAgent, *hosts: str) -> Any:
    """As a real Consul tells them."""
    service = str(uuid4())
    for host in hosts:
        agent.register(service, f"{service}-{host}", f"{service}-{host}", meta={"zmq_host": host})
    told = requests.get(f"{agent.url}/v1/health/service/{service}", timeout=5).json()
    for entry in told:
        entry["Service"]["Service"] = "compute"
    return told


@pytest.fixture
def following(make: MakeFabric, replay: Replay, shared_consul: ConsulAgent) -> Node:
    """A node that knows c1 … c4 from the replay, at index 100."""
    replay.say(compute=(100, _instances(shared_consul, "c1", "c2", "c3", "c4")))
    node = make(replay, prefix="", register=False).node("r1")
    eventually(lambda: node.sees("compute", "c1", "c2", "c3", "c4"), within=SOON)
    return node


def test_an_index_that_goes_backwards_withholds_removals_and_lets_additions_in(
    following: Node, replay: Replay, shared_consul: ConsulAgent
) -> None:
    replay.say(compute=(50, _instances(shared_consul, "c1", "c5")))
    eventually(lambda: following.sees("compute", "c1", "c2", "c3", "c4", "c5"), within=SOON)
    assert following.counter("warm_ups") == 1
    assert following.held["compute"]["why"] == Why.WARM_UP.value


def test_an_empty_answer_of_a_consul_that_lost_itself_is_held_and_told(following: Node, replay: Replay) -> None:
    replay.canary = []
    replay.say(compute=(101, []))
    eventually(lambda: following.held.get("compute", {}).get("why") == Why.CANARY.value, within=SOON)
    assert following.sees("compute", "c1", "c2", "c3", "c4")
    assert Why.CANARY.value in following.matchmaker.problem


def test_another_server_behind_the_same_index_is_another_store(
    following: Node, replay: Replay, shared_consul: ConsulAgent
) -> None:
    replay.canary[0]["Node"]["ID"] = str(uuid4())
    replay.say(compute=(101, _instances(shared_consul, "c1", "c2", "c3")))
    eventually(lambda: following.held.get("compute", {}).get("why") == Why.WARM_UP.value, within=SOON)
    assert following.sees("compute", "c1", "c2", "c3", "c4")


def test_a_topic_that_is_asked_for_while_the_canary_is_lost_stays_unknown(following: Node, replay: Replay) -> None:
    replay.canary = []
    eventually(lambda: Why.CANARY.value in following.matchmaker.problem, within=SOON)
    following.matchmaker.hosts("other")
    with pytest.raises(AssertionError):
        eventually(lambda: following.sees("other"), within=1)


@pytest.mark.parametrize(
    ("headers", "status", "body", "problem"),
    [
        ({"X-Consul-KnownLeader": "false"}, 200, [], "no leader"),
        ({"X-Consul-LastContact": "60000"}, 200, [], "60 s old"),
        ({}, 500, b"No cluster leader", "500: No cluster leader"),
        ({}, 200, b"<html>", "no JSON"),
        ({}, 200, b"\xff\xfe", "no HTTP"),
        ({}, 200, b"[" * 100_000, "no JSON"),
    ],
)
def test_an_answer_that_is_not_to_be_believed_changes_nothing_and_is_told(  # noqa: PLR0917 - the table above has as many
    following: Node, replay: Replay, headers: dict[str, str], status: int, body: Any, problem: str
) -> None:
    replay.status, replay.canary = status, body
    replay.headers.update(headers)
    replay.say(compute=(101, body))
    eventually(lambda: problem in following.matchmaker.problem, within=SOON)
    assert following.sees("compute", "c1", "c2", "c3", "c4")
