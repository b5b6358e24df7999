"""Registry: tell the matchmaker what this node serves, whenever that changes.

After a restart the services come back one by one. Until the last one is here, or given up, what the node served before stays
registered: nobody is to believe that it left.
"""

from collections.abc import Collection, Mapping

from openstack_zeromq.delivery.incoming import Incoming
from openstack_zeromq.matchmaker.base import Matchmaker


class Registry:
    """`former`: what the node served when the last receiver ended (topic -> servers), as far as is known."""

    def __init__(self, matchmaker: Matchmaker, incoming: Incoming, former: Mapping[str, Collection[str]]) -> None:
        self._matchmaker = matchmaker
        self._incoming = incoming
        self._former = former
        self._settled = False
        self._told = -1

    def tick(self, now: float) -> None:
        """To be called several times a second."""
        settles = not self._settled and not self._incoming.awaits(now)
        if self._told == self._incoming.changes and not settles:
            return
        self._settled |= settles
        self._told = self._incoming.changes
        served = self._incoming.served()
        if self._settled:
            self._matchmaker.register(served)
        elif self._former:
            for topic, servers in self._former.items():
                served.setdefault(topic, set()).update(servers)
            self._matchmaker.register(served)
