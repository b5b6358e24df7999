"""The promises, checked on whole fabrics in virtual time: whatever fails and heals, in whatever order.

Hypothesis makes the schedules, always the same ones. `HYPOTHESIS_PROFILE=thorough` tries thousands of new ones, and shrinks those
that break a promise.
"""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import EXCHANGE, Fabric, Service

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.wire import Kind

ROOMY = Bounds(10_000, 1 << 30)
TIGHT = Bounds(4, 1 << 30)
NODES = ("a", "b", "c")
TOPIC, NOTES, POOL = "compute", "notes.info", "audit"
UNCONSUMED = "versioned_notifications.info"
"""Listed for c, where nothing listens to it before everything is mended."""
UNCONSUMED_CHANNEL = Channel.of_topic(EXCHANGE, UNCONSUMED)
LATE = "late"
LACKED, UNANSWERED = "compute-alt", "cinder-volume.b@lvm"
"""Served on c. No matchmaker lists the first one; of the second one none can say anything, for its store is away."""
CREDIT = 3


def _server(name: str) -> tuple[Channel, ...]:
    """What an RPC server listens to."""
    return (
        Channel.of_topic(EXCHANGE, TOPIC),
        Channel.of_fanout(EXCHANGE, TOPIC),
        Channel.of_server(EXCHANGE, TOPIC, name),
    )


SERVERS = {"a": "a", "b": "b", "b@lvm": "b", "c": "c"}
"""Server name -> its node. b@lvm is not named like its node: it must be found."""

CLIENTS = {"client on a": "a", "client on b": "b"}


def build(seed: int, bounds: Bounds, pool_at: str) -> Fabric:
    """Three nodes, four RPC servers, a listener and a pool for notifications, and two services that only send; all running."""
    fabric = Fabric(seed, bounds, {TOPIC: NODES, NOTES: tuple(sorted({pool_at, "c"})), UNCONSUMED: ("c",)}, NODES)
    for receiver in fabric.receivers.values():
        receiver.start()
    for name, node in SERVERS.items():
        Service(fabric, name, node, _server(name), CREDIT).listen()
    Service(fabric, "notes", "c", (Channel.of_topic(EXCHANGE, NOTES),), CREDIT).listen()
    Service(fabric, "audit", pool_at, (Channel.of_pool(EXCHANGE, NOTES, POOL),), CREDIT).listen()
    for name, node in CLIENTS.items():
        Service(fabric, name, node)
    fabric.unanswered = {UNANSWERED}
    for topic in (LACKED, UNANSWERED):
        channels = (Channel.of_topic(EXCHANGE, topic), Channel.of_fanout(EXCHANGE, topic))
        Service(fabric, f"{topic} on c", "c", channels, CREDIT).listen()
    Service(fabric, LATE, "c", (Channel.of_topic(EXCHANGE, UNCONSUMED),), CREDIT)
    assert fabric.run(10, lambda: all(c.joined for s in fabric.services.values() for c in s.consumers))
    return fabric


# schedules


@dataclass(frozen=True)
class SendMany:
    """`server`: None is the bare topic."""

    sender: str
    kind: Kind
    server: str | None
    count: int


@dataclass(frozen=True)
class Kill:
    node: str
    down_for: float


@dataclass(frozen=True)
class Cut:
    one: str
    other: str
    seconds: float


@dataclass(frozen=True)
class Unreliable:
    """Links lose and repeat frames from now on."""

    loss: float
    duplication: float


@dataclass(frozen=True)
class StopServer:
    server: str
    finish: bool
    away_for: float


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Work:
    """What a consumer does between getting a message and taking it lasts so long from now on."""

    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Drain:
    """The node leaves new work to others, or takes it again."""

    node: str
    begin: bool


@dataclass(frozen=True)
class TakeKey:
    """The node is known by another key from now on."""

    node: str


@dataclass(frozen=True)
class NotifyNobody:
    """Notifications to a topic that nothing listens to."""

    sender: str
    count: int


@dataclass(frozen=True)
class SendToFound:
    """Messages to a topic that the matchmaker does not find, but peers do."""

    sender: str
    kind: Kind
    topic: str
    count: int


