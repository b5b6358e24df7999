"""Consul with a whole cloud in one service: how big its answer is, what a reader waits for, what ten times as many would ask for.

    python -m benchmarks.consul [--nodes 5000]

The instances stand in the catalog as agents bring them there; the reader is a receiver's matchmaker in this process. Beats cost
the servers nothing while nothing changes: each node's own agent takes them.
"""

import gzip
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import requests

from benchmarks.load import Figure, show
from openstack_zeromq.matchmaker.consul import instances

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / folder) for folder in ("functional", "stores")]

from matchmakers import Node, on_consul, settings  # noqa: E402 - the stores that tests start, too
from servers import ConsulAgent  # noqa: E402

TOPIC = "compute"
WRITERS = 16
TIMES = 10


class Load:
    """One Consul server under load."""

    def __init__(self, agent: ConsulAgent, nodes: int, directory: Path) -> None:
        self._agent = agent
        self._nodes = nodes
        self._settings = settings(directory, "reader", on_consul(agent), rpc_zmq_matchmaker="consul")
        self._figures: list[Figure] = []

    def figures(self) -> list[Figure]:
        self._registrations()
        self._answer()
        self._reader()
        return self._figures

    def _registrations(self) -> None:
        before, begun = self._memory(), time.perf_counter()
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(self._register, range(self._nodes)))
        self._figure("registering all, new, one server", time.perf_counter() - begun, "s")
        self._figure("memory of Consul for them", self._memory() - before, "MiB")

    def _register(self, number: int) -> None:
        """A compute node, whose server is its full name, as its agent brings it into the catalog."""
        host = f"compute-{number:05}"
        meta = {"zmq_host": host, "zmq_fabric": "openstack", "zmq_port": "9501"}
        self._agent.register(
            TOPIC,
            f"zmq:openstack:{TOPIC}:{host}",
            host,
            meta=meta | instances.servers_meta(frozenset({f"{host}.example.org"})),
            address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            port=9501,
        )

    def _answer(self) -> None:
        url = f"{self._agent.url}/v1/health/service/{TOPIC}?stale"
        times, body = [], b""
        for _ in range(TIMES):
            begun = time.perf_counter()
            body = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=60).content
            times.append((time.perf_counter() - begun) * 1e3)
        self._figure("the topic's answer", len(body) / 1024 / 1024, "MiB")
        self._figure("the topic's answer, gzip", len(gzip.compress(body)) / 1024, "KiB")
        self._figure("the topic's answer: Consul needs", statistics.median(times), "ms")

    def _reader(self) -> None:
        before, begun = _memory_of("self"), time.perf_counter()
        node = Node(self._settings)
        try:
            while len(node.hosts(TOPIC) or ()) < self._nodes:
                time.sleep(0.001)
            self._figure("a receiver knows all hosts of the topic after", time.perf_counter() - begun, "s")
            self._figure("memory of the receiver for them", _memory_of("self") - before, "MiB")
            self._changes(node)
        finally:
            node.close()

    def _changes(self, node: Node) -> None:
        """One host less, ten times; the sleeping between two looks costs a little processor, too."""
        times, busy = [], []
        for number in range(TIMES):
            spent, begun = time.process_time(), time.perf_counter()
            host = f"compute-{number:05}"
            self._agent.deregister(f"zmq:openstack:{TOPIC}:{host}", host)
            while host in (node.hosts(TOPIC) or ()):
                time.sleep(0.005)
            times.append((time.perf_counter() - begun) * 1e3)
            busy.append((time.process_time() - spent) * 1e3)
        self._figure("a host leaves: the receiver knows after", statistics.median(times), "ms")
        self._figure("a host leaves: processor of the receiver", statistics.median(busy), "ms")

    def _figure(self, what: str, value: float, unit: str) -> None:
        self._figures.append(Figure(what, value, unit, 10.0))

    def _memory(self) -> float:
        assert self._agent.process is not None
        return _memory_of(str(self._agent.process.pid))


def _memory_of(process: str) -> float:
    """MiB that it has in memory."""
    status = Path("/proc", process, "status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


@click.command()
@click.option("--nodes", default=5000, show_default=True, help="How many nodes are in the catalog.")
def main(nodes: int) -> None:
    """Measure one Consul server with NODES instances of one service, and print what ten times as many would ask for."""
    with tempfile.TemporaryDirectory() as directory, ConsulAgent() as agent:
        version = requests.get(f"{agent.url}/v1/agent/self", timeout=5).json()["Config"]["Version"]
        figures = Load(agent, nodes, Path(directory)).figures()
    advice = "Every reader takes the whole answer at every change: for thousands of nodes publish the ring instead."
    show(f"Consul {version}, {nodes} instances of one service", nodes, figures, advice)


if __name__ == "__main__":
    main()
