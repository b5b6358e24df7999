"""Waiting: how threads of a service wait for the connection's thread, be they real or eventlet's.

Under eventlet the modules `threading`, `os` and `queue` are patched. The connection needs the real ones (`original`), and
must not touch a green thread: it leaves a note with the `_Bell` of that thread's hub, which a green thread reads out of a pipe.
"""

import importlib
import sys
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from openstack_zeromq.wire import Answer, MessageId

Item = TypeVar("Item")

_FOR_EVER = 1e6


def patched() -> bool:
    """Has eventlet replaced threads in this process? Never imports it: some services forbid that."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread"))


def original(name: str) -> ModuleType:
    """The module `name` as Python ships it."""
    if patched():
        found: ModuleType = sys.modules["eventlet.patcher"].original(name)
        return found
    return importlib.import_module(name)


class Signal(Protocol):
    """Wakes one waiting thread; waking twice before anybody waits is waking once."""

    def wait(self, seconds: float | None) -> bool:
        """Wait for the next `wake`; False when it did not come in time."""

    def wake(self) -> None:
        """From any thread."""


def signal() -> Signal:
    """A signal of the kind that this thread needs."""
    return _GreenSignal() if patched() and _green() else _NativeSignal()


def _green() -> bool:
    """Does eventlet rule in this thread: the first one of a patched process, or another one with a hub? A thread without,
    eventlet's own pool for instance, may block; a hub made for it would never be closed."""
    from eventlet import hubs  # noqa: PLC0415 - only where eventlet rules already

    first = original("_thread").get_native_id() == original("os").getpid()
    return first or getattr(hubs._threadlocal, "hub", None) is not None


class _NativeSignal:
    """A lock that is released to wake."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = original("_thread").allocate_lock()
        self._lock.acquire()

    def wait(self, seconds: float | None) -> bool:
        woken: bool = self._lock.acquire(timeout=-1 if seconds is None else max(0.0, min(seconds, _FOR_EVER)))
        return woken

    def wake(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            return  # it is awake already


class _GreenSignal:
    """A green semaphore, released in the hub of the thread that waits."""

    __slots__ = ("_bell", "_semaphore", "_woken")

    def __init__(self) -> None:
        from eventlet import semaphore  # noqa: PLC0415 - only where eventlet rules already

        self._semaphore: Any = semaphore.Semaphore(0)
        self._bell = _Bell.of_this_hub()
        self._woken = False

    def wait(self, seconds: float | None) -> bool:
        timeout = None if seconds is None else max(0.0, min(seconds, _FOR_EVER))
        woken: bool = self._semaphore.acquire(timeout=timeout)
        if woken:
            self._woken = False
        return woken

    def wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._bell.ring(self._semaphore.release)


class _Bell:
    """A pipe into one eventlet hub; other threads ring it to have something called there."""

    _bells: "dict[int, tuple[int, _Bell]]" = {}  # noqa: RUF012 - by hub, with the process it belongs to

    def __init__(self) -> None:
        self._os: Any = original("os")
        self._calls: deque[Callable[[], object]] = deque()
        self._read, self._write = self._os.pipe()
        self._os.set_blocking(self._read, False)
        self._os.set_blocking(self._write, False)

    @classmethod
    def of_this_hub(cls) -> "_Bell":
        import eventlet  # noqa: PLC0415 - only where eventlet rules already

        pid, hub = original("os").getpid(), id(eventlet.hubs.get_hub())
        known = cls._bells.get(hub)
        if known is not None and known[0] == pid:
            return known[1]
        bell = cls()
        cls._bells[hub] = (pid, bell)
        eventlet.spawn(bell._listen, eventlet.hubs.trampoline)
        return bell

    def ring(self, call: Callable[[], object]) -> None:
        """Have `call` called in the hub, soon."""
        self._calls.append(call)
        try:
            self._os.write(self._write, b"!")
        except BlockingIOError:
            return  # the pipe is full of rings: the hub will come

    def _listen(self, trampoline: Callable[..., None]) -> None:
        while True:
            trampoline(self._read, read=True)
            self._os.read(self._read, 65536)
            while self._calls:
                self._calls.popleft()()


class Waits(Protocol):
    """How a thread waits until something is done; `lead.Lead` is it."""

    def wait(self, signal: Signal, done: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until `done()`; False when that was not in time. `signal` is woken whenever it may have changed."""


class Waiter:
    """One send that waits for its outcome. Whoever reads what the receiver says fills it in, the sender's thread waits.

    `on_accepted`, `on_taken`: which good news to be woken for; refusals and replies always wake. `for_reply`: it waits for
    more than an answer. `once`: a full queue is a refusal, and the message is not sent again; otherwise `full` says that it was
    the queue that held it up. `answer` is how the receiver answered; `body` is the reply of a call; `signs` counts the signs of
    life of a long one.
    """

    __slots__ = (
        "_noticed",
        "_signal",
        "_waits",
        "_woken",
        "accepted",
        "answer",
        "body",
        "for_reply",
        "full",
        "id",
        "on_accepted",
        "on_taken",
        "once",
        "reason",
        "signs",
    )

    def __init__(
        self, waits: Waits, *, on_accepted: bool = False, on_taken: bool = False, for_reply: bool = False, once: bool = False
    ) -> None:
        self.on_accepted = on_accepted
        self.on_taken = on_taken
        self.for_reply = for_reply
        self.once = once
        self.full = False
        self.id: MessageId | None = None
        self.accepted = False
        self.answer: Answer | None = None
        self.reason = ""
        self.body: bytes | None = None
        self.signs = 0
        self._waits = waits
        self._signal = signal()
        self._woken = 0
        self._noticed = 0

    def wait(self, seconds: float | None) -> bool:
        """Wait until something is filled in; False when nothing was in time."""
        in_time = self._waits.wait(self._signal, self._anything_new, seconds)
        self._noticed = self._woken
        return in_time

    def queue_full(self) -> bool:
        """A queue has no room for the message; return whether it is given up for that."""
        self.full = True
        if self.once:
            self.answer = Answer.BUSY
            self.wake()
        return self.once

    def wake(self) -> None:
        """Something was filled in."""
        self._woken += 1
        self._signal.wake()

    def _anything_new(self) -> bool:
        return self._woken != self._noticed


class Mailbox(Generic[Item]):
    """Items from any thread for one thread that takes them."""

    def __init__(self, waits: Waits) -> None:
        self._items: deque[Item] = deque()
        self._waits = waits
        self._signal = signal()

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._signal.wake()

    def get(self, seconds: float | None) -> Item | None:
        """The oldest item; None when there is none within `seconds` (None: for ever)."""
        if not self._items:
            self._waits.wait(self._signal, self._any, seconds)
        return self._items.popleft() if self._items else None

    def _any(self) -> bool:
        return bool(self._items)
