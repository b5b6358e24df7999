"""Table: what a run found, for people: the figures, the bars that were met and missed, what it costs."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from benchmarks.figures import BARS, MEASURES, PLAIN, RECEIVER_BAR, Bar

_OURS = "zmq"


def show(data: dict[str, Any], console: Console) -> None:
    """Print all that `data` has."""
    if data["measures"]:
        console.print(_figures(data["measures"]))
        console.print(_costs(data))
    if data["receiver"]:
        console.print(_receiver(data["receiver"]))
    verdicts = bars(data)
    if verdicts:
        console.print(_bars(verdicts))


def bars(data: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """What was asked, what it is, the verdict; only for bars whose figures are there."""
    found = []
    for bar in BARS:
        beds = data["measures"].get(bar.measure, {})
        if bar.of in beds and bar.than in beds:
            ours, theirs = beds[bar.of][bar.figure], beds[bar.than][bar.figure]
            found.append((_title(bar), f"{bar} {bar.than}", f"{ours / theirs:.2f} ×", bar.met(ours, theirs)))
    for path, figures in data["receiver"].items():
        if path in ("service-link", "link-listener"):
            rate = figures["rate"]
            found.append((f"one receiver, {path}, messages/s", f"≥ {RECEIVER_BAR:,}", f"{rate:,.0f}", rate >= RECEIVER_BAR))
    return found


def _title(bar: Bar) -> str:
    title = next(measure.title for measure in MEASURES if measure.name == bar.measure)
    title = title if bar.figure == "rate" else title.replace("calls/s", bar.figure)
    return title if bar.of == _OURS else f"{title}, {bar.of}"


def _figures(measures: dict[str, Any]) -> Table:
    beds = list(dict.fromkeys(bed for found in measures.values() for bed in found))
    table = Table("figure", *(_right(bed) for bed in beds), title="1 KiB messages, native threads, one server process")
    for measure in MEASURES:
        found = measures.get(measure.name)
        if not found:
            continue
        table.add_row(measure.title, *(f"{found[bed]['rate']:,.0f}" if bed in found else "" for bed in beds))
        if measure.verb == "calls":
            pairs = (f"{found[bed]['p50']:.2f} / {found[bed]['p99']:.2f}" if bed in found else "" for bed in beds)
            table.add_row("  p50 / p99, ms", *pairs)
    return table


def _costs(data: dict[str, Any]) -> Table:
    table = Table("process", _right("RSS, MiB"), _right("CPU µs a call"), _right("CPU µs a cast"), title="What it costs")
    for bed, processes in data["rss"].items():
        table.add_section()
        for process, rss in processes.items():
            costs = (_cost(data["measures"], measure, bed, process) for measure in ("calls_8", "casts_8"))
            table.add_row(f"{bed}: {process}", f"{rss / 2**20:.0f}", *costs)
    return table


def _cost(measures: dict[str, Any], measure: str, bed: str, process: str) -> str:
    cost = measures.get(measure, {}).get(bed, {}).get("cpu_us", {}).get(process)
    return "" if cost is None else f"{cost:,.0f}"


def _receiver(paths: dict[str, Any]) -> Table:
    table = Table(
        "path", _right("messages/s"), _right("CPU µs a message"), _right("a whole core would carry"), _right("RSS, MiB")
    )
    table.title = "One receiver process: messages forwarded and answered"
    for path, figures in paths.items():
        name = f"{path} (no answers)" if path == PLAIN else path
        cost = figures["cpu_us"]
        table.add_row(name, f"{figures['rate']:,.0f}", f"{cost:.1f}", f"{1e6 / cost:,.0f}", f"{figures['rss'] / 2**20:.0f}")
    return table


def _bars(verdicts: Iterable[tuple[str, str, str, bool]]) -> Table:
    table = Table("bar", "asked", _right("found"), "", title="Bars of DESIGN.md section 8")
    for what, asked, found, met in verdicts:
        table.add_row(what, asked, found, "[green]met[/]" if met else "[red]missed[/]")
    return table


def _right(header: str) -> Column:
    return Column(header, justify="right")