@dataclass(frozen=True)
class StandStill:
    """A service whose process the receiver cannot see gets no processor for a while."""

    service: str
    seconds: float


Event = StandStill | NotifyNobody | SendToFound | Drain | TakeKey | SendMany | Kill | Cut | Unreliable | StopServer | Wait | Work

sender = st.sampled_from([*CLIENTS, "a", "b@lvm"])
rpc = st.builds(
    SendMany,
    sender,
    st.sampled_from([Kind.CAST, Kind.CALL]),
    st.sampled_from([None, *SERVERS]),
    st.integers(1, 12),
)
to_all = st.builds(SendMany, sender, st.sampled_from([Kind.FANOUT, Kind.NOTIFY]), st.none(), st.integers(1, 12))
found = st.builds(
    SendToFound, sender, st.sampled_from([Kind.CAST, Kind.CALL]), st.sampled_from([LACKED, UNANSWERED]), st.integers(1, 12)
)
to_nobody = st.builds(NotifyNobody, sender, st.integers(1, 12))
moment = st.sampled_from([0.0, 0.001, 0.003, 0.01, 0.05, 0.3, 1.0, 2.5, 4.0, 7.0])
wait = st.builds(Wait, moment)
kill = st.builds(Kill, st.sampled_from(NODES), moment)
cut = st.builds(lambda pair, s: Cut(*pair, s), st.sampled_from([("a", "b"), ("b", "c"), ("a", "c")]), moment)
unreliable = st.builds(Unreliable, st.sampled_from([0.0, 0.05, 0.3]), st.sampled_from([0.0, 0.3]))
drain = st.builds(Drain, st.sampled_from(NODES), st.booleans())
take_key = st.builds(TakeKey, st.sampled_from(NODES))
stop = st.builds(StopServer, st.sampled_from(list(SERVERS)), st.booleans(), moment)
stand_still = st.builds(StandStill, st.sampled_from([*SERVERS, *CLIENTS]), st.sampled_from([0.3, 2.9, 3.0, 3.1, 3.5, 7.0]))

work = st.builds(Work, st.sampled_from([(0.0,), (0.0, 0.001, 0.01, 0.3), (0.0, 0.01, 2.0), (1.5, 4.0)]))

seeds = st.integers(0, 2**32 - 1)


def schedules(*events: st.SearchStrategy[Event]) -> st.SearchStrategy[list[Event]]:
    """Lists of events, long ones as likely as short ones; something is always under way."""
    event = st.one_of(wait, rpc, to_all, *events, *events)
    return st.integers(1, 40).flatmap(lambda length: st.lists(event, min_size=length, max_size=length))


