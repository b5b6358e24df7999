"""Refusals: messages that were refused here, so that a late copy of one is refused again.

Its sender has turned to another host by then. A copy that were delivered, because a consumer has come meanwhile, would run twice.
"""

from openstack_zeromq.wire import MessageId

REMEMBERED_FOR = 30.0
"""Seconds for which a refusal is remembered: longer than a copy can be on its way over a link that lives."""

MOST = 50_000
"""Refusals that are remembered, in 15 MiB. The oldest is forgotten first. That is safe: forgetting matters only if a copy of that
message is still on its way, which is a second after a link was dialled again, and a consumer of its channel has come since the
refusal. A peer that sends so many messages to nobody within seconds harms no message but those that were refused meanwhile."""


class Refusals:
    """`round_` counts a message's hosts: a sender that comes back to this one in a later round is not refused for the earlier."""

    def __init__(self) -> None:
        self._rounds: dict[MessageId, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._rounds)

    def add(self, message_id: MessageId, round_: int, now: float) -> None:
        """It was refused in `round_`."""
        self._rounds.pop(message_id, None)  # the order is that of time
        self._rounds[message_id] = round_, now + REMEMBERED_FOR
        if len(self._rounds) > MOST:
            del self._rounds[next(iter(self._rounds))]

    def has(self, message_id: MessageId, round_: int) -> bool:
        """Whether it was refused in that very round."""
        return bool(self._rounds) and self._rounds.get(message_id, (None, 0.0))[0] == round_

    def tick(self, now: float) -> None:
        """Forget those that are older than a copy can be."""
        while self._rounds:
            oldest = next(iter(self._rounds))
            if self._rounds[oldest][1] > now:
                return
            del self._rounds[oldest]
