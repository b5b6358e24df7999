"""What others cost those inside: calls between two receivers, while somebody besets one of them.

    python -m benchmarks.door [--rate 1000] [--seconds 60]      strangers dial as fast as asked
    python -m benchmarks.door --storm [--security none]         connections by the hundred that end in every way
    python -m benchmarks.door --flood [--rate 60000]            a peer with a good key sends small messages in bundles

A third of the strangers dial and hang up, a third say something that is no ZMTP, a third begin a CURVE handshake. A storm is
two processes that each make 200 connections at a time and end them by all the shapes of the functional tests, first from one
address, then from 250, then at the receiver's unix sockets. A flood goes to a topic that nobody serves. Calls alone, then calls
beset, in one run; the bar is a p99 of at most twice that without them. For a flood there is none: its messages are work.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "functional"))

from fabric import Fabric
from strangers import CURVE_GREETING, HELLO, JUNK, SHAPES, dealer, storm

from benchmarks.beds import rss_bytes
from benchmarks.flood import Headers
from openstack_zeromq import address, sockets, wire
from openstack_zeromq.security import keys
from openstack_zeromq.wire import Kind

BAR = 2.0
MANY = [f"127.0.9.{number}" for number in range(1, 251)]
PROCESSES = 2
_TOPIC = "compute"
_BUNDLED = 100
_SMALL = b"x" * 16


class Endpoint:
    """Answers."""

    def echo(self, _ctxt: dict[str, Any], what: str) -> str:
        return what


class Siege(NamedTuple):
    """What besets n2: its name, and the arguments of each process that does it."""

    name: str
    processes: Sequence[Sequence[str]]


# what a process is that besets: it goes on until it is killed


def strangers(door: str, rate: float) -> None:
    """Dial."""
    host, _, port = door.rpartition(":")
    said = [b"", JUNK["HTTP"], CURVE_GREETING + HELLO]
    due, number = time.monotonic(), 0
    while True:
        number += 1
        with socket.socket() as connection:
            try:
                connection.connect((host, int(port)))
                connection.sendall(said[number % len(said)])
            except OSError:
                pass
        due = _wait(due + 1 / rate)


def storms(where: str, sources: int) -> None:
    """Connections that end in every way; `where`: host:port, or a path."""
    host, _, port = where.rpartition(":")
    while True:
        storm(where if where.startswith("/") else (host, int(port)), list(SHAPES), 1.0, MANY[:sources])


def flood(door: str, rate: float, key_file: str, server_key: str) -> None:
    """Bundles of small messages."""
    pair = keys.read_secret(Path(key_file)) if server_key else None
    with dealer(f"tcp://{door}", pair=pair, server_key=server_key) as peer:
        peer.send(wire.encode_control(Kind.PING, node="n3", incarnation=5))
        headers = Headers("n3", "", int(str(wire.decode_control(peer.recv())["incarnation"])), _SMALL)
        due, first = time.monotonic(), 1_000_000
        while True:
            peer.send(headers.opening + b"".join([headers[first + number] for number in range(_BUNDLED)]))
            first += _BUNDLED
            for _ in sockets.drain(peer, _BUNDLED):
                pass
            due = _wait(due + _BUNDLED / rate)


def _wait(due: float) -> float:
    """Until `due`; who is late does not hurry to make up for it."""
    if (left := due - time.monotonic()) > 0:
        time.sleep(left)
    return max(due, time.monotonic() - 0.1)


@contextmanager
def beset(siege: Siege) -> Iterator[None]:
    with ExitStack() as stack:
        for arguments in siege.processes:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.door", "--be", *map(str, arguments)]
            process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


# what is measured


def sieges(fabric: Fabric, kind: str, rate: float) -> list[Siege]:
    """What besets n2, one after the other."""
    door = f"{fabric.addresses['n2']}:{fabric.port}"
    if kind == "strangers":
        return [Siege(f"{rate:.0f} strangers/s", [("strangers", door, rate)])]
    if kind == "flood":
        server_key = "" if fabric.options["zmq_security"] == "none" else fabric.key_of("n2")
        return [Siege(f"a flood of {rate:.0f}/s", [("flood", door, rate, fabric.secret_file("n3"), server_key)])]
    ipc_dir = fabric.ipc_dir("n2")
    places = {"a storm from 1 address": (door, 1), "a storm from 250 addresses": (door, 250)}
    places |= {f"a storm at {name}": (f"{ipc_dir}/{name}", 1) for name in (address.RECEIVER_SOCKET, address.ADMIN_SOCKET)}
    return [Siege(name, [("storms", *where)] * PROCESSES) for name, where in places.items()]


def calls(client: Any, seconds: float) -> list[float]:
    """Round trips in seconds, one caller."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        client.call({}, "echo", what="hello")
        took.append(time.perf_counter() - began)
    return took


