"""Unit: what systemd is told of the receiver. The loop calls `turned` in every pass, so a loop that is stuck sends no beat."""

from collections.abc import Callable

from openstack_zeromq import systemd

_STATUS_EVERY = 5.0


class Unit:
    """`status` makes the line that `systemctl status` shows."""

    def __init__(self, status: Callable[[], str]) -> None:
        self._status = status
        self._said = ""
        self._beat_every = systemd.beat_every()
        self._next_beat = self._next_status = 0.0
        self._ready = False

    def turned(self, now: float, beat: bool = True) -> None:
        """The loop has turned once more, at `now` (seconds, monotonic); the first time everything is ready. Without `beat` the
        watchdog is to end this process."""
        if not self._ready:
            self._ready = True
            systemd.notify("READY=1")
        if beat and self._beat_every is not None and now >= self._next_beat:
            self._next_beat = now + self._beat_every
            systemd.notify("WATCHDOG=1")
        if now >= self._next_status:
            self._next_status = now + _STATUS_EVERY
            said = self._status()
            if said != self._said:
                self._said = said
                systemd.notify(f"STATUS={said}")

    def reloading(self, now: float) -> None:
        """It was asked to look again, and does so now; `turned` says when it has."""
        systemd.notify("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}")
        self._ready = False

    def stopping(self) -> None:
        systemd.notify("STOPPING=1", "STATUS=")
