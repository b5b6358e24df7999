"""One process that runs tests of oslo.messaging's functional suite, in one mode, against the receiver below a directory.

    python tests/oslo/worker.py eventlet|native IPC_DIR

It first says what there is to run, then runs what it is told: a name per line in, a JSON object per line out. `eventlet` is the
suite as it ships: importing it patches the process. `native` leaves that import out and gives servers the threading executor.
Where the driver finds its receiver is an option's default here, because the suite makes configurations of its own and no URL
can carry it (the suite reads every URL as Kafka's, too).
"""

import importlib.util
import json
import os
import sys
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from oslo_config import cfg
from oslo_service import backend

from openstack_zeromq import options

PACKAGE = "oslo_messaging.tests"
SUITE = f"{PACKAGE}.functional"


def main() -> None:
    mode, ipc_dir = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what tests print is not an answer
    cfg.set_defaults(dict(options.list_opts())[options.GROUP], rpc_zmq_ipc_dir=ipc_dir, rpc_zmq_matchmaker="dummy")
    os.environ.update(RPC_TRANSPORT_URL="zmq://", NOTIFY_TRANSPORT_URL="zmq://")
    if mode == "native":
        go_native()
    tests = load()
    say(answers, names=sorted(tests), patched=patched())
    for line in sys.stdin:
        name = line.strip()
        say(answers, **run(tests[name]))


def go_native() -> None:
    """The suite's package patches the process with eventlet when it is imported: give it to Python as if it had been.
    From here on nothing can import eventlet at all."""
    sys.modules["eventlet"] = None  # type: ignore[assignment]
    backend.init_backend(backend.BackendType.THREADING)
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    from oslo_messaging import server  # noqa: PLC0415 - only after the backend was chosen

    make = server.MessageHandlingServer.__init__

    def make_threaded(self: Any, transport: Any, dispatcher: Any, executor: str | None = None) -> None:
        """Most fixtures of the suite ask for the eventlet executor by name."""
        make(self, transport, dispatcher, executor="threading")

    server.MessageHandlingServer.__init__ = make_threaded


def load() -> dict[str, unittest.TestCase]:
    """All tests by name: the suite's own, and those that it skips without need."""
    loader = unittest.TestLoader()
    suite = importlib.import_module(SUITE)
    found = loader.discover(suite.__path__[0], top_level_dir=str(Path(suite.__path__[0]).parents[2]))
    unskipped = importlib.import_module("unskipped")
    return {test.id(): test for part in (found, unskipped.suite()) for test in flatten(part)}


def flatten(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    if isinstance(suite, unittest.TestCase):
        yield suite
        return
    for part in suite:
        yield from flatten(part)


def run(test: unittest.TestCase) -> dict[str, object]:
    """The outcome of one test: passed, skipped or failed, why, and how long it took."""
    result = unittest.TestResult()
    begun = time.monotonic()
    test.run(result)
    wrong = [text for _, text in result.errors + result.failures]
    wrong += ["an unexpected success"] * len(result.unexpectedSuccesses)
    why = "\n".join(wrong or [reason for _, reason in result.skipped])
    outcome = "failed" if wrong or not result.testsRun else "skipped" if result.skipped else "passed"
    return {"outcome": outcome, "why": why, "seconds": time.monotonic() - begun}


def patched() -> bool:
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread"))


def say(answers: TextIO, **facts: object) -> None:
    answers.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
