"""The page: the reports of a verification as one HTML file, for whoever was not there when it ran.

What failed stands first, with what to do; then the matrix. Colour only repeats what a number, a word or a sign says. Nothing is
fetched from anywhere, and the same reports give the same bytes: every time on the page is one of the run's.
"""

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from openstack_zeromq.cli.report import Fault, Outcome, Report

SLOW, SLOWEST = 2.0, 4.0
"""Times the median of all calls from which a call counts as slow, and as very slow."""

_REMEDIES = (
    (
        r"did not accept a message|no receiver",
        "the receiver of {sender} does not take messages: <code>systemctl status openstack-zeromq-receiver</code> there",
    ),
    (
        r"answered instead",
        "two nodes go by one name or address: <code>zmqctl hosts zmq-probe</code> on {sender} shows what it takes {to} for",
    ),
    (r"^not asked", "mend the call to {to} first"),
    (
        r"arrived 0 times|no listener had it",
        "<code>zmqctl status</code> on the receiving nodes: has the channel a consumer? Is the probe running there?",
    ),
    (r"arrived \d+ times", "one message, several copies: that is a bug; keep the logs of {sender} and {to}, and report it"),
    (
        r"[Tt]imeout|no answer|Timed out",
        "<code>zmqctl status</code> on {sender}: is the link to {to} up? If not: is the receiver of {to} running, and is TCP port"
        " 9501 open between them? If it is: is the probe of {to} running?",
    ),
    (
        r"nobody|NOROUTE|[Uu]ndeliver|no such",
        "<code>zmqctl hosts zmq-probe</code> on {sender}: does its matchmaker know {to}? If not, deploy the"
        " ring, or look at the store",
    ),
)
_ELSE = "<code>journalctl -u openstack-zeromq-receiver</code> on {sender} and {to}"

_STYLE = """
:root { color-scheme: light dark;
  --ground: #fbfbf9; --card: #ffffff; --ink: #1d2329; --dim: #5c6670; --line: #dfe2e4; --good: #00619f; --bad: #a63600;
  --bad-ground: #fdeee5; --hatch: #f6d3bd; --heat0: #eef4f9; --heat1: #b9d4ea; --heat2: #5d9bcb; --heat2-ink: #06121c; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #14181c; --card: #1c2126; --ink: #e6e9eb; --dim: #9aa5ae; --line: #333b42; --good: #7cc0f0; --bad: #ff9e66;
  --bad-ground: #3a2015; --hatch: #57301d; --heat0: #1e2b36; --heat1: #2b5171; --heat2: #7fb8e2; --heat2-ink: #06121c; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2.5rem clamp(1rem, 4vw, 4rem); background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; text-wrap: balance; }
h1 .sign { display: inline-block; min-width: 1.1em; }
.good h1 .sign, .ok { color: var(--good); } .bad h1 .sign, .no { color: var(--bad); }
h2 { font-size: 1.05rem; margin: 2.5rem 0 .75rem; }
p { margin: 0 0 .5rem; } .dim, caption { color: var(--dim); }
dl { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.75rem 0 0; }
dl div { flex: 1 1 9rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .9rem; }
dt { color: var(--dim); font-size: .85rem; } dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
dd small { font-size: .85rem; color: var(--dim); }
dl .short { border-color: var(--bad); background: var(--bad-ground); }
table { border-collapse: separate; border-spacing: 0; }
.faults { width: 100%; background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--bad);
  border-radius: .5rem; }
.faults td, .faults th { text-align: left; vertical-align: top; padding: .6rem .9rem; border-top: 1px solid var(--line); }
.faults tr:first-child > * { border-top: 0; } .faults thead th { color: var(--dim); font-weight: normal; font-size: .85rem; }
.faults tbody th { font-weight: 600; min-width: 15rem; }
.faults details { display: inline; } .faults summary { display: inline; cursor: pointer; border-bottom: 1px dotted; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace; background: var(--heat0); padding: .1em .3em; }
.scroll { overflow: auto; width: fit-content; max-width: 100%; max-height: 85vh;
  border: 1px solid var(--line); border-radius: .5rem; background: var(--card); }
.matrix { font-variant-numeric: tabular-nums; }
.matrix th, .matrix td { padding: .4rem .7rem; text-align: right; white-space: nowrap; border: 0 solid var(--ground);
  border-width: 0 1px 1px 0; }
.matrix thead th { position: sticky; top: 0; z-index: 1; background: var(--card); border-bottom: 1px solid var(--line);
  vertical-align: bottom; }
.matrix th[scope=row] { position: sticky; left: 0; background: var(--card); text-align: left; border-right-color: var(--line); }
.matrix thead th:first-child { left: 0; z-index: 2; text-align: left; font-weight: normal; color: var(--dim); }
.matrix .first { border-left: 3px double var(--line); }
.wide thead th:not(:first-child) span { writing-mode: vertical-rl; transform: rotate(180deg); }
.h0 { background: var(--heat0); } .h1 { background: var(--heat1); } .h2 { background: var(--heat2); color: var(--heat2-ink); }
.x { background: repeating-linear-gradient(45deg, var(--bad-ground) 0 6px, var(--hatch) 6px 9px); color: var(--bad);
  font-weight: 700; }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; margin: .75rem 0 0; padding: 0; list-style: none;
  color: var(--dim); }
.legend b { display: inline-block; min-width: 3.2em; text-align: center; padding: .1rem .4rem; margin-right: .4rem;
  font-weight: 400;  color: var(--ink); }
.legend .x { color: var(--bad); font-weight: 700; } .legend .h2 { color: var(--heat2-ink); }
@media (max-width: 44rem) { .faults thead { display: none; } .faults tr { display: block; border-top: 1px solid var(--line); }
  .faults td, .faults tbody th { display: block; border: 0; padding: .3rem .9rem; } }
@media print { body { padding: 0; } .scroll { max-height: none; overflow: visible; } }
"""


