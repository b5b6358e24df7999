"""Changes: how one ring differs from another, topic by topic. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Change(NamedTuple):
    """Hosts that a key of the ring (a topic, or `topic:server`) got and lost; both sorted."""

    key: str
    added: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def topic(self) -> str:
        return self.key.partition(":")[0]


def changes(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> list[Change]:
    """What turns `before` into `after`, in the order of the keys; empty when they say the same."""
    found = []
    for key in sorted({*before, *after}):
        old, new = set(before.get(key, ())), set(after.get(key, ()))
        if old != new:
            found.append(Change(key, tuple(sorted(new - old)), tuple(sorted(old - new))))
    return found


def topics(found: Sequence[Change]) -> list[str]:
    """The topics that changed, sorted, each once."""
    return sorted({change.topic for change in found})
