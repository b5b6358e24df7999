"""Service: one process of a soak run, as small as a service can be. It listens or sends, and writes down what it did.

    service.py listen --config-file F --topic T --server S --record R       an RPC server
    service.py notice --config-file F --topic T --record R                  a notification listener
    service.py cast   --config-file F --topic T --record R --rate N --threads N
    service.py call   … --timeout S --work S
    service.py mix    …                                                     casts, fanouts and notifications in turn

SIGTERM ends it in peace: a listener as oslo.service does it (stop, wait, cleanup), a sender after its present message.
"""

import argparse
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_log import log as logging
from oslo_messaging._metrics import client as metrics
from oslo_messaging._tracing import client as tracing
from records import Record, What


class Endpoint:
    """Writes down each message at the moment its handler runs."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def note(self, _ctxt: dict[str, Any], name: str) -> None:
        self._record.write(What.GOT, name)

    def info(self, _ctxt: Any, _publisher: str, _event: str, name: str, _metadata: Any) -> None:
        self._record.write(What.GOT, name)

    def work(self, _ctxt: dict[str, Any], name: str, seconds: float) -> str:
        self._record.write(What.GOT, name)
        time.sleep(seconds)
        return name


def configuration(file: str) -> cfg.ConfigOpts:
    """As a service reads its own."""
    conf = cfg.ConfigOpts()
    logging.register_options(conf)
    conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
    conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
    conf(["--config-file", file], project="service")
    logging.setup(conf, "service")
    return conf


def listen(args: argparse.Namespace, record: Record, ended: threading.Event) -> None:
    """Serve until asked to end."""
    transport = oslo_messaging.get_rpc_transport(configuration(args.config_file), "zmq://")
    target = oslo_messaging.Target(topic=args.topic, server=args.server)
    server = oslo_messaging.get_rpc_server(transport, target, [Endpoint(record)], executor="threading")
    _serve(server, transport, record, ended)


def notice(args: argparse.Namespace, record: Record, ended: threading.Event) -> None:
    """Hear notifications until asked to end."""
    transport = oslo_messaging.get_notification_transport(configuration(args.config_file), "zmq://")
    target = oslo_messaging.Target(topic=args.topic)
    listener = oslo_messaging.get_notification_listener(transport, [target], [Endpoint(record)], executor="threading")
    _serve(listener, transport, record, ended)


def send(args: argparse.Namespace, record: Record, ended: threading.Event) -> None:
    """Send at a steady pace, from several threads; who fell behind hurries until it is back on time."""
    conf = configuration(args.config_file)
    transport = oslo_messaging.get_rpc_transport(conf, "zmq://")
    client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic=args.topic), timeout=args.timeout)
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(conf, "zmq://"), "soak", driver="messagingv2", topics=["notes"], retry=-1
    )
    ways: dict[str, list[Callable[[str], Any]]] = {
        "cast": [lambda name: client.cast({}, "note", name=name)],
        "call": [lambda name: client.call({}, "work", name=name, seconds=args.work)],
        "mix": [
            lambda name: client.cast({}, "note", name=name),
            lambda name: client.prepare(fanout=True).cast({}, "note", name=name),
            lambda name: notifier.info({}, "soak", name),
        ],
    }
    numbers = itertools.count(1)
    # Machines may have processes with the same number.
    sender = f"{socket.gethostname().partition('.')[0]}-{os.getpid()}"
    begun = time.monotonic()

    def one(number: int) -> None:
        name = f"{sender}.{number}"
        record.write(What.SENDING, name)
        try:
            answer = ways[args.role][number % len(ways[args.role])](name)
        except Exception as exc:  # every failure is an outcome, and the verdict counts it
            record.write(What.RAISED, name, type(exc).__name__)
        else:
            record.write(What.SENT if answer is None else What.REPLIED, name)

    def run() -> None:
        while not ended.is_set():
            number = next(numbers)
            while (pause := begun + number / args.rate - time.monotonic()) > 0:
                if ended.wait(pause):
                    return
            one(number)

    record.write(What.UP, os.getpid())
    threads = [threading.Thread(target=run) for _ in range(args.threads)]
    for thread in threads:
        thread.start()
    _wait(ended)
    for thread in threads:
        thread.join()
    transport.cleanup()


def _serve(server: Any, transport: Any, record: Record, ended: threading.Event) -> None:
    server.start()
    record.write(What.UP, os.getpid())
    _wait(ended)
    server.stop()
    server.wait()
    transport.cleanup()


def _wait(ended: threading.Event) -> None:
    """A signal's handler only runs when the main thread comes by."""
    while not ended.wait(0.5):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="One service of a soak run.")
    parser.add_argument("role", choices=["listen", "notice", "cast", "call", "mix"])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--server", default="")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second, of all threads")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--work", type=float, default=0.0, help="seconds that a handler takes for a call")
    args = parser.parse_args()
    record, ended = Record(args.record), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    {"listen": listen, "notice": notice}.get(args.role, send)(args, record, ended)
    record.write(What.DOWN, os.getpid())


if __name__ == "__main__":
    main()
