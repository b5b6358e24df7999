"""Listener: what an oslo.messaging server polls, and the messages it gets.

A message counts as taken when the server acknowledges it, which for RPC is just before it runs. Until then it belongs to the
sender: should this process die, another consumer gets it.
"""

import time
from typing import TYPE_CHECKING, Any

from oslo_log import log as logging
from oslo_messaging._drivers import base

from openstack_zeromq.delivery.inbox import Begin
from openstack_zeromq.delivery.message import Message
from openstack_zeromq.driver import payload
from openstack_zeromq.driver.waiting import Mailbox
from openstack_zeromq.errors import MalformedError
from openstack_zeromq.wire import Answer, Kind

if TYPE_CHECKING:
    from openstack_zeromq.driver.connection import Connection
    from openstack_zeromq.driver.consuming import Consumer

LOG = logging.getLogger(__name__)


_REASON = 1000
_ONCE = (Kind.CALL, Kind.CAST)


class _Wake:
    """Put into the mailbox to end the waiting of `poll`: it looks whether to stop, and logs what was noted."""


_WAKE = _Wake()


class ZmqIncoming(base.RpcIncomingMessage):  # type: ignore[misc]
    """A call, cast, fanout or notification in a server's hands."""

    def __init__(self, connection: "Connection", consumer: "Consumer", message: Message, request: payload.Request):
        super().__init__(request.context, request.message, str(message.id))
        self.client_timeout = request.monitor
        self._connection = connection
        self._consumer = consumer
        self._header = message.header
        self._replied = message.header.kind is not Kind.CALL
        self._acknowledged = False

    def acknowledge(self) -> None:
        """:raises NotOursError: another consumer has it by now; oslo.messaging does not execute it then."""
        if self._acknowledged:
            return
        if self._header.kind in _ONCE:
            self._connection.begin(self._consumer, self._header)
        else:
            self._connection.answer(self._consumer, self._header, Answer.TAKEN)
        self._acknowledged = True

    def requeue(self) -> None:
        self._connection.answer(self._consumer, self._header, Answer.REQUEUED)

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        if self._replied:
            return
        self._replied = True
        self._connection.reply(self._header, self._packed(reply, failure), final=True)

    def heartbeat(self) -> None:
        """:raises RuntimeError: the reply was sent; oslo.messaging then stops calling this."""
        if self._replied:
            raise RuntimeError(f"call {self.msg_id} has its reply")
        self._connection.reply(self._header, b"", final=False)

    def _packed(self, reply: Any, failure: Any) -> bytes:
        """The reply's body. When it cannot be sent the reason takes its place: nobody shall wait for it in vain."""
        most = self._connection.settings.max_message_size
        try:
            body = payload.pack_failure(failure) if failure else payload.pack_result(reply)
            wrong = f"{len(body)} bytes are more than zmq_max_message_size = {most}" if len(body) > most else ""
        except Exception as exc:  # whatever reading the endpoint's objects raises
            wrong = f"{type(exc).__name__}: {exc}"
        if not wrong:
            return body
        LOG.error("the reply to call %s cannot be sent: %s", self.msg_id, wrong)
        return payload.pack_failure((ValueError, ValueError(f"the reply cannot be sent: {wrong}"[:_REASON]), None))


class ZmqListener(base.PollStyleListener):  # type: ignore[misc]
    """One server's or notification listener's consumers."""

    def __init__(self, connection: "Connection") -> None:
        super().__init__()
        self._connection = connection
        self._arrived: Mailbox[tuple[Consumer, Message] | _Wake] = Mailbox(connection.lead)
        self._stopped = False
        self._roused = False

    @property
    def stopped(self) -> bool:
        """Does this listener ask for no more?"""
        return self._stopped

    def put(self, consumer: "Consumer", message: Message) -> None:
        """A message for this listener; called by the connection's thread."""
        self._arrived.put((consumer, message))

    def rouse(self) -> None:
        """Have `poll` log what was noted; called by the connection's thread."""
        if not self._roused:
            self._roused = True
            self._arrived.put(_WAKE)

    def poll(self, timeout: float | None = None, batch_size: int = 1, batch_timeout: float | None = None) -> list[Any]:
        """As `PollStyleListener.poll` asks: up to `batch_size` messages; after `stop` what is left, then nothing."""
        batch: list[Any] = []
        deadline = None if timeout is None else time.monotonic() + timeout
        while len(batch) < batch_size:
            incoming = self._next(deadline)
            if incoming is None:
                break
            if not batch and batch_timeout is not None:
                full_by = time.monotonic() + batch_timeout
                deadline = full_by if deadline is None else min(deadline, full_by)
            batch.append(incoming)
        return batch

    def stop(self) -> None:
        """Ask for no more; `poll` drains what is here.

        The thread that polls may be the one that reads for all, and then only the connection wakes it. So what it is to find is
        there before that: else it would look in vain, and wait for the next ping."""
        self._stopped = True
        self._arrived.put(_WAKE)
        self._connection.drain(self)

    def cleanup(self) -> None:
        """Leave the channels; what was never polled goes back."""
        self._stopped = True
        self._connection.unlisten(self)

    def _next(self, deadline: float | None) -> ZmqIncoming | None:
        while True:
            self._roused = False
            self._connection.log_notes()
            seconds = 0.0 if self._stopped else None if deadline is None else deadline - time.monotonic()
            item = self._arrived.get(seconds)
            if item is None:
                return None
            if isinstance(item, _Wake):
                continue
            consumer, message = item
            if message.header.kind in _ONCE and consumer.inbox.may_begin(message.id) is Begin.NEVER:
                continue  # it was given to another consumer while this process stood still
            try:
                return ZmqIncoming(self._connection, consumer, message, payload.unpack_request(message.body))
            except MalformedError:
                LOG.error("message %s on %s has a body that is no request; dropped", message.id, consumer.channel)
                self._connection.answer(consumer, message.header, Answer.REJECTED)
