"""Worker: a service process of a benchmark. It reads one JSON command a line and answers each with one JSON line.

    python -m benchmarks.worker '{"url": "zmq://", "config_file": "/…/n2.conf"}'

`Serving` counts what it is given, `Asking` makes the load; over the null transport one process is both. Every message carries the
name of its measurement and a number, so that what came twice, or not at all, is found: see `Tally`. Moments are CLOCK_MONOTONIC,
which all processes of a machine share.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging._metrics import client as metrics
from oslo_messaging._tracing import client as tracing

from benchmarks.figures import FANOUTS, NOTES, PAYLOAD, SERVER, TOPIC, fanout_topic
from benchmarks.null_driver import NullDriver

_CALL_TIMEOUT = 30.0
_POOL = 64
_FANOUT_POOL = 8

Answers = dict[str, Any]


class Tally:
    """What one listener got of the present measurement. Any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin("")

    def begin(self, run: str) -> None:
        with self._lock:
            self._run, self._seen, self._doubled, self._last = run, set[str](), 0, 0.0

    def count(self, what: str) -> None:
        """`what` is `<run>:<number>:<padding>`; the late and the strange count as doubled."""
        name, number, _ = what.split(":", 2)
        now = time.monotonic()
        with self._lock:
            if name != self._run or number in self._seen:
                self._doubled += 1
            self._seen.add(number)
            self._last = now

    def answer(self) -> Answers:
        with self._lock:
            return {"got": len(self._seen), "doubled": self._doubled, "last": self._last}


class Endpoint:
    """What an RPC server offers."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def echo(self, _ctxt: dict[str, Any], what: str) -> str:
        return what

    def note(self, _ctxt: dict[str, Any], what: str) -> None:
        self._tally.count(what)


class NoteEndpoint:
    """What a notification listener does."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def info(self, _ctxt: dict[str, Any], _publisher: str, _event: str, payload: str, _metadata: dict[str, Any]) -> None:
        self._tally.count(payload)


class Bus:
    """oslo.messaging over the transport of this worker."""

    def __init__(self, url: str, config_file: str = "") -> None:
        self._url = url
        self.conf = cfg.ConfigOpts()
        self.conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
        self.conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
        self.conf(["--config-file", config_file] if config_file else [], project="benchmarks")
        self.rpc = self._transport(oslo_messaging.get_rpc_transport, oslo_messaging.transport.RPCTransport)
        self.notifications = self._transport(
            oslo_messaging.get_notification_transport, oslo_messaging.transport.NotificationTransport
        )

    def _transport(self, get: Callable[..., Any], kind: Callable[[Any], Any]) -> Any:
        if self._url.startswith("null:"):
            return kind(NullDriver(self.conf, oslo_messaging.TransportURL.parse(self.conf, self._url)))
        return get(self.conf, self._url)


