"""Search: messages whose topic has no host, and the hosts to ask for one.

Peers with a link announce what the matchmaker lacks (`announced`). To hear it of others, links to them are opened: a **survey**.
It is bounded, for topics without a consumer are ordinary, and a cloud must not become a full mesh for their sake. While the
matchmaker cannot answer for a topic at all, peers are also asked for just this topic: it is **sought**.
"""

import zlib
from collections.abc import Callable, Collection, Iterable

from openstack_zeromq.delivery.link import LinkState

SURVEY_EVERY = 600.0
"""Seconds between two surveys; links that carry nothing are closed after as long (`zmq_link_idle`)."""

SURVEY_HOSTS = 64
"""Hosts that one survey asks. Smaller clouds are asked as a whole; of a larger one each survey asks other hosts."""

SURVEY_WITHIN = 5.0
"""Seconds after which a survey is over, whoever has not answered. A receiver that has just started waits for three seconds for
its services, and does not know before that what it serves."""

SOUGHT_MOST = 64
"""Topics that are sought at a time; more come only from a service that invents names."""

SOUGHT_AFTER = 0.2
"""Seconds that a matchmaker has to answer before peers are asked; a store that is there needs a few milliseconds."""

SOUGHT_FOR = 600.0
"""Seconds for which a topic is sought, if the matchmaker stays silent for so long. Then the next message begins anew."""


class Search:
    """`name` is this node. Times are seconds, monotonic."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sought: dict[str, float] = {}
        self._survey_due = 0.0
        self._asked: set[str] = set()
        self._over_at = 0.0
        self._place: int | None = None

    # what is sought

    def seek(self, topic: str, now: float) -> None:
        """The matchmaker cannot say who serves `topic`, and a message waits for it."""
        if topic not in self._sought and len(self._sought) < SOUGHT_MOST:
            self._sought[topic] = now

    def sought(self, now: float, known: Callable[[str], bool]) -> tuple[str, ...]:
        """Return the topics to ask peers for, and forget those that the matchmaker knows by now."""
        for topic in [topic for topic, since in self._sought.items() if now - since > SOUGHT_FOR or known(topic)]:
            del self._sought[topic]
        return tuple(topic for topic, since in self._sought.items() if now - since >= SOUGHT_AFTER)

    # surveys

    @property
    def under_way(self) -> bool:
        """Is there a survey that some host has not answered yet?"""
        return bool(self._asked)

    def begin(self, now: float, hosts: Callable[[], Collection[str]], linked: Callable[[str], bool]) -> list[str]:
        """Begin a survey, if one is due; return the hosts to which links are to be opened."""
        if now < self._survey_due or self._asked:
            return []
        self._survey_due = now + SURVEY_EVERY
        return self.ask([host for host in self._in_turn(sorted(hosts())) if not linked(host)][:SURVEY_HOSTS], now)

    def ask(self, hosts: Iterable[str], now: float) -> list[str]:
        """Ask these `hosts`, whether or not a survey is due; return them without this node."""
        self._asked = set(hosts) - {self._name}
        self._over_at = now + SURVEY_WITHIN if self._asked else 0.0
        return sorted(self._asked)

    def answered(self, host: str) -> None:
        """A host has said what it serves, or that it serves nothing besides what is listed."""
        self._asked.discard(host)

    def ends(self, now: float, reach: Callable[[str], LinkState | None]) -> bool:
        """Return whether the survey has come to its end just now: every host has answered or is away, or it took too long."""
        if not self._over_at or (now < self._over_at and any(reach(host) is not LinkState.DOWN for host in self._asked)):
            return False
        self._asked.clear()
        self._over_at = 0.0
        return True

    def _in_turn(self, hosts: list[str]) -> list[str]:
        """Each survey begins where the last one ended, the first one elsewhere on each node, so that no host is asked by all."""
        if not hosts:
            return []
        start = zlib.crc32(self._name.encode()) if self._place is None else self._place
        self._place = start + SURVEY_HOSTS
        start %= len(hosts)
        return hosts[start:] + hosts[:start]