class Run:
    """One schedule on one fabric."""

    def __init__(self, seed: int, bounds: Bounds = ROOMY, pool_at: str = "b") -> None:
        """With the pool on a node of its own, every other notification first asks there for a listener that is elsewhere."""
        self.fabric = build(seed, bounds, pool_at)
        self.sent: dict[str, SendMany] = {}
        self.unconsumed: list[str] = []
        self.found: dict[str, SendToFound] = {}
        self.stopped: set[str] = set()
        self.stood_still: set[str] = set()
        """Services that may have been given up meanwhile: replies that came then are lost, and their calls time out."""
        self.stopped_at: dict[str, set[str]] = {}

    def play(self, schedule: list[Event]) -> None:
        """Let it all happen, mend everything, and wait until nothing is on its way any more."""
        for event in schedule:
            self._happen(event)
        self.mend()
        self.finish()

    def mend(self) -> None:
        fabric = self.fabric
        fabric.loss = fabric.duplication = 0.0
        fabric.work = (0.0, 0.01)
        fabric.cuts.clear()
        fabric.topics[UNANSWERED] = ("c",)
        fabric.unanswered.clear()
        for receiver in fabric.receivers.values():
            receiver.start()
            assert receiver.life is not None
            receiver.life.routes_changed()
        for name in (*SERVERS, LATE):
            self._listen(name)

    def finish(self) -> None:
        done = self.fabric.run(200, self._quiet)
        assert done, f"still on its way: {self._rest()}"
        self.fabric.run(10)

    def send(self, event: SendMany) -> None:
        for _ in range(event.count):
            body = f"{event.kind.name.lower()} {len(self.sent) + 1} of {event.sender}"
            self.sent[body] = event
            self.stopped_at[body] = set(self.stopped)
            topic = NOTES if event.kind is Kind.NOTIFY else TOPIC
            self.fabric.services[event.sender].send(event.kind, topic, body, event.server or "")

    def notify_nobody(self, event: NotifyNobody) -> None:
        for _ in range(event.count):
            body = f"notify nobody {len(self.unconsumed) + 1} of {event.sender}"
            self.unconsumed.append(body)
            self.fabric.services[event.sender].send(Kind.NOTIFY, UNCONSUMED, body)

    def send_to_found(self, event: SendToFound) -> None:
        for _ in range(event.count):
            body = f"{event.kind.name.lower()} {len(self.found) + 1} to {event.topic} of {event.sender}"
            self.found[body] = event
            self.fabric.services[event.sender].send(event.kind, event.topic, body)

    # private

    def _say_what_is_settled(self) -> None:
        """Each sender says so in its next message: one of them to every consumer."""
        for sender in (*CLIENTS, *SERVERS):
            for name in SERVERS:
                self.send(SendMany(sender, Kind.CAST, name, 1))
            self.send(SendMany(sender, Kind.CAST, None, len(NODES)))
            self.send(SendMany(sender, Kind.FANOUT, None, 1))
            self.send(SendMany(sender, Kind.NOTIFY, None, 1))
            self.notify_nobody(NotifyNobody(sender, 1))
            for topic in (LACKED, UNANSWERED):
                self.send_to_found(SendToFound(sender, Kind.CAST, topic, 1))
        self.finish()

    def _happen(self, event: Event) -> None:
        match event:
            case SendMany():
                self.send(event)
            case NotifyNobody():
                self.notify_nobody(event)
            case SendToFound():
                self.send_to_found(event)
            case Wait():
                self.fabric.run(event.seconds)
            case Work():
                self.fabric.work = event.seconds
            case StopServer():
                self._stop(event)
            case StandStill():
                self._misses_fanouts(event.service)
                self.stood_still.add(event.service)
                self.fabric.services[event.service].stand_still(event.seconds)
            case Unreliable():
                self.fabric.loss, self.fabric.duplication = event.loss, event.duplication
            case Cut():
                self.fabric.cuts[frozenset((event.one, event.other))] = self.fabric.now + event.seconds
            case Kill() | Drain() | TakeKey():
                self._happen_to_receiver(event)

    def _happen_to_receiver(self, event: "Kill | Drain | TakeKey") -> None:
        receiver = self.fabric.receivers[event.node]
        match event:
            case Kill():
                receiver.kill()
                self.fabric.after(event.down_for, receiver.start)
            case Drain() if receiver.life is not None:
                receiver.life.node.draining = event.begin
            case TakeKey() if receiver.life is not None:
                receiver.life.take_key()

    def _stop(self, event: StopServer) -> None:
        self._misses_fanouts(event.server)
        self.fabric.services[event.server].stop(event.finish)
        self.fabric.after(event.away_for, lambda: self._listen(event.server))

    def _misses_fanouts(self, server: str) -> None:
        """It is, or is taken to be, away."""
        self.stopped.add(server)
        for stopped in self.stopped_at.values():
            stopped.add(server)

    def _listen(self, name: str) -> None:
        """Listen again; once what it still does is done."""
        service = self.fabric.services[name]
        if any(consumer.draining for consumer in service.consumers):
            self.fabric.after(0.1, lambda: self._listen(name))
        else:
            service.listen()

    def _quiet(self) -> bool:
        return not self._rest()

    def _rest(self) -> dict[str, object]:
        fabric = self.fabric
        rest: dict[str, object] = {name: service.pending for name, service in fabric.services.items() if service.pending}
        for name, receiver in fabric.receivers.items():
            life = receiver.life
            assert life is not None
            if life.node.outgoing.pending or life.node.incoming.in_hand or life.node.outgoing.pending_bytes:
                rest[f"receiver {name}"] = (
                    life.node.outgoing.pending,
                    life.node.incoming.in_hand,
                    life.node.outgoing.pending_bytes,
                )
        for name, service in fabric.services.items():
            if not all(consumer.joined for consumer in service.consumers):
                rest[f"joins of {name}"] = True
        return rest

    # what must be true

    def check_delivered(self) -> None:
        """Each cast, call and notification was executed once, each fanout once by every listener that never stopped."""
        log = self.fabric.log
        for body, event in self.sent.items():
            ran = Counter(log.ran[body])
            if event.kind is Kind.FANOUT:
                everybody = {f"{name} fanout" for name in SERVERS}
                always = {f"{name} fanout" for name in SERVERS if name not in self.stopped_at[body]}
                assert max(ran.values(), default=1) == 1, f"{body} came twice: {ran}"
                assert always <= set(ran) <= everybody, f"{body} was missed: only {ran}"
            elif event.kind is Kind.NOTIFY:
                assert ran == {"notes topic": 1, "audit pool": 1}, f"{body}: {ran}"
            else:
                assert sum(ran.values()) == 1, f"{body} ran {sum(ran.values())} times: {ran}"
                if event.server:
                    assert set(ran) == {f"{event.server} server"}, f"{body} to {event.server}: {ran}"
            if event.kind is Kind.CALL:
                assert log.replies[body] <= 1, f"{body} has {log.replies[body]} replies"
                outcomes = log.replies[body] + log.failures[body]
                assert outcomes or event.sender in self.stood_still, f"{body} has no reply"

    def check_found(self) -> None:
        """Messages to topics that only peers find were executed once, too."""
        for body, event in self.found.items():
            ran = self.fabric.log.ran[body]
            assert len(ran) == 1, f"{body} ran {len(ran)} times: {ran}"
            if event.kind is Kind.CALL:
                assert self.fabric.log.replies[body] == 1, f"{body} has {self.fabric.log.replies[body]} replies"

    def check_unconsumed(self, exactly: bool = False) -> None:
        """What nothing listened to was executed once when a listener came, unless it was dropped, and every drop is counted.
        Where receivers are killed something may be dropped, and come again from its sender; `exactly`: that cannot be."""
        ran = [len(self.fabric.log.ran[body]) for body in self.unconsumed]
        assert max(ran, default=1) <= 1, f"came twice: {ran}"
        lost, dropped = ran.count(0), self.fabric.counted("overflowed")
        assert lost == dropped if exactly else lost <= dropped, f"{lost} are missing, {dropped} were dropped"

    def check_still_works(self) -> None:
        """No consumer has lost credit: each still takes more messages than it may hold."""
        for name in SERVERS:
            self.send(SendMany("client on a", Kind.CAST, name, 2 * CREDIT + 1))
        self.send(SendMany("client on b", Kind.CALL, None, 3 * len(NODES)))
        self.send(SendMany("client on b", Kind.FANOUT, None, 2 * CREDIT + 1))
        self.send(SendMany("client on a", Kind.NOTIFY, None, 2 * CREDIT + 1))
        self.finish()
        self._say_what_is_settled()
        self.check_delivered()
        self.check_nothing_is_left()

    def check_nothing_is_left(self) -> None:
        """Once the senders say that all is settled, nobody remembers more than the last few messages."""
        fabric = self.fabric
        for receiver in fabric.receivers.values():
            assert receiver.life is not None
            for channel, queue in receiver.life.node.incoming.channels.items():
                assert queue.depth == 0, f"{queue.depth} left in {channel} at {receiver.name}"
        most = 5 * (2 * CREDIT + 1)
        for service in fabric.services.values():
            for consumer in service.consumers:
                assert consumer.inbox.holding == []
                assert len(consumer.taken) <= most

    def check_order(self) -> None:
        """Each consumer saw what one sender sent to it in the order of sending."""
        place = {body: number for number, body in enumerate([*self.sent, *self.unconsumed, *self.found])}
        for (service, channel), bodies in self.fabric.log.order.items():
            for one in self.fabric.services:
                numbers = [place[body] for body in bodies if body.endswith(f" of {one}") and body not in self.fabric.log.requeued]
                assert numbers == sorted(numbers), f"{service} {channel} from {one}: {numbers}"


