"""The benchmarks run: a benchmark that nobody starts for a month is broken when it is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import MEASURES
from benchmarks.flood import PATHS, PLAIN

CHECKOUT = Path(__file__).parent.parent.parent


def test_a_short_run_measures_everything_but_rabbitmq(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    options = ["--only", "zmq,curve,null,receiver", "--rounds", "2", "--seconds", "0.1", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert {name: set(beds) for name, beds in found["measures"].items()} == {
        measure.name: {"zmq", "curve", "null"} for measure in MEASURES
    }
    assert set(found["receiver"]) == {PLAIN, *PATHS}
    rates = [figures["rate"] for beds in (*found["measures"].values(), found["receiver"]) for figures in beds.values()]
    assert all(rate > 0 for rate in rates)
    assert found["rss"]["zmq"]["receivers"] > 0


def test_the_least_that_six_hops_can_take_is_measured() -> None:
    options = ["--calls", "100", "--work", "0", "--work", "100"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hops", *options], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    idle, busy = (json.loads(line) for line in done.stdout.splitlines())
    assert 0 < idle["p50_ms"] <= idle["p99_ms"]
    assert busy["p50_ms"] > 0.6  # six passes of 100 µs each


@pytest.mark.parametrize(
    ("what", "counted"), [([], "refused_handshakes"), (["--storm"], "refused_handshakes"), (["--flood"], "arrived")]
)
def test_what_besets_the_door_is_counted_and_the_receiver_lives(what: list[str], counted: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.door", *what, "--seconds", "2", "--rate", "300", "--json"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["alive"]
    assert found["beset"][0]["counted_per_s"][counted] > 100
    assert found["rss_grew_mib"] < 20
    assert all(one["calls_per_s"] > 0 for one in found["beset"])
