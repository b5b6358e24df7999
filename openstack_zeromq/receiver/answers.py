"""Answers gather until they are worth a frame: they go at once when somebody waits for one, else a few milliseconds later."""

from collections import defaultdict
from collections.abc import Callable
from typing import Generic, TypeVar

from openstack_zeromq import wire
from openstack_zeromq.wire import AnswerEntry

Who = TypeVar("Who")

LAZY = 0.005
"""Seconds that an answer may wait for company."""

_ENOUGH = 64


class Answers(Generic[Who]):
    """`send(who, frame)` gives False when `who` is gone; `lost(n)` is told how many answers that cost."""

    def __init__(self, send: Callable[[Who, bytes], bool], lost: Callable[[int], None]) -> None:
        self._send = send
        self._lost = lost
        self._waiting: defaultdict[Who, list[AnswerEntry]] = defaultdict(list)
        self._urgent: set[Who] = set()
        self.due: float | None = None

    def add(self, who: Who, entry: AnswerEntry, urgent: bool, now: float) -> None:
        """To be sent with the next `flush`, or with the first one after it has become due."""
        entries = self._waiting[who]
        entries.append(entry)
        if urgent or len(entries) >= _ENOUGH:
            self._urgent.add(who)
        if self.due is None:
            self.due = now + LAZY

    def flush(self, now: float) -> None:
        """Send what is urgent and what goes to the same address; everything, once the first of it is due."""
        if self.due is None:
            return
        ready = list(self._waiting) if now >= self.due else list(self._urgent)
        for who in ready:
            entries = self._waiting.pop(who)
            if not self._send(who, wire.encode_answers(entries)):
                self._lost(len(entries))
        self._urgent.clear()
        if not self._waiting:
            self.due = None
