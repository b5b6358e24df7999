"""Null driver: an oslo.messaging transport that costs nothing, to show what oslo.messaging itself costs.

Client and server live in one process; a message is handed over in a queue, not even serialised. It keeps no promise but one:
what is sent is delivered once.
"""

import itertools
import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, ClassVar

import oslo_messaging
from oslo_messaging._drivers import base

_Key = tuple[str, str]


class _Incoming(base.RpcIncomingMessage):
    def __init__(self, ctxt: dict[str, Any], message: dict[str, Any], answer: "queue.SimpleQueue[Any] | None") -> None:
        super().__init__(ctxt, message)
        self.client_timeout = None
        self._answer = answer

    def acknowledge(self) -> None:
        """Nobody waits for it."""

    def requeue(self) -> None:
        raise RuntimeError("nothing is given back here")

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        if self._answer is not None:
            self._answer.put((reply, failure))

    def heartbeat(self) -> None:
        raise RuntimeError("nothing is monitored here")


class _Listener(base.PollStyleListener):
    def __init__(self, leave: Callable[["_Listener"], None]) -> None:
        super().__init__()
        self.inbox: queue.SimpleQueue[_Incoming | None] = queue.SimpleQueue()
        self._leave = leave
        self._stopped = False

    def poll(self, timeout: float | None = None, batch_size: int = 1, batch_timeout: float | None = None) -> list[_Incoming]:
        try:
            incoming = self.inbox.get(block=not self._stopped, timeout=timeout)
        except queue.Empty:
            return []
        return [] if incoming is None else [incoming]

    def stop(self) -> None:
        self._stopped = True
        self._leave(self)
        self.inbox.put(None)


class NullDriver(base.BaseDriver):
    """All instances of a process are one bus."""

    _lock = threading.Lock()
    _shared: ClassVar[defaultdict[_Key, list[_Listener]]] = defaultdict(list)
    _fanout: ClassVar[defaultdict[str, list[_Listener]]] = defaultdict(list)
    _turn = itertools.count()

    def require_features(self, requeue: bool = False) -> None:
        """Notifications that are given back are not measured."""

    def send(
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
        if target.fanout:
            for listener in self._fanout[target.topic]:
                listener.inbox.put(_Incoming(ctxt, message, None))
            return None
        listeners = self._shared[target.topic, target.server or ""]
        if not listeners:
            raise oslo_messaging.MessageDeliveryFailure(f"nobody listens to {target}")
        answer: queue.SimpleQueue[Any] | None = queue.SimpleQueue() if wait_for_reply else None
        listeners[next(self._turn) % len(listeners)].inbox.put(_Incoming(ctxt, message, answer))
        if answer is None:
            return None
        try:
            reply, failure = answer.get(timeout=timeout)
        except queue.Empty:
            raise oslo_messaging.MessagingTimeout(f"no reply from {target}") from None
        if failure:
            raise failure[1]
        return reply

    def send_notification(
        self,
        target: oslo_messaging.Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        version: float,
        retry: int | None = None,
    ) -> None:
        self.send(target, ctxt, message)

    def listen(self, target: oslo_messaging.Target, batch_size: int, batch_timeout: float | None) -> base.Listener:
        listener = _Listener(self._leave)
        with self._lock:
            for server in ("", target.server):
                self._shared[target.topic, server].append(listener)
            self._fanout[target.topic].append(listener)
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def listen_for_notifications(
        self,
        targets_and_priorities: list[tuple[oslo_messaging.Target, str]],
        pool: str | None,
        batch_size: int,
        batch_timeout: float | None,
    ) -> base.Listener:
        listener = _Listener(self._leave)
        with self._lock:
            for target, priority in targets_and_priorities:
                self._shared[f"{target.topic}.{priority}", ""].append(listener)
        return base.PollStyleListenerAdapter(listener, batch_size, batch_timeout)

    def cleanup(self) -> None:
        """Nothing was opened."""

    def _leave(self, listener: _Listener) -> None:
        with self._lock:
            for listeners in (*self._shared.values(), *self._fanout.values()):
                if listener in listeners:
                    listeners.remove(listener)
