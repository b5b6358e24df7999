"""Fixtures: servers that tests share (each test with a fabric name of its own), and factories for those who break them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ring_node import Node
from servers import Authority, ConsulAgent, RedisServer, SentinelGroup

from tests.rollout.conftest import run_module  # noqa: F401 - a fixture: Ansible's modules on real stores


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs certificates that only this run trusts."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session", params=["redis6", "redis7", "redis8", "valkey"])
def any_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Each kind of Redis in turn; shared: do not stop it, do not wipe it."""
    with RedisServer(request.param) as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One Redis 7; shared: do not stop it, do not wipe it."""
    with RedisServer("redis7") as server:
        yield server


@pytest.fixture(scope="session")
def shared_consul() -> Iterator[ConsulAgent]:
    """One Consul without ACL; shared: do not stop it, do not wipe it."""
    with ConsulAgent() as agent:
        yield agent


@pytest.fixture
def make_redis() -> Iterator[Callable[..., RedisServer]]:
    """`make_redis("redis8", password="x")` gives a running server of this test's own."""
    with ExitStack() as made:

        def make(program: str = "redis7", *, start: bool = True, **settings: Any) -> RedisServer:
            server = RedisServer(program, **settings)
            made.callback(server.close)
            if start:
                server.start()
            return server

        yield make


@pytest.fixture
def make_consul() -> Iterator[Callable[..., ConsulAgent]]:
    """`make_consul(acl=True)` gives a running agent of this test's own."""
    with ExitStack() as made:

        def make(*, start: bool = True, **settings: Any) -> ConsulAgent:
            agent = ConsulAgent(**settings)
            made.callback(agent.close)
            if start:
                agent.start()
            return agent

        yield make


@pytest.fixture
def make_sentinels() -> Iterator[Callable[..., SentinelGroup]]:
    """`make_sentinels("valkey", down_after_ms=500)` gives a group that runs and agrees."""
    with ExitStack() as made:

        def make(store: str = "redis7", *, start: bool = True, **settings: Any) -> SentinelGroup:
            group = SentinelGroup(store, **settings)
            made.callback(group.close)
            if start:
                group.start()
            return group

        yield make


@pytest.fixture
def clock_file(tmp_path: Path) -> Path:
    """For `make_redis(clock_file=clock_file)`, whose `clock_jump` then works."""
    return tmp_path / "clock"


@pytest.fixture
def make_node(short_path: Path) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(agent: ConsulAgent, *topics: str, **options: object) -> Node:
        node = Node(short_path / f"node{len(made)}", agent, *topics, **options)
        made.append(node)
        return node

    yield make
    for node in made:
        if node.still_runs():
            node.kill()
