"""Bounds: how much may wait, for each target and for all of them together, so that a slow one holds up nobody else."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Target = TypeVar("Target", bound=Hashable)

Key = tuple[str, str, str]
"""Exchange, topic and server of a target."""

ALL_TARGETS = 4
"""All targets together may have so many times the bytes that one may have; beyond that, each has but one message."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait for one target."""

    messages: int
    bytes: int


class _Share:
    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0


class Shares(Generic[Target]):
    """What each target has of the room that there is; `bytes` is the sum of all."""

    def __init__(self, bounds: Bounds) -> None:
        self.bytes = 0
        self._bounds = bounds
        self._shares: dict[Target, _Share] = {}

    def room(self, target: Target, size: int) -> bool:
        """May another message of `size` bytes wait for `target`? The first one always may."""
        share = self._shares.get(target)
        return share is None or (
            share.messages < self._bounds.messages
            and share.bytes + size <= self._bounds.bytes
            and self.bytes + size <= ALL_TARGETS * self._bounds.bytes
        )

    def take(self, target: Target, size: int) -> None:
        """A message waits for `target` from now on."""
        share = self._shares.get(target)
        if share is None:
            share = self._shares[target] = _Share()
        share.messages += 1
        share.bytes += size
        self.bytes += size

    def give_back(self, target: Target, size: int) -> None:
        """It does not wait any more."""
        share = self._shares[target]
        share.messages -= 1
        share.bytes -= size
        self.bytes -= size
        if not share.messages:
            del self._shares[target]
