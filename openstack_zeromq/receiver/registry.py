"""Registry: tell the matchmaker what this node serves, whenever that changes.

After a restart the services come back one by one. Until the last one is here, or given up, what the node served before stays
registered: nobody is to believe that it left.
"""

from collections.abc import Collection, Mapping

from openstack_zeromq.delivery.incoming import Incoming
from openstack_zeromq.matchmaker.base import Matchmaker


class Registry:
    """`former`: what the node served when the last receiver ended (topic -> servers)."""

    def __init__(self, matchmaker: Matchmaker, incoming: Incoming, former: Mapping[str, Collection[str]]) -> None:
        self._matchmaker = matchmaker
        self._incoming = incoming
        self._former = former
        self._told = -1

    def tick(self, now: float) -> None:
        """To be called several times a second."""
        awaiting = bool(self._former) and self._incoming.awaits(now)
        if self._told == self._incoming.changes and (awaiting or not self._former):
            return
        self._told = self._incoming.changes
        served = self._incoming.served()
        if awaiting:
            for topic, servers in self._former.items():
                served.setdefault(topic, set()).update(servers)
        else:
            self._former = {}
        self._matchmaker.register(served)
