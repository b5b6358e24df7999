"""What a benchmark run says of its rounds: medians, verdicts, chart, page."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import chart, pages
from benchmarks.figures import BARS, MEASURES, Bar
from benchmarks.results import Results
from benchmarks.table import bars


def _data(rates: dict[str, list[float]], p50: float = 1.0) -> dict[str, Any]:
    """Every measure at `rates` (bed -> one rate a round)."""
    results = Results({"seconds": 1.0, "rounds": len(next(iter(rates.values())))})
    for measure in MEASURES:
        for bed, rounds in rates.items():
            for rate in rounds:
                results.add(measure.name, bed, {"rate": rate, "p50": p50, "p99": 2.0, "cpu_us": {"client": 1e6 / rate}})
    for path in ("plain pyzmq", "service-link", "link-listener"):
        results.add_receiver(path, {"rate": 25_000.0, "cpu_us": 40.0, "rss": 1 << 20})
    results.rss = {bed: {"client": float(1 << 20)} for bed in rates}
    return json.loads(json.dumps(results.data()))


def test_an_even_number_of_rounds_has_a_median_too() -> None:
    assert _data({"zmq": [100.0, 200.0]})["measures"]["casts_8"]["zmq"]["rate"] == 150.0


def test_the_median_of_each_figure_counts_and_every_round_is_kept() -> None:
    found = _data({"zmq": [100.0, 900.0, 500.0]})["measures"]["casts_8"]["zmq"]
    assert (found["rate"], found["cpu_us"]["client"], found["rounds"]) == (500.0, 2000.0, [100.0, 900.0, 500.0])


@pytest.mark.parametrize(("ours", "met"), [(24.9, True), (25.0, True), (25.1, False)])
def test_a_bar_for_time_is_met_from_below(ours: float, met: bool) -> None:
    assert Bar("calls_1", "p50", "rabbit", 0.25, at_most=True).met(ours, 100.0) is met


@pytest.mark.parametrize(("ours", "met"), [(499.0, False), (500.0, True), (501.0, True)])
def test_a_bar_for_a_rate_is_met_from_above(ours: float, met: bool) -> None:
    assert Bar("casts_8", "rate", "rabbit", 5.0).met(ours, 100.0) is met


def test_each_bar_whose_figures_are_there_has_a_verdict() -> None:
    assert len(bars(_data({"zmq": [1.0], "curve": [1.0], "rabbit": [1.0], "null": [1.0]}))) == len(BARS) + 2
    assert [met for what, _, _, met in bars(_data({"zmq": [1.0]})) if "receiver" in what] == [True, True]


def test_the_chart_is_an_svg_that_names_every_transport() -> None:
    drawn = chart.svg(_data({"zmq": [1234.0], "rabbit": [321.0], "null": [5678.0]}))
    texts = {element.text for element in ElementTree.fromstring(drawn).iter() if element.text}  # noqa: S314 - our own
    assert {"this driver", "RabbitMQ", "null transport", "1,234", "service-link"} <= texts


def test_the_page_is_refreshed_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text((pages.DOCS / "performance.md").read_text())
    pages.write(_data({"zmq": [1111.0]}), tmp_path)
    once = page.read_text()
    pages.write(_data({"zmq": [2222.0]}), tmp_path)
    twice = page.read_text()
    assert "| casts/s delivered, 8 callers | 1,111 |" in once
    assert "1,111" not in twice
    assert twice.replace("2,222", "1,111").replace("450", "900") == once.replace("450", "900")
    assert once.startswith("# Performance\n")
    assert once.rstrip().endswith("does not.")
