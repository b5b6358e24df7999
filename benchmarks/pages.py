"""Pages: puts a run's figures into `docs/performance.md` (between its two marks) and draws `docs/performance.svg`.

    python -m benchmarks.pages .build/bench/<time>.json

So no figure is ever typed into the docs by hand.
"""

import json
from pathlib import Path
from typing import Any

import click

from benchmarks import chart
from benchmarks.figures import MEASURES, NAMES, PLAIN
from benchmarks.table import bars

DOCS = Path(__file__).parent.parent / "docs"
_BEGIN = "<!-- made by benchmarks/pages.py from here -->"
_END = "<!-- to here -->"


def write(data: dict[str, Any], docs: Path = DOCS) -> None:
    """Refresh the page and the chart."""
    (docs / "performance.svg").write_text(chart.svg(data))
    page = docs / "performance.md"
    before, _, rest = page.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    page.write_text(f"{before}{_BEGIN}\n\n{figures(data)}\n\n{_END}{after}")


def figures(data: dict[str, Any]) -> str:
    """The figures as Markdown."""
    return "\n\n".join(part for part in (_setting(data), _measures(data), _bars(data), _costs(data), _receiver(data)) if part)


def _setting(data: dict[str, Any]) -> str:
    machine, versions, settings = data["machine"], data["versions"], data["settings"]
    rounds = f"{settings['rounds']} interleaved rounds of {settings['seconds']:g} s each, medians"
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "commit")
    return (
        f"Measured at commit {versions['commit'] or 'unknown'} on {machine['cores']} cores ({machine['processor']},"
        f" {machine['memory_gib']} GiB, Linux {machine['kernel']}), {rounds}."
        f" The load of the machine before the run was {machine['load_before']}.\n\n{named}."
    )


def _measures(data: dict[str, Any]) -> str:
    measures = data["measures"]
    beds = list(dict.fromkeys(bed for found in measures.values() for bed in found))
    rows = []
    for measure in MEASURES:
        found = measures.get(measure.name)
        if not found:
            continue
        if measure.verb == "calls":
            for figure in ("p50", "p99"):
                title = f"{figure} in ms" + measure.title.removeprefix("calls/s")
                rows.append([title, *(f"{found[bed][figure]:.2f}" if bed in found else "" for bed in beds)])
        rows.append([measure.title, *(f"{found[bed]['rate']:,.0f}" if bed in found else "" for bed in beds)])
    return _table(["1 KiB messages", *(NAMES.get(bed, bed) for bed in beds)], rows)


def _bars(data: dict[str, Any]) -> str:
    rows = [[what, asked, found, "met" if met else "**missed**"] for what, asked, found, met in bars(data)]
    return _table(["bar of the design", "asked", "found", ""], rows)


def _costs(data: dict[str, Any]) -> str:
    rows = []
    for bed, processes in data["rss"].items():
        for process, rss in processes.items():
            costs = [
                data["measures"].get(measure, {}).get(bed, {}).get("cpu_us", {}).get(process)
                for measure in ("calls_8", "casts_8")
            ]
            rows.append(
                [
                    f"{NAMES.get(bed, bed)}: {process}",
                    f"{rss / 2**20:.0f}",
                    *("" if cost is None else f"{cost:.0f}" for cost in costs),
                ]
            )
    return _table(["process", "RSS, MiB", "CPU µs a call, 8 callers", "CPU µs a cast, 8 callers"], rows)


def _receiver(data: dict[str, Any]) -> str:
    rows = [
        [
            f"{path} (no answers)" if path == PLAIN else path,
            f"{found['rate']:,.0f}",
            f"{found['cpu_us']:.1f}",
            f"{1e6 / found['cpu_us']:,.0f}",
        ]
        for path, found in data["receiver"].items()
    ]
    return _table(["one process in the middle", "messages/s", "CPU µs a message", "a whole core would carry"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


@click.command()
@click.argument("json_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(json_file: Path) -> None:
    """Put the figures of JSON_FILE into the docs."""
    write(json.loads(json_file.read_text()))


if __name__ == "__main__":
    main()
