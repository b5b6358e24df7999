"""Unconsumed: topics of notifications that no listener consumes, and what was dropped of them.

Only what is known to be unconsumed may be dropped. Where every host that could take a notification says that nothing there
listens, or the matchmaker lists no host, that is known at once. A host that is away says nothing, nor does a matchmaker that does
not answer: until `AWAY_FOR` seconds have passed, senders beyond the limit are asked to wait, so that a restart loses nothing.
"""

import math
from typing import NamedTuple

from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.tally import TOPICS_MOST, Tally, Topic

AWAY_FOR = 60.0
"""Seconds after which a host, or a matchmaker, that does not answer counts as one without listeners. A reboot of a virtual
machine takes less, as does a failover of every store."""


class Note(NamedTuple):
    """Log `what` as a warning, once for each pair of `counter` and `about`. The event has been counted."""

    counter: Counter
    about: str
    what: str


class Unconsumed:
    """Times are seconds, monotonic."""

    def __init__(self) -> None:
        self._since: dict[Topic, float] = {}
        self.dropped = Tally()

    def found_nobody(self, topic: Topic, now: float, *, sure: bool) -> None:
        """No host takes a notification; `sure`: each of them said so."""
        if topic not in self._since and len(self._since) >= TOPICS_MOST:
            self._since.clear()
        if sure:
            self._since[topic] = -math.inf
        else:
            self._since.setdefault(topic, now)

    def taken(self, topic: Topic) -> None:
        """A listener has taken a notification."""
        self._since.pop(topic, None)

    def may_drop(self, topic: Topic, now: float) -> bool:
        """Return whether it is known that no listener consumes `topic`."""
        return now - self._since.get(topic, now) >= AWAY_FOR
