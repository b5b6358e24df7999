"""Departures: few frames with much in them; what is urgent does not wait, and what cannot leave comes back."""

from collections.abc import Sequence

from openstack_zeromq import wire
from openstack_zeromq.receiver.departures import LAZY, Departures
from openstack_zeromq.wire import Answer, AnswerEntry, MessageId

ONE, TWO = b"one", b"two"


class Socket:
    """Remembers what was sent to whom; some addressees may be gone."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, list[bytes]]] = []
        self.gone: set[bytes] = set()

    def send(self, frames: Sequence[bytes]) -> bool:
        who, *rest = frames
        self.sent.append((who, rest))
        return who not in self.gone

    def items(self, who: bytes) -> list[list[bytes]]:
        return [item for addressee, frames in self.sent if addressee == who for item in wire.unbundle(frames)]


def _taken(sequence: int) -> AnswerEntry:
    return AnswerEntry(MessageId(7, sequence), Answer.TAKEN)


def test_what_goes_to_the_same_addressee_in_one_pass_leaves_as_one_frame_and_in_order() -> None:
    socket = Socket()
    departures = Departures(socket.send)
    for number in range(5):
        departures.item(ONE, (b"header %d" % number, b"body"), 4)
    departures.item(TWO, (b"header", b"body"), 4)
    departures.flush(0.0)
    assert len(socket.sent) == 2
    assert [item[0] for item in socket.items(ONE)] == [b"header %d" % number for number in range(5)]
    departures.flush(1.0)
    assert len(socket.sent) == 2


def test_an_answer_that_nobody_waits_for_waits_for_company_but_not_long() -> None:
    socket = Socket()
    departures = Departures(socket.send)
    departures.answer(ONE, _taken(1), urgent=False, now=0.0)
    departures.flush(LAZY / 2)
    assert socket.sent == []
    assert departures.due == LAZY
    departures.flush(LAZY)
    [[frame]] = socket.items(ONE)
    assert wire.decode_answers(frame) == [_taken(1)]
    assert departures.due is None


def test_an_urgent_answer_takes_along_those_that_wait_and_messages_go_behind_them() -> None:
    socket = Socket()
    departures = Departures(socket.send)
    departures.answer(ONE, _taken(1), urgent=False, now=0.0)
    departures.answer(ONE, _taken(2), urgent=True, now=0.0)
    departures.answer(TWO, _taken(3), urgent=False, now=0.0)
    departures.item(TWO, (b"header", b"body"), 4)
    departures.flush(0.0)
    [[answers]] = socket.items(ONE)
    assert wire.decode_answers(answers) == [_taken(1), _taken(2)]
    assert [len(item) for item in socket.items(TWO)] == [1, 2]


def test_what_cannot_leave_is_kept_for_whoever_sees_to_it() -> None:
    socket = Socket()
    socket.gone.add(ONE)
    departures = Departures(socket.send)
    departures.item(ONE, (b"header", b"body"), 4)
    departures.answer(ONE, _taken(1), urgent=False, now=0.0)
    departures.item(TWO, (b"header", b"body"), 4)
    departures.flush(0.0)
    [(who, load)] = departures.undelivered
    assert (who, load.items, load.answers) == (ONE, [(b"header", b"body")], [_taken(1)])


def test_much_for_one_addressee_leaves_before_the_pass_is_over() -> None:
    socket = Socket()
    departures = Departures(socket.send)
    for _ in range(100):
        departures.item(ONE, (b"header", b"x" * 10_000), 10_000)
    assert len(socket.sent) > 10
    departures.flush(0.0)
    assert len(socket.items(ONE)) == 100
