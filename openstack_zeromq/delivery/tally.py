"""Tally: events of one kind, by topic, so that an operator sees where they come from."""

from collections import Counter as Counts

TOPICS_MOST = 10_000
"""Topics that are told apart; senders invent their names. A cloud has a few hundred."""

Topic = tuple[str, str]
"""Exchange and topic."""


class Tally:
    """How often something happened, by topic; of topics beyond `TOPICS_MOST` nothing is kept."""

    def __init__(self) -> None:
        self._counts: Counts[Topic] = Counts()

    def add(self, topic: Topic) -> bool:
        """Count one event; return whether it is the first one of its topic."""
        if topic not in self._counts and len(self._counts) >= TOPICS_MOST:
            return False
        self._counts[topic] += 1
        return self._counts[topic] == 1

    def counts(self) -> dict[Topic, int]:
        """Return how often it happened, by topic."""
        return dict(self._counts)
