"""Nodes: Consul's own list of nodes, followed as one more topic of the store.

A node is in that list as soon as its agent has joined, before any receiver runs there. It stays while it is down; it goes when it
leaves, is deregistered, or is reaped by Consul after days. So the list says which nodes there are to be, not which are well. A
node's name is `zmq_host` of its Meta, or its short name.
"""

from collections.abc import Callable, Mapping
from typing import Any

from openstack_zeromq.address import short_name
from openstack_zeromq.catalog.news import NODES
from openstack_zeromq.errors import ConfigError, StoreError
from openstack_zeromq.matchmaker.base import Member
from openstack_zeromq.matchmaker.consul.catalog import CatalogStore
from openstack_zeromq.matchmaker.consul.following import Source
from openstack_zeromq.matchmaker.consul.instances import Told, ambiguous
from openstack_zeromq.matchmaker.consul.keys import KeyStore
from openstack_zeromq.matchmaker.store import Heard, Store
from openstack_zeromq.options import CONSUL_GROUP, Settings

_SOURCE = Source(NODES, "catalog/nodes")


def store(settings: Settings, meta: Mapping[str, str]) -> Store:
    """Consul as a store that also tells NODES: the nodes whose Meta has all of `meta`. For one asyncio loop.

    :raises ConfigError: another store is asked for, or a file of the TLS options is not what it should be.
    """
    if settings.matchmaker != "consul":
        raise ConfigError(f"only Consul has a list of nodes, {settings.matchmaker} has none: follow topics")
    return _Keys(settings, meta) if settings.consul.mode == "kv" else _Catalog(settings, meta)


def nodes(content: Any, meta: Mapping[str, str], garbage: Callable[[str], None]) -> Told:
    """Out of an answer of /v1/catalog/nodes; pure.

    :raises StoreError: not even Consul's servers are in it: the token must not read them.
    """
    if not isinstance(content, list) or not content:
        raise StoreError(f'[{CONSUL_GROUP}] token: Consul shows it no node; it needs node_prefix "" read', refused=True)
    members = {}
    shortened = []
    for entry in content:
        try:
            said = entry["Meta"] or {}
            host = str(said.get("zmq_host") or short_name(entry["Node"]))
            if all(said.get(name) == value for name, value in meta.items()):
                members[host] = Member(str(entry["Address"] or ""))
                if not said.get("zmq_host"):
                    shortened.append((host, str(entry["Node"])))
        except (KeyError, TypeError, AttributeError) as exc:
            garbage(f"a node of the catalog is not understood: {type(exc).__name__}: {exc}")
    doubtful = ambiguous(shortened, "nodes of the catalog", garbage)
    return Told({host: member for host, member in members.items() if host not in doubtful}, frozenset())


class _Catalog(CatalogStore):
    def __init__(self, settings: Settings, meta: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._meta = meta

    def _sources(self, topic: str) -> tuple[Source, ...]:
        return (_SOURCE,) if topic == NODES else super()._sources(topic)

    def _read(self, source: Source, content: Any, heard: Heard) -> Told:
        return nodes(content, self._meta, heard.garbage) if source == _SOURCE else super()._read(source, content, heard)


class _Keys(KeyStore):
    def __init__(self, settings: Settings, meta: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._meta = meta

    def _sources(self, topic: str) -> tuple[Source, ...]:
        return (_SOURCE,) if topic == NODES else super()._sources(topic)

    def _read(self, source: Source, content: Any, heard: Heard) -> Told:
        return nodes(content, self._meta, heard.garbage) if source == _SOURCE else super()._read(source, content, heard)
