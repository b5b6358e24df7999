"""A service that gets no processor for a while (a debugger, a migration, swap, a full machine) is not dead: it comes back."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from fabric import eventually

from benchmarks.beds import Worker, ZmqBed
from benchmarks.figures import TOPIC, fanout_topic

PAUSE = 4.5
"""Seconds; a service that is silent for 3 s counts as dead."""


@pytest.fixture
def bed() -> Iterator[ZmqBed]:
    """A client on n1, two processes for servers on n2."""
    made = ZmqBed("zmq")
    try:
        made.start()
        yield made
    finally:
        made.close()


def _casts_while_paused(bed: ZmqBed, paused: Worker, verb: str, **facts: object) -> int:
    """A second of load; half way through it `paused` is stopped, and goes on later. How many were sent."""

    def pause() -> None:
        os.kill(paused.pid, signal.SIGSTOP)
        time.sleep(PAUSE)  # the fault itself, not a wait for something
        os.kill(paused.pid, signal.SIGCONT)

    fault = threading.Timer(0.5, pause)
    fault.start()
    try:
        return int(bed.client.ask(verb, run="paused", callers=4, seconds=1.0, **facts)["sent"])
    finally:
        fault.join()


def test_a_service_that_was_paused_runs_nothing_that_another_one_ran_meanwhile(bed: ZmqBed) -> None:
    both = (bed.server, bed.listeners)
    for worker in both:
        worker.ask("serve", what="rpc")
        worker.ask("begin", topic=TOPIC, run="paused")
    sent = _casts_while_paused(bed, bed.listeners, "casts")

    def ran() -> int:
        return sum(int(worker.ask("tally", topic=TOPIC)["tallies"][0]["got"]) for worker in both)

    eventually(lambda: ran() >= sent)
    last = -1
    while last != (last := ran()):
        time.sleep(1)  # until nothing comes any more
    assert last == sent


def test_a_service_that_was_paused_gets_every_fanout(bed: ZmqBed) -> None:
    topic = fanout_topic(3)
    bed.listeners.ask("serve", what="listeners")
    bed.listeners.ask("begin", topic=topic, run="paused")
    sent = _casts_while_paused(bed, bed.listeners, "fanouts", topic=topic)
    eventually(lambda: all(tally["got"] == sent for tally in bed.listeners.ask("tally", topic=topic)["tallies"]), within=30)
    assert all(tally["doubled"] == 0 for tally in bed.listeners.ask("tally", topic=topic)["tallies"])
