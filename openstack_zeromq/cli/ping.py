"""`zmqctl ping`: real RPC calls from this node to a topic, how long they take, who answers, and what is known when nobody does.

Only the public API of oslo.messaging sends; the receiver is asked afterwards why nothing came back. All of it is over when the
timeout is. A service that does not know the method answers with an error: that is an answer, too.
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import click
from oslo_config import cfg

from openstack_zeromq import options
from openstack_zeromq.cli.probe import EXCHANGE, TOPIC, TRANSPORT_URL, configured
from openstack_zeromq.cli.settings import config_file, fail
from openstack_zeromq.errors import ClosedReceiverError, NoReceiverError, ZeroMQError
from openstack_zeromq.receiver import admin

with warnings.catch_warnings():
    # As in `probe`: oslo.service, on import, whatever backend is used then.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import oslo_messaging

_UP = "is up"
_TO_ASK_WHY = 1.0
"""Seconds at the end of the timeout, or a quarter of it, for finding out why there is no answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to call, how often, and how many seconds all of it may take. `server` empty: any."""

    topic: str = TOPIC
    server: str = ""
    exchange: str = EXCHANGE
    method: str = "ping"
    count: int = 3
    timeout: float = 10.0

    def __str__(self) -> str:
        return f"topic {self.topic}" + (f" on {self.server}" if self.server else "")


@dataclass(frozen=True, slots=True)
class Pong:
    """`latency_ms`: min, median, max; `answered_by`: the nodes, where they say so; `remote_error`: what a service answered that
    does not know the method; `error`: why the calls failed, empty when they did not; `receiver`: false when they failed because
    this node has none that runs, or a configuration that none can run with, which says nothing about who should have answered."""

    latency_ms: dict[str, float] = field(default_factory=dict)
    answered_by: list[str] = field(default_factory=list)
    remote_error: str = ""
    error: str = ""
    receiver: bool = True


def ping(conf: cfg.ConfigOpts, question: Question) -> Pong:
    """Call once to set up the path, then `count` times with a clock; `conf` is that of a service of this node."""
    settings = options.settings(conf)
    if missing := _missing_receiver(settings):
        return Pong(error=missing, receiver=False)
    deadline = time.monotonic() + question.timeout
    target = oslo_messaging.Target(exchange=question.exchange, topic=question.topic, server=question.server or None)
    client = oslo_messaging.get_rpc_client(oslo_messaging.get_rpc_transport(conf, url=TRANSPORT_URL), target)
    arguments = {"sender": settings.host} if question.topic == TOPIC and question.method == "ping" else {}
    times: list[float] = []
    answers: set[str] = set()
    remote = ""
    try:
        for _ in range(1 + question.count):
            begin = time.perf_counter()
            left = deadline - time.monotonic() - min(_TO_ASK_WHY, question.timeout / 4)
            try:
                answer = client.prepare(timeout=max(left, 0.05)).call({}, question.method, **arguments)
                answers.add(_host(answer, question))
            except oslo_messaging.RemoteError as fault:
                remote = f"{fault.exc_type}: {fault.value}"
            times.append((time.perf_counter() - begin) * 1000)
    except oslo_messaging.MessageDeliveryFailure as fault:
        return Pong(error=_sentence(question, f"{fault}", why(settings, question)))
    except oslo_messaging.MessagingException as fault:
        silent = f"no answer within {question.timeout:g} s" if isinstance(fault, oslo_messaging.MessagingTimeout) else str(fault)
        known = why(settings, question)
        if _UP in known and not _listened_to(client, question, deadline):
            silent = f"{silent}; nobody listens there"
        return Pong(error=_sentence(question, silent, known))
    if question.server and answers - {question.server, ""}:
        return Pong(error=f"{question}: {', '.join(sorted(answers))} answered instead; is the ring or the catalog old?")
    timed = times[1:]
    latency = {"min": min(timed), "median": statistics.median(timed), "max": max(timed)}
    return Pong({name: round(ms, 2) for name, ms in latency.items()}, sorted(answers - {""}), remote)


def _missing_receiver(settings: options.Settings) -> str:
    """Why no receiver of this node can be asked; empty when one can, or answers others only."""
    try:
        admin.answer_of(settings.ipc_dir)
    except ClosedReceiverError:
        return ""
    except NoReceiverError as exc:
        return str(exc)
    return ""


def why(settings: options.Settings, question: Question) -> str:
    """What the receiver of this node knows of those who should have answered, with the remedy."""
    try:
        found = admin.answer_of(settings.ipc_dir, "hosts", question.topic)
        status = admin.answer_of(settings.ipc_dir)
    except ClosedReceiverError:
        return "what its receiver knows of them it tells only root and its own user: zmqctl status, as one of these"
    except NoReceiverError as exc:
        return str(exc)
    return "; ".join(_known(question, found, status))


def _known(question: Question, found: dict[str, Any], status: dict[str, Any]) -> Iterator[str]:
    if found["problem"]:
        yield f"matchmaker: {found['problem']}"
    hosts = _asked(question, found, status)
    if question.server and hosts != [question.server] and question.server not in found["servers"]:
        yield (
            f"{question.server} is no host of {question.topic} and no server that {status['node']} knows: was it removed or"
            f" revoked, or is its name another one? all hosts were asked (zmqctl hosts {question.topic} lists them)"
        )
    if not hosts:
        if found["known"]:
            yield f"the matchmaker knows no host of {question.topic}; start a service that listens to it, or deploy the ring"
        else:
            yield f"the matchmaker does not know {question.topic} yet; is its store there? zmqctl status shows it"
    for host in hosts:
        link = status["links"].get(host, {})
        if host == status["node"]:
            here = sum(row["consumers"] for row in status["channels"].values() if row.get("topic") == question.topic)
            listen = f"somebody listens to {question.topic}" if here else f"nobody listens to {question.topic}"
            yield f"{host} is this node, where {listen}"
        elif link.get("state") == "up":
            yield f"the link to {host} {_UP}; is the service there alive? zmqctl status on {host} shows its channels"
        else:
            reason = link.get("why") or f"is the receiver of {host} running, and its port open to this node?"
            yield f"the link to {host} is {link.get('state', 'not there yet')}; {reason}"


def _asked(question: Question, found: dict[str, Any], status: dict[str, Any]) -> list[str]:
    """The hosts that the calls went to, as far as is known."""
    hosts = sorted(found["hosts"])
    if not question.server:
        return hosts
    if question.server in hosts or question.server in status["links"] or question.server == status["node"]:
        return [question.server]
    return found["servers"].get(question.server) or hosts


def _listened_to(client: oslo_messaging.RPCClient, question: Question, deadline: float) -> bool:
    """False: a receiver says that nobody listens; True may also mean that nobody says anything."""
    mandatory = oslo_messaging.TransportOptions(at_least_once=True)
    try:
        left = max(deadline - time.monotonic(), 0.05)
        client.prepare(timeout=left, transport_options=mandatory).call({}, question.method)
    except oslo_messaging.MessageUndeliverable:
        return False
    except oslo_messaging.MessagingException:
        return True
    return True


def _host(answer: object, question: Question) -> str:
    return str(answer["host"]) if isinstance(answer, dict) and "host" in answer else question.server


def _sentence(question: Question, what: str, known: str) -> str:
    return " ".join(f"{question}: {what}; {known}".split())


@click.command(name="ping")
@click.argument("topic", default=TOPIC)
@config_file
@click.option("--server", default="", help="Only this server of the topic: most often the name of a node.")
@click.option("--exchange", default=EXCHANGE, show_default=True, help="Exchange of the topic: nova, neutron, …")
@click.option("--method", default="ping", show_default=True, help="Method to call; oslo_rpc_server_ping where that is enabled.")
@click.option("--count", default=3, show_default=True, type=click.IntRange(1), help="Timed calls.")
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0.1), help="Seconds for all of them.")
@click.option("--json", "as_json", is_flag=True, help="Print an object, whether or not somebody answered.")
def command(config_files: tuple[str, ...], *, as_json: bool, **given: Any) -> None:
    """Call TOPIC (by default the probe's) from this node; exit 1 with what is known when nobody answers."""
    question = Question(**given)
    try:
        pong = ping(configured(config_files), question)
    except ZeroMQError as exc:
        pong = Pong(error=str(exc), receiver=False)
    if as_json:
        click.echo(json.dumps(asdict(pong)))
        sys.exit(1 if pong.error else 0)
    if pong.error:
        fail(pong.error)
    by = ", ".join(pong.answered_by) or "a service that does not say where it is"
    click.echo(
        f"{question}: answered by {by}, {question.count} calls, "
        + ", ".join(f"{name} {ms:.1f} ms" for name, ms in pong.latency_ms.items())
        + (f"; it answered {pong.remote_error}" if pong.remote_error else "")
    )