def _promises_hold(schedule: list[Event], seed: int, bounds: Bounds = ROOMY) -> None:
    run = Run(seed, bounds)
    run.play(schedule)
    run.check_delivered()
    run.check_still_works()


@given(schedules(work), seeds)
def test_while_nothing_fails_everything_is_delivered_once_and_in_order(schedule: list[Event], seed: int) -> None:
    run = Run(seed, pool_at="c")
    run.play(schedule)
    run.check_delivered()
    run.check_order()
    run.check_still_works()


@given(schedules(work), seeds)
def test_full_queues_only_slow_senders_down(schedule: list[Event], seed: int) -> None:
    _promises_hold(schedule, seed, TIGHT)


@given(schedules(kill, work), seeds)
def test_receivers_killed_at_any_moment_lose_nothing_and_duplicate_nothing(schedule: list[Event], seed: int) -> None:
    _promises_hold(schedule, seed)


@given(schedules(take_key, work), seeds)
def test_new_keys_lose_nothing_and_duplicate_nothing(schedule: list[Event], seed: int) -> None:
    _promises_hold(schedule, seed)


@given(schedules(cut, unreliable, work), seeds)
def test_a_bad_network_loses_nothing_and_duplicates_nothing(schedule: list[Event], seed: int) -> None:
    _promises_hold(schedule, seed)


