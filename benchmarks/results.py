"""Results: what a run found, as plain data. Rounds go in, medians come out, and the whole of it is one JSON file.

    {"machine": {…}, "versions": {…}, "settings": {…},
     "measures": {"<measure>": {"<bed>": {"rate": …, "p50": …, "p99": …, "cpu_us": {"<process>": …}}}},
     "rss": {"<bed>": {"<process>": bytes}},
     "receiver": {"<path>": {"rate": …, "cpu_us": …, "rss": …}}}

Rates are per second, p50 and p99 in milliseconds, cpu_us microseconds of processor time for each message. Each is the median of
its rounds, which stand beside it as `rounds`.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import zmq

Figures = dict[str, Any]

_PACKAGES = ("openstack-zeromq", "oslo.messaging", "pyzmq", "kombu", "amqp")


class Results:
    """Gathers rounds; `data` gives the medians."""

    def __init__(self, settings: Figures) -> None:
        self._settings = settings
        self._load_before = os.getloadavg()[0]
        self._measures: defaultdict[str, defaultdict[str, list[Figures]]] = defaultdict(lambda: defaultdict(list))
        self._receiver: defaultdict[str, list[Figures]] = defaultdict(list)
        self.rss: dict[str, dict[str, float]] = {}
        self.facts: dict[str, str] = {}

    def add(self, measure: str, bed: str, figures: Figures) -> None:
        self._measures[measure][bed].append(figures)

    def add_receiver(self, path: str, figures: Figures) -> None:
        self._receiver[path].append(figures)

    def data(self) -> Figures:
        return {
            "machine": {**machine(), "load_before": round(self._load_before, 2)},
            "versions": {**versions(), **self.facts},
            "settings": self._settings,
            "measures": {
                measure: {bed: median(rounds) for bed, rounds in beds.items()} for measure, beds in self._measures.items()
            },
            "rss": self.rss,
            "receiver": {path: median(rounds) for path, rounds in self._receiver.items()},
        }

    def write(self, path: Path) -> Figures:
        """Write the JSON; what was written."""
        data = self.data()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=2) + "\n")
        return data


def median(rounds: list[Figures]) -> Figures:
    """The median of each figure, one by one, and all rates, so that the noise shows."""
    found: Figures = {}
    for name, value in rounds[0].items():
        values = [figures[name] for figures in rounds]
        if isinstance(value, dict):
            found[name] = {key: statistics.median(each[key] for each in values) for key in value}
        else:
            found[name] = statistics.median(values)
    found["rounds"] = [figures["rate"] for figures in rounds]
    return found


def machine() -> Figures:
    """What the figures depend on besides us."""
    model = [line.partition(": ")[2] for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    memory = [line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal:")]
    return {
        "cores": os.cpu_count(),
        "processor": model[0] if model else platform.machine(),
        "memory_gib": round(int(memory[0]) / 2**20, 1) if memory else None,
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return {**found, "libzmq": zmq.zmq_version(), "Python": platform.python_version(), "commit": commit.stdout.strip()}


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""
