"""The matrix: who reached whom, and in how many milliseconds, on one screen.

Rows are senders, columns receivers. Where the columns do not fit, a row counts whom it reached instead; of very many rows only
those are drawn that an operator looks for, the failed and the slowest. Colour only repeats what the words say, so it reads as
well in a log file.
"""

import io
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from openstack_zeromq.cli.page import page
from openstack_zeromq.cli.report import Outcome, Report, ReportError

GOOD, BAD = "green", "bold red"
ROWS = 40
"""More rows than these are no picture any more."""
NAME_LENGTHS = (24, 16, 12, 8)
"""Characters of a node's name where whole ones do not fit, down to as few as a person can still recognise; the first that fits is
drawn."""


def draw(reports: Sequence[Report]) -> Group:
    """The table, a line for each failure, and the summary."""
    failures = [Text(f"FAILED  {sentence}", style=BAD) for report in reports for sentence in report.failures()]
    return Group(_Fitting(reports), *failures, _summary(reports))


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


class _Fitting:
    """The widest table that the screen has room for; long names lose their middle before it loses columns or cuts their ends."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self._reports = reports

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(width=10_000)
        for table in self._candidates():
            if Measurement.get(console, wide, table).maximum <= options.max_width:
                break
        yield table

    def _candidates(self) -> Iterator[Table]:
        """Yield what could be drawn, the best first."""
        names = {name for report in self._reports for name in (report.node, *report.calls)}
        longest = max(map(len, names), default=0)
        lengths = [longest, *(length for length in NAME_LENGTHS if length < longest)]
        for draw_table in (_table, _counts) if len(self._reports) <= ROWS else (_counts,):
            for length in lengths:
                short = shortened(names, length)
                yield draw_table([_renamed(report, short) for report in self._reports])


def shortened(names: Iterable[str], length: int) -> dict[str, str]:
    """Return each of `names` with at most `length` characters, or with as few more as keep them distinct.

    The middle is cut out, or, where only that tells them apart, what all begin and end with.
    """
    known = sorted(set(names))
    if max(map(len, known), default=0) <= length:
        return dict(zip(known, known, strict=True))
    head = _alike(known)
    tail = _alike([name[head:][::-1] for name in known])
    cuts = [{name: _without_middle(name, length, end) for name in known} for end in range((length - 1) // 2, length)]
    cuts.append({name: f"…{name[head : len(name) - tail]}…" for name in known})
    cuts.append(dict(zip(known, known, strict=True)))
    distinct = [cut for cut in cuts if len(set(cut.values())) == len(known)]
    return min(distinct, key=lambda cut: max([length, *map(len, cut.values())]))


def _alike(names: Sequence[str]) -> int:
    """Return with how many equal characters all names begin."""
    first, last = min(names), max(names)
    differences = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return next(differences, len(first))


def _without_middle(name: str, length: int, end: int) -> str:
    """Return `name` with at most `length` characters, of which `end` are its last ones."""
    return name if len(name) <= length else f"{name[: length - 1 - end]}…{name[len(name) - end :]}"


def _renamed(report: Report, short: Mapping[str, str]) -> Report:
    """Return a report in which all nodes have short names."""

    def by(outcome: Outcome) -> Outcome:
        return replace(outcome, by=short.get(outcome.by, outcome.by)) if outcome.by else outcome

    calls = {short[peer]: by(outcome) for peer, outcome in report.calls.items()}
    return replace(report, node=short[report.node], calls=calls, bare=by(report.bare), notification=by(report.notification))


def _table(reports: Sequence[Report]) -> Table:
    """A column for every node."""
    peers = sorted({peer for report in reports for peer in report.calls})
    table = _headed("calls from row to column, median round trip", *peers)
    for report in reports:
        calls = [_time(report.calls[peer]) if peer in report.calls else Text("-") for peer in peers]
        table.add_row(report.node, *calls, _time(report.bare), _reached(report), _taken(report.notification))
    return table


def _counts(reports: Sequence[Report]) -> Table:
    """How many nodes a row has reached, and which was the slowest."""
    table = _headed("calls from row to all nodes, median round trip", "reached", "median", "slowest")
    drawn = sorted(sorted(reports, key=_urgency)[:ROWS], key=lambda report: report.node)
    for report in drawn:
        table.add_row(report.node, *_called(report), _time(report.bare), _reached(report), _taken(report.notification))
    if len(drawn) < len(reports):
        table.caption = f"of {len(reports)} rows those that failed, and the slowest"
    return table


def _headed(title: str, *columns: str) -> Table:
    table = Table(title=title, title_style="", title_justify="left", caption_style="", caption_justify="left")
    table.add_column("from", no_wrap=True)
    for heading in (*columns, "any node", "fanout", "notification"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _urgency(report: Report) -> tuple[bool, float]:
    """What failed comes first, then what was slow."""
    return report.ok, -max(_times(report), default=0.0)


def _called(report: Report) -> tuple[Text, Text, Text]:
    answered = sum(outcome.ok for outcome in report.calls.values())
    words = Text(f"{answered} of {len(report.calls)}", style=GOOD if answered == len(report.calls) else BAD)
    times = _times(report)
    if not times:
        return words, Text("-"), Text("-")
    slowest = max((outcome.ms, peer) for peer, outcome in report.calls.items() if outcome.ok and outcome.ms is not None)
    return words, Text(f"{statistics.median(times):.1f} ms"), Text(f"{slowest[0]:.1f} ms {slowest[1]}")


def _times(report: Report) -> list[float]:
    return [outcome.ms for outcome in report.calls.values() if outcome.ok and outcome.ms is not None]


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
