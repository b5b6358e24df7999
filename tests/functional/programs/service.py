"""What the programs of this folder share: each is a service as a process of its own, which tells a test what it sees.

    python <program>.py MODE CONFIG_FILE [ARGUMENT ...]

MODE is `eventlet` (patched before anything else is imported) or `native`; a program talks in JSON lines on its standard output.
"""

import json
import os
import sys
import threading
import time
from typing import Any

MODE, CONFIG_FILE = sys.argv[1:3]

if MODE == "eventlet":
    import eventlet

    eventlet.monkey_patch()
    write = eventlet.patcher.original("os").write
else:
    write = os.write

import oslo_messaging  # noqa: E402 - after the patching, as services do it
from oslo_config import cfg  # noqa: E402
from oslo_messaging._metrics import client as metrics  # noqa: E402
from oslo_messaging._tracing import client as tracing  # noqa: E402

EXECUTOR = "eventlet" if MODE == "eventlet" else "threading"


def say(**facts: Any) -> None:
    """One line in one write, for several processes may share the output; a patched one refuses two green writers."""
    write(1, json.dumps(facts).encode() + b"\n")


def configured() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
    conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
    conf(["--config-file", CONFIG_FILE], project="test")
    return conf


def rpc_transport() -> Any:
    return oslo_messaging.get_rpc_transport(configured(), "zmq://")


def notification_transport() -> Any:
    return oslo_messaging.get_notification_transport(configured(), "zmq://")


def client(transport: Any, topic: str, **settings: Any) -> Any:
    return oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic=topic), timeout=10, **settings)


class Endpoint:
    """`stopped` is set when somebody casts `stop`."""

    def __init__(self, name: str, own_client: Any = None) -> None:
        self.name = name
        self.client = own_client
        self.stopped = threading.Event()

    def who(self, _ctxt: Any) -> list[Any]:
        return [self.name, os.getpid()]

    def echo(self, _ctxt: Any, what: Any) -> Any:
        return what

    def note(self, _ctxt: Any, what: Any) -> None:
        say(noted=what, by=self.name)

    def fail(self, _ctxt: Any) -> None:
        raise ValueError("as asked")

    def slow(self, _ctxt: Any, seconds: float) -> str:
        time.sleep(seconds)
        return self.name

    def die(self, _ctxt: Any, after: float) -> None:
        say(dies=self.name)
        if after:
            time.sleep(after)
        os._exit(1)

    def relay(self, _ctxt: Any, servers: list[str]) -> list[str]:
        """Ask the first of `servers` to ask the others: the way that the call took."""
        if not servers:
            return [self.name]
        return [self.name, *self.client.prepare(server=servers[0]).call({}, "relay", servers=servers[1:])]

    def stop(self, _ctxt: Any) -> None:
        self.stopped.set()


def serve(transport: Any, topic: str, endpoint: Endpoint, server: str = "") -> Any:
    made = oslo_messaging.get_rpc_server(
        transport, oslo_messaging.Target(topic=topic, server=server or endpoint.name), [endpoint], executor=EXECUTOR
    )
    made.start()
    return made
