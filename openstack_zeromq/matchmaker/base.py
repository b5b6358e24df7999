"""The matchmaker's interface, and what a lookup answers. Lookups come from memory and never block.

A topic has **members**: the hosts that serve it, with what is known of each. A topic that the store has not been asked for yet
is *unknown*, which is not the same as having no member: a message to it waits for the answer. Node names are compared as they
stand. Topics and servers are those of the wire (`address.compact`), so a backend compacts what it reads.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from openstack_zeromq.address import short_name
from openstack_zeromq.matchmaker.ring_file import Endpoint


class Member(NamedTuple):
    """A host that serves a topic. `address` empty: its name is its address; `port` None: the reader's own rpc_zmq_port;
    `servers`: those of the topic's servers on it that are not named like the host, sorted."""

    address: str = ""
    port: int | None = None
    servers: tuple[str, ...] = ()


Members = Mapping[str, Member]
"""Host -> what is known of it."""


def by_short_name(names: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the nodes whose names have a dot, by their short names; most clouds have none."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        if "." in name and (short := short_name(name)) != name:
            found[short] = (*found.get(short, ()), name)
    return found


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of a view, arranged for lookups."""

    members: Members
    hosts: tuple[str, ...]
    servers: Mapping[str, tuple[str, ...]]
    by_short_name: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_short_name", by_short_name(self.members))

    @classmethod
    def of(cls, members: Members) -> "Topic":
        servers: dict[str, list[str]] = {}
        hosts = tuple(sorted(members))
        for host in hosts:
            for server in members[host].servers:
                servers.setdefault(server, []).append(host)
        return cls(members, hosts, {server: tuple(there) for server, there in servers.items()})


NOBODY = Topic({}, (), {})


@dataclass(frozen=True, slots=True)
class View:
    """What is known at one moment. `complete`: a topic that is absent has no member, rather than being unknown."""

    topics: Mapping[str, Topic] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    complete: bool = False
    _by_short_name: Mapping[str, tuple[str, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_short_name", by_short_name(self.endpoints))

    def topic(self, name: str) -> Topic | None:
        """None: unknown."""
        return self.topics.get(name, NOBODY if self.complete else None)

    def nodes(self) -> set[str]:
        """Return the names of all nodes that are mentioned."""
        return set(self.endpoints).union(*(topic.members for topic in self.topics.values()))

    def is_node(self, name: str) -> bool:
        """Is a node of that name mentioned at all?"""
        return name in self.endpoints or any(name in topic.members for topic in self.topics.values())

    def nodes_of(self, server: str) -> tuple[str, ...]:
        """Return the nodes that a server of this name may be on, because one of the two names is the other one's short name: node
        `n2` for server `n2.cloud.example.com`, and the other way round. More than one: only the nodes themselves can tell."""
        short = short_name(server)
        if short != server:
            return (short,) if self.is_node(short) else ()
        found = {*self._by_short_name.get(server, ())}.union(
            *(topic.by_short_name.get(server, ()) for topic in self.topics.values() if topic.by_short_name)
        )
        return tuple(sorted(found))

    def endpoint(self, host: str) -> Endpoint | None:
        """Where `host` listens; None: nobody says."""
        return self.endpoints.get(host) or next(self._mentioned(host), None)

    def _mentioned(self, host: str) -> Iterator[Endpoint]:
        for topic in self.topics.values():
            member = topic.members.get(host)
            if member is not None and member.address:
                yield Endpoint(member.address, member.port)


@dataclass(frozen=True, slots=True)
class Registration:
    """What a receiver tells a store of its node: `topics` are those that it serves, each with all its servers there.

    `address` empty: the store's backend finds it out."""

    host: str
    address: str
    port: int
    topics: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def member(self, topic: str, address: str) -> Member:
        """The node as a member of `topic`."""
        return Member(address, self.port, tuple(sorted(self.topics[topic] - {self.host})))


class Service(NamedTuple):
    """One server of a topic, as the store knows it; `heard`: seconds since its receiver last said that it is there, None
    where the store does not tell."""

    topic: str
    server: str
    host: str
    alive: bool
    heard: float | None


class Matchmaker(ABC):
    """Topic -> hosts. `view` is what is known; it is replaced as a whole, so any thread may read it."""

    view: View

    def start(self, changed: Callable[[], None]) -> None:  # noqa: B027 - a backend that has nothing to start
        """Begin to watch the store; `changed` is called from any thread when `refresh` has something to take over."""

    @abstractmethod
    def refresh(self) -> bool:
        """Take over what the store said; True when `view` changed. Never raises: what is wrong is in `problem`."""

    @property
    def alive(self) -> bool:
        """Whether whatever keeps the view up to date still runs; a new process is the remedy when it does not."""
        return True

    @property
    @abstractmethod
    def problem(self) -> str:
        """Why the view may be old; empty when all is well."""

    def status(self) -> dict[str, object]:
        """What the receiver's status shows of the backend, besides `problem`."""
        return {}

    @property
    def former(self) -> Mapping[str, Collection[str]]:
        """What the last receiver of this node had registered (topic -> servers)."""
        return {}

    def register(self, topics: Mapping[str, Collection[str]]) -> None:  # noqa: B027 - the ring's writer registers
        """This node serves `topics` (topic -> its servers here) from now on, and no others."""

    def release(self, topic: str) -> bool:
        """Accept what is held back of `topic`; False when nothing is."""
        return False

    def close(self) -> bool:
        """Give everything back. False: a thread is left that does not end, and nobody should wait for it."""
        return True

    def hosts(self, topic: str) -> tuple[str, ...] | None:
        """Hosts that serve the bare topic, sorted; None: not known yet."""
        found = self._find(topic)
        return None if found is None else found.hosts

    def directed(self, topic: str, server: str) -> tuple[str, ...] | None:
        """Hosts where (topic, server) may be, most likely first; None: not known yet.

        A server that is named like a node is on that node. Otherwise the store may say; if it does not, the server can be on
        any host of the topic: the hosts themselves know. A node that has the same name but for a domain is asked first.
        """
        found = self._find(topic)
        if self.view.is_node(server):
            return (server,)
        listed = None if found is None else found.servers.get(server)
        nodes = () if listed else self.view.nodes_of(server)
        if found is None:
            return nodes or None
        if not nodes:
            return listed or found.hosts
        return (*nodes, *(host for host in found.hosts if host not in nodes))

    def lists(self, topic: str, host: str) -> bool:
        """Return False where the hosts of a topic are written down by somebody, and `host` is not among them. In a store each
        node registers itself."""
        return not self.view.complete or host in (self.hosts(topic) or ())

    def nodes(self) -> set[str]:
        """Return all hosts that are known, whatever they serve."""
        return self.view.nodes()

    def servers(self, topic: str) -> Mapping[str, tuple[str, ...]]:
        """The topic's servers that are not named like their hosts, as far as is known: server -> hosts."""
        found = self._find(topic)
        return {} if found is None else found.servers

    def endpoint(self, host: str) -> Endpoint | None:
        """Where `host`'s receiver listens; None when the store does not say."""
        return self.view.endpoint(host)

    def is_node(self, name: str) -> bool:
        """Whether a node of that name is mentioned at all."""
        return self.view.is_node(name)

    def _find(self, topic: str) -> Topic | None:
        return self.view.topic(topic)
