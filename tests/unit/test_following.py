"""following: whatever a store does, for however long, the matchmaker goes on. The store here is one that only fails."""

import asyncio
from collections import Counter as Counts
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fabric import eventually

from openstack_zeromq.errors import StoreError
from openstack_zeromq.matchmaker import following
from openstack_zeromq.matchmaker.base import Member, Registration, Service
from openstack_zeromq.matchmaker.following import StoreMatchmaker
from openstack_zeromq.matchmaker.holding import Reading, Rules
from openstack_zeromq.matchmaker.snapshot import Snapshot
from openstack_zeromq.matchmaker.store import Heard, Store, Wanted


class Failing(Store):
    """Fails as it is told, at once; then answers: c1 serves everything but what begins with `no`."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.asked: Counts[str] = Counts()
        self.members = {"c1": Member()}

    @property
    def name(self) -> str:
        return "a store"

    async def follow(self, wanted: Wanted, heard: Heard) -> None:
        if self.failures:
            raise self.failures.pop()
        told: set[str] = set()
        while True:
            for topic in set(wanted) - told:
                self.asked[topic] += 1
                heard.reading(Reading(topic, {} if topic.startswith("no") else dict(self.members)))
            told = set(wanted)
            await wanted.changed()

    async def beat(self, registration: Registration) -> None:
        raise StoreError("no registrations here")

    async def services(self) -> list[Service]:
        return []

    async def close(self) -> None:
        await asyncio.sleep(0)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[Store], StoreMatchmaker]]:
    made: list[StoreMatchmaker] = []

    def start(store: Store) -> StoreMatchmaker:
        snapshot = Snapshot(str(tmp_path), "n1", "test")
        made.append(StoreMatchmaker(lambda: store, Registration("n1", "", 9501), 60.0, Rules(), snapshot))
        made[-1].start(lambda: None)
        return made[-1]

    yield start
    for matchmaker in made:
        matchmaker.close()


def test_two_thousand_failures_in_a_row_end_nothing(
    make: Callable[[Store], StoreMatchmaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real time that is hours."""
    monkeypatch.setattr(following, "_RETRY_MOST", 0.0)
    failures: list[Exception] = [ValueError("a bug"), *[StoreError("away")] * 1999]
    matchmaker = make(Failing(failures))
    eventually(lambda: matchmaker.hosts("compute") or matchmaker.refresh(), within=30)
    assert not failures
    assert matchmaker.hosts("compute") == ("c1",)


def test_topics_that_somebody_invents_are_followed_up_to_a_bound(
    make: Callable[[Store], StoreMatchmaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "WANTED_MOST", 100)
    matchmaker = make(Failing([]))
    for number in range(1000):
        matchmaker.hosts(f"invented-{number}")
    eventually(lambda: matchmaker.refresh() and matchmaker.hosts("invented-99"))
    assert matchmaker.hosts("invented-500") is None
    assert len(matchmaker.view.topics) == 100


def test_what_nobody_serves_and_nobody_asks_for_is_forgotten_and_found_again_when_somebody_asks(
    make: Callable[[Store], StoreMatchmaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_UNUSED_AFTER", 0.3)
    store = Failing([])
    matchmaker = make(store)
    assert matchmaker.hosts("nobody") is None
    assert matchmaker.directed("compute", "c1") is None
    eventually(lambda: matchmaker.refresh() or matchmaker.view.topic("nobody"))
    eventually(lambda: matchmaker.refresh() and matchmaker.view.topic("nobody") is None)
    for _ in range(20):
        eventually(lambda: matchmaker.refresh() or matchmaker.hosts("nobody") == ())
    assert matchmaker.directed("compute", "c1") == ("c1",)
    assert store.asked["compute"] == 1, "what somebody serves is never forgotten"


def test_what_is_held_is_said_at_once_and_stays_held_over_a_restart(
    make: Callable[[Store], StoreMatchmaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(following.LOG, "warning", lambda text, *arguments: said.append(text % arguments))
    hosts = tuple(f"c{number}" for number in range(9))
    store = Failing([])
    store.members = dict.fromkeys(hosts, Member())
    matchmaker = make(store)
    eventually(lambda: matchmaker.refresh() or matchmaker.hosts("compute") == hosts)
    matchmaker.reading(Reading("compute", {"c1": Member()}))
    assert list(matchmaker.status()["held"]) == ["compute"]
    assert said == [
        "topic compute: c0, c2, c3, c4, c5, c6, c7, c8 are held, though the store has lost them:"
        " more than half of the hosts vanished at once"
    ]
    matchmaker.close()
    store.members = {"c1": Member()}
    again = make(store)
    eventually(lambda: store.asked["compute"] == 2)
    eventually(lambda: again.status()["held"])
    assert again.hosts("compute") == hosts
