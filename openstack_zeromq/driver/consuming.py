"""Consuming: the way into a service process. Each listener has a consumer on every channel it listens to.

The connection's thread reads the channels' sockets and hands messages to listeners; the answers go out from whatever thread
gives them, through `Sending`. What was taken through a channel is remembered, also when the listener has left, so that no
receiver, old or new, can make it run twice.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openstack_zeromq import journal, sockets, wire
from openstack_zeromq.address import Channel, Role
from openstack_zeromq.delivery.inbox import Begin, Inbox, Keeps, Verdict
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.delivery.seen import Seen
from openstack_zeromq.driver.reachable import unreachable
from openstack_zeromq.driver.sending import Sending
from openstack_zeromq.driver.waiting import Waiter, Waits, original
from openstack_zeromq.errors import MalformedError
from openstack_zeromq.journal import Journal
from openstack_zeromq.options import Settings
from openstack_zeromq.wire import Answer, AnswerEntry, Header, Kind, MessageId

if TYPE_CHECKING:
    from openstack_zeromq.driver.listener import ZmqListener

REMEMBER = 600.0
"""Seconds beyond a message's life for which it is remembered that it was taken."""

_MESSAGE_FRAMES = 2


@dataclass(slots=True, eq=False)
class Consumer:
    """One channel that one listener consumes. `name` is its connection to the channel's socket, once there is one, `path` where
    that socket is, and `routing_id` what the receiver calls it; `taken`: what it took, or, in a channel that is shared, what any
    consumer of this process took; `ready` is woken when the receiver knows it, and `joined` says so; `named`: what each JOIN
    that is not answered said that it holds."""

    channel: Channel
    listener: "ZmqListener"
    credit: int
    inbox: Inbox
    taken: Seen
    ready: Waiter
    name: bytes | None = None
    routing_id: bytes = b""
    path: str = ""
    joined: bool = False
    named: dict[int, list[MessageId]] = field(default_factory=dict)


