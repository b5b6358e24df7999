"""Departures: what goes out through one socket, gathered for each addressee, so that a busy one gets few frames with much in it.

Messages leave at the end of the loop's pass. Answers leave with them, in front of them: who gets a reply knows by then whom it
had asked. Alone they go at once when somebody waits for one, else a few milliseconds later.
"""

from collections.abc import Callable, Sequence

from openstack_zeromq import wire
from openstack_zeromq.wire import AnswerEntry

LAZY = 0.01
"""Seconds that an answer may wait for company."""

_ENOUGH_ANSWERS = 64
_ENOUGH_BYTES = 64 * 1024


class Load:
    """What waits for one addressee: items (the frames of each) and answers."""

    __slots__ = ("answers", "items", "size")

    def __init__(self) -> None:
        self.items: list[Sequence[bytes]] = []
        self.answers: list[AnswerEntry] = []
        self.size = 0


class Departures:
    """`send(frames)` gives False when the addressee, the first of the frames, is gone; its load is kept in `undelivered`. So is
    one whose load cannot be sent: `fault` is told why."""

    def __init__(self, send: Callable[[Sequence[bytes]], bool], fault: Callable[[bytes, Exception], None] | None = None) -> None:
        self.undelivered: list[tuple[bytes, Load]] = []
        self._fault = fault
        self.due: float | None = None
        self._send = send
        self._loads: dict[bytes, Load] = {}
        self._ready: dict[bytes, None] = {}

    def item(self, who: bytes, frames: Sequence[bytes], size: int) -> None:
        """A message or a control frame of about `size` bytes leaves with the next `flush`, or already now."""
        load = self._load(who)
        load.items.append(frames)
        load.size += size
        if load.size > _ENOUGH_BYTES:
            self._leave(who, self._loads.pop(who))
        else:
            self._ready[who] = None

    def answer(self, who: bytes, entry: AnswerEntry, urgent: bool, now: float) -> None:
        """An answer leaves with the next `flush` when it is urgent or has company, else once it has waited for `LAZY` seconds."""
        load = self._load(who)
        load.answers.append(entry)
        if urgent or len(load.answers) >= _ENOUGH_ANSWERS:
            self._ready[who] = None
        if self.due is None:
            self.due = now + LAZY

    def flush(self, now: float) -> None:
        """Let leave what is ready; everything, once the first answer is due."""
        if not self._loads:
            return
        late = self.due is not None and now >= self.due
        for who in list(self._loads) if late else self._ready:
            load = self._loads.pop(who, None)
            if load is not None:
                self._leave(who, load)
        self._ready.clear()
        if not self._loads:
            self.due = None

    def _load(self, who: bytes) -> Load:
        load = self._loads.get(who)
        if load is None:
            load = self._loads[who] = Load()
        return load

    def _leave(self, who: bytes, load: Load) -> None:
        try:
            self._send_all(who, load)
        except Exception as exc:  # of any kind: it concerns this addressee alone
            if self._fault is None:
                raise
            self.undelivered.append((who, load))
            self._fault(who, exc)

    def _send_all(self, who: bytes, load: Load) -> None:
        items = [(wire.encode_answers(load.answers),), *load.items] if load.answers else load.items
        for frames in wire.together(items):
            if not self._send((who, *frames)):
                self.undelivered.append((who, load))
                return
