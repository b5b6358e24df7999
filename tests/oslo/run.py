"""Run the functional suite that ships with oslo.messaging against `zmq://`, eventlet-patched and native, and count.

    python tests/oslo/run.py [eventlet|native ...]

Fails when a test fails, and when anything but the expected tests passed or was skipped: a suite that runs nothing cannot pass.
The suite is made to run in parallel, and most of its time it waits (each of the ten logging tests listens for 15 s whether more
comes); so several workers share it. Only its metrics test needs something of the machine: port 3000, one test at a time.
"""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "functional"))

from fabric import Fabric  # noqa: E402 - the receivers of our own tests

MODES = ("eventlet", "native")
WORKERS = 8
LONGEST = 120.0
"""Seconds after which a test that has no outcome has failed."""

METRICS_PORT = 3000

SUITE = "oslo_messaging.tests.functional"
CALLS = f"{SUITE}.test_functional.CallTestCase"
FAILOVER = f"{SUITE}.test_rabbitmq.RabbitMQFailoverTests"

PASSED = 29 + 2
SKIPPED = {
    f"{CALLS}.test_mandatory_call": "runs as UnskippedCallTestCase",
    f"{CALLS}.test_monitor_long_call": "runs as UnskippedCallTestCase",
    f"{FAILOVER}.test_failover_scenario": "a cluster of RabbitMQ",
    f"{FAILOVER}.test_failover_scenario_enable_cancel_on_failover": "a cluster of RabbitMQ",
}
"""What oslo.messaging 18.3 ships: 33 tests, of which 29 run and these do not; two of them we run ourselves."""


@dataclass(frozen=True)
class Outcome:
    """`result` is passed, skipped or failed."""

    name: str
    result: str
    why: str
    seconds: float


class Worker:
    """A process that runs one test after the other; killed with everything it started."""

    def __init__(self, mode: str, ipc_dir: Path, log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(HERE / "worker.py"), mode, str(ipc_dir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.alive = True
        self.facts = self._hear()

    def run(self, name: str) -> Outcome:
        begun = time.monotonic()
        facts = self._hear(name) if self.alive else {}
        if not facts:
            return Outcome(name, "failed", f"no outcome: the process died or hung for {LONGEST:.0f} s", time.monotonic() - begun)
        return Outcome(name, str(facts["outcome"]), str(facts["why"]), float(str(facts["seconds"])))

    def close(self) -> None:
        """Let it end by itself, then end what it may have left."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._kill()

    def _hear(self, said: str = "") -> dict[str, Any]:
        """What it says next (after `said`); nothing when it died, or is killed for saying nothing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(LONGEST, self._kill)
        timer.start()
        try:
            if said:
                self._process.stdin.write(said + "\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self.alive = False
            self._kill()
        return dict(json.loads(line)) if line else {}

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def run(mode: str) -> list[Outcome]:
    """Run the suite in `mode` with a receiver of its own."""
    fabric = Fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy"})
    try:
        fabric.start()
        log = fabric.directory / "workers.log"
        first = Worker(mode, fabric.ipc_dir("n1"), log)
        if not first.facts:
            raise SystemExit(f"the suite cannot be loaded:\n{log.read_text(errors='replace')}")
        if first.facts["patched"] is not (mode == "eventlet"):
            raise SystemExit(f"{mode}: the process is{'' if first.facts['patched'] else ' not'} patched")
        names: queue.SimpleQueue[str] = queue.SimpleQueue()
        for name in sorted(first.facts["names"], key=lambda name: ("test_logging" not in name, name)):  # the long ones first
            names.put(name)

        def work(worker: Worker) -> list[Outcome]:
            outcomes = []
            while not names.empty():
                with contextlib.suppress(queue.Empty):
                    outcomes.append(worker.run(names.get_nowait()))
                if not worker.alive:
                    worker.close()
                    worker = Worker(mode, fabric.ipc_dir("n1"), log)
            worker.close()
            return outcomes

        with ThreadPoolExecutor(WORKERS) as pool:
            workers = [first, *(Worker(mode, fabric.ipc_dir("n1"), log) for _ in range(WORKERS - 1))]
            outcomes = [outcome for part in pool.map(work, workers) for outcome in part]
    finally:
        fabric.close()
    return sorted(outcomes, key=lambda outcome: outcome.name)


def report(mode: str, outcomes: list[Outcome], seconds: float) -> list[str]:
    """Print what happened; return what is wrong with it."""
    count = {result: [outcome for outcome in outcomes if outcome.result == result] for result in ("passed", "skipped", "failed")}
    numbers = ", ".join(f"{len(found)} {result}" for result, found in count.items())
    print(f"oslo.messaging's functional suite, {mode}: {numbers} in {seconds:.0f} s")
    for outcome in outcomes:
        if outcome.result != "passed" or "Unskipped" in outcome.name:
            print(f"  {outcome.result:8}{outcome.name}{' (' + outcome.why + ')' if outcome.result == 'skipped' else ''}")
    slowest = sorted(outcomes, key=lambda outcome: -outcome.seconds)[:3]
    print("  slowest " + ", ".join(f"{outcome.name.rpartition('.')[2]} {outcome.seconds:.1f} s" for outcome in slowest))
    wrong = [f"{mode}: {outcome.name}\n{outcome.why}" for outcome in count["failed"]]
    names = {outcome.name for outcome in count["skipped"]}
    wrong += [f"{mode}: {name} was skipped" for name in sorted(names - set(SKIPPED))]
    wrong += [f"{mode}: {name} was not skipped" for name in sorted(set(SKIPPED) - names)]
    if len(count["passed"]) != PASSED:
        wrong.append(f"{mode}: {len(count['passed'])} tests passed, {PASSED} should; does this oslo.messaging ship other tests?")
    return wrong


def main(modes: Sequence[str]) -> int:
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # the suite starts `python3`
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", METRICS_PORT)) == 0:
            print(f"port {METRICS_PORT} of this machine is taken; the suite's metrics test needs it")
            return 1
    wrong: list[str] = []
    for mode in modes:
        begun = time.monotonic()
        wrong += report(mode, run(mode), time.monotonic() - begun)
    for line in wrong:
        print(f"\nWRONG {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or MODES))
