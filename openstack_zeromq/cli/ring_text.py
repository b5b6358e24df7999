"""Rings for people: what changed, and what is held, as lines with a little colour that only repeats what the words say."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from rich.text import Text

from openstack_zeromq.catalog.changes import Change
from openstack_zeromq.catalog.shape import Held


def changed(found: Iterable[Change]) -> Iterator[Text]:
    """A heading for each topic, and a line for each host that comes or goes."""
    for change in found:
        yield Text(change.key, style="bold")
        for host in change.removed:
            yield Text(f"  - {host}", style="red")
        for host in change.added:
            yield Text(f"  + {host}", style="green")


def kept_back(held: Mapping[str, Held], how: str) -> Iterator[Text]:
    """What is held of each topic; `how` is the command that releases a topic."""
    for topic, one in sorted(held.items()):
        yield Text.assemble((topic, "bold"), f"  held: {', '.join(one.hosts)}")
        yield Text(f"  why    {one.why}", style="yellow")
        yield Text(f"  since  {_time(one.since)}" + (f", until {_time(one.until)}" if one.until else ""))
        yield Text(f"  let go {how} {shlex.quote(topic)}")


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
