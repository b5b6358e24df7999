"""Report: say a thing once, count it always. Problems: say what is wrong when that changes."""

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
        self.say(counter, who, what)

    def say(self, counter: Counter, who: str, what: str) -> None:
        """Log `what` the first time from `who`; it is counted already."""
        if (counter, who) not in self._said and len(self._said) < _MOST:
            self._said.add((counter, who))
            LOG.warning("%s from %s: %s (logged once; counted as %r)", counter.value, who, what, counter.value)

    def fault(self, place: str, who: str, what: str, exc: Exception) -> None:
        """Count an exception that nothing foresaw; the first time from `who` at `place`, log it with its traceback."""
        self._counts[Counter.FAULTS] += 1
        about = f"{place}: {who}"
        if (Counter.FAULTS, about) not in self._said and len(self._said) < _MOST:
            self._said.add((Counter.FAULTS, about))
            LOG.error(
                "a fault at %r, of %s: %s (logged once; counted as 'faults'); please report it", place, who, what, exc_info=exc
            )


class Problems:
    """What is wrong now, by what it is about; each is logged when it begins and when it is over."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}

    @property
    def now(self) -> str:
        """All of it in one line; empty when all is well."""
        return "; ".join(problem for problem in self._now.values() if problem)

    def say(self, about: str, problem: str) -> None:
        """`problem` is how things are with `about`; empty: well."""
        if problem == self._now.get(about, ""):
            return
        self._now[about] = problem
        if problem:
            LOG.error("%s: %s", about, problem)
        else:
            LOG.info("%s: all is well again", about)
