"""Pools: which listeners' pools there are, and where. Each is to get a copy of every notification to its topic.

A receiver tells its peers in every pong which pools are served on its node; so whoever sends a notification makes a copy for
each, under an id of its own that is the same whenever the copy is made again. A receiver that has just started does not know its
pools, and does not say that it has none.
"""

from collections.abc import Callable, Iterable, Mapping

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.origin import sibling
from openstack_zeromq.wire import MessageId

Pool = tuple[str, str, str]
"""Exchange, topic and name."""


class Pools:
    """`here()`: the pools that are served on this node."""

    def __init__(self, name: str, here: Callable[[], Iterable[Channel]]) -> None:
        self._name = name
        self._here = here
        self._elsewhere: dict[str, frozenset[Pool]] = {}
        self.sure = False
        """Are the pools of this node known, for all services that were here before have come back?"""

    def learn(self, host: str, pools: frozenset[Pool]) -> bool:
        """A peer says which pools it serves; is that news?"""
        news = self._elsewhere.get(host) != pools
        self._elsewhere[host] = pools
        return news

    def forget(self, host: str) -> None:
        """There is no link to `host` any more."""
        self._elsewhere.pop(host, None)

    def known(self, host: str) -> bool:
        """Is it known which pools `host` serves?"""
        return self.sure if host == self._name else host in self._elsewhere

    def here(self) -> list[Pool] | None:
        """What to tell peers, sorted; None: not known yet."""
        if not self.sure:
            return None
        return sorted((channel.exchange, channel.topic, channel.name) for channel in self._here())

    def of(self, exchange: str, topic: str) -> Mapping[str, tuple[str, ...]]:
        """The pools of a topic: name -> hosts, sorted."""
        at: dict[str, list[str]] = {}
        for host, pools in ((self._name, self.here() or ()), *self._elsewhere.items()):
            for pool in pools:
                if pool[:2] == (exchange, topic):
                    at.setdefault(pool[2], []).append(host)
        return {pool: tuple(sorted(hosts)) for pool, hosts in sorted(at.items())}


def copy_for(pool: str, message: Message, expires: float) -> Message:
    """The copy of a notification that `pool` gets."""
    origin, sequence = message.id
    header = message.header._replace(id=MessageId(sibling(origin, pool), sequence), server=pool)
    copy = Message.new(header, message.body, 0.0)
    copy.expires = min(message.expires, expires)
    return copy