@given(schedules(stop, cut, unreliable, work), seeds)
def test_servers_that_stop_and_start_leave_their_messages_to_others(schedule: list[Event], seed: int) -> None:
    _promises_hold(schedule, seed)


@given(schedules(drain, kill, cut, work), seeds)
def test_nodes_that_drain_lose_nothing_and_duplicate_nothing_though_all_of_them_drain(schedule: list[Event], seed: int) -> None:
    _promises_hold(schedule, seed)


@given(schedules(drain, work), seeds)
def test_nodes_that_drain_keep_the_order_within_a_channel(schedule: list[Event], seed: int) -> None:
    run = Run(seed, pool_at="c")
    run.play(schedule)
    run.check_delivered()
    run.check_order()


@given(schedules(kill, take_key, cut, unreliable, work), seeds, st.sampled_from([ROOMY, TIGHT]))
def test_whatever_fails_together_loses_nothing_and_duplicates_nothing(schedule: list[Event], seed: int, bounds: Bounds) -> None:
    _promises_hold(schedule, seed, bounds)


@pytest.mark.parametrize("seed", range(20))
def test_of_notifications_that_nothing_consumes_the_newest_are_kept_in_order_and_their_senders_never_wait(seed: int) -> None:
    run = Run(seed, TIGHT)
    run.play([NotifyNobody("client on a", 7), Wait(3.0), NotifyNobody("client on a", 5), Wait(3.0)])
    kept = [body for body in run.unconsumed if run.fabric.log.ran[body]]
    assert kept == run.unconsumed[-TIGHT.messages :]
    assert [body for body in run.fabric.log.order[LATE, UNCONSUMED_CHANNEL] if body not in run.fabric.log.requeued] == [
        body for body in kept if body not in run.fabric.log.requeued
    ]
    run.check_unconsumed(exactly=True)


@given(schedules(to_nobody, work), seeds)
def test_unconsumed_notifications_harm_nothing_else_and_what_is_dropped_of_them_is_counted(
    schedule: list[Event], seed: int
) -> None:
    run = Run(seed, TIGHT)
    run.play(schedule)
    run.check_delivered()
    run.check_unconsumed(exactly=True)
    run.check_still_works()


@given(schedules(to_nobody, kill, cut, work), seeds, st.sampled_from([ROOMY, TIGHT]))
def test_no_failure_loses_unconsumed_notifications_without_counting_them(
    schedule: list[Event], seed: int, bounds: Bounds
) -> None:
    run = Run(seed, bounds)
    run.play(schedule)
    run.check_unconsumed()


