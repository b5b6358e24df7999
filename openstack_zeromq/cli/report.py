"""What one node found when it tried to reach the others: plain values, and their JSON.

`probe` makes reports, `matrix` draws them, Ansible carries them in between. Nothing here imports oslo, so that a
callback plug-in can load it in no time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

from openstack_zeromq.errors import ZeroMQError


class ReportError(ZeroMQError):
    """Data that is no report; the message says which part."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that was tried: how long it took (`ms`), which host took it (`by`), or why it failed (`error`)."""

    ok: bool
    ms: float | None = None
    by: str | None = None
    error: str | None = None

    @classmethod
    def failed(cls, error: str) -> "Outcome":
        return cls(ok=False, error=error)


class Fault(NamedTuple):
    """One thing that did not work: what kind it was, who sent it `to` whom (empty: to whoever takes it), and why not."""

    kind: str
    sender: str
    to: str
    error: str

    @property
    def what(self) -> str:
        return f"{self.kind} {self.sender} -> {self.to}" if self.to else f"{self.kind} from {self.sender}"


@dataclass(frozen=True, slots=True)
class Report:
    """The outcomes seen from `node`: a directed call and the fanout per peer, a bare call, a notification. `at`: when, by the
    node's clock (ISO 8601, UTC)."""

    node: str
    calls: Mapping[str, Outcome]
    bare: Outcome
    fanout: Mapping[str, Outcome]
    notification: Outcome
    at: str | None = None

    @property
    def ok(self) -> bool:
        return not any(self.failures())

    def failures(self) -> Iterator[str]:
        """A sentence for each thing that did not work."""
        for fault in self.faults():
            yield f"{fault.what}: {fault.error}"

    def faults(self) -> Iterator[Fault]:
        """Each thing that did not work."""
        for kind, to, outcome in self._tried():
            if not outcome.ok:
                yield Fault(kind, self.node, to, outcome.error or "failed")

    def _tried(self) -> Iterator[tuple[str, str, Outcome]]:
        for peer, outcome in self.calls.items():
            yield "call", peer, outcome
        yield "bare call", "", self.bare
        for peer, outcome in self.fanout.items():
            yield "fanout", peer, outcome
        yield "notification", "", self.notification

    def to_json(self) -> dict[str, object]:
        """Ready for json.dumps; fields that say nothing are left out."""
        return {
            "node": self.node,
            "calls": {peer: _said(outcome) for peer, outcome in self.calls.items()},
            "bare": _said(self.bare),
            "fanout": {peer: _said(outcome) for peer, outcome in self.fanout.items()},
            "notification": _said(self.notification),
            **({"at": self.at} if self.at else {}),
        }

    @classmethod
    def from_json(cls, data: object) -> "Report":
        """The inverse of `to_json`.

        :raises ReportError: when `data` is none.
        """
        fields = _mapping(data, "a report")
        try:
            return cls(
                node=str(fields["node"]),
                calls=_outcomes(fields["calls"], "calls"),
                bare=_outcome(fields["bare"], "bare"),
                fanout=_outcomes(fields["fanout"], "fanout"),
                notification=_outcome(fields["notification"], "notification"),
                at=str(fields["at"]) if fields.get("at") else None,
            )
        except KeyError as missing:
            raise ReportError(f"a report lacks {missing}") from None


def _said(outcome: Outcome) -> dict[str, object]:
    return {name: value for name, value in asdict(outcome).items() if value is not None}


def _outcomes(data: object, where: str) -> dict[str, Outcome]:
    return {str(peer): _outcome(facts, f"{where} of {peer}") for peer, facts in _mapping(data, where).items()}


def _outcome(data: object, where: str) -> Outcome:
    try:
        return Outcome(**_mapping(data, where))  # type: ignore[arg-type]
    except TypeError:
        raise ReportError(f"{where}: not an outcome: {data!r}") from None


def _mapping(data: object, what: str) -> Mapping[str, object]:
    if not isinstance(data, Mapping):
        raise ReportError(f"{what} must be an object, not {type(data).__name__}")
    return data
