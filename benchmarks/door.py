"""What strangers at the door cost those inside: calls between two receivers, while somebody dials one of them as fast as asked.

    python -m benchmarks.door [--rate 1000] [--seconds 60]

A third of the strangers dial and hang up, a third say something that is no ZMTP, a third begin a CURVE handshake with noise.
Calls alone, then calls with strangers, in one run; the bar is a p99 of at most twice that without them.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "functional"))

from fabric import Fabric

from benchmarks.beds import rss_bytes

BAR = 2.0
_TOPIC = "compute"
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(15) + bytes(32)
_HELLO = b"\x04\xc8\x05HELLO\x01\x00" + bytes(72)  # what follows, a public key, a nonce and a box, is noise


class Endpoint:
    """Answers."""

    def echo(self, _ctxt: dict[str, Any], what: str) -> str:
        return what


def strangers(address: str, port: int, rate: float) -> None:
    """Dial until killed."""
    said = [b"", b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n", _GREETING + _HELLO + os.urandom(120)]
    due, number = time.monotonic(), 0
    while True:
        number += 1
        with socket.socket() as connection:
            try:
                connection.connect((address, port))
                connection.sendall(said[number % len(said)])
            except OSError:
                pass
        due += 1 / rate
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        if number % 1000 == 0:
            print(number, flush=True)


@contextmanager
def at_the_door(address: str, port: int, rate: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.door", "--strangers", f"{address}:{port}", "--rate", str(rate)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def calls(client: Any, seconds: float) -> list[float]:
    """Round trips in seconds, one caller."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        client.call({}, "echo", what="hello")
        took.append(time.perf_counter() - began)
    return took


def measure(rate: float, seconds: float) -> dict[str, Any]:
    """Figures of calls without and with strangers, and of the receiver that they dial."""
    fabric = Fabric(nodes=2, ring={_TOPIC: ["n2"]})
    try:
        fabric.start()
        fabric.server("n2", _TOPIC, Endpoint())
        client = fabric.client("n1", _TOPIC)
        calls(client, min(2.0, seconds))  # warm
        pid, before = fabric.processes["n2"].pid, fabric.counter("n2", "refused_handshakes")
        alone, rss = calls(client, min(20.0, seconds)), rss_bytes(fabric.processes["n2"].pid)
        with at_the_door(fabric.addresses["n2"], fabric.port, rate):
            beset = calls(client, seconds)
        return {
            "alone": _figures(alone),
            "beset": _figures(beset),
            "refused_per_s": (fabric.counter("n2", "refused_handshakes") - before) / seconds,
            "rss_grew_mib": (rss_bytes(pid) - rss) / 2**20,
            "alive": fabric.processes["n2"].poll() is None,
        }
    finally:
        fabric.close()


def _figures(took: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100)
    return {"calls_per_s": len(took) / sum(took), "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}


@click.command()
@click.option("--rate", default=1000.0, show_default=True, help="Strangers a second.")
@click.option("--seconds", default=60.0, show_default=True, help="How long they come.")
@click.option("--strangers", "door", hidden=True, help="Be the strangers: host:port.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(rate: float, seconds: float, door: str | None, as_json: bool) -> None:
    if door:
        host, _, port = door.rpartition(":")
        strangers(host, int(port), rate)
    found = measure(rate, seconds)
    if as_json:
        click.echo(json.dumps(found))
        return
    table = Table("calls", "calls/s", "p50", "p99", box=None)
    for name in ("alone", "beset"):
        figures = found[name]
        table.add_row(name, f"{figures['calls_per_s']:.0f}", f"{figures['p50_ms']:.2f} ms", f"{figures['p99_ms']:.2f} ms")
    console = Console(highlight=False)
    console.print(table)
    ratio = found["beset"]["p99_ms"] / found["alone"]["p99_ms"]
    verdict = "[green]met[/]" if ratio <= BAR else "[red]missed[/]"
    console.print(f"{found['refused_per_s']:.0f} refused a second, memory grew by {found['rss_grew_mib']:.1f} MiB")
    console.print(f"p99 {ratio:.2f} × that without them (bar {BAR:g}): {verdict}")


if __name__ == "__main__":
    main()
