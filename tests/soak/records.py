"""Records: what services wrote of their work, one append-only file for each process, and the verdict over all of them.

A line is `WHAT ID TIME [MORE]`; an ID is `PROCESS.NUMBER`, TIME is the machine's monotonic clock, the same for every process.
A line is written with one call, so that a `kill -9` leaves only whole ones. `judge_casts` and `judge_calls` are pure: they
see all, and say what was broken.
"""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple


class What(StrEnum):
    """What a line tells."""

    UP = "up"  # a listener listens
    DOWN = "down"  # a process ends, in peace
    SENDING = "sending"  # about to cast or call
    SENT = "sent"  # a cast has returned
    REPLIED = "replied"  # a call has returned
    RAISED = "raised"  # a cast or a call has raised; MORE is the name of the class
    GOT = "got"  # a handler runs


class Line(NamedTuple):
    what: What
    id: str
    time: float
    more: str = ""


class Record:
    """The file of one process, open for appending; any thread may write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: What, name: object, more: str = "") -> None:
        os.write(self._file, f"{what} {name} {time.monotonic():.6f} {more}\n".encode())


def read(files: Iterable[Path]) -> Iterator[Line]:
    """Every line of `files`; a last one that is still being written is left out."""
    for file in files:
        for text in file.read_text().splitlines(keepends=True):
            if text.endswith("\n"):
                what, name, moment, more = text[:-1].split(" ", 3)
                yield Line(What(what), name, float(moment), more)


@dataclass(slots=True)
class Verdict:
    """`broken` is empty when every promise was kept."""

    figures: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def require(self, kept: bool, sentence: str) -> None:
        if not kept:
            self.broken.append(sentence)


def judge_casts(lines: Iterable[Line], longest_gap: float | None = None) -> Verdict:
    """A cast that returned runs once, one that raised at most once; what one process sends never pauses for longer than
    `longest_gap` s on its way."""
    sending, sent, raised, got = set(), set(), set(), Counter[str]()
    moments: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        match line.what:
            case What.SENDING:
                sending.add(line.id)
            case What.SENT:
                sent.add(line.id)
            case What.RAISED:
                raised.add(line.id)
            case What.GOT:
                got[line.id] += 1
                moments[line.id.partition(".")[0]].append(line.time)
    lost = sorted(sent - got.keys())
    twice = sorted(name for name, times in got.items() if times > 1)
    strange = sorted(got.keys() - sending)
    gap, after = max((_longest_gap(sorted(of_sender)) for of_sender in moments.values()), default=(0.0, 0.0))
    verdict = Verdict(
        {
            "sent": len(sent),
            "raised": len(raised),
            "delivered": len(got),
            "lost": len(lost),
            "duplicated": len(twice),
            "longest gap s": round(gap, 3),
        }
    )
    verdict.require(bool(sent), "nothing was sent")
    verdict.require(bool(got), "nothing was delivered")
    verdict.require(not lost, f"{len(lost)} lost: {', '.join(lost[:5])}")
    verdict.require(not twice, f"{len(twice)} ran more than once: {', '.join(twice[:5])}")
    verdict.require(not strange, f"{len(strange)} that nobody sent: {', '.join(strange[:5])}")
    if longest_gap is not None:
        verdict.require(gap <= longest_gap, f"no delivery for {gap:.2f} s from {after:.2f} on")
    return verdict


def judge_calls(lines: Iterable[Line], timeout: float) -> Verdict:
    """Each call has one outcome by `timeout` + 1 s, and no handler ran twice; one that has a result ran."""
    begun: dict[str, float] = {}
    outcomes: dict[str, list[Line]] = defaultdict(list)
    ran = Counter[str]()
    for line in lines:
        match line.what:
            case What.SENDING:
                begun[line.id] = line.time
            case What.REPLIED | What.RAISED:
                outcomes[line.id].append(line)
            case What.GOT:
                ran[line.id] += 1
    none = sorted(begun.keys() - outcomes.keys())
    several = sorted(name for name, lines in outcomes.items() if len(lines) > 1)
    took = {name: lines[0].time - begun[name] for name, lines in outcomes.items()}
    late = sorted(name for name, seconds in took.items() if seconds > timeout + 1)
    twice = sorted(name for name, times in ran.items() if times > 1)
    idle = sorted(name for name, lines in outcomes.items() if lines[0].what is What.REPLIED and not ran[name])
    raised = Counter(lines[0].more for lines in outcomes.values() if lines[0].what is What.RAISED)
    verdict = Verdict(
        {
            "begun": len(begun),
            "replied": sum(lines[0].what is What.REPLIED for lines in outcomes.values()),
            **{f"raised {name}": number for name, number in sorted(raised.items())},
            "without outcome": len(none),
            "late": len(late),
            "ran twice": len(twice),
            "longest s": round(max(took.values(), default=0.0), 3),
        }
    )
    verdict.require(bool(outcomes), "nobody called")
    verdict.require(not none, f"{len(none)} without outcome: {', '.join(none[:5])}")
    verdict.require(not several, f"{len(several)} with several outcomes: {', '.join(several[:5])}")
    verdict.require(not late, f"{len(late)} later than {timeout + 1:g} s: {', '.join(late[:5])}")
    verdict.require(not twice, f"{len(twice)} ran more than once: {', '.join(twice[:5])}")
    verdict.require(not idle, f"{len(idle)} have a result and never ran: {', '.join(idle[:5])}")
    return verdict


def _longest_gap(moments: list[float]) -> tuple[float, float]:
    """The longest time between two neighbours, and when it began."""
    return max(((later - earlier, earlier) for earlier, later in pairwise(moments)), default=(0.0, 0.0))
