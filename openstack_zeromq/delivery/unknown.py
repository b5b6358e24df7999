"""Unknown: messages to topics of which the matchmaker cannot say yet who serves them, in the order in which they came."""

from collections.abc import Callable, Iterator

from openstack_zeromq.delivery.bounds import Key
from openstack_zeromq.wire import MessageId


class Unknown:
    """Nobody may be told that nobody listens before that is known; and a fanout must not go to fewer than it should."""

    def __init__(self) -> None:
        self._waiting: dict[Key, dict[MessageId, None]] = {}

    def wait(self, key: Key, message_id: MessageId) -> None:
        self._waiting.setdefault(key, {})[message_id] = None

    def forget(self, key: Key, message_id: MessageId) -> None:
        """It waits no longer, if it did."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.pop(message_id, None)
            if not waiting:
                del self._waiting[key]

    def free(self, known: Callable[[str], bool]) -> list[MessageId]:
        """Those whose topic is known now; they wait no longer."""
        keys = [key for key in self._waiting if known(key[1])]
        return [message_id for key in keys for message_id in self._waiting.pop(key)]

    def waiting(self) -> Iterator[tuple[Key, int]]:
        """Return every target, and how many messages wait for it."""
        return ((key, len(waiting)) for key, waiting in self._waiting.items())

    def oldest(self, key: Key) -> MessageId | None:
        """Return the message that has waited longest for this target; None: there is none."""
        return next(iter(self._waiting.get(key, ())), None)