@given(schedules(found, work), seeds)
def test_topics_that_only_peers_find_harm_nothing_else(schedule: list[Event], seed: int) -> None:
    run = Run(seed)
    run.play(schedule)
    run.check_found()
    run.check_delivered()
    run.check_still_works()


@given(schedules(found, kill, cut, unreliable, work), seeds, st.sampled_from([ROOMY, TIGHT]))
def test_whatever_fails_messages_to_topics_that_only_peers_find_run_once(
    schedule: list[Event], seed: int, bounds: Bounds
) -> None:
    run = Run(seed, bounds)
    run.play(schedule)
    run.check_found()


@pytest.mark.parametrize("kind", [Kind.CAST, Kind.CALL, Kind.FANOUT])
@pytest.mark.parametrize("seed", range(20))
def test_a_topic_that_the_ring_lacks_is_found_by_a_node_that_had_no_link_to_its_host(seed: int, kind: Kind) -> None:
    run = Run(seed)
    run.send_to_found(SendToFound("client on a", kind, LACKED, 20))
    assert run.fabric.run(5, lambda: all(len(run.fabric.log.ran[body]) == 1 for body in run.found))
    assert run.fabric.counted("fanouts_to_nobody") == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_node_that_serves_a_topic_that_its_ring_lacks_says_so_once(seed: int) -> None:
    run = Run(seed)
    run.fabric.run(30)
    assert run.fabric.log.notes == {("unlisted", LACKED): 1}
    assert run.fabric.counted("unlisted") == 1


@pytest.mark.parametrize("kind", [Kind.CAST, Kind.CALL])
@pytest.mark.parametrize("seed", range(20))
def test_while_the_store_is_away_peers_are_asked_and_a_topic_is_found_within_a_beat_or_two(seed: int, kind: Kind) -> None:
    run = Run(seed)
    run.send_to_found(SendToFound("client on a", kind, UNANSWERED, 5))
    assert run.fabric.run(3, lambda: all(len(run.fabric.log.ran[body]) == 1 for body in run.found))


def test_what_a_peer_announced_is_forgotten_when_it_does_not_serve_it_any_more() -> None:
    run = Run(5)
    run.send_to_found(SendToFound("client on a", Kind.CAST, LACKED, 1))
    run.finish()
    life = run.fabric.receivers["a"].life
    assert life is not None
    assert life.node.outgoing.announced.hosts(LACKED) == ("c",)
    run.fabric.services[f"{LACKED} on c"].stop(finish=True)
    assert run.fabric.run(5, lambda: life.node.outgoing.announced.hosts(LACKED) == ())


@given(schedules(stand_still, work), seeds)
def test_services_that_stand_still_run_nothing_that_was_given_to_others(schedule: list[Event], seed: int) -> None:
    _promises_hold(schedule, seed)


@given(schedules(stand_still, kill, work), seeds)
def test_services_that_stand_still_while_receivers_are_killed_run_nothing_that_was_given_to_others(
    schedule: list[Event], seed: int
) -> None:
    _promises_hold(schedule, seed)


# schedules that once broke a promise, with other latencies each time

SOME = range(60)


@pytest.mark.parametrize("seed", SOME)
def test_a_receiver_killed_twice_in_a_row_still_waits_for_the_services_of_the_first(seed: int) -> None:
    """The second one lived too shortly for all services to find it, but must not write down that they are gone."""
    _promises_hold([Kill("a", 0.05), SendMany("client on a", Kind.FANOUT, None, 3), Wait(0.3), Kill("a", 0.0)], seed)


@pytest.mark.parametrize("seed", SOME)
def test_an_answer_that_overtakes_its_consumers_join_costs_no_credit(seed: int) -> None:
    """The consumer says that it holds a message, takes it, and the answer comes first, over the other connection."""
    _promises_hold([Work((0.3, 0.7)), SendMany("client on a", Kind.CAST, "b", 12), Wait(1.0), Kill("b", 0.0)], seed)


@pytest.mark.parametrize("seed", SOME)
def test_a_notification_given_back_while_its_consumer_joins_comes_again(seed: int) -> None:
    """The same with REQUEUED: the receiver must not wait for the word of a consumer that has given it already."""
    _promises_hold([Work((0.3, 0.7)), SendMany("client on a", Kind.NOTIFY, None, 12), Wait(1.0), Kill("c", 0.0)], seed)


