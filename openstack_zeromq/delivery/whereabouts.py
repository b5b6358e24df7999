"""Whereabouts: the hosts that may take a message, and with which of them to begin.

What the matchmaker says comes first. What peers announce follows: a message for one host goes there when no listed host takes
it, a fanout always. What was learned from answers helps with servers that are not named like a node. This node itself is known to
serve what its own services consume, whatever the matchmaker says.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

from openstack_zeromq.address import Channel, Role
from openstack_zeromq.delivery.announced import Announced
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.pools import Pools
from openstack_zeromq.wire import Flag, Header, Kind

LEARNED_MOST = 10_000


class Routes(Protocol):
    """What is asked of the matchmaker's view; answers come from memory."""

    def hosts(self, topic: str) -> tuple[str, ...] | None:
        """Hosts that serve a topic, sorted; None: not known yet, `routes_changed` comes when it is."""

    def directed(self, topic: str, server: str) -> tuple[str, ...] | None:
        """Hosts where (topic, server) can be, most likely first; None: not known yet."""

    def lists(self, topic: str, host: str) -> bool:
        """Return False where the hosts of a topic are written down by somebody, and `host` is not among them."""

    def nodes(self) -> Collection[str]:
        """Return all hosts that are known, whatever they serve."""


class Candidates(NamedTuple):
    """`first` is the place of the host to begin with; `announced`: another receiver may not know that one."""

    hosts: tuple[str, ...]
    first: int = 0
    announced: bool = False


class Whereabouts:
    """`name` is this node; `serves(channel)`: does anybody on it consume the channel?"""

    def __init__(self, name: str, routes: Routes, serves: Callable[[Channel], bool], pools: Pools) -> None:
        self._name = name
        self._routes = routes
        self._serves = serves
        self._pools = pools
        self._learned: dict[tuple[str, str], str] = {}
        self.announced = Announced()

    def known(self, topic: str) -> bool:
        """Can the matchmaker say who serves it?"""
        return self._routes.hosts(topic) is not None

    def served_anywhere(self, topic: str) -> bool:
        """Is any host known, or is it known that there is none?"""
        return bool(self.announced.hosts(topic)) or self.known(topic)

    def of_one(self, message: Message) -> Candidates | None:
        """Who may take a message that one host is to take; None: not known yet."""
        header = message.header
        if header.kind is Kind.REPLY:
            return Candidates((header.server,))
        if not header.server:
            return self._bare(header)
        if header.kind is Kind.NOTIFY:
            return _in_turn(self._pools.of(header.exchange, header.topic).get(header.server, ()), header)
        return self._directed(header)

    def of_all(self, exchange: str, topic: str) -> tuple[str, ...] | None:
        """Who is to take a fanout: the hosts of the topic, and this one when somebody here listens; None: not known yet."""
        hosts = self._routes.hosts(topic)
        if hosts is None:
            return None
        announced = [host for host in self.announced.hosts(topic) if host not in hosts]
        own = [] if self._name in hosts or not self._serves(Channel(Role.FANOUT, exchange, topic)) else [self._name]
        return (*hosts, *announced, *own) if announced or own else hosts

    def without_pools(self, topic: str) -> list[str] | None:
        """Hosts of the topic whose pools are not known yet, this one included; None: the hosts are not known yet."""
        hosts = self._routes.hosts(topic)
        if hosts is None:
            return None
        return [host for host in {self._name, *hosts, *self.announced.hosts(topic)} if not self._pools.known(host)]

    def learn(self, message: Message, host: str) -> None:
        """Remember where a server was that is not a node: the next message goes there first."""
        header = message.header
        if header.server and header.server != host and header.kind in (Kind.CALL, Kind.CAST):
            if len(self._learned) >= LEARNED_MOST:
                self._learned.clear()
            self._learned[header.topic, header.server] = host

    def _bare(self, header: Header) -> Candidates | None:
        hosts = self._routes.hosts(header.topic)
        if hosts is None and header.flags & Flag.RESENT:
            return None  # a former receiver may have sent it elsewhere: its turn tells where once the hosts are known
        if not hosts and self._serves(Channel(Role.TOPIC, header.exchange, header.topic)):
            return Candidates((self._name,), announced=True)
        return self._with_announced(None if hosts is None else _in_turn(hosts, header), header)

    def _directed(self, header: Header) -> Candidates | None:
        topic, server = header.topic, header.server
        if self._serves(Channel(Role.SERVER, header.exchange, topic, server)):
            return Candidates((self._name,))
        hosts = self._routes.directed(topic, server)
        learned = self._learned.get((topic, server))
        if learned is not None:
            others = (host for host in hosts or () if host != learned)
            return Candidates((learned, *others), announced=not hosts)
        return self._with_announced(None if hosts is None else Candidates(hosts), header)

    def _with_announced(self, listed: Candidates | None, header: Header) -> Candidates | None:
        """Put hosts that announce the topic behind those that are listed. Only messages to any server take them in turn: those
        that one sender has for one server go the same way, and keep their order."""
        announced = self.announced.hosts(header.topic)
        if not announced:
            return listed
        hosts, first, _ = listed or Candidates(())
        others, place, _ = Candidates(announced) if header.server else _in_turn(announced, header)
        order = dict.fromkeys((*hosts[first:], *hosts[:first], *others[place:], *others[:place]))
        return Candidates(tuple(order), 0, announced=not hosts)


def _in_turn(hosts: tuple[str, ...], header: Header) -> Candidates:
    """A sender's messages take the hosts in turn, each sender beginning with another one."""
    return Candidates(hosts, (header.turn + header.id.origin) % len(hosts) if hosts else 0)