def page(reports: Sequence[Report]) -> str:
    """The whole page; `reports` as `matrix.load` gives them."""
    faults = [fault for report in reports for fault in report.faults()]
    times = [outcome.ms for report in reports for outcome in report.calls.values() if outcome.ok and outcome.ms is not None]
    tried = sum(len(report.calls) + len(report.fanout) + 2 for report in reports)
    parts = [
        *_head(reports, faults, tried),
        *_counts(reports, times),
        *_faults(faults),
        *_matrix(reports, statistics.median(times) if times else None),
        "</main>\n</body>\n</html>",
    ]
    return "\n".join(parts) + "\n"


class Group(NamedTuple):
    """Faults with one cause, as far as one can see: the same kind and error, by one sender or to one receiver."""

    kind: str
    error: str
    senders: tuple[str, ...]
    receivers: tuple[str, ...]


def groups(faults: Sequence[Fault]) -> list[Group]:
    """One node that is dead is one group, not one fault for each of its peers. The largest first."""
    to = Counter((fault.kind, fault.error, fault.to) for fault in faults)
    sent = Counter((fault.kind, fault.error, fault.sender) for fault in faults)
    found: dict[tuple[str, ...], list[Fault]] = {}
    for fault in faults:
        kind, error, sender, receiver = fault.kind, fault.error, fault.sender, fault.to
        by_receiver = to[kind, error, receiver] >= sent[kind, error, sender]
        key = (kind, error, "to", receiver) if by_receiver else (kind, error, "from", sender)
        found.setdefault(key, []).append(fault)
    ordered = sorted(found.values(), key=lambda group: (group[0].error.startswith("not asked"), -len(group)))
    return [
        Group(
            group[0].kind,
            group[0].error,
            tuple(dict.fromkeys(fault.sender for fault in group)),
            tuple(dict.fromkeys(fault.to for fault in group if fault.to)),
        )
        for group in ordered
    ]


def remedy(group: Group) -> str:
    """What to do about it, as HTML."""
    words = next((words for pattern, words in _REMEDIES if re.search(pattern, group.error)), _ELSE)
    sender = f"<b>{escape(group.senders[0])}</b>" if len(group.senders) == 1 else "one of these nodes"
    to = f"<b>{escape(group.receivers[0])}</b>" if len(group.receivers) == 1 else "the others"
    return words.format(sender=sender, to=to)


def _head(reports: Sequence[Report], faults: Sequence[Fault], tried: int) -> Iterator[str]:
    good = bool(reports) and not faults
    if good:
        verdict = "Everything arrived"
    elif reports:
        verdict = f"{len(faults)} of {tried} did not arrive"
    else:
        verdict = "Nobody was asked"
    sign = "✓" if good else "✗"
    moments = sorted(report.at for report in reports if report.at)
    when = "" if not moments else moments[0] if moments[0] == moments[-1] else f"{moments[0]} to {moments[-1]}"
    nodes = f"{len(reports)} node{'s' if len(reports) != 1 else ''}"
    yield "<!DOCTYPE html>"
    yield '<html lang="en">'
    yield '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{sign} {verdict}: openstack-zeromq</title>"
    yield f"<style>{_STYLE}</style></head>"
    yield f'<body class="{"good" if good else "bad"}">\n<main>'
    yield f'<h1><span class="sign">{sign}</span> {verdict}</h1>'
    yield f'<p class="dim">Real messages between {nodes} over openstack-zeromq{f", {_time(when)}" if when else ""}</p>'