@pytest.mark.parametrize("seed", SOME[:20])
def test_what_a_slow_server_holds_is_not_given_to_its_neighbour_when_their_receiver_restarts(seed: int) -> None:
    _promises_hold([Work((1.5, 4.0)), SendMany("client on b", Kind.CALL, None, 12), Wait(0.05), Kill("b", 0.0)], seed)


@pytest.mark.parametrize("seed", SOME[:20])
def test_a_sender_whose_receiver_restarts_goes_on_with_the_host_that_has_its_message(seed: int) -> None:
    """Nobody listened on b then, so c got all; now b listens again, and would be next."""
    away = [StopServer("b", finish=True, away_for=1.0), StopServer("b@lvm", finish=True, away_for=1.0), Wait(0.05)]
    _promises_hold([*away, Work((1.5, 4.0)), SendMany("client on a", Kind.CAST, None, 9), Wait(0.3), Kill("a", 1.0)], seed)


@pytest.mark.parametrize("seed", range(40))
def test_a_call_that_stayed_on_its_node_before_the_matchmaker_answered_does_not_run_again_when_the_receiver_dies(
    seed: int,
) -> None:
    _promises_hold([SendMany("client on b", Kind.CALL, None, 1), Wait(0.01), Kill("b", 0.01)], seed)


@pytest.mark.parametrize("seed", SOME[:20])
def test_a_server_that_stands_still_for_seven_seconds_runs_nothing_twice(seed: int) -> None:
    calls = [
        Work((0.0, 0.3)),
        SendMany("client on b", Kind.CALL, None, 12),
        SendMany("client on a", Kind.CAST, "b", 3),
        Wait(0.05),
    ]
    _promises_hold([*calls, StandStill("b", 7.0), SendMany("client on a", Kind.CALL, None, 12), Wait(7.0)], seed)


@pytest.mark.parametrize("seed", range(40))
def test_a_server_that_stands_still_for_as_long_as_its_new_receiver_waits_for_it_runs_nothing_that_another_one_runs(
    seed: int,
) -> None:
    """It joins after the grace, and before the receiver has sealed its journal."""
    sent = [SendMany("b@lvm", Kind.CAST, None, 12), Wait(0.001), Work((1.5, 4.0))]
    _promises_hold([*sent, StandStill("b", 3.0), Kill("b", 0.003), Wait(7.0)], seed)


@pytest.mark.parametrize("seed", [10, 46, 68, *range(10)])
def test_a_server_that_asks_twice_to_join_gets_again_what_it_dropped_in_between(seed: int) -> None:
    sent = [Wait(0.01), SendMany("client on b", Kind.CALL, "a", 9), Wait(0.3)]
    _promises_hold([StandStill("a", 3.5), *sent, Kill("a", 0.01), Wait(7.0)], seed)


# the simulation itself


@pytest.mark.parametrize("seed", range(40))
def test_what_a_server_took_before_it_stopped_does_not_run_again_when_its_receiver_dies_just_then(seed: int) -> None:
    schedule = [
        Work((0.0,)),
        SendMany("client on a", Kind.CAST, "b", 3),
        Wait(0.003),
        StopServer("b", True, 1.0),
        Kill("b", 0.05),
    ]
    _promises_hold(schedule, seed)


def test_the_same_seed_gives_the_same_run() -> None:
    def play() -> dict[str, list[str]]:
        run = Run(7)
        run.play([SendMany("a", Kind.CAST, None, 30), Kill("b", 1.0), Cut("a", "c", 2.5), SendMany("b@lvm", Kind.CALL, None, 20)])
        return dict(run.fabric.log.ran)

    assert play() == play()


def test_a_message_that_is_lost_or_runs_twice_is_noticed() -> None:
    run = Run(1)
    run.play([SendMany("a", Kind.CAST, None, 1)])
    [body] = run.sent
    for ran in ([], ["a topic", "b topic"]):
        run.fabric.log.ran[body] = ran
        with pytest.raises(AssertionError, match="times"):
            run.check_delivered()
