"""Waiting: how a thread of the service waits for the connection's thread, and the original threading primitives.

Under eventlet the modules `threading` and `_thread` are patched; the connection needs the real ones.
"""

import sys
from types import ModuleType

from openstack_zeromq.wire import Answer, MessageId


def original(name: str) -> ModuleType:
    """The module `name` as Python ships it, whatever eventlet did to it."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        found: ModuleType = patcher.original(name)
        return found
    return __import__(name)


class Waiter:
    """One send that waits for its outcome. The connection's thread fills it in, the sender's thread waits.

    `on_accepted`, `on_taken`: which good news to be woken for; refusals and replies always wake. `for_reply`: it waits for
    more than an answer. `answer` is how the receiver answered; `body` is the reply of a call; `signs` counts the signs of
    life of a long one.
    """

    __slots__ = ("_lock", "accepted", "answer", "body", "for_reply", "id", "on_accepted", "on_taken", "reason", "signs")

    def __init__(self, *, on_accepted: bool = False, on_taken: bool = False, for_reply: bool = False) -> None:
        self.on_accepted = on_accepted
        self.on_taken = on_taken
        self.for_reply = for_reply
        self.id: MessageId | None = None
        self.accepted = False
        self.answer: Answer | None = None
        self.reason = ""
        self.body: bytes | None = None
        self.signs = 0
        self._lock = original("_thread").allocate_lock()
        self._lock.acquire()

    def wait(self, seconds: float | None) -> bool:
        """Wait for the next `wake`; False when it did not come in time."""
        woken: bool = self._lock.acquire(timeout=-1 if seconds is None else max(0.0, min(seconds, 1e6)))
        return woken

    def wake(self) -> None:
        """Something was filled in. Waking twice before anybody waits is waking once."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it is awake already
