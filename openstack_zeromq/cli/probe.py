"""The probe: a small real oslo.messaging service on each node, and the check that uses it.

`probe serve` answers calls, counts what it was sent, and listens to notifications. `probe run` sends from this
node to every peer: directed calls, a bare call, a fanout, a notification, and asks the peers what arrived.
Only the public API of oslo.messaging is used, so what is proved here holds for any OpenStack service.
"""

import json
import signal
import statistics
import sys
import threading
import time
import uuid
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import click
from oslo_config import cfg
from oslo_log import log
from rich.console import Console

from openstack_zeromq import options, systemd
from openstack_zeromq.cli import matrix
from openstack_zeromq.cli.report import Outcome, Report
from openstack_zeromq.cli.settings import config_file, default_files
from openstack_zeromq.errors import ConfigError

with warnings.catch_warnings():
    # oslo.service, on import, whatever backend is used then; the probe runs on native threads.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import oslo_messaging

TRANSPORT_URL = "zmq://"
EXCHANGE = "openstack-zeromq"
TOPIC = "zmq-probe"
NOTIFICATION_TOPIC = "zmq-probe-notifications"

REMEMBERED = 10_000
POLL_INTERVAL = 0.05

LOG = log.getLogger(__name__)


class Memory:
    """How often each nonce arrived, and as what; the oldest of more than `REMEMBERED` are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, Counter[str]] = OrderedDict()

    def remember(self, nonce: str, kind: str) -> None:
        with self._lock:
            self._counts.setdefault(nonce, Counter())[kind] += 1
            while len(self._counts) > REMEMBERED:
                self._counts.popitem(last=False)

    def recall(self, nonce: str) -> dict[str, int]:
        """Kind (`message` or `notification`) -> how often."""
        with self._lock:
            return dict(self._counts.get(nonce, {}))


class Calls:
    """The RPC endpoint."""

    def __init__(self, host: str, memory: Memory) -> None:
        self._host = host
        self._memory = memory

    def ping(self, ctxt: object, sender: str) -> dict[str, str]:
        LOG.debug("ping from %s", sender)
        return {"host": self._host}

    def note(self, ctxt: object, nonce: str) -> None:
        self._memory.remember(nonce, "message")

    def seen(self, ctxt: object, nonce: str) -> dict[str, int]:
        return self._memory.recall(nonce)


class Notifications:
    """The notification endpoint; the signature is oslo.messaging's."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def info(self, ctxt: object, publisher_id: str, event_type: str, payload: dict[str, str], metadata: object) -> None:
        self._memory.remember(payload["nonce"], "notification")


@click.group()
def probe() -> None:
    """A real oslo.messaging service on this node, and the check that uses it."""


@probe.command()
@config_file
@click.option("--log-file", type=click.Path(dir_okay=False), help="Log here instead of to stderr.")
def serve(config_files: tuple[str, ...], log_file: str | None) -> None:
    """Answer calls and take notifications until SIGTERM."""
    conf = configured(config_files)
    if log_file:
        conf.set_override("log_file", log_file)
    log.setup(conf, "zmq-probe")

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    host = _host(conf)
    servers = _servers(conf, host)
    for server in servers:
        server.start()
    LOG.info("probe of %s: serving topic %s and listening on %s", host, TOPIC, NOTIFICATION_TOPIC)
    systemd.notify("READY=1")
    stop.wait()
    systemd.notify("STOPPING=1")
    for server in servers:
        server.stop()
        server.wait()
    LOG.info("probe of %s: stopped", host)


@probe.command()
@config_file
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait at most.")
def wait(config_files: tuple[str, ...], timeout: float) -> None:
    """Wait until this node's own probe answers a call."""
    conf = configured(config_files)
    sender = Sender(conf, _host(conf), timeout)
    deadline = time.monotonic() + timeout
    outcome = sender.call(sender.host, calls=0)
    while not outcome.ok and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL)
        outcome = sender.call(sender.host, calls=0, timeout=max(deadline - time.monotonic(), POLL_INTERVAL))
    if not outcome.ok:
        raise click.ClickException(f"the probe of {sender.host} does not answer: {outcome.error}")


@probe.command()
@config_file
@click.option("--peers", required=True, help="Host names to reach, with commas in between.")
@click.option("--calls", default=5, show_default=True, type=click.IntRange(1), help="Timed calls to each peer.")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds that each operation may take.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def run(config_files: tuple[str, ...], peers: str, calls: int, timeout: float, as_json: bool) -> None:
    """Reach every peer from this node; exit 1 and a line for each thing that failed."""
    names = [name.strip() for name in peers.split(",") if name.strip()]
    if not names:
        raise click.UsageError("--peers names nobody")
    conf = configured(config_files)
    report = Sender(conf, _host(conf), timeout).report(names, calls)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
        for sentence in report.failures():
            click.echo(sentence, err=True)
    else:
        Console(highlight=False).print(matrix.draw([report]))
    if not report.ok:
        sys.exit(1)


