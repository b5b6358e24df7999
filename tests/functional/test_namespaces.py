"""Services and receivers that cannot see each other's processes, as in containers: a service that stands still is given up after
3 s, and must not go on with what others were given meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import oslo_messaging
import pytest
from fabric import Fabric, eventually, inner
from program import MODES, Program

OWN_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
STANDS_STILL = 7.0
"""Seconds; a service that cannot be seen is given up after 3 s of silence."""

CASTS, CALLS = 100, 20


@pytest.fixture
def fabric(make_fabric: Callable[..., Fabric]) -> Fabric:
    made = make_fabric(nodes=1, ring={"counted": ["n1"]}, start=False)
    made.under = OWN_NAMESPACE
    made.start()
    return made


@pytest.fixture
def consumers(fabric: Fabric, request: pytest.FixtureRequest) -> Iterator[list[Program]]:
    """Two servers of one topic, the first of them in a namespace of its own."""
    mode = request.param
    started = [
        Program("count", mode, fabric, "counted", "first", under=OWN_NAMESPACE),
        Program("count", mode, fabric, "counted", "second"),
    ]
    try:
        for program in started:
            program.hear("serves")
        yield started
    finally:
        for program in started:
            program.close()


@pytest.mark.parametrize("consumers", MODES, indirect=True)
def test_a_service_that_stands_still_for_seven_seconds_runs_nothing_that_another_one_was_given(
    fabric: Fabric, consumers: list[Program]
) -> None:
    first = inner(consumers[0].process.pid)
    client = fabric.client("n1", "counted", timeout=60.0)
    outcomes: Counter[str] = Counter()

    def call(number: int) -> None:
        try:
            assert client.call({}, "work", number=number) == number
            outcomes["answered"] += 1
        except oslo_messaging.MessageDeliveryFailure:
            outcomes["failed early"] += 1  # the server that had begun it was given up: one outcome, and it ran

    with ThreadPoolExecutor(CALLS) as pool:
        for number in range(CASTS):
            client.cast({}, "work", number=number)
        calls = [pool.submit(call, CASTS + number) for number in range(CALLS)]
        consumers[0].hear("ran")
        os.kill(first, signal.SIGSTOP)
        try:
            time.sleep(STANDS_STILL)  # the fault itself, not a wait for something
        finally:
            os.kill(first, signal.SIGCONT)
        for done in calls:
            done.result()

    def ran() -> Counter[int]:
        return Counter(facts["ran"] for program in consumers for facts in list(program.said) if "ran" in facts)

    eventually(lambda: len(ran()) == CASTS + CALLS, within=30)
    last = -1
    while last != (last := ran().total()):
        time.sleep(1)  # until nothing comes any more
    assert {number: times for number, times in ran().items() if times > 1} == {}
    assert outcomes.total() == CALLS
    assert fabric.counter("n1", "clients_lost") == 1
    assert fabric.counter("n1", "orphaned") > 0, "it held nothing that went to the other: this proves nothing"
    # It is a consumer again.
    eventually(lambda: fabric.client("n1", "counted", server="first").call({}, "work", number=-1) == -1)


def test_a_receiver_that_cannot_see_its_services_says_so_once_in_its_log_and_its_status(fabric: Fabric) -> None:
    for number in range(3):
        fabric.server("n1", "counted", object(), server=f"s{number}")
    status = eventually(lambda: (found := fabric.status("n1")) and found["unseen"] and found)
    assert status["unseen"] == status["services"]
    shown = subprocess.run(
        ["zmqctl", "status", "--config-file", str(fabric.config_file("n1"))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"},
    ).stdout
    assert f"the processes of {status['unseen']} services cannot be seen" in shown
    assert fabric.log("n1").read_text().count("cannot see the process of") == 1
