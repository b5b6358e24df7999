"""Calls that services of this node took and have not replied to. When such a service dies its callers need not wait in vain."""

from dataclasses import dataclass

from openstack_zeromq.wire import Header, MessageId


@dataclass(slots=True)
class _Call:
    header: Header
    client: int
    until: float


class Calls:
    """Forgets a call when its caller has given up."""

    def __init__(self) -> None:
        self._calls: dict[MessageId, _Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def taken(self, header: Header, client: int, until: float) -> None:
        """Service `client` works on a call from now on; the caller waits `until` then."""
        self._calls[header.id] = _Call(header, client, until)

    def replied(self, call: MessageId) -> None:
        """Its reply is on its way."""
        self._calls.pop(call, None)

    def gone(self, client: int) -> list[Header]:
        """A service is gone: the calls that nobody will reply to."""
        lost = [call.header for call in self._calls.values() if call.client == client]
        for header in lost:
            del self._calls[header.id]
        return lost

    def tick(self, now: float) -> None:
        """Forget what nobody waits for."""
        for message_id in [message_id for message_id, call in self._calls.items() if call.until <= now]:
            del self._calls[message_id]
