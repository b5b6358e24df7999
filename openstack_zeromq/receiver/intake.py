"""Intake: the way in through one socket, shared fairly between the peers, or services, that speak through it.

libzmq takes a frame of each connection in turn, but a frame may be a bundle of many messages. So a pass of the loop looks at a
bounded number of messages. A party that sends more than its turn while others wait has its messages put off: they wait in a queue
of its own, and each party's queue is served in turn. When that queue is full its messages are refused with BUSY, unread, and it
backs off; no other party notices. What cannot be refused (answers, pings) finds room for as much again, and then the connection
is ended.

An exception that nothing foresaw costs the party that sent the message its connection, and what it has in the queue: a sender
sends again what was not answered.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, Protocol, TypeVar

import zmq

from openstack_zeromq import sockets, wire
from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.fair import FairQueue
from openstack_zeromq.delivery.node import Action
from openstack_zeromq.errors import MalformedError
from openstack_zeromq.receiver.me import Me

Sender = TypeVar("Sender")
Frames = list[bytes]

PASS = 256
"""Messages that one pass looks at, of each socket: about 3 ms of work, which is what another socket's message may wait for."""

TURN = 64
"""Messages of one party before the next one's turn: a bundle that a receiver makes of messages of 1 KiB has as many."""

_LATE = 32
"""Frames of parties that wait already which a pass reads, at most, to get at those of others."""

_ENDURED = 2
"""What cannot be refused may wait up to so many times the room of a party."""

_QUEUED_BYTES = 16 * 1024 * 1024
"""Bytes that may wait of one party: ten thousand messages of 1 KiB and their headers, or one large one."""

_ANSWERS_A_MESSAGE = 64
"""Bytes of answers, or of control, that cost about as much work as one message: three answers."""


Party = Hashable
"""A peer or a service, as its source tells it from others."""

Parcel = tuple[Party, Sender, Frames]
"""What came in at once: for whom it counts, the sender as its source knows it, and the frames."""


class Source(Protocol[Sender]):
    """What speaks through a socket."""

    name: str

    @property
    def socket(self) -> sockets.ZmqSocket:
        """Where it is read."""

    def receive(self, now: float) -> Parcel[Sender] | None:
        """Read the next message of the socket; None: it counts for nothing.

        :raises zmq.ZMQError: nothing can be read.
        """

    def handle(self, sender: Sender, item: Frames, now: float) -> list[Action]:
        """Deal with one item.

        :raises MalformedError: it is none of ours.
        """

    def named(self, sender: Sender) -> str:
        """Who that is, for people."""

    def malformed(self, sender: Sender, reason: str) -> None:
        """Count an item that was none."""

    def refuse(self, sender: Sender, item: Frames, now: float) -> None:
        """Answer a message with BUSY.

        :raises MalformedError: it is none.
        """

    def end(self, sender: Sender, now: float) -> list[Action]:
        """End the connection of `sender`, and forget what is known of it."""


