"""TrustWatch: the thread that looks at the folder of public keys, so that the loop moves messages meanwhile."""

import threading
import time
from collections.abc import Callable

from openstack_zeromq.security.trust_folder import TrustFolder

LOOK_EVERY = 0.25
"""Seconds between two looks. A change counts within a second of being made: a quarter of it passes until it is seen, and reading
takes as much at most, also with 13 000 keys on a busy machine."""

_SILENT_FOR = 5.0
"""Seconds without a look that is done, after which the file system is held to be stuck."""


class TrustWatch:
    """Looks at `folder` from `start` to `close`; the loop calls everything else here."""

    def __init__(self, folder: TrustFolder) -> None:
        self._folder = folder
        self._wake_loop: Callable[[], None] = lambda: None
        self._ended = False
        self._due = threading.Event()
        self._requested = self._done = 0
        self._looked = time.monotonic()
        self._fault = ""
        self._thread = threading.Thread(target=self._run, daemon=True, name="trust")

    def start(self, wake_loop: Callable[[], None]) -> None:
        """Begin; `wake_loop` is called from the thread when there is something new."""
        self._wake_loop = wake_loop
        self._looked = time.monotonic()
        self._thread.start()

    def request(self) -> int:
        """Have everything looked at now; the number to ask `has_done` for."""
        self._requested += 1
        self._due.set()
        return self._requested

    def has_done(self, request: int) -> bool:
        """Whether a look that began after `request` is done."""
        return self._done >= request

    def problem(self, now: float) -> str:
        """Why the folder may say something else than what counts; empty: it does not. `now`: seconds, monotonic."""
        if (silent := now - self._looked) > _SILENT_FOR:
            return f"{self._folder.path} was last read {silent:.0f} s ago: its file system does not answer; trust stays as it was"
        return self._fault or self._folder.problem

    def close(self) -> None:
        """End the thread; one that waits for a file system ends with the process."""
        self._ended = True
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    # in the thread

    def _run(self) -> None:
        while not self._ended:
            self._due.clear()
            request = self._requested
            found = self._look(everything=request > self._done)
            answered = request > self._done
            self._done, self._looked = request, time.monotonic()
            if found or answered:
                self._wake_loop()
            self._due.wait(LOOK_EVERY)

    def _look(self, everything: bool) -> bool:
        try:
            found = self._folder.look(time.monotonic(), everything)
        except Exception as exc:  # a thread that ended would let no revocation count any more
            fault, found = f"{self._folder.path}: {exc!r}; trust stays as it was", False
        else:
            fault = ""
        changed, self._fault = fault != self._fault, fault
        return found or changed
