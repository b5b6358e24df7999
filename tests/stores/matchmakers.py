"""Matchmakers as receivers have them, each in this process, against a real store."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fabric import eventually
from oslo_config import cfg
from servers import ConsulAgent, RedisServer, SentinelGroup

from openstack_zeromq import options
from openstack_zeromq.matchmaker.choose import matchmaker
from openstack_zeromq.matchmaker.following import StoreMatchmaker
from openstack_zeromq.options import CONSUL_GROUP, GROUP, REDIS_GROUP, Settings


def settings(directory: Path, host: str, groups: Mapping[str, Mapping[str, Any]], **node: Any) -> Settings:
    """The settings of a node; `groups` are those of its store, `node` those of the receiver."""
    conf = cfg.ConfigOpts()
    options.register(conf)
    options.register_store_url(conf)
    conf([])
    mine = {
        "rpc_zmq_host": host,
        "rpc_zmq_bind_address": "127.0.1.1",
        "zmq_security": "none",
        "zmq_state_dir": str(directory / host),
        "zmq_target_expire": 3.0,
        "zmq_target_update": 0.5,
        **node,
    }
    url = mine.pop("transport_url", None)
    if url:
        conf.set_override("transport_url", url)
    for group, values in {GROUP: mine, **groups}.items():
        for name, value in values.items():
            conf.set_override(name, value, group=group)
    return options.settings(conf)


class Node:
    """A node's matchmaker; `hosts` and its like show what the receiver would see now."""

    def __init__(self, read: Settings) -> None:
        made = matchmaker(read)
        assert isinstance(made, StoreMatchmaker)
        self.settings = read
        self.matchmaker = made
        self.matchmaker.start(lambda: None)

    def serve(self, topics: Mapping[str, Collection[str]]) -> None:
        self.matchmaker.register(topics)

    def hosts(self, topic: str) -> tuple[str, ...] | None:
        self.matchmaker.refresh()
        return self.matchmaker.hosts(topic)

    def directed(self, topic: str, server: str) -> tuple[str, ...] | None:
        self.matchmaker.refresh()
        return self.matchmaker.directed(topic, server)

    def finds(self, topic: str, *hosts: str, within: float = 1.0) -> None:
        """It knows exactly `hosts` of `topic`, after a while."""
        try:
            eventually(lambda: self.hosts(topic) == hosts, within=within)
        except AssertionError:
            raise AssertionError(f"{topic}: {self.hosts(topic)}, not {hosts}; {self.problem}; {self.status()}") from None

    @property
    def problem(self) -> str:
        return self.matchmaker.problem

    def status(self) -> dict[str, Any]:
        return self.matchmaker.status()

    def held(self, topic: str) -> str:
        """Why hosts of `topic` are held; empty when none are."""
        return str(self.status()["held"].get(topic, {}).get("why", ""))

    def close(self) -> None:
        self.matchmaker.close()


def on_redis(server: RedisServer, **more: Any) -> dict[str, dict[str, Any]]:
    """The options of a store on `server`."""
    return {REDIS_GROUP: {"host": server.host, "port": server.port, "socket_timeout": 1.0, **more}}


def on_sentinels(group: SentinelGroup, **more: Any) -> dict[str, dict[str, Any]]:
    """The options of a store behind `group`."""
    sentinels = [f"{host}:{port}" for host, port in group.addresses]
    return {REDIS_GROUP: {"sentinel_hosts": sentinels, "sentinel_group_name": group.group, "socket_timeout": 1.0, **more}}


def on_consul(agent: ConsulAgent, **more: Any) -> dict[str, dict[str, Any]]:
    """The options of a store on `agent`."""
    return {CONSUL_GROUP: {"host": agent.host, "port": agent.port, "socket_timeout": 2.0, **more}}
