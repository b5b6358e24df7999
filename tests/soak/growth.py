"""Growth: descriptors, threads and memory of processes over time, and whether they grow.

Pure but for `sample`. The slope is that of the least squares over the second half, when caches and pools have filled.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_BARS = " ▁▂▃▄▅▆▇█"


class Sample(NamedTuple):
    """What one process holds at `time` (seconds)."""

    time: float
    descriptors: int
    threads: int
    rss: int


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a process may seem to grow in an hour: `share` of its size, but `least` in any case, for what goes up and down has
    some slope, too. A listener comes and goes 700 times an hour, more than a million messages pass: a leak is far above."""

    name: str
    least: float
    share: float


LIMITS = (Limit("descriptors", 60.0, 0.5), Limit("threads", 60.0, 0.5), Limit("rss", 12e6, 0.1))


@dataclass(slots=True)
class Watched:
    """The samples of one process."""

    name: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def second_half(self) -> list[Sample]:
        begun, ended = self.samples[0].time, self.samples[-1].time
        return [sample for sample in self.samples if sample.time >= (begun + ended) / 2]

    def row(self, limit: Limit) -> tuple[float, float, bool]:
        """The slope an hour, the bar, and whether it is kept."""
        half = self.second_half()
        values = [float(getattr(sample, limit.name)) for sample in half]
        hourly = 3600 * slope([sample.time for sample in half], values)
        bar = max(limit.least, limit.share * sum(values) / len(values))
        return hourly, bar, hourly <= bar


def sample(pid: int, now: float) -> Sample:
    """:raises OSError: the process is gone."""
    process = Path(f"/proc/{pid}")
    rss = int((process / "statm").read_text().split()[1]) * _PAGE
    return Sample(now, len(os.listdir(process / "fd")), len(os.listdir(process / "task")), rss)


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line through the points that has the least squares; 0 for a single point."""
    middle_time, middle = sum(times) / len(times), sum(values) / len(values)
    spread = sum((moment - middle_time) ** 2 for moment in times)
    if not spread:
        return 0.0
    return sum((moment - middle_time) * (value - middle) for moment, value in zip(times, values, strict=True)) / spread


def chart(values: Sequence[float], width: int = 50) -> str:
    """The values as a line of bars, from their least to their greatest."""
    columns = min(width, len(values))
    bins = [values[number * len(values) // columns : (number + 1) * len(values) // columns] for number in range(columns)]
    heights = [sum(one) / len(one) for one in bins]
    low, high = min(heights), max(heights)
    return "".join(_BARS[1 + round((height - low) / (high - low) * 7)] if high > low else _BARS[1] for height in heights)
