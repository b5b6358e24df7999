"""News: what a watcher tells of two states of the catalog: nodes that came, went or moved, and hosts of topics. Pure.

Names go into command lines of whoever redeploys, and whoever may register in a catalog chooses them. So hosts with other
characters than a host's name has are left out: none of them can be an option, a file or a pattern of Ansible.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from openstack_zeromq.catalog.changes import Change, changes
from openstack_zeromq.catalog.shape import Published, topic_of

NODES = "nodes of consul"
"""The topic that Consul's list of nodes is followed as. No service has a topic of that name."""

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Seen:
    """The catalog at one moment: of `topics` all is known; `addresses` of hosts."""

    topics: frozenset[str]
    ring: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    generation: int = 0

    @classmethod
    def of(cls, published: Published, topics: Collection[str]) -> "Seen":
        """What `published` says of `topics`, without strange names."""
        ring = {
            key: tuple(host for host in hosts if is_plain(host))
            for key, hosts in sorted(published.ring.items())
            if topic_of(key) in topics
        }
        addresses = {host: there.address for host, there in sorted(published.hosts.items()) if is_plain(host)}
        return cls(frozenset(topics), ring, addresses, published.generation)

    def to_json(self) -> dict[str, Any]:
        return {
            "topics": sorted(self.topics),
            "ring": {key: list(hosts) for key, hosts in self.ring.items()},
            "addresses": dict(self.addresses),
            "generation": self.generation,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Seen":
        """:raises ValueError, KeyError, TypeError, AttributeError: `to_json` never made it."""
        ring = {str(key): tuple(map(str, hosts)) for key, hosts in data["ring"].items()}
        addresses = {str(host): str(address) for host, address in data["addresses"].items()}
        return cls(frozenset(map(str, data["topics"])), ring, addresses, int(data["generation"]))


@dataclass(frozen=True, slots=True)
class News:
    """What came between two states. Empty: nothing that is worth a word."""

    source: str
    generation: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[str, ...]
    topics: tuple[Change, ...]
    addresses: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.moved or self.topics)

    def document(self) -> dict[str, Any]:
        """For JSON. `id` is the same whenever the same news is told again, and no other news has it."""
        said: dict[str, Any] = {
            "source": self.source,
            "generation": self.generation,
            "nodes": {"added": list(self.added), "removed": list(self.removed), "moved": list(self.moved)},
            "topics": {change.key: {"added": list(change.added), "removed": list(change.removed)} for change in self.topics},
            "addresses": dict(self.addresses),
        }
        return {"id": hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16], **said}

    def environment(self) -> dict[str, str]:
        """For a command: names with commas in between, as Ansible takes hosts. CHANGED: those to roll out, added or moved."""
        return {
            "ZMQ_CHANGE": self.document()["id"],
            "ZMQ_NODES_ADDED": ",".join(self.added),
            "ZMQ_NODES_REMOVED": ",".join(self.removed),
            "ZMQ_NODES_MOVED": ",".join(self.moved),
            "ZMQ_NODES_CHANGED": ",".join(sorted({*self.added, *self.moved})),
            "ZMQ_TOPICS_CHANGED": ",".join(sorted({change.topic for change in self.topics})),
        }

    def summary(self) -> str:
        """One line for the log."""
        signs = (("+", self.added), ("-", self.removed), ("~", self.moved))
        nodes = [f"{sign}{host}" for sign, hosts in signs for host in hosts]
        told = [f"nodes {' '.join(nodes)}"] if nodes else []
        for change in self.topics:
            hosts = " ".join([*(f"+{host}" for host in change.added), *(f"-{host}" for host in change.removed)])
            told.append(f"{change.key} {hosts}")
        return "; ".join(told)


def news(before: Seen, after: Seen, source: str) -> News:
    """What turns `before` into `after`, of the topics that are known at both moments."""
    both = before.topics & after.topics
    was, there = _of(before.ring, both), _of(after.ring, both)
    old, new = _nodes(was, after.topics), _nodes(there, after.topics)
    moved = {
        host
        for host in old & new
        if host in before.addresses and before.addresses[host] != after.addresses.get(host, before.addresses[host])
    }
    found = tuple(change for change in changes(was, there) if change.key != NODES)
    mentioned = (new - old) | moved | {host for change in found for host in change.added}
    return News(
        source,
        after.generation,
        tuple(sorted(new - old)),
        tuple(sorted(old - new)),
        tuple(sorted(moved)),
        found,
        {host: after.addresses[host] for host in sorted(mentioned) if host in after.addresses},
    )


def is_plain(host: str) -> bool:
    """Is it a name that can be nothing but a name?"""
    return _HOST.fullmatch(host) is not None


def _of(ring: Mapping[str, tuple[str, ...]], topics: Collection[str]) -> dict[str, tuple[str, ...]]:
    return {key: hosts for key, hosts in ring.items() if topic_of(key) in topics}


def _nodes(ring: Mapping[str, tuple[str, ...]], topics: Collection[str]) -> set[str]:
    """Those of Consul's list where it is followed, else every host of a topic."""
    return {host for key, hosts in ring.items() if key == NODES or NODES not in topics for host in hosts}