def _time(when: str) -> str:
    return escape(when.replace("T", " ").replace("+00:00", " UTC"))


def _counts(reports: Sequence[Report], times: Sequence[float]) -> Iterator[str]:
    yield "<dl>"
    for what, outcomes in (
        ("calls", [outcome.ok for report in reports for outcome in report.calls.values()]),
        ("calls to any node", [report.bare.ok for report in reports]),
        ("fanouts", [outcome.ok for report in reports for outcome in report.fanout.values()]),
        ("notifications", [report.notification.ok for report in reports]),
    ):
        arrived, short = sum(outcomes), sum(outcomes) < len(outcomes)
        sign = '<span class="no">✗</span>' if short else '<span class="ok">✓</span>'
        number = f"{sign} {arrived} <small>of {len(outcomes)}</small>"
        yield f"<div{' class=short' if short else ''}><dt>{what}</dt><dd>{number}</dd></div>"
    if times:
        yield f"<div><dt>median call</dt><dd>{statistics.median(times):.1f} <small>ms</small></dd></div>"
        yield f"<div><dt>slowest call</dt><dd>{max(times):.1f} <small>ms</small></dd></div>"
    yield "</dl>"


def _faults(faults: Sequence[Fault]) -> Iterator[str]:
    if not faults:
        return
    yield f"<h2>What did not arrive ({len(faults)})</h2>"
    yield '<table class="faults"><thead><tr><th>what</th><th>why</th><th>what to do</th></tr></thead><tbody>'
    for group in groups(faults):
        what = f'<span class="no">✗</span> {group.kind}{_names(" from ", group.senders)}{_names(" to ", group.receivers)}'
        yield f'<tr><th scope="row">{what}</th><td>{escape(group.error)}</td><td>{remedy(group)}</td></tr>'
    yield "</tbody></table>"


def _names(word: str, names: Sequence[str]) -> str:
    if len(names) < 2:
        return f"{word}{escape(names[0])}" if names else ""
    return f"{word}<details><summary>{len(names)} nodes</summary>{escape(', '.join(names))}</details>"


def _matrix(reports: Sequence[Report], median: float | None) -> Iterator[str]:
    peers = sorted({peer for report in reports for peer in report.calls})
    if not peers:
        return
    yield "<h2>Calls from row to column: median round trip in milliseconds</h2>"
    yield f'<div class="scroll"><table class="matrix{" wide" if len(peers) > 12 else ""}">'
    columns = "".join(f'<th scope="col"><span>{escape(peer)}</span></th>' for peer in peers)
    yield (
        f'<thead><tr><th>from \\ to</th>{columns}<th scope="col" class="first"><span>any node</span></th>'
        '<th scope="col"><span>fanout</span></th><th scope="col"><span>notification</span></th></tr></thead><tbody>'
    )
    for report in reports:
        cells = "".join(_cell(report.calls.get(peer), median) for peer in peers)
        reached = sum(outcome.ok for outcome in report.fanout.values())
        every = reached == len(report.fanout)
        taken = f"to {escape(report.notification.by)}" if report.notification.by else "✓"
        yield (
            f'<tr><th scope="row">{escape(report.node)}</th>{cells}{_cell(report.bare, median, "first")}'
            f"<td{'' if every else ' class=x'}>{'✓' if every else '✗'} {reached} of {len(report.fanout)}</td>"
            + (f"<td>{taken}</td></tr>" if report.notification.ok else '<td class="x">✗ lost</td></tr>')
        )
    yield "</tbody></table></div>"
    if median is not None:
        yield (
            f'<ul class="legend"><li><b class="h0">{median:.1f}</b>usual</li>'
            f'<li><b class="h1">{SLOW * median:.1f} ▴</b>from {SLOW:g} times the median</li>'
            f'<li><b class="h2">{SLOWEST * median:.1f} ▲</b>from {SLOWEST:g} times the median</li>'
            '<li><b class="x">✗</b>did not arrive</li></ul>'
        )


def _cell(outcome: Outcome | None, median: float | None, also: str = "") -> str:
    """One call. Rows may have thousands of them, so it is short."""
    also = f" {also}" if also else ""
    if outcome is None:
        return f'<td class="dim{also}">–</td>'
    if not outcome.ok:
        return f'<td class="x{also}" title="{escape(outcome.error or "failed")}">✗</td>'
    if outcome.ms is None or median is None:
        return f'<td class="h0{also}">✓</td>'
    heat = 2 if outcome.ms >= SLOWEST * median else 1 if outcome.ms >= SLOW * median else 0
    return f'<td class="h{heat}{also}">{outcome.ms:.1f}{("", " ▴", " ▲")[heat]}</td>'
