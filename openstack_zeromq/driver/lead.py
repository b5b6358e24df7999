"""Lead: who reads what the receiver says. Of the threads that wait for something one leads: it reads for all, and passes the
lead on when it has what it waits for. So a caller reads its own reply, and nobody is woken on the way.

The connection's own thread leads only when nobody else has for a while, and always under eventlet, where nobody else may.
"""

from collections.abc import Callable
from time import monotonic

from openstack_zeromq.driver.waiting import Signal, original, patched

_IDLE = 0.1
"""Seconds after which the connection's own thread notices that nobody leads."""

_LONG = 1.0
_SHORT = 0.001


class Lead:
    """`read(seconds)` waits so long at most for something to come, and sees to it; only who leads may call it."""

    def __init__(self, read: Callable[[float], None], interrupt: Callable[[], None]) -> None:
        """`interrupt()` makes a `read` that waits return, from any thread."""
        self._read = read
        self._interrupt = interrupt
        self._shared = not patched()
        self._mutex = original("_thread").allocate_lock()
        self._nudge = original("_thread").allocate_lock()
        self._nudge.acquire()
        self._led = False
        self._turns = 0
        self._followers: dict[Signal, None] = {}

    # threads that wait

    def wait(self, signal: Signal, done: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until `done()`, for `seconds` at most (None: for ever); `signal` is woken whenever that may have changed."""
        deadline = None if seconds is None else monotonic() + seconds
        followed = False
        while not (ready := done()):
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                break
            if self._shared and self._take(signal):
                followed = False
                try:
                    self._lead(done, deadline)
                finally:
                    self._pass_on()
            else:
                followed = True
                signal.wait(left)
                self._unfollow(signal)
        if followed:
            self._leave()
        return ready

    # the connection's own thread

    def stand_by(self) -> None:
        """Lead when nobody has led for a while, until somebody wants to; returns from time to time."""
        turns = self._turns
        self._nudge.acquire(timeout=_IDLE if self._shared else 0)
        with self._mutex:
            if self._led or (self._shared and turns != self._turns):
                return
            self._led = True
        try:
            self._read(_LONG)
            while self._shared and not self._followers and turns == self._turns:
                self._read(_LONG)
        finally:
            self._pass_on()

    def retire(self) -> None:
        """From now on only the connection's own thread leads: it has things to bring to an end."""
        self._shared = False
        self._interrupt()
        try:
            self._nudge.release()
        except RuntimeError:
            return  # it was nudged before

    def conclude(self) -> None:
        """Lead for good: returns when nobody else reads any more. After `retire`."""
        while True:
            with self._mutex:
                if not self._led:
                    self._led = True
                    return
            self._interrupt()
            self._nudge.acquire(timeout=_SHORT)

    # private

    def _take(self, signal: Signal) -> bool:
        """Take the lead; or follow whoever has it."""
        with self._mutex:
            if self._led:
                self._followers[signal] = None
                return False
            self._led = True
            self._turns += 1
            return True

    def _lead(self, done: Callable[[], bool], deadline: float | None) -> None:
        while self._shared and not done():
            left = _LONG if deadline is None else min(_LONG, deadline - monotonic())
            if left <= 0:
                return
            self._read(left)

    def _pass_on(self) -> None:
        with self._mutex:
            self._led = False
            self._wake_one()

    def _unfollow(self, signal: Signal) -> None:
        with self._mutex:
            self._followers.pop(signal, None)

    def _leave(self) -> None:
        """Who followed, and has what it waited for, was perhaps woken to lead: then another one must."""
        with self._mutex:
            if not self._led:
                self._wake_one()

    def _wake_one(self) -> None:
        if self._followers:
            follower, _ = self._followers.popitem()
            follower.wake()
