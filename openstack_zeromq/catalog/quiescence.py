"""Quiescence: when to write, while changes still come. Pure.

After a change it is waited until there was none for `quiet_for` seconds, but never longer than `at_most` after the first one.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Quiescence:
    """Times in seconds of one clock that never goes back."""

    quiet_for: float = 2.0
    at_most: float = 10.0
    _first: float | None = None
    _last: float = 0.0

    def changed(self, now: float) -> None:
        """There is something new to write."""
        if self._first is None:
            self._first = now
        self._last = now

    @property
    def due(self) -> float | None:
        """When to write; None: there is nothing to write."""
        return None if self._first is None else min(self._last + self.quiet_for, self._first + self.at_most)

    def is_due(self, now: float) -> bool:
        return self.due is not None and self.due <= now

    def written(self) -> None:
        """All that was new is on the disk."""
        self._first = None
