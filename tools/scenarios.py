"""Run scenarios of molecule/, some at a time, and tell how they go.

    .venv/bin/python tools/scenarios.py [--at-a-time 2] [default redis ...]

All that a scenario prints goes to .build/molecule/<scenario>.log; here each of its steps has a line. What failed is
shown last, where the log of a build server is looked at first. Those that take longest start first.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

CHECKOUT = Path(__file__).resolve().parent.parent
LOGS = CHECKOUT / ".build" / "molecule"
LONGEST_FIRST = ("rolling", "example", "catalog", "default", "other", "redis", "local")
WIDTH = 200  # columns of what goes to the log: molecule wraps at that
SHOWN = 25  # lines of each fault

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FRAME = re.compile(r"^\s*│ ?")
STEP = re.compile(r"➜ (?P<step>[a-z_]+): (?P<what>Executing|Executed: (?:Successful|Failed))")
FAULT = re.compile(r"^(fatal: |CRITICAL (?!Ansible return code))")
NEXT = re.compile(r"^(TASK \[|PLAY |ok: |changed: |skipping: |\[ERROR\]|INFO |WARNING |ERROR |CRITICAL | +[┌└])")

console = Console(highlight=False, soft_wrap=True)


@dataclass
class Run:
    """One scenario from its first step to its last."""

    scenario: str
    failed: bool = False
    seconds: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return LOGS / f"{self.scenario}.log"


def main() -> None:
    parser = argparse.ArgumentParser(description="Run scenarios of molecule/, some at a time.")
    parser.add_argument("scenarios", nargs="*", default=LONGEST_FIRST, help="which (default: all)")
    parser.add_argument("--at-a-time", type=int, default=2, metavar="N", help="how many (default: 2)")
    asked = parser.parse_args()
    unknown = [name for name in asked.scenarios if not (CHECKOUT / "molecule" / name / "molecule.yml").is_file()]
    if unknown:
        parser.error(f"molecule/ has no {', '.join(unknown)}; it has {', '.join(sorted(LONGEST_FIRST))}")
    LOGS.mkdir(parents=True, exist_ok=True)
    order = sorted(asked.scenarios, key=LONGEST_FIRST.index)
    with ThreadPoolExecutor(max(1, asked.at_a_time)) as pool:
        runs = list(pool.map(run, order))
    for one in runs:
        outcome = "[red]failed[/]" if one.failed else "[green]passed[/]"
        console.print(f"{outcome} {one.scenario} in {one.seconds:.0f} s, {one.log.relative_to(CHECKOUT)}")
    for one in (one for one in runs if one.failed):
        console.print(f"\n[red]{one.scenario}:[/]")
        console.print("\n".join(faults(one.log)), markup=False)
    sys.exit(any(one.failed for one in runs))


def run(scenario: str) -> Run:
    """Run it to its end, whatever comes of it."""
    told, began = Run(scenario), time.monotonic()
    command = [sys.executable, "-m", "molecule", "test", "--scenario-name", scenario]
    environment = {**os.environ, "COLUMNS": str(WIDTH), "SCENARIO_LOG": str(told.log)}
    with (
        told.log.open("w") as log,
        subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            command,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            follow(told, line)
    told.failed, told.seconds = process.returncode != 0, time.monotonic() - began
    return told


def follow(told: Run, line: str) -> None:
    """A line for each step that ends, with its seconds."""
    if (found := STEP.search(COLOUR.sub("", line))) is None:
        return
    step, what = found["step"], found["what"]
    if what == "Executing":
        told.steps[step] = time.monotonic()
    elif step in told.steps:
        took = time.monotonic() - told.steps.pop(step)
        mark = "[red]✘[/]" if what.endswith("Failed") else "[green]✔[/]"
        console.print(f"{time.strftime('%H:%M:%S')} {mark} [bold]{escape(told.scenario):8}[/] {step:12} {took:4.0f} s")


def faults(log: Path) -> list[str]:
    """What `log` says of what failed, of each fault its last lines; the log's own last lines where it says nothing."""
    lines = [FRAME.sub("", COLOUR.sub("", line)) for line in log.read_text(errors="replace").splitlines()]
    blocks: list[list[str]] = []
    inside = False
    for line in lines:
        if FAULT.match(line):
            blocks.append([])
            inside = True
        elif NEXT.match(line):
            inside = False
        if inside and line.strip():
            blocks[-1].append(line)
    return [line for block in blocks for line in (*block[:1], *block[1:][-SHOWN:])] or lines[-SHOWN:]


if __name__ == "__main__":
    main()