class Sender:
    """Sends from this node and asks the peers what arrived."""

    def __init__(self, conf: cfg.ConfigOpts, host: str, timeout: float) -> None:
        self.host = host
        self._timeout = timeout
        # Without it what is cast waits for ever where no receiver runs; the driver tries about once a second.
        patience = max(1, int(timeout))
        self._client = oslo_messaging.get_rpc_client(
            oslo_messaging.get_rpc_transport(conf, url=TRANSPORT_URL),
            oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC),
            timeout=timeout,
            retry=patience,
        )
        self._notifier = oslo_messaging.Notifier(
            oslo_messaging.get_notification_transport(conf, url=TRANSPORT_URL),
            publisher_id=f"{TOPIC}.{host}",
            driver="messaging",
            topics=[NOTIFICATION_TOPIC],
            retry=patience,
        )

    def report(self, peers: Sequence[str], calls: int) -> Report:
        """Everything once, for each of `peers`; `calls` timed calls after an untimed one."""
        reached = {peer: self.call(peer, calls) for peer in peers}
        answering = [peer for peer, outcome in reached.items() if outcome.ok]
        return Report(
            node=self.host,
            calls=reached,
            bare=self._timed_call(self._client, calls),
            fanout=self._fanout(peers, answering),
            notification=self._notification(answering),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def call(self, peer: str, calls: int, timeout: float | None = None) -> Outcome:
        """Directed calls to `peer`."""
        outcome = self._timed_call(self._client.prepare(server=peer, timeout=timeout or self._timeout), calls)
        if outcome.ok and outcome.by != peer:
            return Outcome.failed(f"{outcome.by} answered instead")
        return outcome

    def _timed_call(self, client: oslo_messaging.RPCClient, calls: int) -> Outcome:
        """The median of `calls` round trips in ms; the first, which sets up the path, does not count."""
        times = []
        try:
            answer = client.call({}, "ping", sender=self.host)
            for _ in range(calls):
                begin = time.perf_counter()
                client.call({}, "ping", sender=self.host)
                times.append((time.perf_counter() - begin) * 1000)
        except oslo_messaging.MessagingException as fault:
            return Outcome.failed(_why(fault))
        return Outcome(ok=True, ms=round(statistics.median(times), 2) if times else None, by=answer["host"])

    def _fanout(self, peers: Sequence[str], answering: Sequence[str]) -> dict[str, Outcome]:
        """One fanout; each peer must have seen it exactly once."""
        nonce = uuid.uuid4().hex
        outcomes = {peer: Outcome.failed("not asked whether it arrived: its calls fail") for peer in peers}
        try:
            self._client.prepare(fanout=True).cast({}, "note", nonce=nonce)
        except oslo_messaging.MessagingException as fault:
            return dict.fromkeys(peers, Outcome.failed(_why(fault)))

        counts = dict.fromkeys(answering, 0)

        def everybody_has_it() -> bool:
            for peer in answering:
                counts[peer] = self._seen(peer, nonce).get("message", 0)
            return all(counts.values())

        if _until(everybody_has_it, self._timeout):
            everybody_has_it()  # a second look, for copies that came late
        for peer, count in counts.items():
            outcomes[peer] = Outcome(ok=True) if count == 1 else Outcome.failed(f"arrived {count} times, not once")
        return outcomes

    def _notification(self, answering: Sequence[str]) -> Outcome:
        """One notification; it is delivered at least once, so any peer that has it will do."""
        nonce = uuid.uuid4().hex
        try:
            self._notifier.info({}, "probe.sent", {"nonce": nonce})
        except oslo_messaging.MessagingException as fault:
            return Outcome.failed(_why(fault))

        takers: list[str] = []

        def somebody_has_it() -> bool:
            takers.extend(peer for peer in answering if "notification" in self._seen(peer, nonce))
            return bool(takers)

        if not _until(somebody_has_it, self._timeout):
            return Outcome.failed(f"no listener had it within {self._timeout:g} s")
        return Outcome(ok=True, by=" and ".join(takers))

    def _seen(self, peer: str, nonce: str) -> dict[str, int]:
        try:
            answer: dict[str, int] = self._client.prepare(server=peer).call({}, "seen", nonce=nonce)
        except oslo_messaging.MessagingException:
            return {}
        return answer


def _servers(conf: cfg.ConfigOpts, host: str) -> list[oslo_messaging.server.MessageHandlingServer]:
    memory = Memory()
    return [
        oslo_messaging.get_rpc_server(
            oslo_messaging.get_rpc_transport(conf, url=TRANSPORT_URL),
            oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, server=host),
            [Calls(host, memory)],
            executor="threading",
        ),
        oslo_messaging.get_notification_listener(
            oslo_messaging.get_notification_transport(conf, url=TRANSPORT_URL),
            [oslo_messaging.Target(exchange=EXCHANGE, topic=NOTIFICATION_TOPIC)],
            [Notifications(memory)],
            executor="threading",
        ),
    ]


def configured(config_files: tuple[str, ...]) -> cfg.ConfigOpts:
    """The global configuration, as a service has it: oslo.messaging registers its metrics and tracing only there."""
    oslo_messaging.set_transport_defaults(control_exchange=EXCHANGE)
    conf = cfg.CONF
    log.register_options(conf)  # has command line options, so it must come before the parsing
    try:
        conf(args=[], project="zmq-probe", default_config_files=list(config_files) or default_files(), default_config_dirs=[])
    except cfg.Error as fault:
        raise click.ClickException(str(fault)) from None
    options.register(conf)
    return conf


def _host(conf: cfg.ConfigOpts) -> str:
    try:
        return options.settings(conf).host
    except ConfigError as fault:
        raise click.ClickException(str(fault)) from None


def _until(done: Callable[[], bool], timeout: float) -> bool:
    """Ask `done` until it is, or `timeout` seconds passed."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def _why(fault: Exception) -> str:
    """One line: what the exception says, and its class."""
    return f"{' '.join(str(fault).split())} ({type(fault).__name__})"
