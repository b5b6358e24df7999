"""The matrix: who reached whom, and in how many milliseconds, on one screen.

Rows are senders, columns receivers. Colour only repeats what the words say, so it reads as well in a log file.
"""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from openstack_zeromq.cli.page import page
from openstack_zeromq.cli.report import Outcome, Report, ReportError

GOOD, BAD = "green", "bold red"


def draw(reports: Sequence[Report]) -> Group:
    """The table, a line for each failure, and the summary."""
    failures = [Text(f"FAILED  {sentence}", style=BAD) for report in reports for sentence in report.failures()]
    return Group(_table(reports), *failures, _summary(reports))


def text(reports: Sequence[Report], *, colour: bool, width: int = 100) -> str:
    """`draw` as a string, for whoever has no rich console."""
    console = Console(file=io.StringIO(), force_terminal=colour, no_color=not colour, width=width, highlight=False)
    with console.capture() as capture:
        console.print(draw(reports), end="")
    return capture.get().rstrip()


def load(data: object) -> list[Report]:
    """Reports out of decoded JSON, in the order of their nodes' names.

    :raises ReportError: when it is no list of reports.
    """
    if not isinstance(data, list):
        raise ReportError(f"expected a list of reports, not {type(data).__name__}")
    return sorted((Report.from_json(item) for item in data), key=lambda report: report.node)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page for browsers there, too.")
def matrix(file: Path, html: Path | None) -> None:
    """Draw the reports in FILE, as the verification playbook wrote them; exit 1 if any of them failed."""
    try:
        reports = load(json.loads(file.read_bytes()))
    except (ValueError, ReportError) as fault:
        raise click.ClickException(f"{file}: {fault}") from None
    Console(highlight=False).print(draw(reports))
    if html is not None:
        try:
            html.write_text(page(reports), encoding="utf-8")
        except OSError as fault:
            raise click.ClickException(f"{html}: {fault.strerror}") from None
    if not all(report.ok for report in reports):
        raise SystemExit(1)


def _table(reports: Sequence[Report]) -> Table:
    peers = sorted({peer for report in reports for peer in report.calls})
    table = Table(title="calls from row to column, median round trip", title_style="", title_justify="left")
    table.add_column("from", no_wrap=True)
    for heading in (*peers, "any node", "fanout", "notification"):
        table.add_column(heading, justify="right", no_wrap=True)
    for report in reports:
        calls = [_time(report.calls[peer]) if peer in report.calls else Text("-") for peer in peers]
        table.add_row(report.node, *calls, _time(report.bare), _reached(report), _taken(report.notification))
    return table


def _time(outcome: Outcome) -> Text:
    return _cell(outcome.ok, "ok" if outcome.ms is None else f"{outcome.ms:.1f} ms")


def _reached(report: Report) -> Text:
    reached = sum(outcome.ok for outcome in report.fanout.values())
    words = f"{reached} of {len(report.fanout)}"
    return Text(words, style=GOOD if reached == len(report.fanout) else BAD)


def _taken(outcome: Outcome) -> Text:
    return _cell(outcome.ok, f"to {outcome.by}" if outcome.by else "ok")


def _cell(ok: bool, words: str) -> Text:
    return Text(words, style=GOOD) if ok else Text("FAILED", style=BAD)


def _summary(reports: Sequence[Report]) -> Text:
    counts = [
        _count("calls", (outcome.ok for report in reports for outcome in report.calls.values())),
        _count("bare calls", (report.bare.ok for report in reports)),
        _count("fanouts", (all(outcome.ok for outcome in report.fanout.values()) for report in reports)),
        _count("notifications", (report.notification.ok for report in reports)),
    ]
    return Text(", ".join(counts), style=GOOD if all(report.ok for report in reports) else BAD)


def _count(what: str, outcomes: Iterable[bool]) -> str:
    seen = list(outcomes)
    return f"{sum(seen)} of {len(seen)} {what}"
