"""The load on a store is measured by scripts: they run, with few nodes here, and print every figure that the docs show."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "COLUMNS": "160"}


def _printed(module: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("program", ["redis7", "valkey"])
def test_the_load_on_redis_is_measured(program: str) -> None:
    printed = _printed("benchmarks.redis_load", "--nodes", "30", "--program", program)
    figures = ("a beat: processor", "memory of all registrations", "knows all hosts", "hosts(topic) from memory", "300 nodes")
    assert all(figure in printed for figure in figures), printed


def test_the_load_on_consul_is_measured() -> None:
    printed = _printed("benchmarks.consul", "--nodes", "30")
    assert all(figure in printed for figure in ("memory of Consul", "knows all hosts", "a host leaves", "300 nodes")), printed
