"""Link: is the peer there, and is it the same incarnation as before? Ping and pong, nothing else.

A link is CONNECTING until the peer's first pong, UP while pongs come, DOWN after three pings in vain. Messages are
sent only while it is UP: what was never sent can go to another host without any risk of running twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

BEATS_UNTIL_DOWN = 3
CONNECT_WITHIN = 1.0

REFUSED_FIRST = 0.1
"""Seconds between a refused handshake and the next connection, doubled each time up to the `redial` of the link. A receiver that
is killed in a handshake is back sooner than in two seconds; a wrong address is not to be dialled forty times a second."""


class LinkState(Enum):
    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


class Ping(NamedTuple):
    """Send a ping to `host` now."""

    host: str


class Dial(NamedTuple):
    """Open a fresh connection to `host`; whatever still waits in an old one must not be sent."""

    host: str


class LinkUp(NamedTuple):
    """`host` answers, for the first time, again, or as another incarnation: what it has not answered must be sent (again)."""

    host: str


class LinkDown(NamedTuple):
    """`host` does not answer."""

    host: str


class Close(NamedTuple):
    """Nobody needs the connection to `host`."""

    host: str


LinkAction = Ping | Dial | LinkUp | LinkDown | Close


@dataclass(slots=True)
class Link:
    """One peer. `heartbeat`: seconds between two pings; `redial`: between two fresh connections while it is DOWN; `jitter()`
    gives a factor around 1, so that a fabric does not redial in step; `used`: when it last carried a message of ours;
    `draining`: the peer would rather have no new work; `since`: when `state` began; `why`: the last reason for not being UP."""

    host: str
    opened: float
    heartbeat: float
    redial: float
    jitter: Callable[[], float]
    state: LinkState = LinkState.CONNECTING
    incarnation: int | None = None
    heard: float = 0.0
    used: float = 0.0
    draining: bool = False
    since: float = 0.0
    why: str = ""
    _closed: bool = False
    _refusals: int = 0
    _called: float = 0.0
    _ping_due: float = 0.0
    _redial_due: float = 0.0

    def open(self, now: float) -> list[LinkAction]:
        """First connection."""
        self.used = self._called = self.since = now
        self._redial_due = now + self.redial * self.jitter()
        return [Dial(self.host), *self._ping(now)]

    def pong(self, incarnation: int, now: float) -> list[LinkAction]:
        """The peer answered."""
        self.heard = now
        self._refusals, self._closed, self.why = 0, False, ""
        if self.state is LinkState.UP and incarnation == self.incarnation:
            return []
        self._become(LinkState.UP, now)
        self.incarnation = incarnation
        return [LinkUp(self.host)]

    def cut(self, why: str, now: float, pause: bool = False) -> list[LinkAction]:
        """The connection was ended on this side, because the peer is not to be talked to; it is dialled anew if that changes.
        `pause`: as late as one that could not be made."""
        self._redial_due = now + self.redial * self.jitter() if pause else now
        return self._down(why, now)

    def refused(self, why: str, now: float) -> list[LinkAction]:
        """The handshake failed, and the connection was closed on this side: dial later, and each time later. The peer has a
        moment to be there again before it counts as away."""
        self._redial_due = now + min(self.redial, REFUSED_FIRST * 2.0 ** min(self._refusals, 16)) * self.jitter()
        self._refusals += 1
        self._closed, self.why = True, why
        if self.state is LinkState.UP:
            self._called = now
            self._become(LinkState.CONNECTING, now)
        return []

    def cannot_dial(self, why: str) -> None:
        """This side opened no connection; empty: it did."""
        self.why = why or self.why

    def redial_now(self, now: float) -> list[LinkAction]:
        """The connection was ended on this side, to be opened anew at once."""
        return [Dial(self.host), *self.redialled(now)]

    def redialled(self, now: float) -> list[LinkAction]:
        """The connection was lost, and is dialled again already. The peer has a moment to answer before it counts as away."""
        self._redial_due = now + self.redial * self.jitter()
        self._called = now
        self._closed = False
        if self.state is LinkState.UP:
            self._become(LinkState.CONNECTING, now)
        return self._ping(now)

    def silent_for(self, now: float) -> float:
        """Seconds since the peer was heard, or since we began to call."""
        return now - (self.heard or self.opened)

    def tick(self, now: float) -> list[LinkAction]:
        """Time passed: ping, notice silence, dial again."""
        actions: list[LinkAction] = []
        if self.state is LinkState.UP and self.silent_for(now) >= BEATS_UNTIL_DOWN * self.heartbeat:
            self._redial_due = now
            actions += self._down(f"no answer to {BEATS_UNTIL_DOWN} pings", now)
        elif self.state is LinkState.CONNECTING and now - self._called >= CONNECT_WITHIN:
            actions += self._down(self.why or "no answer", now)
        if (self.state is LinkState.DOWN or self._closed) and now >= self._redial_due:
            self._redial_due = now + self.redial * self.jitter()
            self._closed = False
            actions.append(Dial(self.host))
            actions += self._ping(now)
        elif now >= self._ping_due:
            actions += self._ping(now)
        return actions

    def _down(self, why: str, now: float) -> list[LinkAction]:
        self.why = why
        if self.state is LinkState.DOWN:
            return []
        self._become(LinkState.DOWN, now)
        return [LinkDown(self.host)]

    def _become(self, state: LinkState, now: float) -> None:
        self.state, self.since = state, now

    def _ping(self, now: float) -> list[LinkAction]:
        self._ping_due = now + self.heartbeat
        return [Ping(self.host)]
