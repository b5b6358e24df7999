"""The run: `python -m benchmarks`, or `make bench`.

Rounds are interleaved: each measure is taken on one bed after the other before the next begins, and all of it several times, so
that a noisy machine is unfair to everyone alike. A lost reply, a lost delivery or one that came twice ends the run.
"""

import datetime
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import pages
from benchmarks.beds import BEDS, CHECKOUT, Bed, BenchmarkError
from benchmarks.figures import MEASURES, PLAIN, Measure
from benchmarks.flood import PATHS, flood
from benchmarks.results import Results
from benchmarks.table import show

RECEIVER = "receiver"
_WARM_UP = 0.3
_DELIVERED_WITHIN = 20.0
_LOOK_EVERY = 0.01
_QUICK_SECONDS, _QUICK_ROUNDS = 0.5, 1
_SECONDS, _ROUNDS = 2.0, 5
_LOG_WIDTH = 110


def measure_once(bed: Bed, measure: Measure, run: str, seconds: float) -> dict[str, Any]:
    """One measure on one bed: rate, latency, and processor time a message.

    :raises BenchmarkError: not every message was delivered, or one was delivered twice.
    """
    serving = bed.server if measure.verb == "casts" else bed.listeners
    if measure.topic:
        serving.ask("begin", topic=measure.topic, run=run)
    facts = {"topic": measure.topic} if measure.verb == "fanouts" else {}
    before = bed.cpu()
    load = bed.client.ask(measure.verb, run=run, callers=measure.callers, seconds=seconds, **facts)
    sent, ended = load["sent"], load["ended"]
    if measure.topic:
        ended = _delivered(bed.name, serving, measure, sent)
    messages = sent * measure.listeners
    return {
        "rate": messages / (ended - load["begun"]),
        "p50": load["p50"] * 1000,
        "p99": load["p99"] * 1000,
        "cpu_us": {role: (used - before[role]) / messages * 1e6 for role, used in bed.cpu().items()},
    }


def _delivered(bed: str, serving: Any, measure: Measure, sent: int) -> float:
    """When the last of `sent` messages was delivered; each of them to each listener once."""
    deadline = time.monotonic() + _DELIVERED_WITHIN
    while True:
        tallies = serving.ask("tally", topic=measure.topic)["tallies"]
        if any(tally["doubled"] for tally in tallies):
            raise BenchmarkError(f"{bed}: {measure.title}: deliveries came twice: {tallies}")
        if all(tally["got"] == sent for tally in tallies):
            return float(max(tally["last"] for tally in tallies))
        if time.monotonic() > deadline:
            raise BenchmarkError(
                f"{bed}: {measure.title}: sent {sent}, {_DELIVERED_WITHIN:g} s later the listeners have {tallies}"
            )
        time.sleep(_LOOK_EVERY)


class Run:
    """All rounds on all beds."""

    def __init__(self, beds: list[str], receiver: bool, seconds: float, rounds: int, console: Console) -> None:
        self._names, self._receiver = beds, receiver
        self._seconds, self._rounds = seconds, rounds
        self._console = console
        self.results = Results({"seconds": seconds, "rounds": rounds, "only": [*beds, *([RECEIVER] if receiver else [])]})

    def go(self) -> None:
        """Start the beds, take all rounds, stop the beds."""
        with ExitStack() as stack:
            try:
                self._take(stack)
            except BaseException:
                signal.signal(
                    signal.SIGINT, signal.SIG_IGN
                )  # whoever is impatient must not keep us from stopping what we started
                raise

    def _take(self, stack: ExitStack) -> None:
        beds = [self._start(name, stack) for name in self._names]
        floods = [PLAIN, *PATHS] if self._receiver else []
        steps = self._rounds * (len(MEASURES) * len(beds) + len(floods))
        progress = stack.enter_context(self._progress())
        task = progress.add_task("", total=steps)
        for number in range(self._rounds):
            for measure in MEASURES if beds else ():
                for bed in beds:
                    progress.update(task, description=f"{bed.name}: {measure.title}")
                    run = f"{number}/{measure.name}"
                    if number == 0:
                        measure_once(bed, measure, f"warm/{measure.name}", min(_WARM_UP, self._seconds))
                    self.results.add(measure.name, bed.name, measure_once(bed, measure, run, self._seconds))
                    progress.advance(task)
            for path in floods:
                progress.update(task, description=f"one receiver: {path}")
                self.results.add_receiver(path, flood(path, self._seconds))
                progress.advance(task)
        for bed in beds:
            self.results.rss[bed.name] = bed.rss()

    def _start(self, name: str, stack: ExitStack) -> Bed:
        bed = BEDS[name]()
        stack.callback(bed.close)
        with self._console.status(f"starting {name}"):
            bed.start()
            bed.server.ask("serve", what="rpc")
            bed.listeners.ask("serve", what="listeners")
        self.results.facts |= bed.facts
        return bed

    def _progress(self) -> Progress:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        return Progress(*columns, console=self._console, transient=True)


@click.command()
@click.option("--quick", is_flag=True, help="One short round: figures to look at, not to quote.")
@click.option("--only", help=f"Comma-separated: {', '.join([*BEDS, RECEIVER])}. Default: all.")
@click.option("--seconds", type=click.FloatRange(0.1, 60), help=f"Of each measure; default {_SECONDS:g}.")
@click.option("--rounds", type=click.IntRange(1, 100), help=f"How often; the median counts; default {_ROUNDS}.")
@click.option("--docs", is_flag=True, help="Put the figures and the chart into docs/performance.md.")
@click.option("--output", type=click.Path(path_type=Path), help="The JSON file; default: .build/bench/<time>.json.")
def main(quick: bool, only: str | None, seconds: float | None, rounds: int | None, docs: bool, output: Path | None) -> None:
    """Measure this driver, RabbitMQ's and a transport that costs nothing, side by side."""
    chosen = only.split(",") if only else [*BEDS, RECEIVER]
    for name in chosen:
        if name not in BEDS and name != RECEIVER:
            raise click.BadParameter(f"{name} is none of {', '.join([*BEDS, RECEIVER])}", param_hint="--only")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)
    run = Run(
        [name for name in chosen if name != RECEIVER],
        RECEIVER in chosen,
        seconds or (_QUICK_SECONDS if quick else _SECONDS),
        rounds or (_QUICK_ROUNDS if quick else _ROUNDS),
        console,
    )
    if os.getloadavg()[0] > 1:
        console.print(f"[yellow]this machine is busy (load {os.getloadavg()[0]:.1f}): the ratios will be noisy[/]")
    try:
        run.go()
    except BenchmarkError as exc:
        raise click.ClickException(str(exc)) from None
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; everything that was started is stopped") from None
    path = output or CHECKOUT / ".build" / "bench" / f"{datetime.datetime.now():%Y%m%d-%H%M%S}.json"
    data = run.results.write(path)
    show(data, console)
    console.print(f"written to {os.path.relpath(path)}")
    if docs:
        pages.write(data)


if __name__ == "__main__":
    main()
