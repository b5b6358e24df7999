"""Unknown: messages to topics of which the matchmaker cannot say yet who serves them, in the order in which they came."""

from collections.abc import Callable

from openstack_zeromq.wire import MessageId


class Unknown:
    """Nobody may be told that nobody listens before that is known; and a fanout must not go to fewer than it should."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[MessageId, None]] = {}

    def wait(self, topic: str, message_id: MessageId) -> None:
        self._waiting.setdefault(topic, {})[message_id] = None

    def forget(self, topic: str, message_id: MessageId) -> None:
        """It waits no longer, if it did."""
        waiting = self._waiting.get(topic)
        if waiting is not None:
            waiting.pop(message_id, None)
            if not waiting:
                del self._waiting[topic]

    def free(self, known: Callable[[str], bool]) -> list[MessageId]:
        """Those whose topic is known now; they wait no longer."""
        topics = [topic for topic in self._waiting if known(topic)]
        return [message_id for topic in topics for message_id in self._waiting.pop(topic)]
