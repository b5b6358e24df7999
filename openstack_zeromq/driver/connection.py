"""Connection: a process's one way to the receiver of its node, shared by all its transports.

Whoever leads (`lead`) reads what the receiver says and looks at the clock; `Sending` and `Consuming` are the two directions. What
is read is never logged at once, for locks may be eventlet's: what there is to say is left in `notes`. Made on first use in each
process, so services may fork as they like.
"""

import atexit
import errno
import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import zmq
from oslo_log import log as logging

from openstack_zeromq import address, sockets, wire
from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.inbox import Begin, Inbox, Verdict
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.driver.consuming import REMEMBER, Consumer, Consuming
from openstack_zeromq.driver.lead import Lead
from openstack_zeromq.driver.reachable import unreachable
from openstack_zeromq.driver.sending import ANSWERS_WITHIN, Letter, Sending
from openstack_zeromq.driver.waiting import Waiter, original
from openstack_zeromq.errors import MalformedError, NotOursError, ShortOfDescriptorsError
from openstack_zeromq.options import Settings
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Header, Kind

if TYPE_CHECKING:
    from openstack_zeromq.driver.listener import ZmqListener

LOG = logging.getLogger(__name__)

_PING_EVERY = 0.5
_SILENCE = 3.0
_TICK = 0.02
_BATCH = 256
_MESSAGE_FRAMES = 2
_NOTES = 1000
_FLUSH_WITHIN = 5.0
_LOOK_EVERY = 0.5

JOIN_WITHIN = 10.0
"""Seconds that a listener waits until the receiver knows it: a receiver that starts together with its services needs less."""


