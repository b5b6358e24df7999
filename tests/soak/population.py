"""Population: the service processes of a run on a fabric, and what a supervisor does with receivers that were killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import records
from fabric import Fabric, eventually
from records import Line

SERVICE = Path(__file__).with_name("service.py")


@dataclass(slots=True)
class Service:
    """One process on `node`, and the file it writes."""

    role: str
    node: str
    options: dict[str, object]
    record: Path
    process: "subprocess.Popen[bytes]"
    killed: bool = False

    @property
    def topic(self) -> object:
        return self.options["topic"]

    def lines(self) -> list[Line]:
        """What it wrote so far."""
        return list(records.read([self.record] if self.record.exists() else []))

    def is_up(self) -> bool:
        """Everybody begins with this line."""
        return self.record.exists() and self.record.stat().st_size > 0

    def end(self, within: float = 30.0) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        self.killed = True
        self.process.kill()
        self.process.wait()


@dataclass
class Population:
    """Services on `fabric`; whatever still runs at `close` is killed."""

    fabric: Fabric
    services: list[Service] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)

    @classmethod
    @contextmanager
    def on(cls, fabric: Fabric) -> "Iterator[Population]":
        """Start `fabric`; close everything in the end."""
        population = cls(fabric)
        try:
            fabric.start()
            yield population
        finally:
            population.close()
            fabric.close()

    def start(self, role: str, node: str, **options: object) -> Service:
        """Start one, with these options of `service.py`, and do not wait."""
        record = self.fabric.directory / f"{role}-{node}-{next(self._numbers)}.record"
        command = [sys.executable, "-W", "ignore::DeprecationWarning", str(SERVICE), role]
        command += ["--config-file", str(self.fabric.config_file(node)), "--record", str(record)]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        with record.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.services.append(Service(role, node, options, record, process))
        return self.services[-1]

    def again(self, service: Service) -> Service:
        """Start another one like `service`."""
        return self.start(service.role, service.node, **service.options)

    def wait_up(self, within: float = 30.0) -> None:
        """Until all that run are up."""
        for service in self.services:
            if service.process.poll() is None:
                eventually(service.is_up, within)

    def of(self, role: str, topic: str = "") -> list[Service]:
        """All that ever ran in this role (on this topic)."""
        return [service for service in self.services if service.role == role and topic in {"", service.topic}]

    def lines(self, topic: str) -> Iterator[Line]:
        """What the services of `topic` wrote so far, those that have ended included."""
        return records.read([service.record for service in self.services if service.topic == topic])

    def run_on(self, seconds: float) -> None:
        """Let the load go on. A service that ends by itself is a failure."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for service in self.services:
                assert not service.process.poll() or service.killed, f"{service.record} ended by itself"
            time.sleep(min(left, 0.5))

    def close(self) -> None:
        for service in self.services:
            if service.process.poll() is None:
                service.process.kill()
            service.process.wait()


def kill_and_restart(fabric: Fabric, node: str) -> float:
    """`kill -9` the receiver and start it at once, as a supervisor would; the seconds until it answers."""
    begun = time.monotonic()
    fabric.kill(node)
    fabric.start(node)
    return time.monotonic() - begun