class Consuming:
    """Used by the connection's thread, but for `new` and `answer`, which any thread may call."""

    def __init__(self, ctx: sockets.ZmqContext, settings: Settings, client: int, sending: Sending, notes: "deque[str]") -> None:
        self._settings = settings
        self._client = client
        self._sending = sending
        self._notes = notes
        self._inboxes = original("_thread").allocate_lock()
        self._dialer = sockets.Dialer(sockets.router(ctx, settings.max_message_size))
        self._journal: Journal | None = None
        self._without_journal = False
        self._remember = settings.message_ttl + REMEMBER
        self._taken: dict[Channel, Seen] = {}
        self._consumers: list[Consumer] = []
        self._by_name: dict[bytes, Consumer] = {}
        self._routing_ids: dict[bytes, bytes] = {}
        self._obstacles: dict[str, str] = {}
        self._joins = 0
        self._doubting: list[Waiter] = []

    @property
    def socket(self) -> sockets.ZmqSocket:
        return self._dialer.socket

    @property
    def settled(self) -> bool:
        """Does the receiver know all consumers?"""
        return all(consumer.joined for consumer in self._consumers)

    @property
    def in_hand(self) -> bool:
        """Does any consumer have a message that it has not answered for?"""
        return any(consumer.inbox.holding_any for consumer in self._consumers)

    @property
    def remembers(self) -> bool:
        """Is there anything that a new receiver should be told?"""
        return any(len(taken) for taken in self._taken.values())

    @property
    def obstacles(self) -> list[str]:
        """Why sockets of channels could not be reached that the receiver has made for consumers of this process."""
        return [self._obstacles[consumer.path] for consumer in list(self._consumers) if consumer.path in self._obstacles]

    # from any thread

    def new(self, channel: Channel, listener: "ZmqListener", batch_size: int, waits: Waits) -> Consumer:
        """A consumer that is not yet known to the receiver; see `listen`. Its credit is enough for a whole batch."""
        credit = max(self._settings.consumer_credit, batch_size)
        taken = Seen(self._remember)
        with self._inboxes:
            if channel.role is not Role.FANOUT:
                taken = self._taken.setdefault(channel, taken)
            consumer = Consumer(channel, listener, credit, Inbox(taken, channel.role is Role.FANOUT), taken, Waiter(waits))
            self._consumers.append(consumer)
        return consumer

    def answer(self, consumer: Consumer, header: Header, answer: Answer, now: float) -> None:
        """The server took a message, or gives it back."""
        with self._inboxes:
            if answer is Answer.REQUEUED:
                consumer.inbox.give_back(header.id)
            else:
                consumer.inbox.take(header.id, now)
        self._sending.answer(consumer.routing_id, AnswerEntry(header.id, answer))

    def begin(self, consumer: Consumer, header: Header, waiter: Waiter, now: float) -> Begin:
        """The server is about to execute a call or cast. It must not run elsewhere if this process dies of it: that is noted in
        the journal, or, without one, said at once. Nor may it begin when it may be another's; `waiter` is woken when that is
        decided."""
        with self._inboxes:
            begin = consumer.inbox.may_begin(header.id)
            if begin is Begin.NOW and self._journal is not None and not self._noted(self._journal, header.id):
                begin = Begin.IN_DOUBT
            if begin is Begin.IN_DOUBT:
                self._doubting.append(waiter)
            if begin is not Begin.NOW:
                return begin
            consumer.inbox.take(header.id, now)
            journal_kept = self._journal is not None
        self._sending.answer(consumer.routing_id, AnswerEntry(header.id, Answer.TAKEN), at_once=not journal_kept)
        return begin

    def let_go(self, consumer: Consumer, header: Header) -> None:
        """Hold a message in doubt no longer. The receiver is not told: such an answer might reach it after it has given the same
        message to this consumer again. It learns it when the consumer joins, or leaves."""
        with self._inboxes:
            consumer.inbox.give_back(header.id)

    def still_here(self, consumer: Consumer) -> bool:
        """Has the listener of `consumer` not left its channels?"""
        return consumer in self._consumers

    # from the connection's thread

    def open_journal(self) -> bool:
        """Our receiver is there, and has made our journal; look whether it is the one that we write into. Return whether the
        receiver had given up this service meanwhile: then it knows none of the consumers, and what they hold is in doubt."""
        if self._journal is not None and self._journal.read_by_others:
            return False
        file = journal.path(self._settings.ipc_dir, self._client)
        with self._inboxes:
            given_up = self._journal is not None and self._journal.sealed
            if given_up:
                self._doubt()
            try:
                self._journal = Journal(file)
            except OSError as exc:
                self._journal = None
                if not self._without_journal:
                    self._notes.append(f"{file} cannot be written ({exc.strerror}): acknowledging takes longer")
                self._without_journal = True
        return given_up

    def listen(self, consumers: list[Consumer]) -> list[bytes]:
        """Begin to consume; the control frames that ask the receiver for the channels."""
        return [_ask(consumer.channel) for consumer in consumers]

    def ask_again(self) -> list[bytes]:
        """The same for every consumer there is: a new receiver knows none of them."""
        for consumer in self._consumers:
            consumer.joined = False
        return [_ask(consumer.channel) for consumer in self._consumers]

    def reports(self) -> list[tuple[bytes, bytes, bytes]]:
        """What was taken and may be sent again by somebody who never heard of it: for a new receiver, which has to know before it
        hands out anything."""
        with self._inboxes:
            ids = [(channel, b"", taken.remembered()) for channel, taken in self._taken.items()]
            ids += [
                (consumer.channel, consumer.routing_id, consumer.taken.remembered())
                for consumer in self._consumers
                if consumer.channel.role is Role.FANOUT
            ]
        return [
            (wire.encode_control(Kind.REPORT, **_facts(channel)), consumer, wire.encode_ids(taken))
            for channel, consumer, taken in ids
            if taken
        ]

    def listening(self, facts: dict[str, object]) -> None:
        """The receiver has bound a channel's socket: connect its consumers that are not there yet, and join."""
        error, path = facts.get("error"), facts.get("path")
        try:
            channel = Channel(Role(str(facts["role"])), *(str(facts[key]) for key in ("exchange", "topic", "name")))
        except (KeyError, ValueError):
            raise MalformedError("control") from None
        if error or not isinstance(path, str):
            self._notes.append(f"channel {channel} cannot be listened to: {error}")
            return
        for consumer in [consumer for consumer in self._consumers if consumer.channel == channel and not consumer.joined]:
            consumer.path = path
            name = consumer.name or self._connect(consumer, f"ipc://{path}")
            self._join(consumer, name)

    def leave(self, listener: "ZmqListener", drain: bool) -> None:
        """Stop consuming; `drain`: get nothing more, but go on answering for what is here."""
        for consumer in [consumer for consumer in self._consumers if consumer.listener is listener]:
            if not drain:
                with self._inboxes:
                    consumer.inbox.doubt()
            if consumer.name is not None:
                self._sending.control(consumer.routing_id, wire.encode_control(Kind.LEAVE, drain=drain))
            if not drain:
                self._consumers.remove(consumer)
                self._decided()
                if consumer.name is not None:
                    del self._by_name[consumer.name]
                    self._dialer.close(consumer.name)

    def rouse(self) -> None:
        """Have a listener log what the connection's thread has noted: its thread may wait for messages for hours."""
        if self._consumers:
            self._consumers[0].listener.rouse()

    def arrived(self, frames: list[bytes], now: float) -> None:
        """Something came from a channel's socket.

        :raises MalformedError: the receiver sent what it should not.
        """
        consumer = self._by_name.get(frames[0])
        if consumer is None:
            return  # its listener has left; the receiver gives the message to another one
        for item in wire.unbundle(frames[1:]):
            if len(item) == _MESSAGE_FRAMES:
                self._message(consumer, item, now)
            else:
                self._joined(consumer, item)

    def tick(self, now: float) -> None:
        """Forget what cannot come again."""
        self._look_at_sockets()
        with self._inboxes:
            for taken in (*self._taken.values(), *(consumer.taken for consumer in self._consumers)):
                taken.tick(now)
            used = {consumer.channel for consumer in self._consumers}
            for channel in [channel for channel, taken in self._taken.items() if taken.empty and channel not in used]:
                del self._taken[channel]

    # private

    def _look_at_sockets(self) -> None:
        """Say once of each channel's socket that it cannot be reached, and why."""
        for consumer in self._consumers:
            if consumer.joined or not consumer.path:
                self._obstacles.pop(consumer.path, None)
            elif consumer.path not in self._obstacles and (obstacle := unreachable(consumer.path)):
                self._obstacles[consumer.path] = obstacle
                self._notes.append(f"{obstacle}. Until then nothing is consumed there")

    def _message(self, consumer: Consumer, frames: list[bytes], now: float) -> None:
        message = Message.read(frames[0], frames[1], now)
        if not _meant_for(message.header, consumer.channel):
            self._sending.answer(consumer.routing_id, AnswerEntry(message.id, Answer.REJECTED, "not this consumer's target"))
            raise MalformedError("target")
        with self._inboxes:
            verdict = consumer.inbox.arrive(message.header, now, in_doubt=not consumer.joined)
        if verdict is Verdict.NEW:
            consumer.listener.put(consumer, message)
        elif verdict is Verdict.TAKEN:
            self._sending.answer(consumer.routing_id, AnswerEntry(message.id, Answer.TAKEN))

    def _noted(self, notes: Journal, message_id: MessageId) -> bool:
        """Note in the journal that a message is begun; False: the receiver had sealed it, perhaps before it read this. Then
        everything is in doubt."""
        if not notes.sealed:
            notes.note(message_id)
            if not notes.sealed:
                return True
        self._doubt()
        return False

    def _doubt(self) -> None:
        for consumer in self._consumers:
            consumer.inbox.doubt()

    def _decided(self) -> None:
        """Wake those that wait for a decision on a message in doubt."""
        doubting, self._doubting = self._doubting, []
        for waiter in doubting:
            waiter.wake()

    def _joined(self, consumer: Consumer, frames: list[bytes]) -> None:
        """The receiver knows a consumer, and says which calls and casts are still its own; one of an earlier version says
        nothing."""
        if len(frames) != 1 or wire.kind_of(frames[0]) is not Kind.JOINED:
            raise MalformedError("frames")
        facts = wire.decode_control(frames[0])
        serial, keeps, begun = facts.get("serial"), facts.get("keeps", Keeps.ALL.value), facts.get("begun", "")
        if not isinstance(serial, int | None) or not isinstance(begun, str):
            raise MalformedError("control")
        with self._inboxes:
            named = [] if serial is None else consumer.named.pop(serial, [])
            if keeps == Keeps.ALL.value:
                consumer.inbox.settle(None)
            else:
                kept = named if keeps == Keeps.NAMED.value else []
                consumer.inbox.settle({*kept, *_ids(begun)}, named)
            consumer.joined = not any(later > (serial or 0) for later in consumer.named)
        self._decided()
        if consumer.joined:
            consumer.named.clear()
            consumer.ready.wake()

    def _connect(self, consumer: Consumer, endpoint: str) -> bytes:
        """A connection to the channel's socket; its routing id begins with the client's, so the receiver knows whose it is."""
        name = self._dialer.spare(endpoint)
        if name is None:
            routing_id = self._client.to_bytes(8, "big") + (len(self._routing_ids) + 1).to_bytes(4, "big")
            name = self._dialer.open(endpoint, routing_id)
            self._routing_ids[name] = routing_id
        consumer.name, consumer.routing_id = name, self._routing_ids[name]
        self._by_name[name] = consumer
        return name

    def _join(self, consumer: Consumer, name: bytes) -> None:
        with self._inboxes:
            holding = consumer.inbox.holding
            self._joins += 1
            consumer.named[self._joins] = holding
        facts = _facts(consumer.channel)
        frame = wire.encode_control(Kind.JOIN, **facts, credit=max(0, consumer.credit - len(holding)), serial=self._joins)
        sockets.send(self._dialer.socket, [name, frame, wire.encode_ids(holding)])


def _ids(text: str) -> list[MessageId]:
    try:
        return wire.decode_ids(bytes.fromhex(text))
    except ValueError:
        raise MalformedError("control") from None


def _facts(channel: Channel) -> dict[str, str]:
    role, exchange, topic, name = channel
    return {"role": role.value, "exchange": exchange, "topic": topic, "name": name}


def _ask(channel: Channel) -> bytes:
    return wire.encode_control(Kind.LISTEN, **_facts(channel))


def _meant_for(header: Header, channel: Channel) -> bool:
    """Does the target in the header agree with the channel it came through?"""
    if channel[1:3] != (header.exchange, header.topic):
        return False
    if channel.role in (Role.SERVER, Role.POOL):
        return header.server == channel.name
    return (header.kind is Kind.FANOUT) == (channel.role is Role.FANOUT)
