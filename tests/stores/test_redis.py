"""redis: nodes find each other through a real Redis or Valkey, and go on when it does what stores do."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fabric import eventually
from matchmakers import Node, on_redis, on_sentinels, settings
from servers import Authority, RedisServer, SentinelGroup

from openstack_zeromq.address import compact
from openstack_zeromq.matchmaker.base import Registration
from openstack_zeromq.matchmaker.choose import store
from openstack_zeromq.matchmaker.redis.client import RedisClient

MakeNode = Callable[..., Node]
MakeRedis = Callable[..., RedisServer]
TTL = 3.0
ACL_COMMANDS = (
    "+eval +evalsha +script|load +time +get +set +del +hget +hset +hdel +hgetall +hmget +hincrby +zadd +zrem +zrange"
    " +zrangebyscore +zrevrangebyscore +zremrangebyscore +zcard +zscore +sadd +srem +smembers +publish +subscribe +unsubscribe"
    " +multi +exec +ping +client|info"
)
"""What docs/operate.md tells operators to allow."""


@pytest.fixture
def fabric_name() -> str:
    return uuid.uuid4().hex[:12]


@pytest.fixture
def make_node(tmp_path: Path, fabric_name: str) -> Iterator[MakeNode]:
    """`make_node(server, "c1", {"compute": ["c1"]})` gives a node that serves this."""
    made: list[Node] = []

    def make(server: RedisServer, host: str, topics: dict[str, list[str]] | None = None, **node: Any) -> Node:
        store = node.pop("store", {})
        read = settings(
            tmp_path, host, on_redis(server, **store), **{"rpc_zmq_matchmaker": "redis", "zmq_fabric": fabric_name, **node}
        )
        made.append(Node(read))
        if topics is not None:
            made[-1].serve(topics)
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.mark.quick("redis")
def test_who_starts_to_serve_is_found_and_who_stops_is_gone(any_redis: RedisServer, make_node: MakeNode) -> None:
    reader = make_node(any_redis, "reader", {})
    reader.finds("compute")
    first = make_node(any_redis, "c1", {"compute": ["c1"]}, zmq_address="10.0.0.1", rpc_zmq_port=9600)
    reader.finds("compute", "c1")
    second = make_node(any_redis, "c2", {"compute": ["c2"], "volume": ["odd@lvm"]})
    reader.finds("compute", "c1", "c2")
    reader.finds("volume", "c2")
    assert reader.directed("volume", "odd@lvm") == ("c2",)
    assert reader.directed("compute", "c1") == ("c1",)
    endpoint = reader.matchmaker.endpoint("c1")
    assert endpoint is not None
    assert (endpoint.address, endpoint.port) == ("10.0.0.1", 9600)
    first.serve({})
    reader.finds("compute", "c2")
    second.serve({"volume": ["odd@lvm", "even@lvm"]})
    reader.finds("compute")
    assert not reader.held("compute"), "whoever says goodbye is believed, even the last one"
    eventually(lambda: reader.directed("volume", "even@lvm") == ("c2",), within=1)


def test_a_node_that_listens_everywhere_asks_the_store_for_its_address(any_redis: RedisServer, make_node: MakeNode) -> None:
    """Before, with Redis 6.0, which has no CLIENT INFO: it never registered."""
    reader = make_node(any_redis, "reader", {})
    node = make_node(any_redis, "c1", {"compute": ["c1"]}, rpc_zmq_bind_address="*")
    reader.finds("compute", "c1")
    assert reader.problem + node.problem == ""


def test_two_machines_of_one_name_are_not_merged_the_first_is_refused_and_both_say_so(
    any_redis: RedisServer, make_node: MakeNode
) -> None:
    """n2.east.example.com and n2.west.example.com are both n2 by default."""
    reader = make_node(any_redis, "reader", {})
    east = make_node(any_redis, "n2", {"compute": ["n2"]}, zmq_address="192.0.2.1", zmq_target_update=1, zmq_target_expire=3)
    reader.finds("compute", "n2")
    west = make_node(any_redis, "n2", {"volume": ["n2"]}, zmq_address="192.0.2.2", zmq_target_update=1, zmq_target_expire=3)
    eventually(lambda: "at 192.0.2.2 port 9501, registers as n2, too" in east.problem, within=5)
    eventually(lambda: "at 192.0.2.1 port 9501, registers as n2, too" in west.problem, within=8)
    assert "give each an rpc_zmq_host of its own" in east.problem
    reader.finds("volume", "n2")
    assert endpoint_of(reader, "n2") == "192.0.2.2"
    west.close()
    eventually(lambda: not east.problem, within=10)
    reader.finds("compute", "n2")
    assert endpoint_of(reader, "n2") == "192.0.2.1"


def test_a_receiver_that_was_restarted_or_moved_is_no_second_machine(any_redis: RedisServer, make_node: MakeNode) -> None:
    reader = make_node(any_redis, "reader", {})
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.3"):
        node = make_node(any_redis, "n2", {"compute": ["n2"]}, zmq_address=address, zmq_target_update=1, zmq_target_expire=3)
        reader.finds("compute", "n2", within=5)
        eventually(lambda at=address: endpoint_of(reader, "n2") == at, within=5)
        assert not node.problem
        node.close()


def endpoint_of(reader: Node, host: str) -> str:
    """The address where `host` is dialled."""
    reader.matchmaker.refresh()
    endpoint = reader.matchmaker.endpoint(host)
    return "" if endpoint is None else endpoint.address


def test_the_address_is_that_of_the_own_connection(any_redis: RedisServer, tmp_path: Path, fabric_name: str) -> None:
    """Among those of others, which Redis 6.0 shows with it."""

    async def ask() -> str:
        client = RedisClient(settings(tmp_path, "c1", on_redis(any_redis), zmq_fabric=fabric_name))
        try:
            return str((await client._who_am_i())["addr"])
        finally:
            await client.close()

    others = {client["addr"] for client in any_redis.client.client_list()}
    address = asyncio.run(ask())
    assert address.startswith("127.0.0.1:")
    assert address not in others


def test_who_is_killed_is_gone_when_its_time_is_over(any_redis: RedisServer, make_node: MakeNode) -> None:
    reader = make_node(any_redis, "reader", {"compute": ["reader"]})
    killed = make_node(any_redis, "c1", {"compute": ["c1"], "volume": ["c1"]})
    reader.finds("compute", "c1", "reader")
    killed.close()
    reader.finds("compute", "reader", within=TTL + 1)
    reader.finds("volume")
    assert "failed_reads" not in reader.status()["counters"], "a store that has nothing to say is not away"


def test_the_last_host_of_a_topic_is_held_when_it_dies_and_released_by_hand(any_redis: RedisServer, make_node: MakeNode) -> None:
    reader = make_node(any_redis, "reader", {})
    killed = make_node(any_redis, "c1", {"compute": ["c1"]})
    reader.finds("compute", "c1")
    killed.close()
    eventually(lambda: reader.held("compute"), within=TTL + 1)
    assert reader.hosts("compute") == ("c1",)
    assert reader.matchmaker.release("compute")
    reader.finds("compute")


def test_a_topic_that_may_be_empty_is_not_held(any_redis: RedisServer, make_node: MakeNode) -> None:
    reader = make_node(any_redis, "reader", {}, zmq_allow_empty=["compute"])
    killed = make_node(any_redis, "c1", {"compute": ["c1"]})
    reader.finds("compute", "c1")
    killed.close()
    reader.finds("compute", within=TTL + 1)


def test_a_long_topic_and_one_with_odd_letters_are_found(any_redis: RedisServer, make_node: MakeNode) -> None:
    long = compact("neutron-vo-" + "x" * 200)
    reader = make_node(any_redis, "reader", {})
    make_node(any_redis, "c1", {long: ["c1"], "a:b/ü %": ["h@x#y"]})
    reader.finds(long, "c1")
    reader.finds("a:b/ü %", "c1")


def test_two_fabrics_in_one_store_do_not_see_each_other(shared_redis: RedisServer, make_node: MakeNode) -> None:
    for fabric in ("red", "redder"):
        make_node(shared_redis, f"of-{fabric}", {"compute": ["x"]}, zmq_fabric=fabric)
    for fabric in ("red", "redder"):
        reader = make_node(shared_redis, f"reader-{fabric}", {}, zmq_fabric=fabric)
        reader.finds("compute", f"of-{fabric}")


def test_services_are_listed_with_their_liveness(shared_redis: RedisServer, make_node: MakeNode) -> None:
    node = make_node(shared_redis, "c1", {"compute": ["c1"], "volume": ["a@lvm", "b@lvm"]})
    node.finds("volume", "c1")

    async def ask() -> list[Any]:
        asked = store(node.settings)
        try:
            return list(await asked.services())
        finally:
            await asked.close()

    found = asyncio.run(ask())
    assert [service[:4] for service in found] == [
        ("compute", "c1", "c1", True),
        ("volume", "a@lvm", "c1", True),
        ("volume", "b@lvm", "c1", True),
    ]
    assert all(0 <= service.heard < TTL for service in found)


# the store is away


def test_a_store_that_is_down_at_the_start_is_waited_for(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis(start=False)
    reader = make_node(server, "reader", {})
    served = make_node(server, "c1", {"compute": ["c1"]})
    assert reader.hosts("compute") is None, "that nobody serves it is not known"
    eventually(lambda: "refused" in reader.problem or "Connect" in reader.problem)
    server.start()
    reader.finds("compute", "c1", within=10)
    eventually(lambda: not reader.problem + served.problem, within=10)


def test_what_was_known_serves_while_the_store_is_down_at_the_next_start(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    reader = make_node(server, "reader", {})
    make_node(server, "c1", {"compute": ["c1"], "volume": ["odd@lvm"]}, zmq_address="10.0.0.1")
    reader.finds("compute", "c1")
    reader.finds("volume", "c1")
    reader.close()
    server.stop()
    again = make_node(server, "reader", {})
    assert (again.hosts("compute"), again.directed("volume", "odd@lvm")) == (("c1",), ("c1",))
    assert again.status()["stale"] == ["compute", "volume"]
    server.start()
    eventually(lambda: again.status()["stale"] == [], within=10)
    again.finds("compute", "c1")


def test_nobody_notices_that_the_store_is_away_or_flaps(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis(save=True)
    reader = make_node(server, "reader", {"compute": ["reader"]})
    make_node(server, "c1", {"compute": ["c1"]})
    reader.finds("compute", "c1", "reader")
    for _ in range(3):
        server.kill()
        eventually(lambda: reader.problem, within=5)
        assert reader.hosts("compute") == ("c1", "reader")
        server.start()
        eventually(lambda: not reader.problem, within=10)
        assert reader.hosts("compute") == ("c1", "reader")
    make_node(server, "c2", {"compute": ["c2"]})
    reader.finds("compute", "c1", "c2", "reader", within=10)


def test_a_store_that_stands_still_is_noticed_and_nothing_is_lost(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    reader = make_node(server, "reader", {})
    make_node(server, "c1", {"compute": ["c1"]})
    reader.finds("compute", "c1")
    server.pause()
    eventually(lambda: reader.problem, within=5)
    assert reader.hosts("compute") == ("c1",)
    server.resume()
    eventually(lambda: not reader.problem, within=15)
    reader.finds("compute", "c1")


def test_a_store_that_was_away_for_longer_than_all_hosts_live_loses_none(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis(save=True)
    reader = make_node(server, "reader", {})
    nodes = [make_node(server, f"c{number}", {"compute": [f"c{number}"]}) for number in range(5)]
    hosts = tuple(f"c{number}" for number in range(5))
    reader.finds("compute", *hosts)
    server.kill()
    eventually(lambda: all(node.problem for node in (*nodes, reader)), within=10)
    over = time.monotonic() + TTL
    eventually(lambda: time.monotonic() > over)
    server.start()
    for _ in range(200):
        assert reader.hosts("compute") == hosts
        time.sleep(0.01)
    eventually(lambda: not any(node.problem for node in (*nodes, reader)), within=10)
    assert reader.hosts("compute") == hosts


# the store is not what it was


@pytest.mark.quick("redis")
def test_a_wiped_store_loses_nobody_and_is_filled_again(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    reader = make_node(server, "reader", {})
    for number in range(4):
        make_node(server, f"c{number}", {"compute": [f"c{number}"], f"only-{number}": ["x"]})
    hosts = tuple(f"c{number}" for number in range(4))
    reader.finds("compute", *hosts)
    reader.finds("only-2", "c2")
    server.wipe()
    eventually(lambda: reader.status()["counters"].get("warm_ups"), within=10)
    for _ in range(100):
        assert (reader.hosts("compute"), reader.hosts("only-2")) == (hosts, ("c2",))
    make_node(server, "c9", {"compute": ["c9"]})
    reader.finds("compute", *hosts, "c9", within=3)


def test_an_old_dump_takes_nobody_away(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    reader = make_node(server, "reader", {})
    make_node(server, "c1", {"compute": ["c1"]})
    reader.finds("compute", "c1")
    old = server.dump()
    for number in range(2, 6):
        make_node(server, f"c{number}", {"compute": [f"c{number}"]})
    hosts = tuple(f"c{number}" for number in range(1, 6))
    reader.finds("compute", *hosts)
    server.restore(old)
    eventually(lambda: reader.status()["counters"].get("warm_ups"), within=15)
    assert reader.hosts("compute") == hosts
    reader.finds("compute", *hosts)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_jumps_an_hour_loses_nobody_and_keeps_no_dead(
    make_redis: MakeRedis, make_node: MakeNode, clock_file: Path, seconds: int
) -> None:
    server = make_redis(clock_file=clock_file)
    reader = make_node(server, "reader", {"compute": ["reader"]})
    make_node(server, "c1", {"compute": ["c1"]})
    dead = make_node(server, "c2", {"compute": ["c2"]})
    reader.finds("compute", "c1", "c2", "reader")
    server.clock_jump(seconds)
    dead.close()
    for _ in range(100):
        assert {"c1", "reader"} <= set(reader.hosts("compute") or ())
    reader.finds("compute", "c1", "reader", within=2 * TTL + 3)


def test_a_clock_that_jumps_takes_nobody_of_three_hundred(make_redis: MakeRedis, make_node: MakeNode, clock_file: Path) -> None:
    server = make_redis(clock_file=clock_file)
    reader = make_node(server, "reader", {})
    hosts = [f"c{number:03}" for number in range(300)]

    async def beat() -> None:
        asked = store(reader.settings)
        for host in hosts:
            await asked.beat(Registration(host, "", 9501, {"compute": frozenset({host})}))
        await asked.close()

    asyncio.run(beat())
    reader.finds("compute", *hosts, within=3)
    server.clock_jump(3600)
    for _ in range(2):
        asyncio.run(beat())
        assert reader.hosts("compute") == tuple(hosts)
    reader.finds("compute", *hosts)


def test_a_change_that_was_missed_is_found_out(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    reader = make_node(server, "reader", {})
    make_node(server, "c1", {"compute": ["c1"]})
    reader.finds("compute", "c1")
    prefix = f"{{zmq:{reader.settings.fabric}}}:"
    now = int(server.client.time()[0]) * 1000
    server.client.zadd(prefix + "topic:compute", {"c2": now + 60_000})
    server.client.hset(prefix + "members:compute", "c2", json.dumps(["10.0.0.2", 9501, ["c2"]]))
    server.client.hincrby(prefix + "generation", "compute", 1)
    reader.finds("compute", "c1", "c2", within=10)


def test_a_goodbye_of_long_ago_in_an_old_dump_takes_nobody_away(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    reader = make_node(server, "reader", {})
    node = make_node(server, "c1", {"compute": ["c1"]})
    reader.finds("compute", "c1")
    node.serve({})
    reader.finds("compute")
    old = server.dump()
    node.serve({"compute": ["c1"]})
    reader.finds("compute", "c1")
    for number in range(5):
        node.serve({"compute": [f"c1-{number}"]})
        eventually(lambda number=number: reader.directed("compute", f"c1-{number}") == ("c1",), within=2)
    node.close()
    server.restore(old)
    eventually(lambda: reader.held("compute"), within=15)
    assert reader.hosts("compute") == ("c1",)


def test_a_host_that_was_silent_for_long_is_buried_by_whoever_lives_and_found_again_when_it_comes_back(
    make_redis: MakeRedis, make_node: MakeNode
) -> None:
    server = make_redis()
    node = make_node(server, "c1")
    registration = Registration("c1", "", 9501, {"compute": frozenset({"c1"})})

    async def beat() -> None:
        asked = store(node.settings)
        await asked.beat(registration)
        await asked.close()

    asyncio.run(beat())
    over = time.monotonic() + TTL + 0.5
    eventually(lambda: time.monotonic() > over)
    onlooker = make_node(server, "onlooker")
    onlooker.finds("compute", "c1", within=2)
    reader = make_node(server, "reader", {"compute": ["reader"]})
    reader.finds("compute", "c1", "reader")
    reader.finds("compute", "reader", within=TTL + 2)
    onlooker.finds("compute", "reader")
    asyncio.run(beat())
    reader.finds("compute", "c1", "reader")


def test_a_first_look_at_a_store_that_cannot_be_written_misses_nobody(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    nodes = [make_node(server, f"c{number}", {"compute": [f"c{number}"], "other": ["x"]}) for number in range(5)]
    hosts = tuple(f"c{number}" for number in range(5))
    reader = make_node(server, "reader", {})
    reader.finds("compute", *hosts)
    server.client.config_set("min-replicas-to-write", "1")
    eventually(lambda: all("NOREPLICAS" in node.problem for node in nodes), within=10)
    over = time.monotonic() + TTL + 1
    eventually(lambda: time.monotonic() > over)
    assert reader.hosts("other") in (None, hosts)
    reader.finds("other", *hosts)
    server.client.config_set("min-replicas-to-write", "0")
    over = time.monotonic() + TTL + 3
    while time.monotonic() < over:
        assert (reader.hosts("compute"), reader.hosts("other")) == (hosts, hosts)
        time.sleep(0.02)
    eventually(lambda: not any(node.problem for node in nodes), within=15)


def test_a_store_whose_commands_are_forbidden_says_so(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis(acl_users={"zmq": "on >secret ~* &* +@all -hgetall"})
    reader = make_node(server, "reader", {}, store={"username": "zmq", "password": "secret"})
    assert reader.hosts("compute") is None
    eventually(lambda: "hgetall" in reader.problem.lower(), within=5)


def test_a_store_that_is_full_buries_nobody(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    nodes = [make_node(server, f"c{number}", {"compute": [f"c{number}"]}) for number in range(5)]
    hosts = tuple(f"c{number}" for number in range(5))
    reader = make_node(server, "reader", {})
    reader.finds("compute", *hosts)
    server.client.config_set("maxmemory", "1")
    eventually(lambda: all("maxmemory" in node.problem for node in nodes), within=10)
    over = time.monotonic() + 2 * TTL
    while time.monotonic() < over:
        assert reader.hosts("compute") == hosts
        time.sleep(0.02)
    server.client.config_set("maxmemory", "0")
    eventually(lambda: not any(node.problem for node in nodes), within=15)
    reader.finds("compute", *hosts)


def test_nodes_that_beat_differently_die_each_in_its_own_time(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    reader = make_node(server, "reader", {"compute": ["reader"]})
    patient = make_node(server, "c1", {"compute": ["c1"]}, zmq_target_expire=7.0)
    reader.finds("compute", "c1", "reader")
    patient.close()
    reader.finds("compute", "reader", within=7 + 1.5)


# what others put there


def test_a_topic_that_cannot_be_read_stops_no_other_and_hammers_nobody(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    for key in ("topic:bad", "members:worse"):
        server.client.set("{zmq:broken}:" + key, "what")
    server.client.zadd("{zmq:broken}:left:odd", {b"\xff": 1})
    reader = make_node(server, "reader", {}, zmq_fabric="broken")
    for topic in ("bad", "worse", "odd"):
        assert not reader.hosts(topic)
    make_node(server, "c1", {"good": ["c1"]}, zmq_fabric="broken")
    reader.finds("good", "c1", within=3)
    before = server.client.info("stats")["total_connections_received"]
    over = time.monotonic() + 3
    eventually(lambda: time.monotonic() > over)
    assert server.client.info("stats")["total_connections_received"] - before < 10
    assert "topic bad" in reader.problem
    server.client.delete("{zmq:broken}:topic:bad")
    make_node(server, "c2", {"bad": ["c2"]}, zmq_fabric="broken")
    reader.finds("bad", "c2", within=10)
    assert "topic bad" not in reader.problem


def test_garbage_in_our_keys_stops_nobody_else(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis()
    prefix = "{zmq:dirty}:"
    server.client.set(prefix + "topic:volume", "what")
    server.client.rpush(prefix + "members:image", "what")
    reader = make_node(server, "reader", {}, zmq_fabric="dirty")
    make_node(server, "c0", {"compute": ["c0"]}, zmq_fabric="dirty")
    reader.finds("compute", "c0")
    bad = {"c7": "no json", "c8": '["", 0, []]', "c9": "[]", "\n": '["", 9501, []]', "x" * 300: '["", 9501, []]'}
    now = int(server.client.time()[0]) * 1000
    for host, member in bad.items():
        server.client.zadd(prefix + "topic:compute", {host: now + 60_000})
        server.client.hset(prefix + "members:compute", host, member)
    for message in ("no json", "[]", "[1,2,3,4,5]", '["e", "g", "+", "c5", ""]', '["e", 7, "+", "c5", "[]"]'):
        server.client.publish(prefix + "changes:compute", message)
    bad_node = make_node(server, "c1", {"volume": ["c1"], "image": ["c1"], "compute": ["c1"]}, zmq_fabric="dirty")
    reader.finds("compute", "c0", "c1", within=10)
    eventually(lambda: "topic:volume" in bad_node.problem, within=5)
    assert reader.status()["counters"]["garbage"] > 0


# who may ask


def test_a_wrong_password_is_said_without_the_password(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis(password="right")
    wrong = make_node(server, "c1", {"compute": ["c1"]}, store={"password": "very-wrong"})
    eventually(lambda: wrong.problem)
    assert "very-wrong" not in wrong.problem + repr(wrong.settings)
    assert str(server.port) in wrong.problem
    assert "see [matchmaker_redis] username and password" in wrong.problem
    make_node(server, "c2", {"compute": ["c2"]}, store={"password": "right"}).finds("compute", "c2")


def test_a_server_that_repeats_the_password_is_told_of_without_it(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis(settings={"rename-command": 'AUTH ""'})
    node = make_node(server, "c1", {"compute": ["c1"]}, store={"username": "u", "password": "top secret"})
    eventually(lambda: "unknown command" in node.problem)
    assert "secret" not in node.problem
    other = make_node(server, "c2", {"compute": ["c2"]}, store={"password": "unknown"})
    eventually(lambda: "*** command 'AUTH'" in other.problem)


def test_sentinels_that_do_not_let_in_are_told_of_with_the_options_that_do(
    make_sentinels: Callable[..., SentinelGroup], tmp_path: Path
) -> None:
    group = make_sentinels("redis7")
    for sentinel in group.sentinels:
        sentinel.client.acl_setuser("default", enabled=True, reset_passwords=True, passwords=["+right"])
    read = settings(tmp_path, "c1", on_sentinels(group, sentinel_password="top-secret"), rpc_zmq_matchmaker="sentinel")
    node = Node(read)
    try:
        eventually(lambda: "see [matchmaker_redis] sentinel_username and sentinel_password" in node.problem)
        assert "secret" not in node.problem
    finally:
        node.close()


def test_a_url_says_it_all(make_redis: MakeRedis, make_node: MakeNode) -> None:
    server = make_redis(password="p@ss/word")
    url = f"zmq+redis://:p%40ss%2Fword@{server.host}:{server.port}/3"
    make_node(server, "c1", {"compute": ["c1"]}, store={"port": 1}, transport_url=url).finds("compute", "c1")
    assert server.cli("-n", "3", "dbsize").strip() != "0"


def test_a_user_of_an_acl_may_do_what_the_bus_needs(make_redis: MakeRedis, make_node: MakeNode) -> None:
    rules = "on >secret ~{zmq:*}:* &{zmq:*}:* -@all " + ACL_COMMANDS
    server = make_redis(acl_users={"zmq": rules})
    login = {"username": "zmq", "password": "secret"}
    reader = make_node(server, "reader", {}, store=login)
    node = make_node(server, "c1", {"compute": ["c1"]}, store=login, rpc_zmq_bind_address="*")
    reader.finds("compute", "c1")
    node.serve({})
    reader.finds("compute")
    assert reader.problem + node.problem == ""


def test_tls_is_spoken_and_an_unknown_authority_is_refused(
    make_redis: MakeRedis, make_node: MakeNode, authority: Authority, tmp_path: Path
) -> None:
    server = make_redis(tls=authority)
    trusting = make_node(server, "c1", {"compute": ["c1"]}, store={"ssl": True, "ca_file": str(authority.ca_file)})
    trusting.finds("compute", "c1", within=3)
    other = Authority(tmp_path)
    wary = make_node(server, "c2", {"compute": ["c2"]}, store={"ssl": True, "ca_file": str(other.ca_file)})
    eventually(lambda: "ertificate" in wary.problem or "CERTIFICATE" in wary.problem)
    plain = make_node(server, "c3", {"compute": ["c3"]})
    eventually(lambda: plain.problem)
    trusting.finds("compute", "c1")


# Sentinel


@pytest.mark.parametrize("program", ["redis7", "redis8", "valkey"])
def test_registrations_go_on_with_the_new_master_and_no_lookup_fails(
    make_sentinels: Callable[..., SentinelGroup], tmp_path: Path, program: str
) -> None:
    group = make_sentinels(program, down_after_ms=1000, password="secret")
    options = on_sentinels(group, password="secret")
    nodes = {
        host: Node(settings(tmp_path, host, options, rpc_zmq_matchmaker="sentinel", zmq_target_expire=6.0))
        for host in ("c1", "c2", "reader")
    }
    try:
        nodes["c1"].serve({"compute": ["c1"]})
        nodes["c2"].serve({"compute": ["c2"]})
        reader = nodes["reader"]
        reader.finds("compute", "c1", "c2", within=3)
        assert nodes["c2"].problem == ""
        group.kill_master()
        deadline = time.monotonic() + 60
        nodes["c2"].serve({"compute": ["c2"], "volume": ["c2"]})
        while reader.hosts("volume") != ("c2",):
            assert reader.hosts("compute") == ("c1", "c2")
            assert time.monotonic() < deadline, reader.problem
            time.sleep(0.01)
        eventually(lambda: not any(node.problem for node in nodes.values()), within=10)
        assert group.master().cli("zcard", "{zmq:openstack}:topic:compute").strip() == "2"
    finally:
        for node in nodes.values():
            node.close()
