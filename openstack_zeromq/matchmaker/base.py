"""The matchmaker's interface. Lookups answer from memory and never block; a backend refreshes that memory in `refresh`.

Node names are compared as they stand. Topics come in as the wire has them (`address.compact`), so a backend compacts its keys.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property

from openstack_zeromq.address import compact
from openstack_zeromq.matchmaker.ring_file import Endpoint


@dataclass(frozen=True)
class View:
    """What is known at one moment: topic -> hosts, and where a host listens (absent: its name is its address)."""

    topics: dict[str, tuple[str, ...]] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def hosts(self, topic: str) -> tuple[str, ...]:
        """Hosts that serve `topic`; empty when unknown."""
        return self.topics.get(topic, ())

    @cached_property
    def nodes(self) -> frozenset[str]:
        """Every node that is mentioned at all."""
        return frozenset(self.endpoints).union(*self.topics.values())


class Matchmaker(ABC):
    """Topic -> hosts. `view` is the last good answer of the store."""

    view: View

    @abstractmethod
    def refresh(self) -> bool:
        """Look at the store; True when `view` changed. Never raises: what is wrong is in `problem`."""

    @property
    @abstractmethod
    def problem(self) -> str:
        """Why the last refresh kept the old view; empty when all is well."""

    def hosts(self, topic: str) -> tuple[str, ...]:
        """Hosts that serve the bare topic, sorted; empty when unknown."""
        return self.view.hosts(topic)

    def directed(self, topic: str, server: str) -> tuple[str, ...]:
        """Hosts where (topic, server) may be, most likely first.

        A server that is named like a node is on that node. Otherwise the store may say (`topic:server`); if it does not, the
        server can be on any host of the topic: the hosts themselves know.
        """
        if server in self.view.nodes:
            return (server,)
        return self.view.hosts(compact(f"{topic}:{server}")) or self.view.hosts(topic)

    def endpoint(self, host: str, port: int) -> tuple[str, int]:
        """Address and port of `host`'s receiver; `port` is what holds when the store does not say."""
        known = self.view.endpoints.get(host)
        return (host, port) if known is None else (known.address, known.port or port)