def measure(kind: str, rate: float, seconds: float, security: str) -> dict[str, Any]:
    """Figures of calls alone, then beset, and of the receiver that is."""
    fabric = Fabric(nodes=3, ring={_TOPIC: ["n2"]}, options={"zmq_security": security})
    try:
        fabric.start("n1", "n2")
        fabric.server("n2", _TOPIC, Endpoint())
        client = fabric.client("n1", _TOPIC)
        calls(client, min(2.0, seconds))  # warm
        process = fabric.processes["n2"]
        alone, rss, descriptors = calls(client, min(20.0, seconds)), rss_bytes(process.pid), _descriptors(process.pid)
        found = []
        for siege in sieges(fabric, kind, rate):
            before = fabric.status("n2")
            with beset(siege):
                took = calls(client, seconds)
            after = fabric.status("n2")
            found.append({"name": siege.name, **_figures(took), "counted_per_s": _grew(before, after, seconds)})
        calls(client, 2.0)
        return {
            "security": security,
            "alone": _figures(alone),
            "beset": found,
            "rss_grew_mib": (rss_bytes(process.pid) - rss) / 2**20,
            "descriptors_grew": _descriptors(process.pid) - descriptors,
            "alive": process.poll() is None,
        }
    finally:
        fabric.close()


def _grew(before: dict[str, Any] | None, after: dict[str, Any] | None, seconds: float) -> dict[str, int]:
    """Counters of what was refused, a second."""
    if before is None or after is None:
        return {}
    names = ("refused_handshakes", "refused_keys", "crowds", "disconnects", "arrived", "flooded")
    grew = {name: round((after["counters"].get(name, 0) - before["counters"].get(name, 0)) / seconds) for name in names}
    return {name: number for name, number in grew.items() if number}


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _figures(took: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100)
    return {"calls_per_s": len(took) / sum(took), "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}


def _show(found: dict[str, Any], bar: float | None) -> None:
    table = Table("calls", "calls/s", "p50", "p99", "", "counted a second", box=None)
    for name, figures in [("alone", found["alone"]), *((one["name"], one) for one in found["beset"])]:
        ratio = figures["p99_ms"] / found["alone"]["p99_ms"]
        verdict = "" if bar is None or name == "alone" else f" {'[green]met[/]' if ratio <= bar else '[red]missed[/]'}"
        counted = ", ".join(f"{key} {number}" for key, number in figures.get("counted_per_s", {}).items())
        times = [f"{figures['p50_ms']:.2f} ms", f"{figures['p99_ms']:.2f} ms", f"{ratio:.2f} ×{verdict}"]
        table.add_row(name, f"{figures['calls_per_s']:.0f}", *times, counted)
    console = Console(highlight=False, width=120)
    console.print(table)
    console.print(
        f"security {found['security']}; the receiver {'lives' if found['alive'] else '[red]has ended[/]'}; it grew by"
        f" {found['rss_grew_mib']:.1f} MiB and {found['descriptors_grew']} descriptors"
    )


@click.command()
@click.option("--storm", "kind", flag_value="storm", help="Connections that end in every way.")
@click.option("--flood", "kind", flag_value="flood", help="A peer with a good key that sends as fast as asked.")
@click.option("--rate", type=float, help="Strangers, or messages of a flood, a second.  [default: 1000, 60000]")
@click.option("--seconds", default=60.0, show_default=True, help="How long each lasts.")
@click.option("--security", type=click.Choice(["curve", "none"]), default="curve", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--be", "role", type=click.Choice(["strangers", "storms", "flood"]), hidden=True)
@click.argument("arguments", nargs=-1)
def main(
    kind: str | None,
    rate: float | None,
    seconds: float,
    security: str,
    as_json: bool,
    role: str | None,
    arguments: tuple[str, ...],
) -> None:
    """Measure calls alone, and beset."""
    match role:
        case "strangers":
            strangers(arguments[0], float(arguments[1]))
        case "storms":
            storms(arguments[0], int(arguments[1]))
        case "flood":
            flood(arguments[0], float(arguments[1]), arguments[2], arguments[3])
    kind = kind or "strangers"
    found = measure(kind, rate or (60_000.0 if kind == "flood" else 1000.0), seconds, security)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show(found, None if kind == "flood" else BAR)


if __name__ == "__main__":
    main()
