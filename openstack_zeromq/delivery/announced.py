"""Announced: topics that peers say they serve, besides what the matchmaker lists.

A ring may lack a topic, and a store may be away before it was ever asked. So a receiver tells in every pong which topics it
serves although its matchmaker does not list it for them, and which of those that the peer asked for. What a peer says counts
until it says something else, or is away for longer than a restart takes.
"""

from collections.abc import Mapping

AT_MOST = 500
"""Topics that a peer can announce; a node serves less than a hundred. They fit into one control frame with room to spare."""


class Announced:
    """What each peer says; a peer is a host to which there is a link."""

    def __init__(self) -> None:
        self._by_host: dict[str, frozenset[str]] = {}
        self._by_topic: dict[str, tuple[str, ...]] = {}
        self._heard: set[str] = set()

    def learn(self, host: str, topics: frozenset[str]) -> bool:
        """Replace what `host` said before; return whether it is news."""
        self._heard.add(host)
        return self._replace(host, topics)

    def forget(self, host: str) -> bool:
        """`host` is away, or there is no link to it any more; return whether that is news."""
        self._heard.discard(host)
        return self._replace(host, frozenset())

    def hosts(self, topic: str) -> tuple[str, ...]:
        """Return the hosts that announce `topic`, sorted."""
        return self._by_topic.get(topic, ())

    def by(self, host: str) -> frozenset[str]:
        """Return what `host` announces."""
        return self._by_host.get(host, frozenset())

    def heard(self, host: str) -> bool:
        """Return whether `host` has said what it serves, be it nothing."""
        return host in self._heard

    @property
    def topics(self) -> Mapping[str, tuple[str, ...]]:
        """Return all topics that are announced, with their hosts."""
        return self._by_topic

    def _replace(self, host: str, topics: frozenset[str]) -> bool:
        before = self._by_host.get(host, frozenset())
        if topics == before:
            return False
        if topics:
            self._by_host[host] = topics
        else:
            del self._by_host[host]
        for topic in topics ^ before:
            hosts = tuple(sorted(one for one, said in self._by_host.items() if topic in said))
            if hosts:
                self._by_topic[topic] = hosts
            else:
                self._by_topic.pop(topic, None)
        return True
