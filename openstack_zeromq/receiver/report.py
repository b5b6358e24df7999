"""Report: say a thing once, count it always."""

from collections import Counter as Counts

from oslo_log import log as logging

from openstack_zeromq.delivery.counters import Counter

LOG = logging.getLogger(__name__)

_MOST = 10_000


class Report:
    """Warnings that an attacker or a broken peer could cause without end appear once for each (counter, who)."""

    def __init__(self, counts: Counts[str]) -> None:
        self._counts = counts
        self._said: set[tuple[Counter, str]] = set()

    def bad(self, counter: Counter, who: str, what: str) -> None:
        """Count; the first time from `who`, log `what` too."""
        self._counts[counter] += 1
        if (counter, who) not in self._said and len(self._said) < _MOST:
            self._said.add((counter, who))
            LOG.warning("%s from %s: %s (logged once; counted as %r)", counter.value, who, what, counter.value)