class Serving:
    """The servers and listeners of this process."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._tallies: dict[str, list[Tally]] = {}
        self._servers: list[Any] = []

    def serve(self, what: str) -> Answers:
        """`rpc`: one RPC server. `listeners`: those of fanouts and notifications."""
        if what == "rpc":
            self._rpc(TOPIC, SERVER)
        else:
            for count in FANOUTS:
                for number in range(count):
                    self._rpc(fanout_topic(count), f"{SERVER}-{number}", _FANOUT_POOL)
            self._notifications()
        return {}

    def begin(self, topic: str, run: str) -> Answers:
        for tally in self._tallies[topic]:
            tally.begin(run)
        return {}

    def tally(self, topic: str) -> Answers:
        return {"tallies": [tally.answer() for tally in self._tallies[topic]]}

    def stop(self) -> None:
        for server in self._servers:
            server.stop()
        for server in self._servers:
            server.wait()

    def _rpc(self, topic: str, name: str, pool: int = _POOL) -> None:
        tally = self._new(topic)
        target = oslo_messaging.Target(topic=topic, server=name)
        self._start(oslo_messaging.get_rpc_server(self._bus.rpc, target, [Endpoint(tally)], executor="threading"), pool)

    def _notifications(self) -> None:
        endpoint = NoteEndpoint(self._new(NOTES))
        targets = [oslo_messaging.Target(topic=NOTES)]
        self._start(oslo_messaging.get_notification_listener(self._bus.notifications, targets, [endpoint], executor="threading"))

    def _new(self, topic: str) -> Tally:
        tally = Tally()
        self._tallies.setdefault(topic, []).append(tally)
        return tally

    def _start(self, server: Any, pool: int = _POOL) -> None:
        server.start(override_pool_size=pool)
        self._servers.append(server)


class Asking:
    """Load, from any number of threads for a number of seconds."""

    def __init__(self, bus: Bus) -> None:
        self._client = oslo_messaging.get_rpc_client(
            bus.rpc, oslo_messaging.Target(topic=TOPIC, server=SERVER), timeout=_CALL_TIMEOUT
        )
        self._notifier = oslo_messaging.Notifier(
            bus.notifications, publisher_id="benchmark", driver="messagingv2", topics=[NOTES], retry=-1
        )

    def calls(self, run: str, callers: int, seconds: float) -> Answers:
        """Every reply must be that of its call; a missing one raises."""

        def call(what: str) -> None:
            if self._client.call({}, "echo", what=what) != what:
                raise AssertionError(f"the reply to {what[:40]} is that of another call")

        return self._load(run, callers, seconds, call)

    def casts(self, run: str, callers: int, seconds: float) -> Answers:
        return self._load(run, callers, seconds, lambda what: self._client.cast({}, "note", what=what))

    def fanouts(self, run: str, callers: int, seconds: float, topic: str) -> Answers:
        client = self._client.prepare(topic=topic, server=None, fanout=True)
        return self._load(run, callers, seconds, lambda what: client.cast({}, "note", what=what))

    def notifications(self, run: str, callers: int, seconds: float) -> Answers:
        return self._load(run, callers, seconds, lambda what: self._notifier.info({}, "benchmark", what))

    def _load(self, run: str, callers: int, seconds: float, send: Callable[[str], object]) -> Answers:
        took: list[list[float]] = [[] for _ in range(callers)]
        troubles: list[str] = []
        gate = threading.Barrier(callers + 1)

        def work(caller: int) -> None:
            number = 0
            gate.wait()
            end = time.monotonic() + seconds
            try:
                while (begun := time.monotonic()) < end and not troubles:
                    send(f"{run}:{caller}-{number}:".ljust(PAYLOAD, "x"))
                    took[caller].append(time.monotonic() - begun)
                    number += 1
            except Exception as exc:
                troubles.append(f"{type(exc).__name__}: {exc}")

        threads = [threading.Thread(target=work, args=(caller,)) for caller in range(callers)]
        for thread in threads:
            thread.start()
        gate.wait()
        begun = time.monotonic()
        for thread in threads:
            thread.join()
        ended = time.monotonic()
        if troubles:
            raise RuntimeError(troubles[0])
        every = sorted(duration for durations in took for duration in durations)
        return {
            "sent": len(every),
            "begun": begun,
            "ended": ended,
            "p50": every[len(every) // 2],
            "p99": every[min(len(every) - 1, len(every) * 99 // 100)],
        }


def main() -> None:
    """Answer commands until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed goes to the log
    bus = Bus(**json.loads(sys.argv[1]))
    serving, asking = Serving(bus), Asking(bus)
    for line in sys.stdin:
        command = json.loads(line)
        verb = command.pop("do")
        try:
            answer = getattr(serving if hasattr(serving, verb) else asking, verb)(**command)
        except Exception as exc:
            answer = {"error": f"{verb}: {type(exc).__name__}: {exc}"}
        answers.write(json.dumps(answer) + "\n")
    serving.stop()
    bus.rpc.cleanup()
    bus.notifications.cleanup()


if __name__ == "__main__":
    main()
