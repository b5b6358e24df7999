"""Chart: a run's figures as an SVG of small panels, each with a scale of its own, written by hand so that it needs no library.

It must not know how anything was measured: all it reads is the JSON.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

from benchmarks.figures import NAMES, RECEIVER_BAR

_COLOURS = {"zmq": "#1f6feb", "curve": "#8250df", "rabbit": "#e36209", "null": "#8c959f"}
_OTHER = "#57606a"
_MISSING = "#cf222e"
_WIDTH, _MARGIN, _GAP = 880, 20, 24
_PANEL = (_WIDTH - 2 * _MARGIN - _GAP) // 2
_LABEL, _VALUE = 128, 64
_BAR, _STEP, _TITLE = 15, 22, 26


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars with one scale. `bars` are (label, value, colour); `mark` is a line to reach."""

    title: str
    bars: tuple[tuple[str, float, str], ...]
    digits: int = 0
    mark: float | None = None

    @property
    def height(self) -> int:
        return _TITLE + _STEP * len(self.bars) + 12


def svg(data: dict[str, Any]) -> str:
    """The chart of `data`, see `benchmarks.results`."""
    panels = list(_panels(data))
    rows = [panels[at : at + 2] for at in range(0, len(panels), 2)]
    parts, top = [], 64
    for row in rows:
        for column, panel in enumerate(row):
            parts.append(_draw(panel, _MARGIN + column * (_PANEL + _GAP), top))
        top += max(panel.height for panel in row) + 14
    machine, settings = data["machine"], data["settings"]
    foot = (
        f"{machine['cores']} cores, {machine['processor']} · 1 KiB messages, native threads, one server process"
        f" · rounds: {settings['rounds']} of {settings['seconds']:g} s, medians"
    )
    height = top + 26
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="Helvetica, Arial, sans-serif"'
            ' role="img" aria-label="Benchmarks of openstack-zeromq, RabbitMQ and a null transport">',
            f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
            _text(_MARGIN, 30, "oslo.messaging over this driver, over RabbitMQ, and over nothing", size=18, weight="bold"),
            _text(_MARGIN, 50, "Two nodes, two receivers between client and server. Longer is better unless said.", size=12),
            *parts,
            _text(_MARGIN, top + 8, foot, size=11, fill=_OTHER),
            "</svg>\n",
        ]
    )


def _panels(data: dict[str, Any]) -> Iterable[Panel]:
    measures = data["measures"]
    for measure, figure, title, digits in (
        ("calls_1", "p50", "call, one caller: p50 in ms (shorter is better)", 2),
        ("calls_8", "rate", "calls/s, 8 callers", 0),
        ("calls_32", "rate", "calls/s, 32 callers", 0),
        ("casts_8", "rate", "casts/s delivered, 8 callers", 0),
        ("fanout_10", "rate", "fanout to 10 listeners: deliveries/s", 0),
        ("notifications_8", "rate", "notifications/s delivered, 8 callers", 0),
    ):
        if measure in measures:
            yield _panel(title, {bed: found[figure] for bed, found in measures[measure].items()}, digits)
    if "calls_8" in measures:
        costs = {bed: sum(found["cpu_us"].values()) for bed, found in measures["calls_8"].items()}
        yield _panel("CPU µs a call, all processes (shorter is better)", costs)
    if data["receiver"]:
        bars = [(path, figures["rate"], _COLOURS["zmq"]) for path, figures in data["receiver"].items()]
        named = tuple((path, rate, colour if "-" in path else _COLOURS["null"]) for path, rate, colour in bars)
        yield Panel("one receiver: messages/s (dashed: the bar)", named, mark=RECEIVER_BAR)


def _panel(title: str, values: dict[str, float], digits: int = 0) -> Panel:
    return Panel(title, tuple((NAMES.get(bed, bed), value, _COLOURS.get(bed, _OTHER)) for bed, value in values.items()), digits)


def _draw(panel: Panel, left: int, top: int) -> str:
    most = max([value for _, value, _ in panel.bars] + ([panel.mark] if panel.mark else [])) or 1.0
    room = _PANEL - _LABEL - _VALUE
    parts = [_text(left, top + 14, panel.title, size=13, weight="bold")]
    for number, (label, value, colour) in enumerate(panel.bars):
        y = top + _TITLE + number * _STEP
        length = max(1.0, room * value / most)
        parts += [
            _text(left + _LABEL - 8, y + 12, label, size=12, anchor="end"),
            f'<rect x="{left + _LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
            _text(left + _LABEL + length + 6, y + 12, f"{value:,.{panel.digits}f}", size=12),
        ]
    if panel.mark:
        x = left + _LABEL + room * panel.mark / most
        bottom = top + _TITLE + _STEP * len(panel.bars)
        parts.append(
            f'<line x1="{x:.1f}" y1="{top + _TITLE - 4}" x2="{x:.1f}" y2="{bottom}" stroke="{_MISSING}" stroke-dasharray="4 3"/>'
        )
    return "\n".join(parts)


def _text(x: float, y: float, text: str, size: int, weight: str = "normal", anchor: str = "start", fill: str = "#1f2328") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{fill}"'
    return f"<text {place}>{escape(text)}</text>"
