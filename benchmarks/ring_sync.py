"""From a deregistration in Consul to the ring on the node's disk, replaced and fsynced (`python -m benchmarks.ring_sync`).

A real Consul, and `zmqctl ring sync --watch` as a process of its own, without quiescence. The clock starts before the request is
sent to Consul and stops when a reader sees the new ring; beside it the time that the request itself took.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / place) for place in ("functional", "stores")]

from fabric import eventually  # noqa: E402 - the real stores are the tests'
from servers import ConsulAgent  # noqa: E402

BAR_MS = 50.0
TOPIC = "compute"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="how many deregistrations (20)")
    parser.add_argument("--hosts", type=int, default=40, help="hosts in the ring at the start; at least twice as many (40)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ConsulAgent() as agent:
        results = measure(Path(directory), agent, arguments.times, max(arguments.hosts, 2 * arguments.times))
    table = Table("", "request ms", "ring replaced ms", box=None, header_style="dim")
    for number, (request, replaced) in enumerate(results, 1):
        table.add_row(str(number), f"{request:.1f}", f"{replaced:.1f}")
    median = statistics.median(replaced for _, replaced in results)
    table.add_row("median", f"{statistics.median(request for request, _ in results):.1f}", f"{median:.1f}", style="bold")
    Console(highlight=False).print(table)
    good = median <= BAR_MS
    print(f"median {median:.1f} ms, the bar is {BAR_MS:g} ms: {'met' if good else 'NOT met'}")
    sys.exit(not good)


def measure(directory: Path, agent: ConsulAgent, times: int, hosts: int) -> list[tuple[float, float]]:
    """Milliseconds of the request alone, and until the ring is replaced, for each of `times`."""
    names = [f"c{number:04}" for number in range(hosts)]
    for name in names:
        agent.register(TOPIC, name, name, meta={"zmq_host": name, "zmq_port": "9501"}, address="10.0.0.1", port=9501)
    ring, config = directory / "matchmaker_ring.json", directory / "zeromq.conf"
    config.write_text(
        f"[oslo_messaging_zmq]\nrpc_zmq_host = n1\n[matchmaker_ring]\nringfile = {ring}\n"
        f"[matchmaker_consul]\nhost = {agent.host}\nport = {agent.port}\n"
    )
    zmqctl = str(Path(sys.executable).parent / "zmqctl")
    command = [zmqctl, "ring", "sync", "--watch", "--quiet-for", "0", "--config-file", str(config), "--topic", TOPIC]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as sync,
    ):
        try:
            eventually(lambda: ring.exists() and len(json.loads(ring.read_bytes())[TOPIC]) == hosts, within=30)
            return [one(agent, ring, names.pop(), names) for _ in range(times)]
        finally:
            sync.terminate()


def one(agent: ConsulAgent, ring: Path, name: str, left: list[str]) -> tuple[float, float]:
    """Deregister `name`; `left` are those that the ring must have then."""
    time.sleep(0.1)  # let the sync and the disk come to rest
    before = ring.stat().st_ino
    began = time.perf_counter()
    agent.deregister(name, name)
    requested = time.perf_counter()
    while ring.stat().st_ino == before:
        time.sleep(0.0005)
    replaced = time.perf_counter()
    assert json.loads(ring.read_bytes())[TOPIC] == left
    return (requested - began) * 1000, (replaced - began) * 1000


if __name__ == "__main__":
    main()
