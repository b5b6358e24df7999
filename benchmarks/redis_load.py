"""Redis with a whole cloud on it: what registrations cost it, what a reader waits for, and what that means for ten times as many.

    python -m benchmarks.redis_load [--nodes 5000] [--program redis7|redis8|valkey]

The nodes are registrations, each as a receiver makes it, sent over a few connections; the reader is a receiver's matchmaker.
Every node also has an open connection that hears changes, as receivers have. Redis's processor time is what Redis says of it.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import redis.asyncio
from rich.progress import track

from benchmarks.load import Figure, show
from openstack_zeromq.matchmaker.base import Registration
from openstack_zeromq.matchmaker.following import StoreMatchmaker
from openstack_zeromq.matchmaker.redis.client import RedisClient
from openstack_zeromq.options import Settings

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / folder) for folder in ("functional", "stores")]

from matchmakers import Node, on_redis, settings  # noqa: E402 - the stores that tests start, too
from servers import RedisServer  # noqa: E402

TOPIC = "compute"
TOPICS = (TOPIC, "q-agent-notifier-port-update", "q-agent-notifier-network-delete", "dhcp_agent", "ceilometer-polling")
CONNECTIONS = 32
ROUNDS = 3
TIMES = 10
BEAT, TTL = 15.0, 60.0


def registration(number: int) -> Registration:
    """A compute node, whose server is its full name."""
    host = f"compute-{number:05}"
    topics = {topic: frozenset({f"{host}.example.org"}) for topic in TOPICS}
    return Registration(host, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 9501, topics)


class Load:
    """One server under load."""

    def __init__(self, server: RedisServer, nodes: int, directory: Path) -> None:
        self._server = server
        self._nodes = nodes
        options = on_redis(server, socket_timeout=30.0)
        more = {"rpc_zmq_matchmaker": "redis", "zmq_target_expire": TTL, "zmq_target_update": BEAT}
        self._settings: Settings = settings(directory, "reader", options, **more)
        self._figures: list[Figure] = []

    def figures(self) -> list[Figure]:
        self._memory_of(lambda: asyncio.run(self._registrations()), "memory of a node's registration", self._nodes)
        asyncio.run(self._reads())
        self._reader()
        self._memory_of(lambda: asyncio.run(self._listeners()), "", 1)
        return self._figures

    async def _registrations(self) -> None:
        nodes = [registration(number) for number in range(self._nodes)]
        self._figure("a node joins: processor of Redis", await self._cost(nodes), "us")
        costs = [await self._cost(nodes) for _ in track(range(ROUNDS), "beats", transient=True)]
        cost = statistics.median(costs)
        self._figure("a beat: processor of Redis", cost, "us")
        self._figure(f"all beats, one in {BEAT:g} s each: share of one core", self._nodes / BEAT * cost / 1e4, "%", 10)

    async def _cost(self, nodes: list[Registration]) -> float:
        """Microseconds of Redis for each registration."""
        stores = [RedisClient(self._settings) for _ in range(CONNECTIONS)]

        async def some(store: RedisClient, mine: list[Registration]) -> None:
            for node in mine:
                await store.beat(node)

        before = self._processor()
        await asyncio.gather(*(some(store, nodes[place::CONNECTIONS]) for place, store in enumerate(stores)))
        spent = self._processor() - before
        for store in stores:
            await store.close()
        return spent / len(nodes) * 1e6

    async def _reads(self) -> None:
        store = RedisClient(self._settings)
        await store.read(TOPIC)
        took, spent = await self._each(lambda: store.read(TOPIC))
        self._figure("reading the topic whole: the reader waits", took, "ms", 10)
        self._figure("reading the topic whole: Redis is busy", spent, "ms", 10)
        took, _ = await self._each(lambda: store.marks(list(TOPICS)))
        self._figure("looking for missed changes: the reader waits", took, "ms")
        await store.close()

    async def _each(self, work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
        """Median milliseconds that one takes, and mean milliseconds of Redis."""
        times, before = [], self._processor()
        for _ in range(TIMES):
            begun = time.perf_counter()
            await work()
            times.append((time.perf_counter() - begun) * 1e3)
        return statistics.median(times), (self._processor() - before) / TIMES * 1e3

    def _reader(self) -> None:
        begun = time.perf_counter()
        node = Node(self._settings)
        try:
            while len(node.hosts(TOPIC) or ()) < self._nodes:
                time.sleep(0.001)
            self._figure("a receiver knows all hosts of the topic after", (time.perf_counter() - begun) * 1e3, "ms", 10)
            self._lookups(node.matchmaker)
            self._figure("somebody joins: the receiver knows after", asyncio.run(self._joins(node)), "ms", 10)
        finally:
            node.close()

    def _lookups(self, matchmaker: StoreMatchmaker) -> None:
        for what, look in (
            ("hosts(topic)", lambda: matchmaker.hosts(TOPIC)),
            ("directed(topic, server)", lambda: matchmaker.directed(TOPIC, "compute-00007.example.org")),
        ):
            begun = time.perf_counter()
            for _ in range(100_000):
                look()
            self._figure(f"{what} from memory", (time.perf_counter() - begun) * 10, "us")

    async def _joins(self, node: Node) -> float:
        store, times = RedisClient(self._settings), []
        for number in range(self._nodes, self._nodes + TIMES):
            await store.beat(registration(number))
            begun = time.perf_counter()
            while registration(number).host not in (node.hosts(TOPIC) or ()):
                await asyncio.sleep(0.001)
            times.append((time.perf_counter() - begun) * 1e3)
        await store.close()
        return statistics.median(times)

    async def _listeners(self) -> None:
        """As many open connections as there are nodes, each hearing of one topic."""
        before = self._memory()
        clients = [redis.asyncio.Redis(host=self._server.host, port=self._server.port) for _ in range(self._nodes)]
        heard = [client.pubsub() for client in clients]
        for place in track(range(0, len(heard), 100), "connections", transient=True):
            await asyncio.gather(*(one.subscribe("{zmq:openstack}:changes:conductor") for one in heard[place : place + 100]))
        self._figure("memory of a connection", (self._memory() - before) / self._nodes / 1024, "KiB")
        asked = self._processor()
        for number in range(TIMES):
            self._server.client.publish("{zmq:openstack}:changes:conductor", f"{number}")
        self._figure("a change that every node hears of: Redis is busy", (self._processor() - asked) / TIMES * 1e3, "ms", 10)
        for one, client in zip(heard, clients, strict=True):
            await one.aclose()
            await client.aclose()

    def _memory_of(self, work: Callable[[], None], what: str, count: int) -> None:
        before = self._memory()
        work()
        if what:
            used = self._memory() - before
            self._figure(what, used / count / 1024, "KiB")
            self._figure("memory of all registrations", used / 1024 / 1024, "MiB", 10)

    def _figure(self, what: str, value: float, unit: str, grows: float = 1.0) -> None:
        self._figures.append(Figure(what, value, unit, grows))

    def _memory(self) -> float:
        return float(self._server.client.info("memory")["used_memory"])

    def _processor(self) -> float:
        spent = self._server.client.info("cpu")
        return float(spent["used_cpu_user"]) + float(spent["used_cpu_sys"])


@click.command()
@click.option("--nodes", default=5000, show_default=True, help="How many nodes register.")
@click.option("--program", default="redis7", show_default=True, type=click.Choice(["redis7", "redis8", "valkey"]))
def main(nodes: int, program: str) -> None:
    """Measure one Redis under the registrations of NODES nodes, and print what ten times as many would ask for."""
    with tempfile.TemporaryDirectory() as directory, RedisServer(program, settings={"maxclients": "50000"}) as server:
        version = server.client.info("server")["redis_version"]
        figures = Load(server, nodes, Path(directory)).figures()
    advice = "Each node holds two connections: maxclients must be more than twice the number of nodes."
    show(f"{program} {version}, {nodes} nodes of {len(TOPICS)} topics each", nodes, figures, advice)


if __name__ == "__main__":
    main()
