"""Figures: what is measured, with what load, and the bars of DESIGN.md section 8."""

from dataclasses import dataclass

TOPIC = "bench"
NOTES = "bench-notes"
SERVER = "n2"
PAYLOAD = 1024
"""Bytes of the argument of every message, and of the result of a call."""

FANOUTS = (1, 3, 10)


def fanout_topic(listeners: int) -> str:
    return f"bench-fanout-{listeners}"


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of load: `verb` of the worker, from so many callers at once, to so many listeners."""

    name: str
    title: str
    verb: str
    callers: int
    listeners: int = 1

    @property
    def topic(self) -> str:
        """Where what is delivered is counted; calls count themselves."""
        return {"calls": "", "casts": TOPIC, "notifications": NOTES}.get(self.verb, fanout_topic(self.listeners))


def _callers(count: int) -> str:
    return "1 caller" if count == 1 else f"{count} callers"


def _listeners(count: int) -> str:
    return "1 listener" if count == 1 else f"{count} listeners"


MEASURES = (
    *(Measure(f"calls_{callers}", f"calls/s, {_callers(callers)}", "calls", callers) for callers in (1, 8, 32)),
    *(Measure(f"casts_{callers}", f"casts/s delivered, {_callers(callers)}", "casts", callers) for callers in (1, 8)),
    *(Measure(f"fanout_{count}", f"fanout deliveries/s, {_listeners(count)}", "fanouts", 8, count) for count in FANOUTS),
    Measure("notifications_8", "notifications/s delivered, 8 callers", "notifications", 8),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """`measure`.`figure` of the bed `of` must be at least (`at_most`: at most) `factor` times that of `than`."""

    measure: str
    figure: str
    than: str
    factor: float
    at_most: bool = False
    of: str = "zmq"

    def met(self, ours: float, theirs: float) -> bool:
        return ours <= self.factor * theirs if self.at_most else ours >= self.factor * theirs

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.factor:g} ×"


BARS = (
    Bar("calls_1", "p50", "rabbit", 0.25, at_most=True),
    Bar("calls_1", "p50", "null", 2.0, at_most=True),
    Bar("calls_8", "rate", "rabbit", 5.0),
    Bar("calls_8", "rate", "null", 0.6),
    *(Bar(f"casts_{callers}", "rate", than, factor) for callers in (1, 8) for than, factor in (("rabbit", 5.0), ("null", 0.8))),
    Bar("calls_1", "p50", "zmq", 1.3, at_most=True, of="curve"),
    Bar("calls_8", "rate", "zmq", 0.6, of="curve"),
    Bar("casts_8", "rate", "zmq", 0.6, of="curve"),
)

RECEIVER_BAR = 25_000
"""Messages that one receiver forwards and sees answered, a second."""

PLAIN = "plain pyzmq"
"""The path that shows the limit: PUSH and PULL with a process between, without answers."""

NAMES = {"zmq": "this driver", "curve": "this driver, CURVE", "rabbit": "RabbitMQ", "null": "null transport"}
"""What people call the beds."""
