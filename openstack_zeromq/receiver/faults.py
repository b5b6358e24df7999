"""Faults: exceptions that nothing foresaw. They are contained where one party is dealt with, and never end the receiver's loop.

A fault that belongs to a peer, a service or a connection costs that party its connection; one that belongs to a file or a store
leaves what was known before. It costs others nothing: no single party can end or stall a receiver with what it sends, however
often it does. A fault that belongs to none of them is survived, too. But many of those in a short time mean that this process is
broken: then its watchdog gets no more beats, and systemd restarts it.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from openstack_zeromq.receiver.report import Report

_BUDGET = 10
_WITHIN = 60.0
"""Ten faults without a party within a minute: a handler that fails each time it is due reaches that in half a second to five, a
rare coincidence never does."""

_SHOWN_FOR = 60.0
"""Seconds for which the last fault is a problem that the status line shows; its counter stays."""


class Faults:
    """May be told of faults by any thread."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last = ""
        self._last_at = 0.0
        self._without_party: deque[float] = deque(maxlen=_BUDGET)
        self._broken = ""

    @property
    def broken(self) -> str:
        """Why the watchdog is to end this process; empty while it need not."""
        return self._broken

    def problem(self, now: float) -> str:
        """For the status line; empty when all is well."""
        if self._broken:
            return f"{self._broken}; no more beats for the watchdog, which is to restart this receiver"
        return self._last if self._last and now - self._last_at < _SHOWN_FOR else ""

    def happened(self, place: str, party: str, exc: Exception) -> None:
        """`exc` was raised at `place` while `party` was dealt with; empty: no party has to do with it."""
        now = time.monotonic()
        what = f"{type(exc).__name__}: {exc}"
        self._report.fault(place, party or "this receiver", what, exc)
        self._last, self._last_at = f"a fault at {place!r}, of {party or 'this receiver'}: {what}", now
        if party:
            return
        self._without_party.append(now)
        if len(self._without_party) == _BUDGET and now - self._without_party[0] <= _WITHIN:
            self.give_up(f"{_BUDGET} faults within {now - self._without_party[0]:.0f} s, the last one at {place!r}: {what}")

    def give_up(self, why: str) -> None:
        """This process cannot mend what is wrong; a new one can."""
        self._broken = self._broken or why

    @contextmanager
    def contained(self, place: str, party: str = "") -> Iterator[None]:
        """What is raised within happened at `place`, and ends there."""
        try:
            yield
        except Exception as exc:  # of any kind: nothing that one party does ends the loop
            self.happened(place, party, exc)
