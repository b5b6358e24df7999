"""Beds: what the same load is measured on. A bed starts what its transport needs, and the service processes on top of it.

Everything listens on loopback only, on free ports, in directories of its own, and is gone when the bed is closed.
"""

import json
import os
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.broker import Broker, BrokerError
from benchmarks.figures import FANOUTS, NOTES, TOPIC, fanout_topic

CHECKOUT = Path(__file__).parent.parent
sys.path.insert(0, str(CHECKOUT / "tests" / "functional"))

from fabric import Fabric as Fabric  # noqa: E402, PLC0414 - the fabric of the functional tests

_ENDS_WITHIN = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """The run cannot go on; the message says why, for people."""


class Worker:
    """A service process, see `benchmarks.worker`."""

    def __init__(self, name: str, url: str, config_file: Path | None, log: Path) -> None:
        self._name, self._log = name, log
        self._asked = False
        spec = {"url": url, "config_file": str(config_file or "")}
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", json.dumps(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=CHECKOUT,
                start_new_session=True,  # Ctrl-C is for the run: it ends its workers itself
                text=True,
            )
        self.pid = self._process.pid

    def ask(self, verb: str, **facts: Any) -> dict[str, Any]:
        """Send a command, wait for its answer.

        :raises BenchmarkError: it failed, or the worker ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": verb, **facts}) + "\n")
            self._process.stdin.flush()
            self._asked = True
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
            self._asked = False
        except (OSError, ValueError):
            raise BenchmarkError(f"{self._name}: the process ended{self._last_words()}") from None
        if "error" in answer:
            raise BenchmarkError(f"{self._name}: {answer['error']}{self._last_words()}")
        return answer

    def close(self) -> None:
        """End it; at once when it is in the midst of something, for then the run was given up."""
        if self._asked:
            self._process.kill()
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.wait(_ENDS_WITHIN)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        words = self._log.read_text(errors="replace").strip().splitlines()[-5:]
        return "".join(f"\n    {line}" for line in words)


class Bed(ABC):
    """One transport with its processes. `processes` says what each of them is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.processes: dict[str, list[int]] = {}
        self.facts: dict[str, str] = {}
        self._stack = ExitStack()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ozb")))

    @abstractmethod
    def start(self) -> None:
        """Start everything; afterwards `client`, `server` and `listeners` answer."""

    def close(self) -> None:
        self._stack.close()

    def cpu(self) -> dict[str, float]:
        """Seconds of processor time that each kind of process has used."""
        return {role: sum(cpu_seconds(pid) for pid in pids) for role, pids in self.processes.items()}

    def rss(self) -> dict[str, float]:
        """Bytes of memory that each kind of process has now."""
        return {role: float(sum(rss_bytes(pid) for pid in pids)) for role, pids in self.processes.items()}

    def _services(self, url: str, config_files: Mapping[str, Path | None]) -> None:
        """A process for the RPC server, one for the listeners, one for the client."""
        self.server = self._worker("server", url, config_files["server"])
        self.listeners = self._worker("listeners", url, config_files["server"])
        self.client = self._worker("client", url, config_files["client"])
        self.processes |= {"client": [self.client.pid], "server": [self.server.pid], "listeners": [self.listeners.pid]}

    def _worker(self, role: str, url: str, config_file: Path | None = None) -> Worker:
        worker = Worker(f"{self.name} {role}", url, config_file, self.directory / f"{role}.log")
        self._stack.callback(worker.close)
        return worker


class ZmqBed(Bed):
    """Two nodes: the client's process on n1, the servers' processes on n2, so that everything goes through two receivers."""

    def __init__(self, name: str, **options: object) -> None:
        super().__init__(name)
        self._options = options

    def start(self) -> None:
        topics = [TOPIC, f"{NOTES}.info", *map(fanout_topic, FANOUTS)]
        fabric = Fabric(nodes=2, ring={topic: ["n2"] for topic in topics}, options=self._options)
        self._stack.callback(fabric.close)
        fabric.start()
        self.processes["receivers"] = [process.pid for process in fabric.processes.values()]
        self._services("zmq://", {"client": fabric.config_file("n1"), "server": fabric.config_file("n2")})


class NullBed(Bed):
    """Client and servers in one process, with nothing in between."""

    def start(self) -> None:
        self.client = self.server = self.listeners = self._worker("both", "null://")
        self.processes["client and server"] = [self.client.pid]


class RabbitBed(Bed):
    """A RabbitMQ of our own, with the settings that a fresh one and a fresh oslo.messaging have."""

    def start(self) -> None:
        broker = Broker(self.directory / "broker")
        self._stack.callback(broker.stop)
        try:
            broker.start()
        except BrokerError as exc:
            raise BenchmarkError(str(exc)) from None
        self.facts["RabbitMQ"] = broker.version
        self.processes["broker"] = broker.pids()
        self._services(broker.url, {"client": None, "server": None})


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


BEDS: dict[str, Callable[[], "Bed"]] = {
    "zmq": lambda: ZmqBed("zmq", zmq_security="none"),
    "curve": lambda: ZmqBed("curve", zmq_security="curve"),
    "rabbit": lambda: RabbitBed("rabbit"),
    "null": lambda: NullBed("null"),
}
"""By name; one more line measures one more way."""