class Intake(Generic[Sender]):
    """`do` carries out what follows from a message."""

    def __init__(self, source: Source[Sender], me: Me, do: Callable[[Iterable[Action], float], None]) -> None:
        self.name = source.name
        self.socket = source.socket
        self._source = source
        self._do = do
        self._report = me.report
        self._faults = me.faults
        self._waiting: FairQueue[Party, tuple[Sender, Frames]] = FairQueue(Bounds(me.settings.topic_backlog, _QUEUED_BYTES), TURN)

    @property
    def backlog(self) -> bool:
        """Does anything wait that was read already?"""
        return bool(self._waiting)

    def work(self, now: float) -> None:
        """One pass: read and deal with what has come, and with what waits."""
        taken = self._read(PASS // 2 if self._waiting else PASS, now)
        for party, (sender, item) in self._waiting.take(PASS - taken):
            self._take(party, sender, item, now)

    # private

    def _read(self, most: int, now: float) -> int:
        """Deal with what comes, about `most` messages, or put it off; how many were dealt with."""
        socket, waiting = self.socket, self._waiting
        taken = late = 0
        before: Party = None
        of: dict[Party, int] = {}
        round_: set[Party] = set()
        while taken < most and late < _LATE and sockets.readable(socket):
            parcel = self._receive(now)
            if parcel is None:
                taken += 1
                continue
            party, sender, frames = parcel
            if len(frames) == 1:
                items = self._opened(sender, frames)
                weight = _weight(items)
            else:
                items, weight = [frames], 1 + len(frames[1]) // wire.LARGE
            # Two frames in a row of one party: nobody else waits, so it need not either.
            if party in waiting or weight > 2 * TURN or (party != before and of.get(party, 0) > TURN):
                late += 1
                self._put_off(party, sender, items, now)
                if party in round_:
                    break  # libzmq gives out frames in turn: in the whole round there was none of anybody else
                round_.add(party)
            else:
                taken += weight
                of[party] = of.get(party, 0) + weight
                if round_:
                    round_.clear()
                for item in items:
                    if not self._take(party, sender, item, now):
                        break
            before = party
        return taken

    def _receive(self, now: float) -> Parcel[Sender] | None:
        try:
            return self._source.receive(now)
        except zmq.ZMQError:
            raise  # nothing was read: it is the socket's fault, and would be again
        except Exception as exc:  # of any kind; what was read is one connection's
            self._faults.happened(self.name, "a connection", exc)
            return None

    def _opened(self, sender: Sender, frames: Frames) -> list[Frames]:
        """The items in `frames`, as far as they can be read."""
        items: list[Frames] = []
        try:
            items.extend(wire.unbundle(frames))
        except MalformedError as exc:
            self._source.malformed(sender, exc.reason)
        return items

    def _take(self, party: Party, sender: Sender, item: Frames, now: float) -> bool:
        """Deal with one item; False: its sender is no more."""
        try:
            self._do(self._source.handle(sender, item, now), now)
        except MalformedError as exc:
            self._source.malformed(sender, exc.reason)
        except Exception as exc:  # of any kind: it costs this party its connection, and nobody else anything
            self._faults.happened(self.name, self._source.named(sender), exc)
            self._end(party, sender, now)
            return False
        return True

    def _put_off(self, party: Party, sender: Sender, items: list[Frames], now: float) -> None:
        for item in items:
            size = sum(map(len, item))
            if self._waiting.room(party, size):
                self._waiting.put(party, (sender, item), _weight([item]), size)
            elif wire.is_message(item):
                self._refuse(party, sender, item, now)
            elif self._waiting.room(party, size, _ENDURED):
                self._waiting.put(party, (sender, item), _weight([item]), size)
            else:
                self._report.bad(
                    Counter.FLOODED, self._source.named(sender), f"{self.name}: too much waits of it; its connection is ended"
                )
                self._end(party, sender, now)
                return

    def _refuse(self, party: Party, sender: Sender, item: Frames, now: float) -> None:
        self._report.bad(
            Counter.FLOODED, self._source.named(sender), f"{self.name}: too much waits of it; it is asked to back off"
        )
        with self._faults.contained(self.name, self._source.named(sender)):
            try:
                self._source.refuse(sender, item, now)
            except MalformedError as exc:
                self._source.malformed(sender, exc.reason)

    def _end(self, party: Party, sender: Sender, now: float) -> None:
        self._waiting.drop(party)
        with self._faults.contained(f"the end of {self.name}", self._source.named(sender)):
            self._do(self._source.end(sender, now), now)


def _weight(items: list[Frames]) -> int:
    """How many messages of work `items` are: answers come by the hundred in one frame, and a large body takes its time."""
    weight = len(items)
    for item in items:
        if len(item) == 1:
            weight += len(item[0]) // _ANSWERS_A_MESSAGE
        elif len(item[1]) > wire.LARGE:
            weight += len(item[1]) // wire.LARGE
    return weight
