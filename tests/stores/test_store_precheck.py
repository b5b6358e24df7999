"""Module store_precheck against real stores: a password or token that is missing or wrong is named with its remedy."""

from collections.abc import Callable
from typing import Any

import pytest
from ports import free_port
from servers import Authority, ConsulAgent, RedisServer, SentinelGroup

from tests.rollout.conftest import CHECKOUT, load

store_precheck = load(CHECKOUT / "library" / "store_precheck.py")
ODD = "a'b \"c#%$\\"


@pytest.fixture
def look(run_module: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """What the module complains about; empty: nothing."""

    def run(store: str, *servers: str, **asked: object) -> str:
        told = run_module(store_precheck, check=True, store=store, servers=list(servers), **{"timeout": 3, **asked})
        assert not told["changed"] if "changed" in told else told["failed"]
        return str(told.get("msg", ""))

    return run


def test_redis(look: Callable[..., str], make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis(password=ODD, acl_users={"zmq": "on >geheim ~* &* +@all"})
    where = f"{server.host}:{server.port}"
    assert look("redis", where, password=ODD) == ""
    assert look("redis", where, username="zmq", password="geheim") == ""
    assert look("redis", where).startswith(f"Redis at {where} refuses this node: NOAUTH")
    for wrong in ({"password": "x"}, {"username": "zmq", "password": "x"}):
        said = look("redis", where, **wrong)
        assert said.startswith(f"Redis at {where} refuses this node: WRONGPASS")
        assert said.endswith("; correct zeromq_matchmaker_redis_username and zeromq_matchmaker_redis_password")


def test_redis_over_tls(look: Callable[..., str], make_redis: Callable[..., RedisServer], authority: Authority) -> None:
    server = make_redis(tls=authority)
    where = f"{server.host}:{server.port}"
    assert look("redis", where, tls=True, ca_file=str(authority.ca_file)) == ""
    assert "CERTIFICATE_VERIFY_FAILED" in look("redis", where, tls=True)
    assert "does not answer within 3 s" in look("redis", where)
    assert look("redis", where, tls=True, ca_file="/nowhere.pem").startswith("the files of TLS cannot be used")


def test_what_does_not_listen_is_named(look: Callable[..., str]) -> None:
    port = free_port(["127.0.0.1"])
    for store in ("redis", "sentinel", "consul"):
        said = look(store, f"127.0.0.1:{port}")
        assert "does not answer within 3 s" in said
        assert said.endswith(f"start it, open its port, or correct {store_precheck.PLACES[store]}")


def test_sentinels(look: Callable[..., str]) -> None:
    with SentinelGroup(password=ODD) as group:
        servers = [f"127.0.0.1:{free_port(['127.0.0.1'])}", *(f"{host}:{port}" for host, port in group.addresses)]
        asked = {"sentinel_name": group.group}
        assert look("sentinel", *servers, password=ODD, **asked) == "", "one that is down is no harm"
        assert ": NOAUTH" in look("sentinel", *servers, **asked), "the master's password is tried, too"
        assert ": WRONGPASS" in look("sentinel", *servers, password="x", **asked)
        assert "knows no master x; correct zeromq_matchmaker_sentinel_name" in look("sentinel", *servers, sentinel_name="x")
        assert "correct zeromq_matchmaker_sentinel_password" in look("sentinel", *servers, sentinel_password="x", **asked)


def test_consul(look: Callable[..., str], make_consul: Callable[..., ConsulAgent]) -> None:
    agent = make_consul(acl=True)
    where = f"{agent.host}:{agent.port}"
    assert look("consul", where, token=agent.token_management) == ""
    assert look("consul", where).endswith(
        "shows this node no nodes and no services: the token lacks read on them; give it, or correct "
        "zeromq_matchmaker_consul_token"
    )
    said = look("consul", where, token="11111111-1111-1111-1111-111111111111")
    assert "refuses this node: ACL not found; correct zeromq_matchmaker_consul_token" in said


def test_consul_without_acl(look: Callable[..., str], shared_consul: ConsulAgent) -> None:
    assert look("consul", f"{shared_consul.host}:{shared_consul.port}") == ""


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [("s1", "s1", 1), ("s1:2", "s1", 2), ("[::1]:2", "::1", 2), ("[::1]", "::1", 1), ("192.0.2.1:26390", "192.0.2.1", 26390)],
)
def test_addresses(server: str, host: str, port: int) -> None:
    assert store_precheck.parted(server, 1) == (host, port)
