"""fork MODE CONFIG_FILE: makes its transports, then forks as cotyledon and uWSGI do.

Two children serve `forked`, each forks a grandchild that serves it, too. One child cleans up what it never used. In the end the
parent uses the transport itself and forks while its threads do.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import oslo_messaging
import service

BUSY_FORKS = 5


def main() -> None:
    if service.MODE == "eventlet":
        service.eventlet.sleep(0)  # the hub has a descriptor, make it now
    before = resources()
    transport, notifications = service.rpc_transport(), service.notification_transport()
    client = service.client(transport, "forked")
    notifier = oslo_messaging.Notifier(notifications, "parent", driver="messagingv2", topics=["forked-notes"], retry=-1)
    endpoint = service.Endpoint("parent", client)
    oslo_messaging.get_rpc_server(
        transport, oslo_messaging.Target(topic="forked", server="never"), [endpoint], executor=service.EXECUTOR
    )
    service.say(before=before, after=resources())
    service.say(unused=wait(fork(transport.cleanup)))
    children = [fork(lambda name=name: child(name, transport, client, notifier)) for name in ("c1", "c2")]
    service.say(children=[wait(pid) for pid in children])
    busy(client)


def child(name: str, transport: Any, client: Any, notifier: Any, generations: int = 2) -> None:
    """Serve, and have a child that does the same with what we have used."""
    endpoint = service.Endpoint(name, client)
    running = service.serve(transport, "forked", endpoint)
    notifier.info({}, "event", name)
    grandchild = generations > 1 and fork(lambda: child(f"{name}.1", transport, client, notifier, generations - 1))
    service.say(serves=name, pid=os.getpid())
    endpoint.stopped.wait()
    running.stop()
    running.wait()
    transport.cleanup()
    if grandchild and wait(grandchild):
        sys.exit(1)


def busy(client: Any) -> None:
    """Fork while threads of this process are in the middle of calls: what they hold must not lock the children up."""
    enough = threading.Event()
    calls = []

    def call() -> None:
        while not enough.is_set():
            calls.append(client.prepare(server="outside").call({}, "who"))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    children = [fork(lambda: client.prepare(server="outside").call({}, "who")) for _ in range(BUSY_FORKS)]
    service.say(busy=[wait(pid) for pid in children])
    enough.set()
    for thread in threads:
        thread.join()
    service.say(calls=len(calls))


def fork(run: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    if service.MODE == "eventlet":
        service.eventlet.hubs.use_hub()  # as oslo.service does: a hub's descriptor must not be shared
    run()
    sys.exit(0)


def wait(pid: int) -> int:
    """The exit status of a child."""
    if service.MODE == "eventlet":
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            service.eventlet.sleep(0.02)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def resources() -> dict[str, list[str]]:
    """The threads and the open descriptors of this process."""
    return {"threads": sorted(os.listdir("/proc/self/task")), "descriptors": sorted(os.listdir("/proc/self/fd"))}


if __name__ == "__main__":
    main()
