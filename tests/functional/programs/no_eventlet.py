"""no_eventlet MODE CONFIG_FILE: a service with threads that forbids `import eventlet`, as nova does; uses all of the driver."""

import sys
import threading

from oslo_service import backend

sys.modules["eventlet"] = None  # type: ignore[assignment]
backend.init_backend(backend.BackendType.THREADING)

import oslo_messaging  # noqa: E402 - oslo.messaging asks oslo.service for its backend
import service  # noqa: E402


class Listener:
    def __init__(self) -> None:
        self.heard = threading.Event()

    def info(self, *_facts: object) -> None:
        self.heard.set()


def main() -> None:
    transport, notifications = service.rpc_transport(), service.notification_transport()
    client = service.client(transport, "threads", call_monitor_timeout=2)
    server = service.serve(transport, "threads", service.Endpoint("native", client))
    listener = Listener()
    listening = oslo_messaging.get_notification_listener(
        notifications, [oslo_messaging.Target(topic="threads-notes")], [listener], executor="threading"
    )
    listening.start()
    service.say(relay=client.call({}, "relay", servers=["native", "native"]))
    client.prepare(fanout=True).cast({}, "note", what="fanout")
    client.cast({}, "note", what="cast")
    notifier = oslo_messaging.Notifier(notifications, "threads", driver="messagingv2", topics=["threads-notes"], retry=-1)
    notifier.info({}, "event", 1)
    service.say(heard=listener.heard.wait(10))
    for running in (server, listening):
        running.stop()
        running.wait()
    transport.cleanup()
    service.say(eventlet=sorted(name for name in sys.modules if name.startswith("eventlet.")), again=sys.modules["eventlet"])


if __name__ == "__main__":
    main()
