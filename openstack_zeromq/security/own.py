"""Own: the files of this node's own key, also while it is changed.

The key lies in one file; the one that will take its place, in another beside it (`.next`). The public halves of those before it
stay, too (`.before.pub`), until all is over: a receiver goes on with the key that it has until it is told. So the other nodes can
trust all of them, before the change and after it, and whoever interrupts it cuts nobody off.
"""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from openstack_zeromq.security import keys


class State(StrEnum):
    """How the files should be: a key; and one that will follow it; that one in its place; the one before it forgotten; none."""

    PRESENT = "present"
    NEXT = "next"
    SWITCHED = "switched"
    SETTLED = "settled"
    ABSENT = "absent"


class Step(StrEnum):
    """What is done about it, in words for people."""

    MAKE = "make a key"
    MAKE_NEXT = "make the next key"
    SWITCH = "put the next key in its place"
    FORGET = "forget the key before it"
    REMOVE = "remove the key"


class There(NamedTuple):
    """Which files are there."""

    key: bool = False
    next: bool = False
    before: bool = False


def plan(state: State, there: There) -> list[Step]:
    """The steps from what is there to `state`. Pure."""
    if state is State.ABSENT:
        return [Step.REMOVE] if any(there) else []
    if state is State.SWITCHED and there.next:
        return [Step.SWITCH]
    steps = [] if there.key else [Step.MAKE]
    if state is State.NEXT and not there.next:
        steps.append(Step.MAKE_NEXT)
    if state is State.SETTLED and there.before:
        steps.append(Step.FORGET)
    return steps


class OwnKey:
    """The files of node `host`, whose key lies in `path`."""

    def __init__(self, path: Path, host: str) -> None:
        self.path = path
        self.next = path.with_name(f"{path.name}.next")
        self.before = path.with_name(f"{path.name}.before.pub")
        self._host = host

    def plan(self, state: State) -> list[Step]:
        """What there is to do."""
        return plan(state, There(self.path.exists(), self.next.exists(), self.before.exists()))

    def apply(self, steps: Iterable[Step]) -> None:
        """:raises KeyFileError: a file cannot be written, or is no key.
        :raises OSError: a file cannot be moved or removed."""
        for step in steps:
            match step:
                case Step.MAKE:
                    keys.write_secret(self.path, keys.new(), self._host)
                case Step.MAKE_NEXT:
                    keys.write_secret(self.next, keys.new(), self._host)
                case Step.SWITCH:
                    if self.path.exists():
                        keys.write_public(self.before, (keys.read_secret(self.path).public, *self._earlier()), self._host)
                    keys.write_secret(self.path, keys.read_secret(self.next), self._host)
                    self.next.unlink()
                case Step.FORGET:
                    self.before.unlink()
                case Step.REMOVE:
                    for path in (self.path, self.next, self.before):
                        path.unlink(missing_ok=True)

    def _earlier(self) -> tuple[str, ...]:
        return keys.read_public(self.before) if self.before.exists() else ()

    def public(self) -> list[str]:
        """The public halves of what is there: of the key, of the one that follows, of the one before.

        :raises KeyFileError: a file is no key, or others could read it.
        """
        found = [keys.read_secret(path).public for path in (self.path, self.next) if path.exists()]
        found += self._earlier()
        return list(dict.fromkeys(found))
