"""Own: the files of this node's own key, also while it is changed.

The key lies in one file; the one that will take its place, in another beside it (`.next`), so that the other nodes can trust
both before the change and only the new one after it.
"""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from openstack_zeromq.security import keys


class State(StrEnum):
    """How the files should be: a key; and one that will follow it; that one in its place; none."""

    PRESENT = "present"
    NEXT = "next"
    SWITCHED = "switched"
    ABSENT = "absent"


class Step(StrEnum):
    """What is done about it, in words for people."""

    MAKE = "make a key"
    MAKE_NEXT = "make the next key"
    SWITCH = "put the next key in its place"
    REMOVE = "remove the key"


def plan(state: State, has_key: bool, has_next: bool) -> list[Step]:
    """The steps from what is there to `state`. Pure."""
    if state is State.ABSENT:
        return [Step.REMOVE] if has_key or has_next else []
    if state is State.SWITCHED and has_next:
        return [Step.SWITCH]
    steps = [] if has_key else [Step.MAKE]
    return [*steps, Step.MAKE_NEXT] if state is State.NEXT and not has_next else steps


class OwnKey:
    """The files of node `host`, whose key lies in `path`."""

    def __init__(self, path: Path, host: str) -> None:
        self.path = path
        self.next = path.with_name(f"{path.name}.next")
        self._host = host

    def plan(self, state: State) -> list[Step]:
        """What there is to do."""
        return plan(state, self.path.exists(), self.next.exists())

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
                    # Written anew: whoever compares times with a process's start is to see that it changed now.
                    keys.write_secret(self.path, keys.read_secret(self.next), self._host)
                    self.next.unlink()
                case Step.REMOVE:
                    self.path.unlink(missing_ok=True)
                    self.next.unlink(missing_ok=True)

    def public(self) -> list[str]:
        """The public halves of what is there, the one in use first.

        :raises KeyFileError: a file is no key, or others could read it.
        """
        return [keys.read_secret(path).public for path in (self.path, self.next) if path.exists()]
