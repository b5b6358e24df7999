"""Modules redis_matchmaker and redis_matchmaker_info against real Redis, Valkey and Sentinels: seed, renew, take out, prune."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fabric import eventually
from hypothesis import given
from hypothesis import strategies as st
from matchmakers import Node, on_redis, settings
from servers import RedisServer, SentinelGroup

from openstack_zeromq.matchmaker.redis.registrations import Life, Registered, Registrations, leaving, seeding
from openstack_zeromq.matchmaker.ring_file import Endpoint
from tests.rollout.conftest import CHECKOUT, load

office = load(CHECKOUT / "library" / "redis_matchmaker.py")
info = load(CHECKOUT / "library" / "redis_matchmaker_info.py")

HOSTS = {"c1": {"address": "192.0.2.1", "port": 9501}, "c2": {"address": "192.0.2.2", "port": 9601}}
SEED = {"topics": {"compute": ["c1", "c2"], "volume": ["c1"], "volume:odd": ["c1"]}, "hosts": HOSTS}


def _timeless(told: dict[str, Any]) -> str:
    """The message, whenever it is said."""
    return re.sub(r"\d+", "N", told.get("msg", ""))


class Desk:
    """Both modules on one server, in a fabric of its own; what changes is told by check mode first, in the same words."""

    def __init__(self, run_module: Callable[..., dict[str, Any]], **where: object) -> None:
        self._run = run_module
        self.where = {"fabric": f"f{uuid4().hex[:8]}", **where}

    def read(self) -> dict[str, Any]:
        return self._run(info, check=True, **self.where)

    def change(self, **arguments: object) -> dict[str, Any]:
        before = self.read()
        told = self._run(office, check=True, **self.where, **arguments)
        after = self.read()
        assert before["generations"] == after["generations"], "check mode changes nothing"
        done = self._run(office, **self.where, **arguments)
        for what in ("changed", "changes", "diff", "alive"):
            assert told.get(what) == done.get(what), what
        assert _timeless(told) == _timeless(done)
        return done

    @property
    def hosts(self) -> dict[str, list[str]]:
        return {topic: sorted(there) for topic, there in self.read()["topics"].items()}


@pytest.fixture
def desk(any_redis: RedisServer, run_module: Callable[..., dict[str, Any]]) -> Desk:
    return Desk(run_module, host=any_redis.host, port=any_redis.port)


@pytest.fixture
def make_node(any_redis: RedisServer, desk: Desk, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(host: str, **node: object) -> Node:
        options = {"rpc_zmq_matchmaker": "redis", "zmq_fabric": desk.where["fabric"], **node}
        made.append(Node(settings(tmp_path, host, on_redis(any_redis), **options)))
        return made[-1]

    yield make
    for node in made:
        node.close()


def test_an_empty_store_has_nothing(desk: Desk) -> None:
    told = desk.read()
    assert (told["topics"], told["hosts"], told["epoch"], told["beaten_s"]) == ({}, {}, "", None)


def test_a_ring_is_seeded_once_and_receivers_route_by_it(desk: Desk, make_node: Callable[..., Node]) -> None:
    done = desk.change(**SEED)
    assert done["changes"]["compute"] == {"added": ["c1", "c2"], "removed": [], "renewed": []}
    told = desk.read()
    assert told["topics"]["compute"]["c2"].pop("left_s") > 290
    assert told["topics"]["compute"]["c2"] == {"address": "192.0.2.2", "port": 9601, "servers": ["c2"]}
    assert told["topics"]["volume"]["c1"]["servers"] == ["c1", "odd"]
    assert told["epoch"]
    assert told["hosts"]["c1"]["ttl_s"] == 300
    assert told["generations"] == {"compute": 2, "volume": 1}
    assert not desk.change(**SEED)["changed"]
    node = make_node("n1")
    node.finds("compute", "c1", "c2")
    eventually(lambda: node.directed("volume", "odd") == ("c1",))


def test_what_is_registered_already_stays_beside_what_is_seeded(desk: Desk, make_node: Callable[..., Node]) -> None:
    node = make_node("n1", zmq_target_expire=60.0)
    node.serve({"compute": ["n1", "odd"]})
    eventually(lambda: desk.hosts == {"compute": ["n1"]})
    assert not desk.change(topics={"compute": ["n1"]})["changed"], "its own receiver says so"
    desk.change(topics={"other": ["n1", "c1"], "compute": ["c1"]}, hosts=HOSTS)
    assert desk.hosts["compute"] == ["c1", "n1"]
    assert desk.read()["topics"]["compute"]["n1"]["servers"] == ["n1", "odd"]
    assert desk.read()["topics"]["other"]["c1"]["address"] == "192.0.2.1"
    eventually(lambda: desk.hosts["other"] == ["c1"])  # the next beat says what n1 serves
    assert desk.hosts["compute"] == ["c1", "n1"]


def test_a_new_address_is_registered_anew_and_told(desk: Desk, make_node: Callable[..., Node]) -> None:
    desk.change(**SEED)
    node = make_node("n1")
    node.finds("compute", "c1", "c2")
    moved = desk.change(topics={"compute": ["c1"]}, hosts={"c1": {"address": "192.0.2.9"}})
    assert moved["changes"] == {"compute": {"added": [], "removed": [], "renewed": ["c1"]}}
    node.matchmaker.refresh()
    eventually(lambda: (node.hosts("compute"), node.matchmaker.endpoint("c1")) == (("c1", "c2"), Endpoint("192.0.2.9", 9501)))


def test_a_dead_node_leaves_every_topic_and_receivers_believe_it_at_once(desk: Desk, make_node: Callable[..., Node]) -> None:
    desk.change(**SEED)
    node = make_node("n1")
    node.finds("compute", "c1", "c2")
    node.finds("volume", "c1")
    done = desk.change(state="absent", hosts_gone=["c1"])
    assert done["changes"] == {topic: {"added": [], "removed": ["c1"], "renewed": []} for topic in ("compute", "volume")}
    assert done["alive"] == ["c1"]
    assert desk.hosts == {"compute": ["c2"]}
    assert "c1" not in desk.read()["hosts"]
    node.finds("compute", "c2")
    node.finds("volume")
    assert node.held("compute") == ""
    assert not desk.change(state="absent", hosts_gone=["c1"])["changed"]


def test_a_host_leaves_one_topic_and_keeps_the_others(desk: Desk) -> None:
    desk.change(**SEED)
    desk.change(state="absent", topics={"volume": ["c1"], "compute": ["nobody"]})
    assert desk.hosts == {"compute": ["c1", "c2"]}
    desk.change(state="absent", hosts_gone=["c1"])
    assert desk.hosts == {"compute": ["c2"]}


def test_only_those_who_have_expired_are_pruned(desk: Desk, any_redis: RedisServer) -> None:
    desk.change(topics={"compute": ["c1"], "volume": ["c1"]}, hosts=HOSTS, ttl=1)
    desk.change(topics={"compute": ["c2"]}, hosts=HOSTS)
    assert not desk.change(state="absent", expired=True)["changed"]
    eventually(lambda: desk.read()["topics"]["compute"]["c1"]["left_s"] == 0)
    assert "no node has said that it is there ever" in desk.change(state="absent", expired=True)["msg"]
    prefix = f"{{zmq:{desk.where['fabric']}}}:"
    now = int(any_redis.client.time()[0]) * 1000
    any_redis.client.set(f"{prefix}beaten", now - 1000_000)
    assert "no node has said that it is there for" in desk.change(state="absent", expired=True)["msg"]
    any_redis.client.set(f"{prefix}beaten", now)
    any_redis.client.set(f"{prefix}spared", now + 60_000)
    assert "nodes still come back; wait" in desk.change(state="absent", expired=True)["msg"]
    any_redis.client.delete(f"{prefix}spared")
    done = desk.change(state="absent", expired=True)
    assert done["changes"]["volume"]["removed"] == ["c1"]
    assert done["alive"] == []
    assert desk.hosts == {"compute": ["c2"]}
    assert set(desk.read()["hosts"]) == {"c2"}
    assert not desk.change(state="absent", expired=True)["changed"]


def test_sentinels_lead_to_the_master(make_sentinels: Callable[..., SentinelGroup], run_module: Callable[..., Any]) -> None:
    group = make_sentinels(password="p@ss:/w")
    where = ",".join(f"{host}:{port}" for host, port in group.addresses)
    desk = Desk(run_module, url=f"zmq+sentinel://:p%40ss%3A%2Fw@{where}/{group.group}")
    desk.change(**SEED)
    assert desk.hosts["compute"] == ["c1", "c2"]
    sentinels = [f"{host}:{port}" for host, port in group.addresses]
    plain = {"sentinel_hosts": sentinels, "sentinel_group_name": group.group, "password": "p@ss:/w"}
    other = Desk(run_module, **plain)
    other.where["fabric"] = desk.where["fabric"]
    assert other.hosts == desk.hosts


def test_a_password_is_asked_for_with_the_remedy_and_never_shown(
    make_redis: Callable[..., RedisServer], run_module: Callable[..., Any], tmp_path: Path
) -> None:
    server = make_redis(password="very-right")
    where = {"host": server.host, "port": server.port}
    told = Desk(run_module, **where, password="very-wrong").read()
    assert "see [matchmaker_redis] username and password" in told["msg"]
    assert "very-wrong" not in str(told)
    url = Desk(run_module, url=f"zmq+redis://:very-wrong@{server.host}:{server.port}").read()
    assert "see [matchmaker_redis] username and password" in url["msg"]
    assert "very-wrong" not in str(url)
    assert Desk(run_module, **where, password="very-right").read()["topics"] == {}
    config = tmp_path / "zeromq.conf"
    config.write_text(f"[DEFAULT]\ntransport_url = zmq+redis://:very-right@{server.host}:{server.port}\n")
    assert Desk(run_module, config_files=[str(config)]).read()["topics"] == {}
    server.stop()
    assert "the connection is refused" in Desk(run_module, **where).read()["msg"]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"state": "absent"}, "nobody is to leave"),
        ({"hosts_gone": ["c1"]}, "use state=absent"),
        ({"topics": {"compute": ["c9"]}}, "host c9 is nowhere said to have an address"),
        ({"topics": {"compute": "c1"}}, "must have a list"),
        ({"topics": {}, "ttl": 0}, "must be 1 to 86400 seconds"),
        ({"state": "absent", "topics": {"volume:odd": ["c1"]}}, "name the topic"),
        ({"hosts": {"c1": {"port": 1}}}, "c1 has no address"),
        ({"hosts": {"c1": {"address": "x", "port": 0}}}, "must be a number from 1 to 65535"),
        ({"topics": {}, "url": "zmq+consul://x"}, "the matchmaker is consul, not Redis"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_remedy(
    shared_redis: RedisServer, run_module: Callable[..., Any], arguments: dict[str, Any], remedy: str
) -> None:
    where = {} if "url" in arguments else {"host": shared_redis.host, "port": shared_redis.port}
    told = run_module(office, fabric="refusals", **where, **arguments)
    assert told["failed"]
    assert remedy in told["msg"], told["msg"]


NAMES = st.sampled_from(["a", "b", "c"])
RINGS = st.dictionaries(st.sampled_from(["t", "u", "t:odd"]), st.sets(NAMES, min_size=1).map(sorted))
KNOWN = {name: Endpoint(f"192.0.2.{number}", 9501) for number, name in enumerate("abc", 1)}


@given(RINGS, RINGS)
def test_what_was_seeded_is_not_due_again(first: dict[str, list[str]], second: dict[str, list[str]]) -> None:
    there = Registrations()
    for ring in (first, second):
        for seed in seeding(there, ring, KNOWN, 300, 9501):
            topics = {topic: dict(hosts) for topic, hosts in there.topics.items()}
            for topic, facts in seed.topics.items():
                topics.setdefault(topic, {})[seed.host] = Registered(facts.address, facts.port or 0, facts.servers, 300.0)
            there = Registrations(topics=topics, hosts={**there.hosts, seed.host: Life(300.0, 300.0)})
        assert seeding(there, ring, KNOWN, 300, 9501) == []
    assert leaving(there, {}, {"a", "b", "c"}) == {topic: sorted(hosts) for topic, hosts in there.topics.items()}