class Connection:
    """The thread and its sockets; use `connect` to get the one of this process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.users = 0
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._incarnation: int | None = None
        self._heard = time.monotonic()
        self._replied = Seen(settings.message_ttl + REMEMBER)
        self._replies = Inbox(self._replied)
        self._commands: deque[Callable[[], None]] = deque()
        self._told_settled = False
        self._signalled = False
        self._waking = original("_thread").allocate_lock()
        self._closing = False
        self._closed = False
        self._goodbye_to: int | None = None
        self._left = False
        self._socket_path = f"{settings.ipc_dir}/{address.RECEIVER_SOCKET}"
        self._warned = ""
        self._next_look = 0.0
        self._receiver_due: float | None = None
        self._os: Any = original("os")
        self._wakers: tuple[int, ...] = ()
        self._ctx = sockets.context()
        try:
            self._open()
        except BaseException as exc:
            self._abandon()
            if getattr(exc, "errno", None) in (errno.EMFILE, errno.ENFILE):
                raise ShortOfDescriptorsError(f"no file descriptor is left for the socket of {self._socket_path}: {exc}") from exc
            raise

    def _open(self) -> None:
        """Make the sockets, and start the thread."""
        settings, client = self.settings, secrets.randbits(63)
        self._routing_id = client.to_bytes(8, "big")
        self._wakers = self._wake_read, self._wake_write = self._os.pipe()
        self._os.set_blocking(self._wake_read, False)
        self._os.set_blocking(self._wake_write, False)
        self._sending = Sending(self._ctx, settings, client, self._notes)
        self._consuming = Consuming(self._ctx, settings, client, self._sending, self._notes)
        self._common = sockets.Dialer(sockets.router(self._ctx, settings.max_message_size))
        self._home = self._common.open(f"ipc://{self._socket_path}", self._routing_id)
        self._poller = zmq.Poller()
        for watched in (self._wake_read, self._common.socket, self._consuming.socket):
            self._poller.register(watched, zmq.POLLIN)
        self._next_ping = 0.0
        self.lead = Lead(self._read, self._wake)
        self._thread = original("threading").Thread(target=self._run, name="zmq-connection", daemon=True)
        self._thread.start()

    def _abandon(self) -> None:
        """Leave nothing open of a connection that could not be made."""
        self._ctx.destroy(linger=0)
        for descriptor in self._wakers:
            self._os.close(descriptor)

    # for other threads

    def send(self, letter: Letter, waiter: Waiter | None) -> None:
        """Send; `waiter` is told what it wants to know."""
        self.log_notes()
        self._warn_if_unreachable(LOG.warning)
        self._sending.send(letter, waiter)

    def obstacle(self) -> str:
        """Return why the receiver cannot be reached; empty when it is there, or can be reached and does not answer."""
        return "" if self._incarnation is not None else unreachable(self._socket_path)

    def join_obstacle(self) -> str:
        """Return why the receiver, or the sockets of its channels, cannot be reached; empty when they can."""
        return self.obstacle() or "; ".join(self._consuming.obstacles)

    def join_by(self) -> float:
        """Return until when a listener waits to be known. Without a receiver all listeners of this process share one wait."""
        if self._incarnation is not None:
            return time.monotonic() + JOIN_WITHIN
        if self._receiver_due is None:
            self._receiver_due = time.monotonic() + JOIN_WITHIN
        return self._receiver_due

    def give_up(self, waiter: Waiter) -> None:
        """Nobody waits for this outcome any more."""
        self._sending.give_up(waiter)

    def reply(self, call: Header, body: bytes, final: bool) -> None:
        """Send the reply to `call`, or (not final) a sign of life."""
        flags = Flag.NONE if final else Flag.PROGRESS
        ttl = self.settings.message_ttl
        self._sending.send(Letter(Kind.REPLY, flags, ttl, "", "", call.source, body, call.client, call.id), None)

    def begin(self, consumer: Consumer, header: Header) -> None:
        """The server begins with a call or cast now. When it may be another's, wait until the receiver has said whose it is.

        :raises NotOursError: it is another's, or nobody can say while the listener stops.
        """
        begun = time.monotonic()
        while True:
            waiter = Waiter(self.lead)
            begin = self._consuming.begin(consumer, header, waiter, time.monotonic())
            if begin is Begin.NOW:
                return
            if begin is Begin.NEVER:
                raise NotOursError(
                    f"message {header.id} was given to another consumer while this process stood still; not executed here"
                )
            waiter.wait(_LOOK_EVERY)
            late = consumer.listener.stopped and time.monotonic() - begun > _SILENCE
            if late or self._closing or not self._consuming.still_here(consumer):
                self._consuming.let_go(consumer, header)
                raise NotOursError(f"message {header.id} is left to others: its listener stops; not executed here")

    def answer(self, consumer: Consumer, header: Header, answer: Answer) -> None:
        """The server took a message, or gives it back."""
        self._consuming.answer(consumer, header, answer, time.monotonic())

    def listen(self, listener: "ZmqListener", channels: list[Channel], batch_size: int) -> list[Waiter]:
        """Consume `channels`; each waiter is woken once the receiver knows the consumer."""
        self._warn_if_unreachable(LOG.warning)
        consumers = [self._consuming.new(channel, listener, batch_size, self.lead) for channel in channels]
        self._command(lambda: self._ask(self._consuming.listen(consumers)))
        return [consumer.ready for consumer in consumers]

    def drain(self, listener: "ZmqListener") -> None:
        """Get nothing more for `listener`, but go on answering for what it has."""
        self._command(lambda: self._consuming.leave(listener, drain=True))

    def unlisten(self, listener: "ZmqListener") -> None:
        """Leave the channels of `listener`."""
        self._command(lambda: self._consuming.leave(listener, drain=False))

    def log_notes(self) -> None:
        """Log what the connection's thread had to say; called by threads that may log."""
        while self._notes:
            LOG.warning(self._notes.popleft())

    def close(self) -> None:
        """Wait until the receiver has accepted what was sent (5 s at most), say goodbye, end the thread."""
        if self._closing:
            return
        self._closing = True
        self.lead.retire()
        self._thread.join(_FLUSH_WITHIN + 1)
        with self._waking:
            self._closed = True
            os.close(self._wake_write)
            os.close(self._wake_read)
        self.log_notes()

    # the thread

    def _run(self) -> None:
        """Lead while nobody else does; in the end flush, and end."""
        while not self._closing:
            try:
                self.lead.stand_by()
            except Exception as exc:  # without this thread the service would fall silent, and be given up
                self._notes.append(f"unexpected: {type(exc).__name__}: {exc}; please report it")
                original("time").sleep(_TICK)
        until = time.monotonic() + _FLUSH_WITHIN
        while not self._gone() and time.monotonic() < until:
            self.lead.stand_by()
        self.lead.conclude()
        self._sending.close()
        self._ctx.destroy(linger=200)

    def _read(self, seconds: float) -> None:
        """See to what is due, wait for something to come, `seconds` at most, and see to that."""
        now = time.monotonic()
        if now >= self._next_ping:
            self._next_ping = now + _PING_EVERY
            self._look_after(now)
        if self._sending.busy:
            self._sending.tick(now)
        if self._sending.answers_due is not None and now >= self._sending.answers_due:
            self._sending.flush_answers()
        ready = dict(self._poller.poll(int(min(seconds, self._pause(self._next_ping - now)) * 1000) + 1))
        if ready:
            self._take_in(ready, time.monotonic())

    def _pause(self, until_ping: float) -> float:
        """How long there is nothing to do unless somebody says something."""
        if self._sending.answers_due is not None or self._consuming.in_hand:
            return ANSWERS_WITHIN
        return _TICK if self._sending.busy or self._closing else max(0.0, until_ping)

    def _look_after(self, now: float) -> None:
        """Twice a second: show that we live, notice whether the receiver does."""
        self._ping()
        self._sending.tick(now)
        self._consuming.tick(now)
        self._replied.tick(now)
        if self._incarnation is not None and now - self._heard > _SILENCE:
            self._incarnation = None
            self._sending.receiver_lost()
        self._warn_if_unreachable(self._notes.append)
        if self._notes:
            self._consuming.rouse()

    def _warn_if_unreachable(self, warn: Callable[[str], None]) -> None:
        """Say once why the receiver cannot be reached, and again when the reason changes."""
        now = time.monotonic()
        if self._incarnation is not None or now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        obstacle = self.obstacle()
        if obstacle and obstacle != self._warned:
            self._warned = obstacle
            warn(f"{obstacle}. Messages and listeners of this process wait until it can be reached")

    def _ping(self) -> None:
        """Pings may reach a later receiver than they were meant for: so they name the one that knows all consumers."""
        self._told_settled = self._incarnation is not None and self._consuming.settled
        settled = self._incarnation if self._told_settled else None
        self._to_receiver(wire.encode_control(Kind.PING, pid=os.getpid(), settled=settled))

    def _take_in(self, ready: dict[object, int], now: float) -> None:
        for source, read in ((self._consuming.socket, self._consuming.arrived), (self._common.socket, self._from_receiver)):
            if source not in ready:
                continue
            for frames in sockets.drain(source, _BATCH):
                try:
                    read(frames, now)
                except MalformedError as exc:
                    self._notes.append(f"the receiver sent something malformed ({exc.reason}); dropped")
        if not self._told_settled and self._incarnation is not None and self._consuming.settled:
            self._ping()
        if self._wake_read in ready:
            self._os.read(self._wake_read, 4096)
            self._signalled = False  # only now: who comes later writes again, who came before is in the queue
            while self._commands:
                self._commands.popleft()()

    def _from_receiver(self, frames: list[bytes], now: float) -> None:
        for item in wire.unbundle(frames[1:]):
            kind = wire.kind_of(item[0])
            if kind is Kind.REPLY and len(item) == _MESSAGE_FRAMES:
                self._reply_arrived(Message.read(item[0], item[1], now), now)
            elif kind is Kind.ANSWERS:
                self._sending.answered(wire.decode_answers(item[0]), now)
            elif kind is Kind.PONG:
                self._pong(wire.decode_control(item[0]), now)
            elif kind is Kind.LISTENING:
                self._consuming.listening(wire.decode_control(item[0]))
            elif kind is Kind.LEFT:
                self._left = True
            else:
                raise MalformedError("kind")

    def _reply_arrived(self, message: Message, now: float) -> None:
        header = message.header
        if not self._sending.may_reply(header):
            self._sending.answer(self._routing_id, AnswerEntry(header.id, Answer.REJECTED, "not its call"))
            return
        self._sending.answer(self._routing_id, AnswerEntry(header.id, Answer.TAKEN))
        if self._replies.arrive(header, now) is Verdict.NEW:
            self._replies.take(header.id, now)
            self._sending.replied(header, message.body)

    def _pong(self, facts: dict[str, object], now: float) -> None:
        incarnation, node = facts.get("incarnation"), facts.get("node")
        if not isinstance(incarnation, int) or not isinstance(node, str):
            raise MalformedError("control")
        self._heard = now
        if incarnation == self._goodbye_to:
            return  # said before our goodbye: this receiver has put the journal away, and nothing is to be opened anew
        given_up = self._consuming.open_journal()
        if given_up or incarnation != self._incarnation:
            self._incarnation, self._told_settled = incarnation, False
            self._goodbye_to = None
            self._warned, self._receiver_due = "", None
            for report in self._consuming.reports():
                self._to_receiver(*report)
            self._ask(self._consuming.ask_again())
            self._sending.receiver(node, incarnation, now)

    def _ask(self, frames: list[bytes]) -> None:
        """Ask for channels; without a receiver this is done when one comes."""
        if self._incarnation is not None:
            for frame in frames:
                self._to_receiver(frame)

    def _to_receiver(self, *frames: bytes) -> None:
        sockets.send(self._common.socket, [self._home, *frames])

    def _gone(self) -> bool:
        """Has the receiver accepted everything, and heard all our answers? When there is none, nobody waits for it in vain."""
        if self._commands or not self._sending.flushed:
            return False
        if self._incarnation is None:
            return not self._consuming.remembers
        if self._goodbye_to != self._incarnation:
            self._goodbye_to = self._incarnation
            self._sending.say_goodbye()
        return self._left

    def _command(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self._wake()

    def _wake(self) -> None:
        """Have the thread look; a listener may outlive the connection, and has nothing to say then."""
        with self._waking:
            if not self._signalled and not self._closed:
                self._signalled = True
                self._os.write(self._wake_write, b"w")


class _Registry:
    """The connections of this process; a forked child starts with none. At exit each says goodbye, for hardly any service
    cleans up its transports."""

    def __init__(self) -> None:
        self.clear()
        os.register_at_fork(after_in_child=self.clear)
        atexit.register(self.close)

    def close(self) -> None:
        for connection in list(self.connections.values()):
            connection.close()

    def clear(self) -> None:
        self.lock = original("_thread").allocate_lock()
        self.connections: dict[str, Connection] = {}


_REGISTRY = _Registry()


def connect(settings: Settings) -> Connection:
    """The connection of this process to the receiver of `settings.ipc_dir`, made if there is none; see `release`.

    :raises ShortOfDescriptorsError: it cannot be made.
    """
    with _REGISTRY.lock:
        found = _REGISTRY.connections.get(settings.ipc_dir)
        if found is None:
            found = _REGISTRY.connections[settings.ipc_dir] = Connection(settings)
        found.users += 1
        return found


def release(connection: Connection) -> None:
    """One user less; the last one closes it."""
    with _REGISTRY.lock:
        connection.users -= 1
        if connection.users:
            return
        _REGISTRY.connections.pop(connection.settings.ipc_dir, None)
    connection.close()
