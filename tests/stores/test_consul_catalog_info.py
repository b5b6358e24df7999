"""Module consul_catalog_info against a real Consul: what is there, what is new, and why there is no answer."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from matchmakers import Node, on_consul, settings
from servers import Authority, ConsulAgent

from tests.rollout.conftest import CHECKOUT, load

info = load(CHECKOUT / "library" / "consul_catalog_info.py")

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(run_module: Callable[..., dict[str, Any]]) -> Ask:
    """In check mode; the module changes nothing either way."""

    def ask(agent: ConsulAgent, **arguments: object) -> dict[str, Any]:
        return run_module(info, check=True, **{"url": f"http://{agent.host}:{agent.port}", **arguments})

    return ask


def join(agent: ConsulAgent, service: str, *hosts: str, **more: Any) -> None:
    for number, host in enumerate(hosts, 1):
        agent.register(service, f"{service}-{host}", host, address=f"192.0.2.{number}", **more)


def test_healthy_hosts_are_told_topic_by_topic(shared_consul: ConsulAgent, ask: Ask) -> None:
    name = f"s{uuid4().hex[:8]}"
    join(shared_consul, name, "c2", "c1")
    join(shared_consul, name, "c3", status="critical")
    join(shared_consul, f"{name}-odd", "c1", meta={"zmq_servers": "odd,c1", "zmq_port": "9601"})
    told = ask(shared_consul, services={name: "compute", f"{name}-odd": "volume"}, topics=["compute", "volume", "nothing"])
    assert told["topics"] == {"compute": ["c1", "c2"], "nothing": [], "volume": ["c1"]}
    assert told["servers"] == {"volume": {"odd": ["c1"]}}
    assert told["ring"] == {"compute": ["c1", "c2"], "volume": ["c1"], "volume:odd": ["c1"]}
    assert told["endpoints"]["c1"]["port"] == 9601
    assert told["newer"] is True
    assert not told["changed"]
    assert ask(shared_consul, services={name: "compute"})["topics"] == {"compute": ["c1", "c2"]}


def test_what_receivers_register_is_found_without_a_map(shared_consul: ConsulAgent, ask: Ask, tmp_path: Path) -> None:
    fabric = f"f{uuid4().hex[:8]}"
    for mode in ("catalog", "kv"):
        groups = on_consul(shared_consul, mode=mode, prefix=f"{fabric}-")
        node = Node(
            settings(tmp_path / mode, "n1", groups, rpc_zmq_matchmaker="consul", zmq_fabric=fabric, zmq_target_expire=20.0)
        )
        try:
            node.serve({"compute": ["n1", "odd"]})
            node.finds("compute", "n1")
            told = ask(shared_consul, fabric=fabric, mode=mode, prefix=f"{fabric}-")
            assert told["topics"] == {"compute": ["n1"]}, mode
            assert told["servers"] == {"compute": {"odd": ["n1"]}}
            assert told["endpoints"] == {"n1": {"address": "127.0.1.1", "port": 9501}}
        finally:
            node.close()


def test_it_waits_for_news_and_says_whether_there_were_any(shared_consul: ConsulAgent, ask: Ask) -> None:
    name = f"s{uuid4().hex[:8]}"
    join(shared_consul, name, "c1")
    first = ask(shared_consul, topics=[name])
    same = ask(shared_consul, topics=[name], newer_than=first["index"], wait=0.2)
    assert (same["newer"], same["index"]) == (False, first["index"])
    later = threading.Timer(0.5, join, (shared_consul, name, "c2"))
    later.start()
    news = ask(shared_consul, topics=[name], newer_than=first["index"], wait=30)
    later.join()
    assert news["newer"]
    assert news["topics"][name] == ["c1", "c2"]
    assert news["index"] > first["index"]
    shared_consul.deregister(f"{name}-c1", "c1")
    gone = ask(shared_consul, topics=[name], newer_than=news["index"], wait=30)
    assert (gone["newer"], gone["topics"][name]) == (True, ["c2"])
    shared_consul.deregister(f"{name}-c2", "c2")
    none = ask(shared_consul, topics=[name], newer_than=gone["index"], wait=30)
    assert (none["newer"], none["topics"][name]) == (True, [])


def test_a_token_that_may_not_read_is_told_the_remedy_and_never_shown(make_consul: Callable[..., ConsulAgent], ask: Ask) -> None:
    agent = make_consul(acl=True)
    for token in ("", agent.make_token({}), agent.make_token({"service_prefix": {"": {"policy": "read"}}})):
        told = ask(agent, token=token, topics=["compute"])
        assert 'it needs service_prefix "" read and node_prefix "" read' in told["msg"]
        assert not token or token not in str(told)
    wrong = str(uuid4())
    told = ask(agent, token=wrong, topics=["compute"])
    assert "see [matchmaker_consul] token" in told["msg"]
    assert wrong not in str(told)
    rights = {"service_prefix": {"": {"policy": "read"}}, "node_prefix": {"": {"policy": "read"}}}
    assert ask(agent, token=agent.make_token(rights), topics=["compute"])["topics"] == {"compute": []}


def test_https_is_spoken_with_the_authority_that_is_named(
    authority: Authority, make_consul: Callable[..., ConsulAgent], ask: Ask
) -> None:
    agent = make_consul(tls=authority)
    url = f"https://{agent.host}:{agent.port}"
    assert ask(agent, url=url, ca_file=str(authority.ca_file), topics=["compute"])["topics"] == {"compute": []}
    assert "TLS" in ask(agent, url=url, topics=["compute"])["msg"]
    assert "there is no such file" in ask(agent, url=url, ca_file="/nowhere.pem", topics=["compute"])["msg"]


def test_it_says_where_nobody_answers(make_consul: Callable[..., ConsulAgent], ask: Ask, tmp_path: Path) -> None:
    agent = make_consul(start=False)
    assert f"consul {agent.host}:{agent.port}: Connection refused" in ask(agent, topics=["compute"])["msg"]
    assert "write http://host:port" in ask(agent, url="consul:8500")["msg"]
    assert "zmq_fabric" in ask(agent, fabric="a b")["msg"]
    config = tmp_path / "zeromq.conf"
    config.write_text(f"[matchmaker_consul]\nhost = {agent.host}\nport = {agent.port}\n")
    assert "Connection refused" in ask(agent, url="", config_files=[str(config)])["msg"]
