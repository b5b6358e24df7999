"""green MODE CONFIG_FILE CHECK: one promise as an eventlet-patched service sees it. Its own server is `green`, and a native
process serves the same topic as `outside`."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import eventlet
import oslo_messaging
import service
from eventlet import event, patcher, tpool

TOPIC = "cinder-volume"


class Green:
    """A service with a client, a server and their transport."""

    def __init__(self) -> None:
        self.transport = service.rpc_transport()
        self.client = service.client(self.transport, TOPIC)
        self.endpoint = service.Endpoint("green", self.client)
        self.server = service.serve(self.transport, TOPIC, self.endpoint)
        self.to_itself = self.client.prepare(server="green")
        self.to_outside = self.client.prepare(server="outside")

    def big_bodies(self) -> object:
        body = "x" * 200_000
        return [client.call({}, "echo", what=body) == body for client in (self.to_itself, self.to_outside) for _ in range(5)]

    def ticks_during_a_call(self) -> object:
        """How often another green thread runs while this one waits 1.5 s for a reply."""
        ticks = []

        def tick() -> None:
            while True:
                ticks.append(time.monotonic())
                eventlet.sleep(0.05)

        ticker = eventlet.spawn(tick)
        self.to_outside.call({}, "slow", seconds=1.5)
        ticker.kill()
        return len(ticks)

    def calls_at_once(self) -> object:
        """Twenty green threads call; one after the other it would take ten seconds."""
        begun = time.monotonic()
        pool = eventlet.GreenPool(20)
        answers = list(pool.imap(lambda _: self.to_outside.call({}, "slow", seconds=0.5), range(20)))
        return [answers, time.monotonic() - begun]

    def a_remote_exception(self) -> object:
        try:
            self.to_outside.call({}, "fail")
        except ValueError as exc:
            return str(exc).partition("\n")[0]
        return None

    def a_timeout(self) -> object:
        begun = time.monotonic()
        try:
            self.client.prepare(topic="nobody", timeout=1).call({}, "who")
        except oslo_messaging.MessagingTimeout:
            return time.monotonic() - begun
        return None

    def nested_calls(self) -> object:
        pool = eventlet.GreenPool(10)
        way = ["outside", "green", "outside", "green"]
        return list(pool.imap(lambda _: self.to_itself.call({}, "relay", servers=way), range(10)))

    def casts_and_fanouts(self) -> object:
        for number in range(50):
            self.to_itself.cast({}, "note", what=number)
        self.client.prepare(fanout=True).cast({}, "note", what="to all")
        return None

    def a_monitored_call(self) -> object:
        return self.to_itself.prepare(call_monitor_timeout=2).call({}, "slow", seconds=3)

    def a_killed_caller(self) -> object:
        """Services kill green threads that wait; the transport must not mind."""
        waiting = eventlet.spawn(self.to_outside.call, {}, "slow", seconds=1)
        eventlet.sleep(0.2)
        waiting.kill()
        return self.to_outside.call({}, "echo", what="still here")

    def native_threads(self) -> object:
        """Calls out of threads that eventlet does not know, one after the other, and out of its thread pool."""
        answers = [tpool.execute(self.to_outside.call, {}, "echo", what=f"pool {number}") for number in range(3)]
        before = len(os.listdir("/proc/self/fd"))
        for number in range(8):
            done = []
            thread = patcher.original("threading").Thread(
                target=lambda number=number, done=done: done.append(self.to_outside.call({}, "echo", what=number)), daemon=True
            )
            thread.start()
            with eventlet.Timeout(10):
                while thread.is_alive():
                    eventlet.sleep(0.01)
            answers += done
        return [answers, len(os.listdir("/proc/self/fd")) - before]

    def notifications(self) -> object:
        transport = service.notification_transport()
        heard: list[Any] = []
        all_there = event.Event()

        class Listener:
            def info(self, _ctxt: Any, _publisher: str, _event: str, payload: Any, _metadata: Any) -> None:
                heard.append(payload)
                if len(heard) == 100:
                    all_there.send()

        notifier = oslo_messaging.Notifier(transport, "green", driver="messagingv2", topics=["green-notes"], retry=-1)
        for number in range(100):
            notifier.info({}, "event", number)
        listener = oslo_messaging.get_notification_listener(
            transport, [oslo_messaging.Target(topic="green-notes")], [Listener()], executor="eventlet"
        )
        listener.start()
        with eventlet.Timeout(10):
            all_there.wait()
        listener.stop()
        listener.wait()
        transport.cleanup()
        return sorted(heard)


def main() -> None:
    green = Green()
    check: Callable[[], object] = getattr(green, sys.argv[3])
    service.say(answer=check())
    if green.endpoint.client is not None:
        eventlet.sleep(0.5)  # what was cast to ourselves
    green.server.stop()
    green.server.wait()
    green.transport.cleanup()
    service.say(ended=True)


if __name__ == "__main__":
    main()
