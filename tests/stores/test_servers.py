"""The servers that other tests rely on do what they say: start, end, come back, fail over, lose their data or their time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import consul
import pytest
import redis
import requests
from fabric import eventually
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import Authority, ConsulAgent, RedisServer, SentinelGroup

MakeRedis = Callable[..., RedisServer]
MakeConsul = Callable[..., ConsulAgent]
ONCE = Retry(NoBackoff(), 0)
READ_ALL = {"service_prefix": {"": {"policy": "read"}}, "node_prefix": {"": {"policy": "read"}}}


def hosts(agent: ConsulAgent, service: str, token: str | None = None) -> list[str]:
    """The nodes whose instances pass their checks."""
    return sorted(entry["Node"]["Node"] for entry in agent.client(token).health.service(service, passing=True)[1])


# Redis and Valkey


def test_each_program_is_what_its_name_says(any_redis: RedisServer) -> None:
    said = any_redis.client.info("server")
    version = {"redis6": "6.0.", "redis7": "7.", "redis8": "8.", "valkey": "8."}[any_redis.program]
    assert said["valkey_version" if any_redis.program == "valkey" else "redis_version"].startswith(version)
    assert any_redis.cli("PING") == "PONG"


def test_a_script_runs_in_each_of_them(any_redis: RedisServer) -> None:
    assert any_redis.client.eval("return redis.call('TIME')[1] + 0", 0) > 1_500_000_000


def test_a_restart_keeps_port_and_data(make_redis: MakeRedis) -> None:
    server = make_redis("redis8")
    server.client.set("a", "1")
    port = server.port
    server.restart()
    assert (server.port, server.client.get("a")) == (port, "1")


def test_without_save_a_killed_redis_comes_back_empty(make_redis: MakeRedis) -> None:
    server = make_redis()
    server.client.set("a", "1")
    server.restart()
    server.kill()
    server.start()
    assert server.client.get("a") is None


def test_with_save_a_killed_redis_comes_back_with_its_data(make_redis: MakeRedis) -> None:
    server = make_redis(save=True)
    server.client.set("a", "1")
    server.kill()
    server.start()
    assert server.client.get("a") == "1"


@pytest.mark.parametrize("save", [False, True])
def test_an_old_dump_can_be_put_back(make_redis: MakeRedis, save: bool) -> None:
    server = make_redis("valkey", save=save)
    server.client.set("a", "old")
    dump = server.dump()
    server.client.set("a", "new")
    server.restore(dump)
    assert server.client.get("a") == "old"
    server.restart()
    assert server.client.get("a") == "old"


def test_a_wiped_redis_is_empty(make_redis: MakeRedis) -> None:
    server = make_redis()
    server.client.set("a", "1")
    server.wipe()
    assert server.client.dbsize() == 0


def test_a_paused_redis_says_nothing_until_it_is_resumed(make_redis: MakeRedis) -> None:
    server = make_redis()
    server.pause()
    with (
        redis.Redis(host=server.host, port=server.port, socket_timeout=0.2, retry=ONCE) as client,
        pytest.raises(redis.TimeoutError),
    ):
        client.ping()
    server.resume()
    assert server.client.ping()


def test_a_password_and_a_users_rights_are_asked_for(make_redis: MakeRedis) -> None:
    server = make_redis("redis8", password='s3:@/ "cret', acl_users={"nova": "on >pw ~zmq* &* +@read"})
    assert redis.Redis.from_url(server.url).ping()
    assert server.cli("PING") == "PONG"
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(host=server.host, port=server.port, retry=ONCE).ping()
    nova = redis.Redis(host=server.host, port=server.port, username="nova", password="pw")
    assert nova.get("zmq:a") is None
    with pytest.raises(redis.exceptions.NoPermissionError):
        nova.set("zmq:a", "1")


def test_tls_is_served_with_a_certificate_of_the_authority(make_redis: MakeRedis, authority: Authority) -> None:
    server = make_redis(tls=authority)
    assert server.cli("PING") == "PONG"
    assert redis.Redis.from_url(server.url, ssl_ca_certs=str(authority.ca_file)).ping()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(server.url, retry=ONCE).ping()
    with pytest.raises(redis.ConnectionError):
        redis.Redis(host=server.host, port=server.port, retry=ONCE).ping()


def test_a_replica_has_the_masters_data(make_redis: MakeRedis) -> None:
    master = make_redis()
    replica = make_redis(replica_of=master)
    master.client.set("a", "1")
    eventually(lambda: replica.client.get("a") == "1")


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_its_clock_jumps_and_keys_expire_by_it(make_redis: MakeRedis, clock_file: Path, seconds: int) -> None:
    server = make_redis(clock_file=clock_file)
    before = server.client.time()[0]
    server.client.set("a", "1", ex=1800)
    server.clock_jump(seconds)
    assert abs(server.client.time()[0] - before - seconds) < 60
    assert server.client.get("a") == (None if seconds > 0 else "1")


def test_a_server_that_cannot_start_says_why(make_redis: MakeRedis) -> None:
    with pytest.raises(AssertionError, match="maxmemory"):
        make_redis(settings={"maxmemory": "a lot"})


# Sentinel


@pytest.mark.parametrize("store", ["redis7", "valkey"])
def test_sentinels_elect_the_replica_when_the_master_is_killed(make_sentinels: Callable[..., SentinelGroup], store: str) -> None:
    group = make_sentinels(store, password="a secret")
    asked = redis.Sentinel(group.addresses, password="a secret", decode_responses=True)
    asked.master_for(group.group).set("a", "1")
    first = group.kill_master()
    second = eventually(lambda: (master := group.master()) is not first and master, within=20)
    eventually(lambda: second.client.role()[0] == "master")
    assert asked.discover_master(group.group) == (second.host, second.port)
    assert asked.master_for(group.group).get("a") == "1"


# Consul


def test_consul_is_1_8_and_its_health_decides(shared_consul: ConsulAgent) -> None:
    said = requests.get(f"{shared_consul.url}/v1/agent/self", timeout=5).json()
    assert said["Config"]["Version"].startswith("1.8.")
    shared_consul.register("nova-compute", "i1", "c1", meta={"zmq_host": "other"})
    shared_consul.register("nova-compute", "i2", "c2", status="critical")
    shared_consul.register("nova-compute", "i3", "c3", status="warning")
    assert hosts(shared_consul, "nova-compute") == ["c1"]
    entries = shared_consul.client().health.service("nova-compute")[1]
    assert {entry["Node"]["Node"]: entry["Service"]["Meta"] for entry in entries}["c1"] == {"zmq_host": "other"}
    shared_consul.deregister("i1", "c1")
    assert hosts(shared_consul, "nova-compute") == []


def test_a_ttl_check_passes_while_it_is_beaten(shared_consul: ConsulAgent) -> None:
    shared_consul.register("glance-api", "g1", "c7", ttl="60s", status="critical")
    for status, passing in (("pass", 1), ("warn", 0), ("pass", 1), ("fail", 0)):
        shared_consul.beat("g1", status)
        eventually(lambda passing=passing: len(hosts(shared_consul, "glance-api")) == passing)
    shared_consul.register("glance-api", "g2", "c8", ttl="1s", status="passing")
    eventually(lambda: len(hosts(shared_consul, "glance-api")) == 1)
    eventually(lambda: len(hosts(shared_consul, "glance-api")) == 0)
    shared_consul.deregister("g1")
    shared_consul.deregister("g2")


def test_a_restarted_consul_keeps_its_catalog_and_a_wiped_one_does_not(make_consul: MakeConsul) -> None:
    agent = make_consul()
    agent.register("nova-compute", "i1", "c1")
    for come_back in (agent.restart, lambda: (agent.kill(), agent.start())):
        come_back()
        assert hosts(agent, "nova-compute") == ["c1"]
    index = int(agent.client().health.service("nova-compute")[0])
    agent.wipe()
    assert hosts(agent, "nova-compute") == []
    assert int(agent.client().health.service("nova-compute")[0]) < index


def test_a_token_without_rights_sees_an_empty_catalog(make_consul: MakeConsul) -> None:
    agent = make_consul(acl=True)
    agent.register("nova-compute", "i1", "c1")
    assert hosts(agent, "nova-compute") == ["c1"]
    assert hosts(agent, "nova-compute", token="") == []
    assert hosts(agent, "nova-compute", token=agent.make_token(READ_ALL)) == ["c1"]
    assert hosts(agent, "nova-compute", token=agent.make_token({"service_prefix": {"": {"policy": "read"}}})) == []
    with pytest.raises(consul.ACLPermissionDenied):
        agent.client(token=agent.make_token(READ_ALL)).kv.put("a", "1")


def test_consul_speaks_tls_only_when_told_so(make_consul: MakeConsul, authority: Authority) -> None:
    agent = make_consul(tls=authority)
    agent.register("nova-compute", "i1", "c1")
    assert hosts(agent, "nova-compute") == ["c1"]
    with pytest.raises(requests.exceptions.SSLError):
        consul.Consul(host=agent.host, port=agent.port, scheme="https").status.leader()


# both


def test_nothing_is_left_when_a_server_is_closed() -> None:
    made: list[Any] = [RedisServer(), ConsulAgent()]
    for server in made:
        with server:
            process = server.process
            assert process is not None
            assert server.directory.exists()
        assert process.poll() is not None
        assert not server.directory.exists()
