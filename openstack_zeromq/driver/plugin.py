"""Plugin: the class that oslo.messaging loads for `zmq://`. It turns targets into channels and letters, and waits.

The constructor only reads options: transports are made before services fork. The rest happens at first use in each process.
"""

import os
import time
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log as logging
from oslo_messaging._drivers import base, common

from openstack_zeromq import options
from openstack_zeromq.address import Channel
from openstack_zeromq.driver import payload
from openstack_zeromq.driver.connection import JOIN_WITHIN, Connection, connect, release
from openstack_zeromq.driver.listener import ZmqListener
from openstack_zeromq.driver.sending import Letter
from openstack_zeromq.driver.waiting import Waiter
from openstack_zeromq.errors import ShortOfDescriptorsError, ZeroMQError
from openstack_zeromq.wire import Answer, Flag, Kind

LOG = logging.getLogger(__name__)

_RETRY_EVERY = 1.0
_ITS_TIME = 0.5
"""A call that expires so many seconds before its timeout has reached it: MessagingTimeout is on its way."""

_FOR_EVER_MS = 0xFFFFFFFF


class ZmqDriver(base.BaseDriver):  # type: ignore[misc]
    """A transport over the receiver of this node."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        url: oslo_messaging.TransportURL,
        default_exchange: str | None = None,
        allowed_remote_exmods: list[str] | None = None,
    ) -> None:
        options.register(conf)
        conf = common.ConfigOptsProxy(conf, url, options.GROUP)
        super().__init__(conf, url, default_exchange, allowed_remote_exmods)
        self._settings = options.settings(conf)
        self._connected: dict[int, tuple[Connection]] = {}  # by process, for services fork

    def require_features(self, requeue: bool = True) -> None:
        """Everything is supported."""

    def send(  # noqa: PLR0913, PLR0917 - oslo.messaging fixes the signature
        self,
        target: oslo_messaging.Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        wait_for_reply: bool | None = None,
        timeout: float | None = None,
        call_monitor_timeout: float | None = None,
        retry: int | None = None,
        transport_options: Any = None,
    ) -> Any:
        """See `BaseDriver.send`.

        :raises MessagingTimeout: no reply in time.
        :raises MessageDeliveryFailure: the receiver did not accept it within the retries, or refused it.
        :raises MessageUndeliverable: `at_least_once` was asked for, and nobody listens.
        """
        kind = Kind.CALL if wait_for_reply else Kind.FANOUT if target.fanout else Kind.CAST
        mandatory = bool(getattr(transport_options, "at_least_once", False)) and not target.fanout
        body = self._checked(payload.pack_request(ctxt, message, call_monitor_timeout), target)
        ttl = timeout if wait_for_reply and timeout else self._settings.message_ttl
        letter = Letter(
            kind,
            Flag.MANDATORY if mandatory else Flag.NONE,
            ttl,
            self._exchange(target),
            target.topic,
            target.server or "",
            body,
        )
        if not wait_for_reply:
            self._hand_over(letter, target, retry, self._settings.message_ttl)
            return None
        begun = time.monotonic()
        connection = self._connection_for(target, retry, timeout, call=True)
        left = None if timeout is None else timeout - (time.monotonic() - begun)
        waiter = Waiter(connection.lead, on_accepted=_limited(retry), for_reply=True, once=retry == 0)
        connection.send(letter, waiter)
        try:
            return self._await_reply(connection, waiter, retry, left, call_monitor_timeout, target)
        finally:
            if waiter.body is None:
                connection.give_up(waiter)

    def send_notification(
        self,
        target: oslo_messaging.Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        version: float,
        retry: int | None = None,
    ) -> None:
        """See `BaseDriver.send_notification`: returns once the receiver has it, whether or not anybody listens."""
        body = self._checked(payload.pack_request(ctxt, message), target)
        letter = Letter(
            Kind.NOTIFY, Flag.NONE, _FOR_EVER_MS / 1000, self._exchange(target), target.topic, target.server or "", body
        )
        self._hand_over(letter, target, retry, None)

    def listen(self, target: oslo_messaging.Target, batch_size: int, batch_timeout: float | None) -> base.Listener:
        """Consume the topic, the topic at this server, and the topic's fanout."""
        exchange = self._exchange(target)
        channels = [Channel.of_topic(exchange, target.topic), Channel.of_fanout(exchange, target.topic)]
        if target.server:
            channels.append(Channel.of_server(exchange, target.topic, target.server))
        return self._listener(channels, batch_size, batch_timeout)

    def listen_for_notifications(
        self,
        targets_and_priorities: list[tuple[oslo_messaging.Target, str]],
        pool: str | None,
        batch_size: int,
        batch_timeout: float | None,
    ) -> base.Listener:
        """Consume notification topics; with a `pool`, a copy of each message for the pool."""
        channels = []
        for target, priority in targets_and_priorities:
            topic, exchange = f"{target.topic}.{priority}", self._exchange(target)
            channels.append(Channel.of_pool(exchange, topic, pool) if pool else Channel.of_topic(exchange, topic))
        return self._listener(list(dict.fromkeys(channels)), batch_size, batch_timeout)

    def cleanup(self) -> None:
        """Flush and let go; harmless in a process that never used the transport."""
        connected = self._connected.pop(os.getpid(), None)
        if connected is not None:
            release(*connected)

    # private

    def _connection(self) -> Connection:
        connected = self._connected.get(os.getpid())
        if connected is None:
            mine = (connect(self._settings),)
            connected = self._connected.setdefault(os.getpid(), mine)
            if connected is not mine:  # another thread was first: this transport counts as one user
                release(*mine)
        return connected[0]

    def _connection_within(self, patience: float | None) -> Connection:
        """The connection of this process, tried again for `patience` seconds (None: for ever) while there are too few
        descriptors.

        :raises ShortOfDescriptorsError: there still are.
        """
        deadline = None if patience is None else time.monotonic() + patience
        warned = False
        while True:
            try:
                return self._connection()
            except ShortOfDescriptorsError as exc:
                left = _RETRY_EVERY if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise
                if not warned:
                    warned = True
                    LOG.warning("%s. It is tried again", exc)
                time.sleep(min(left, _RETRY_EVERY))

    def _connection_for(self, target: Any, retry: int | None, most: float | None, call: bool) -> Connection:
        """The same for a message to `target`, which fails as it does without a receiver."""
        patience = (retry or 0) * _RETRY_EVERY if _limited(retry) else most
        try:
            return self._connection_within(patience if most is None or patience is None else min(patience, most))
        except ShortOfDescriptorsError as exc:
            if call and not _limited(retry):
                raise oslo_messaging.MessagingTimeout(f"Timed out: a call to {target} cannot be sent: {exc}") from exc
            raise oslo_messaging.MessageDeliveryFailure(f"a message to {target} cannot be sent: {exc}") from exc

    def _exchange(self, target: oslo_messaging.Target) -> str:
        return target.exchange or self._default_exchange or ""

    def _checked(self, body: bytes, target: oslo_messaging.Target) -> bytes:
        if len(body) > self._settings.max_message_size:
            raise oslo_messaging.MessageDeliveryFailure(
                f"the message to {target} has {len(body)} bytes,"
                f" more than [{options.GROUP}] zmq_max_message_size = {self._settings.max_message_size}"
            )
        return body

    def _listener(self, channels: list[Channel], batch_size: int, batch_timeout: float | None) -> base.Listener:
        try:
            connection = self._connection_within(JOIN_WITHIN)
        except ZeroMQError as exc:
            LOG.error("cannot listen to %s: %s", ", ".join(map(str, channels)), exc)
            raise
        listener = ZmqListener(connection)
        waiters = connection.listen(listener, channels, batch_size)
        deadline = connection.join_by()
        late = [channel for channel, ready in zip(channels, waiters, strict=True) if not ready.wait(deadline - time.monotonic())]
        if late:
            LOG.warning("%s: %s", _start_later(late), connection.join_obstacle() or self._silent())
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def _hand_over(self, letter: Letter, target: Any, retry: int | None, most: float | None) -> None:
        """Send without a reply: wait until the receiver has accepted it; if it is mandatory, until somebody has taken it."""
        mandatory = bool(letter.flags & Flag.MANDATORY)
        connection = self._connection_for(target, retry, most, call=False)
        waiter = Waiter(connection.lead, on_accepted=not mandatory, on_taken=mandatory, once=retry == 0)
        patience = (retry or 0) * _RETRY_EVERY + _RETRY_EVERY if _limited(retry) else most
        connection.send(letter, waiter)
        if not waiter.wait(patience):
            connection.give_up(waiter)
            raise self._not_accepted(connection, waiter, target)
        self._raise_refused(connection, waiter, target)
        if waiter.answer is Answer.EXPIRED:
            raise self._given_up(connection, waiter, target)

    def _await_reply(  # noqa: PLR0913, PLR0917 - what oslo.messaging says of a call
        self,
        connection: Connection,
        waiter: Waiter,
        retry: int | None,
        timeout: float | None,
        monitor: float | None,
        target: Any,
    ) -> Any:
        """Wait for the reply; a call that is monitored fails when it shows no sign of life for `monitor` seconds."""
        begun = time.monotonic()
        end = None if timeout is None else begun + timeout
        accept_by = begun + (retry or 0) * _RETRY_EVERY + _RETRY_EVERY if _limited(retry) else None
        alive_until, signs = (begun + monitor if monitor else None), 0
        while waiter.body is None:
            self._raise_refused(connection, waiter, target)
            if waiter.answer is Answer.EXPIRED and (end is None or time.monotonic() < end - _ITS_TIME):
                raise self._given_up(connection, waiter, target)
            if waiter.signs != signs and monitor:
                signs, alive_until = waiter.signs, time.monotonic() + monitor
            limits = [end, alive_until, None if waiter.accepted else accept_by]
            deadline = min((limit for limit in limits if limit is not None), default=None)
            if waiter.wait(None if deadline is None else deadline - time.monotonic()) or waiter.body is not None:
                continue
            if deadline == accept_by and not waiter.accepted:
                raise self._not_accepted(connection, waiter, target)
            raise self._timed_out(connection, waiter, target)
        return payload.unpack_reply(waiter.body, self._allowed_remote_exmods)

    def _not_accepted(self, connection: Connection, waiter: Waiter, target: Any) -> Exception:
        """Return the error of a message that the receiver did not accept within the retries."""
        why = self._why(connection)
        if waiter.full:
            most, size = self._settings.topic_backlog, self._settings.backlog_size
            why = f"the queue for it is full ({most} messages or {size} bytes), because its consumers are slow or absent"
        failure: Exception = oslo_messaging.MessageDeliveryFailure(
            f"the receiver below {self._settings.ipc_dir} did not accept a message to {target}: {why}"
        )
        return failure

    def _given_up(self, connection: Connection, waiter: Waiter, target: Any) -> Exception:
        obstacle = connection.obstacle()
        failure: Exception = oslo_messaging.MessageDeliveryFailure(
            f"a message to {target} was given up: {waiter.reason}" + (f"; {obstacle}" if obstacle else "")
        )
        return failure

    def _timed_out(self, connection: Connection, waiter: Waiter, target: Any) -> Exception:
        """A call that never left says why: no server is to blame for it."""
        if waiter.id is None:
            text = f"Timed out: no receiver took the call to {target}: {self._why(connection)}"
        else:
            obstacle = connection.obstacle()
            text = f"Timed out waiting for a reply to message ID {waiter.id} ({target})" + (f"; {obstacle}" if obstacle else "")
        failure: Exception = oslo_messaging.MessagingTimeout(text)
        return failure

    def _why(self, connection: Connection) -> str:
        """Return why the receiver did not take something: what the kernel says of its socket, or that it is there and silent."""
        return connection.obstacle() or self._silent()

    def _silent(self) -> str:
        return f"it did not answer below {self._settings.ipc_dir} in time; is oslo-messaging-zmq-receiver running?"

    def _raise_refused(self, connection: Connection, waiter: Waiter, target: Any) -> None:
        if waiter.answer is Answer.NOROUTE:
            raise oslo_messaging.MessageUndeliverable(waiter.reason, target.exchange, target.topic, f"nobody listens to {target}")
        if waiter.answer is Answer.BUSY:
            raise self._not_accepted(connection, waiter, target)
        if waiter.answer is Answer.REJECTED:
            raise oslo_messaging.MessageDeliveryFailure(f"a message to {target} failed: {waiter.reason}")


def _start_later(channels: list[Channel]) -> str:
    names = ", ".join(map(str, channels))
    return f"this service listens to {names} as soon as the receiver is there"


def _limited(retry: int | None) -> bool:
    """oslo.messaging: None and negative numbers mean for ever, 0 one attempt, n that many more."""
    return retry is not None and retry >= 0
