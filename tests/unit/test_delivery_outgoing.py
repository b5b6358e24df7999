"""Outgoing: every message has a host that is to answer for it, and never two that could both run it."""

from collections import Counter as Counts
from itertools import pairwise
from typing import Any

import pytest
from messages import REMEMBER, ROOMY, TOPIC, counts, message, resent, said

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.link import LinkState
from openstack_zeromq.delivery.outgoing import (
    ASK_AGAIN_AFTER,
    NodeFacts,
    Open,
    Outgoing,
    OutgoingAction,
    Send,
    Surroundings,
    Tell,
)
from openstack_zeromq.delivery.pools import Pools
from openstack_zeromq.delivery.unconsumed import AWAY_FOR, Note
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Kind

UP, DOWN = LinkState.UP, LinkState.DOWN
CLIENT = 1


class World:
    """Node `a` and what it knows of the others; `links` and `hosts` may be changed at any time."""

    def __init__(self, bounds: Bounds = ROOMY, **links: LinkState) -> None:
        self.links: dict[str, LinkState] = {"a": UP, **links}
        self.topic_hosts: tuple[str, ...] | None = tuple(sorted(links))
        self.here: set[Channel] = set()
        self.others: tuple[str, ...] = ()
        self.counts: Counts[str] = counts()
        facts = NodeFacts("a", bounds, REMEMBER, lambda: 1.0)
        self.pools = Pools("a", lambda: self.here)
        self.pools.sure = True
        for host in links:
            self.pools.learn(host, frozenset())
        self.draining: set[str] = set()
        surroundings = Surroundings(self, self.links.get, self.here.__contains__, self.pools, self.draining.__contains__)
        self.out = Outgoing(facts, surroundings, self.counts)

    def hosts(self, _topic: str) -> tuple[str, ...] | None:
        return self.topic_hosts

    def directed(self, _topic: str, server: str) -> tuple[str, ...] | None:
        return (server,) if server in self.links else self.topic_hosts

    def lists(self, _topic: str, _host: str) -> bool:
        return True

    def nodes(self) -> tuple[str, ...]:
        return self.others


def sent(actions: list[OutgoingAction]) -> list[tuple[str, int]]:
    return [(action.host, action.message.id.sequence) for action in actions if isinstance(action, Send)]


def told(actions: list[OutgoingAction]) -> list[tuple[int, Answer]]:
    return [(action.entry.id.sequence, action.entry.answer) for action in actions if isinstance(action, Tell)]


def test_a_message_is_accepted_once_sent_once_and_told_when_it_was_taken() -> None:
    world = World(b=UP)
    actions = world.out.accept(CLIENT, message(1), 0.0)
    assert (told(actions), sent(actions)) == ([(1, Answer.ACCEPTED)], [("b", 1)])
    assert told(world.out.accept(CLIENT, resent(1), 0.0)) == [(1, Answer.ACCEPTED)]
    assert told(world.out.answered("b", said(1), 0.0)) == [(1, Answer.TAKEN)]
    assert told(world.out.accept(CLIENT, resent(1), 0.0)) == [(1, Answer.TAKEN)]
    assert (world.out.pending, world.out.pending_bytes) == (0, 0)


def test_the_turn_picks_the_host_so_that_bare_topics_go_round_robin() -> None:
    world = World(b=UP, c=UP)
    hosts = [sent(world.out.accept(CLIENT, message(n, turn=n), 0.0))[0][0] for n in range(1, 7)]
    assert hosts in (["b", "c"] * 3, ["c", "b"] * 3)


def test_a_message_that_nobody_wants_at_one_host_goes_to_the_next() -> None:
    world = World(b=UP, c=UP)
    first = sent(world.out.accept(CLIENT, message(1), 0.0))[0][0]
    [(second, _)] = sent(world.out.answered(first, said(1, Answer.NOROUTE), 0.0))
    assert {first, second} == {"b", "c"}
    assert sent(world.out.answered(second, said(1, Answer.NOROUTE, 2), 0.0)) == []
    assert sent(world.out.tick(1.0))[0][1] == 1


def test_an_answer_of_a_host_that_was_not_asked_changes_nothing() -> None:
    world = World(b=UP)
    world.out.accept(CLIENT, message(1), 0.0)
    assert world.out.answered("z", said(1), 0.0) == []
    assert world.out.pending == 1


def test_a_refusal_of_an_earlier_copy_does_not_count_for_the_present_one() -> None:
    """With two hosts, the third choice is the first host again; its late second refusal of round 1 must not free the message."""
    world = World(b=UP, c=UP)
    first = sent(world.out.accept(CLIENT, message(1), 0.0))[0][0]
    [(second, _)] = sent(world.out.answered(first, said(1, Answer.NOROUTE, 1), 0.0))
    world.out.answered(second, said(1, Answer.NOROUTE, 2), 0.0)
    assert sent(world.out.tick(5.0)) == [(first, 1)]
    assert world.out.answered(first, said(1, Answer.NOROUTE, 1), 5.1) == []
    assert told(world.out.answered(first, said(1), 5.2)) == [(1, Answer.TAKEN)]


def test_a_mandatory_message_to_nobody_is_told_at_once() -> None:
    world = World(b=UP)
    world.out.accept(CLIENT, message(1, flags=Flag.MANDATORY), 0.0)
    assert told(world.out.answered("b", said(1, Answer.NOROUTE), 0.0)) == [(1, Answer.NOROUTE)]


def test_an_unanswered_message_is_asked_for_again_and_stays_with_its_host() -> None:
    world = World(b=UP, c=UP)
    first = sent(world.out.accept(CLIENT, message(1), 0.0))
    world.links[first[0][0]] = DOWN
    assert world.out.link_down(first[0][0], 3.0) == []
    world.links[first[0][0]] = UP
    assert sent(world.out.link_up(first[0][0], 4.0)) == first
    assert sent(world.out.tick(4.0 + 3 * ASK_AGAIN_AFTER)) == first


def test_a_message_that_never_left_goes_to_another_host_when_the_link_is_lost() -> None:
    world = World(b=LinkState.CONNECTING, c=LinkState.CONNECTING)
    assert sent(world.out.accept(CLIENT, message(1), 0.0)) == []
    first = next(host for host in ("b", "c") if world.out.in_flight()[host])
    second = "bc".replace(first, "")
    world.links[first], world.links[second] = DOWN, UP
    assert sent(world.out.link_down(first, 1.0)) == [(second, 1)]


def test_a_link_is_opened_to_a_host_that_is_not_known_yet() -> None:
    world = World()
    world.topic_hosts = ("b",)
    assert Open("b") in world.out.accept(CLIENT, message(1), 0.0)


@pytest.mark.parametrize("kind", [Kind.CAST, Kind.FANOUT, Kind.CALL])
def test_a_message_that_nobody_takes_expires_and_leaves_nothing_behind(kind: Kind) -> None:
    world = World(b=UP)
    world.out.accept(CLIENT, message(1, kind, ttl_ms=2000), 0.0)
    assert told(world.out.tick(1.9)) == []
    assert told(world.out.tick(2.1)) == [(1, Answer.EXPIRED)]
    assert (world.out.pending, world.out.pending_bytes) == (0, 0)


def test_a_fanout_goes_to_every_host_and_to_this_node_when_somebody_listens_here() -> None:
    world = World(b=UP, c=UP)
    world.here.add(Channel.of_fanout("nova", "compute"))
    assert sorted(sent(world.out.accept(CLIENT, message(1, Kind.FANOUT), 0.0))) == [("a", 1), ("b", 1), ("c", 1)]
    assert told(world.out.answered("a", said(1), 0.0)) == []
    assert told(world.out.answered("b", said(1, Answer.NOROUTE), 0.0)) == []
    assert told(world.out.answered("c", said(1), 0.0)) == [(1, Answer.TAKEN)]


def test_a_full_topic_is_busy_in_messages_and_bytes_and_harms_no_other_topic() -> None:
    world = World(Bounds(2, 100), b=UP)
    for sequence in (1, 2):
        world.out.accept(CLIENT, message(sequence), 0.0)
    assert told(world.out.accept(CLIENT, message(3), 0.0)) == [(3, Answer.BUSY)]
    assert told(world.out.accept(CLIENT, message(3, topic="other", body=b"x" * 60), 0.0)) == [(3, Answer.ACCEPTED)]
    assert told(world.out.accept(CLIENT, message(4, topic="other", body=b"x" * 60), 0.0)) == [(4, Answer.BUSY)]


def test_beyond_what_all_topics_may_have_together_each_has_one_message() -> None:
    world = World(Bounds(2, 100), b=UP)
    for number in range(4):
        world.out.accept(CLIENT, message(number + 1, topic=f"t{number}", body=b"x" * 99), 0.0)
    assert told(world.out.accept(CLIENT, message(5, topic="t0", body=b"x"), 0.0)) == [(5, Answer.ACCEPTED)]
    assert told(world.out.accept(CLIENT, message(6, topic="t5", body=b"x" * 50), 0.0)) == [(6, Answer.ACCEPTED)]
    assert told(world.out.accept(CLIENT, message(7, topic="t5", body=b"x"), 0.0)) == [(7, Answer.BUSY)]


def test_a_busy_host_is_asked_again_later_and_later() -> None:
    world = World(b=UP)
    world.out.accept(CLIENT, message(1), 0.0)
    now, asked = 0.0, []
    world.out.answered("b", said(1, Answer.BUSY), now)
    while len(asked) < 6:
        now += 0.01
        if sent(world.out.tick(now)):
            asked.append(now)
            world.out.answered("b", said(1, Answer.BUSY), now)
    pauses = [later - sooner for sooner, later in pairwise(asked)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 2 * pauses[0]


def test_a_server_that_is_not_a_node_is_found_and_asked_first_from_then_on() -> None:
    world = World(b=UP, c=UP)
    world.out.accept(CLIENT, message(1, server="host@lvm"), 0.0)
    world.out.answered("b", said(1, Answer.NOROUTE), 0.0)
    world.out.answered("c", said(1), 0.0)
    assert sent(world.out.accept(CLIENT, message(2, server="host@lvm"), 0.0)) == [("c", 2)]


# after this receiver was started anew


def test_a_resent_message_waits_for_the_matchmaker_rather_than_stay_here_when_it_may_have_left_before() -> None:
    world = World(b=UP)
    world.topic_hosts = None
    world.here.add(TOPIC)
    assert sent(world.out.accept(CLIENT, message(1), 0.0)) == [("a", 1)]
    assert sent(world.out.accept(CLIENT, resent(2), 0.0)) == []
    assert sent(world.out.served(TOPIC, 0.1)) == []
    world.topic_hosts = ("b",)
    assert sent(world.out.routes_changed(0.2)) == [("b", 2)]


@pytest.mark.parametrize("state", [LinkState.CONNECTING, DOWN])
def test_a_resent_message_is_not_given_to_another_host_while_its_first_one_may_have_taken_it(state: LinkState) -> None:
    """This receiver's predecessor may have sent it to b, where it ran; b being away is no reason to let it run at c."""
    world = World(b=UP, c=UP)
    [(first, _)] = sent(world.out.accept(CLIENT, message(1), 0.0))
    [second] = {"b", "c"} - {first}
    anew = World(**{first: state, second: UP})
    actions = anew.out.accept(CLIENT, resent(1), 0.0)
    anew.links[first] = DOWN
    actions += anew.out.link_down(first, 1.0)
    for tenths in range(10, 100):
        actions += anew.out.tick(tenths / 10)
    assert second not in [host for host, _ in sent(actions)]


# notifications and pools


def _notified(actions: list[OutgoingAction]) -> list[tuple[str, str]]:
    """(host, pool) of what is sent; the topic's own copy has no pool."""
    return sorted((action.host, action.message.header.server) for action in actions if isinstance(action, Send))


def test_each_pool_gets_a_copy_wherever_it_is_and_the_sender_is_told_when_all_are_taken() -> None:
    world = World(b=UP, c=UP)
    world.pools.learn("b", frozenset({("nova", "compute", "audit"), ("nova", "other", "x")}))
    world.pools.learn("c", frozenset({("nova", "compute", "audit"), ("nova", "compute", "billing")}))
    actions = world.out.accept(CLIENT, message(1, Kind.NOTIFY), 0.0)
    copies = {action.message.header.server: action for action in actions if isinstance(action, Send)}
    assert sorted(copies) == ["", "audit", "billing"]
    assert copies["billing"].host == "c"
    assert len({action.message.id for action in copies.values()}) == 3
    assert told(actions) == [(1, Answer.ACCEPTED)]
    for pool in ("", "audit"):
        assert told(world.out.answered(copies[pool].host, AnswerEntry(copies[pool].message.id, Answer.TAKEN), 0.0)) == []
    last = copies["billing"]
    assert told(world.out.answered(last.host, AnswerEntry(last.message.id, Answer.TAKEN), 0.0)) == [(1, Answer.TAKEN)]
    assert (world.out.pending, world.out.pending_bytes) == (0, 0)


def test_the_copy_for_a_pool_has_the_same_id_when_it_is_made_again() -> None:
    ids = []
    for _ in range(2):
        world = World(b=UP)
        world.pools.learn("b", frozenset({("nova", "compute", "audit")}))
        actions = world.out.accept(CLIENT, message(1, Kind.NOTIFY), 0.0)
        ids.append([action.message.id for action in actions if isinstance(action, Send)])
    assert ids[0] == ids[1]


def test_a_notification_is_settled_only_when_it_is_known_which_pools_there_are() -> None:
    world = World(b=UP, c=UP)
    world.pools.forget("c")
    [own] = [action for action in world.out.accept(CLIENT, message(1, Kind.NOTIFY), 0.0) if isinstance(action, Send)]
    assert told(world.out.answered(own.host, said(1), 0.0)) == []
    world.pools.learn("c", frozenset({("nova", "compute", "audit")}))
    [copy] = [action for action in world.out.routes_changed(1.0) if isinstance(action, Send)]
    assert (copy.host, copy.message.header.server) == ("c", "audit")
    assert told(world.out.answered("c", AnswerEntry(copy.message.id, Answer.TAKEN), 1.0)) == [(1, Answer.TAKEN)]
    assert (world.out.pending, world.out.pending_bytes) == (0, 0)


def test_a_pool_gets_its_copies_while_the_topic_waits_for_a_listener() -> None:
    world = World(b=UP)
    world.pools.learn("b", frozenset({("nova", "compute", "audit")}))
    for sequence in (1, 2):
        actions = world.out.accept(CLIENT, message(sequence, Kind.NOTIFY), 0.0)
        assert ("b", "audit") in _notified(actions)
        for action in actions:
            if isinstance(action, Send):
                answer = Answer.TAKEN if action.message.header.server else Answer.NOROUTE
                entry = AnswerEntry(action.message.id, answer, "", action.round)
                assert told(world.out.answered("b", entry, 0.0)) == []
    assert world.out.pending == 2


@pytest.mark.parametrize("more", [{}, {"kind": Kind.FANOUT}, {"flags": Flag.MANDATORY}, {"server": "somewhere"}])
def test_what_the_matchmaker_does_not_know_yet_waits_and_then_goes_in_order(more: dict[str, Any]) -> None:
    world = World(b=UP)
    world.topic_hosts = None
    for number in (1, 2, 3):
        actions = world.out.accept(CLIENT, message(number, **more), 0.0)
        assert (told(actions), sent(actions)) == ([(number, Answer.ACCEPTED)], [])
    assert sent(world.out.tick(1.0)) == []
    world.topic_hosts = ("b",)
    assert sent(world.out.routes_changed(2.0)) == [("b", 1), ("b", 2), ("b", 3)]
    for number in (1, 2, 3):
        assert told(world.out.answered("b", said(number), 3.0)) == [(number, Answer.TAKEN)]
    assert world.out.pending == 0


def test_what_stays_unknown_expires() -> None:
    world = World(b=UP)
    world.topic_hosts = None
    world.out.accept(CLIENT, message(1, ttl_ms=10_000), 0.0)
    assert told(world.out.tick(9.9)) == []
    assert told(world.out.tick(10.0)) == [(1, Answer.EXPIRED)]
    world.topic_hosts = ("b",)
    assert sent(world.out.routes_changed(11.0)) == []


def test_whoever_serves_it_here_gets_it_though_the_matchmaker_knows_nothing() -> None:
    world = World()
    world.topic_hosts = None
    world.out.accept(CLIENT, message(1), 0.0)
    world.here.add(TOPIC)
    assert sent(world.out.served(TOPIC, 1.0)) == [("a", 1)]
    assert sent(world.out.accept(CLIENT, message(2), 2.0)) == [("a", 2)]


def test_who_wants_to_know_at_once_is_not_told_that_nobody_listens_before_that_is_known() -> None:
    world = World(b=UP, c=UP)
    world.topic_hosts = None
    again = message(1, flags=Flag.MANDATORY | Flag.RESENT)
    assert sent(world.out.accept(CLIENT, again, 0.0, former_host="b")) == [("b", 1)]
    assert told(world.out.answered("b", said(1, Answer.NOROUTE), 1.0)) == []
    world.topic_hosts = ("c",)
    assert sent(world.out.routes_changed(2.0)) == [("c", 1)]


def test_a_host_that_drains_gets_bare_messages_only_when_no_other_takes_them() -> None:
    world = World(b=UP, c=UP)
    world.draining.add("b")
    assert {sent(world.out.accept(CLIENT, message(number, turn=number), 0.0))[0][0] for number in range(1, 9)} == {"c"}
    refused = world.out.answered("c", AnswerEntry(message(1).id, Answer.NOROUTE, round=1), 0.1)
    assert sent(refused) == [("b", 1)]
    world.links["c"] = DOWN
    assert sent(world.out.accept(CLIENT, message(9, turn=9), 0.2)) == [("b", 9)]


def test_when_every_host_drains_each_has_its_turn() -> None:
    world = World(b=UP, c=UP)
    world.draining |= {"b", "c"}
    assert {sent(world.out.accept(CLIENT, message(number, turn=number), 0.0))[0][0] for number in range(1, 9)} == {"b", "c"}


def test_what_is_sent_to_a_host_that_drains_goes_there() -> None:
    world = World(b=UP, c=UP)
    world.draining.add("b")
    assert sent(world.out.accept(CLIENT, message(1, Kind.CALL, server="b"), 0.0)) == [("b", 1)]


def test_what_may_be_at_a_host_that_drains_is_sent_there_again() -> None:
    """Another host could run it a second time."""
    world = World(b=UP, c=UP)
    [(first, _)] = sent(world.out.accept(CLIENT, message(1, turn=1), 0.0))
    other = World(b=UP, c=UP)
    other.draining.add(first)
    assert sent(other.out.accept(CLIENT, message(1, turn=1, flags=Flag.RESENT), 0.0)) == [(first, 1)]


@pytest.mark.parametrize("listed", [None, ()])
def test_the_sender_is_told_at_once_that_its_own_node_has_its_message_though_no_matchmaker_lists_it(
    listed: tuple[str, ...] | None,
) -> None:
    """The next receiver may know the topic's hosts, and would send it to one of those."""
    world = World()
    world.topic_hosts = listed
    world.here.add(TOPIC)
    [accepted] = [action for action in world.out.accept(CLIENT, message(1, Kind.CALL), 0.0) if isinstance(action, Tell)]
    assert (accepted.entry.reason, accepted.urgent) == ("a", True)


# notifications that nothing consumes


def _waiting(bounds: Bounds, count: int, **facts: Any) -> World:
    """No host serves the topic, and `count` notifications wait."""
    world = World(bounds)
    for sequence in range(1, count + 1):
        world.out.accept(CLIENT, message(sequence, Kind.NOTIFY, **facts), 0.0)
    return world


def test_the_oldest_notification_that_nothing_consumes_is_dropped_for_a_newer_one() -> None:
    world = _waiting(Bounds(3, 1000), 3)
    assert told(world.out.accept(CLIENT, message(4, Kind.NOTIFY), 0.0)) == [(1, Answer.EXPIRED), (4, Answer.ACCEPTED)]
    assert (world.counts["overflowed"], world.counts["expired"], world.counts["busy"]) == (1, 0, 0)
    assert world.out.waiting() == [("nova/compute", 3, 1)]
    world.topic_hosts, world.links["b"] = ("b",), UP
    [first] = sent(world.out.routes_changed(1.0))
    assert sent(world.out.answered("b", said(first[1]), 1.0)) == [("b", 3), ("b", 4)]


def test_so_many_are_dropped_that_a_larger_one_has_room_in_bytes() -> None:
    world = _waiting(Bounds(100, 100), 3, body=b"x" * 30)
    actions = world.out.accept(CLIENT, message(4, Kind.NOTIFY, body=b"x" * 60), 0.0)
    assert told(actions) == [(1, Answer.EXPIRED), (2, Answer.EXPIRED), (4, Answer.ACCEPTED)]
    assert world.out.pending_bytes == 90


def test_the_first_drop_of_a_topic_is_noted_and_no_other() -> None:
    world = _waiting(Bounds(2, 1000), 2)
    notes = []
    for sequence in range(3, 10):
        actions = world.out.accept(CLIENT, message(sequence, Kind.NOTIFY), 0.0)
        notes += [action for action in actions if isinstance(action, Note)]
    assert [(note.counter, note.about) for note in notes] == [("overflowed", "nova/compute")]


def test_a_notification_that_a_host_may_have_is_never_dropped() -> None:
    world = World(Bounds(2, 1000), b=UP)
    for sequence in (1, 2):
        world.out.accept(CLIENT, message(sequence, Kind.NOTIFY), 0.0)
    assert told(world.out.accept(CLIENT, message(3, Kind.NOTIFY), 0.0)) == [(3, Answer.BUSY)]
    assert world.counts["overflowed"] == 0


def test_the_one_that_asks_for_the_others_is_not_dropped() -> None:
    world = _waiting(Bounds(2, 1000), 2)
    world.topic_hosts, world.links["b"] = ("b",), UP
    world.pools.learn("b", frozenset())
    assert sent(world.out.tick(5.0)) == [("b", 1)]
    assert told(world.out.accept(CLIENT, message(3, Kind.NOTIFY), 5.0)) == [(2, Answer.EXPIRED), (3, Answer.ACCEPTED)]
    assert told(world.out.accept(CLIENT, message(4, Kind.NOTIFY), 5.0)) == [(3, Answer.EXPIRED), (4, Answer.ACCEPTED)]
    assert sent(world.out.answered("b", said(1, round_=1), 5.0)) == [("b", 4)]


def test_notifications_that_wait_for_the_matchmaker_are_dropped_likewise() -> None:
    world = World(Bounds(2, 1000))
    world.topic_hosts = None
    for sequence in (1, 2):
        world.out.accept(CLIENT, message(sequence, Kind.NOTIFY), 0.0)
    assert told(world.out.accept(CLIENT, message(3, Kind.NOTIFY), AWAY_FOR - 1)) == [(3, Answer.BUSY)]
    assert told(world.out.accept(CLIENT, message(3, Kind.NOTIFY), AWAY_FOR)) == [(1, Answer.EXPIRED), (3, Answer.ACCEPTED)]
    assert world.out.waiting() == [("nova/compute", 2, 1)]


def test_nothing_is_dropped_while_a_host_that_may_have_a_listener_restarts() -> None:
    world = World(Bounds(2, 1000), b=UP, c=DOWN)
    for sequence in (1, 2):
        world.out.accept(CLIENT, message(sequence, Kind.NOTIFY), 0.0)
        world.out.answered("b", said(sequence, Answer.NOROUTE), 0.0)
    assert told(world.out.accept(CLIENT, message(3, Kind.NOTIFY), AWAY_FOR - 1)) == [(3, Answer.BUSY)]
    assert told(world.out.accept(CLIENT, message(3, Kind.NOTIFY), AWAY_FOR)) == [(1, Answer.EXPIRED), (3, Answer.ACCEPTED)]


def test_while_the_matchmaker_is_silent_the_refusal_of_a_peer_that_announced_the_topic_drops_nothing() -> None:
    """It has a pool only, perhaps; the hosts with listeners are those that the matchmaker would list."""
    world = World(Bounds(2, 1000), b=UP)
    world.topic_hosts = None
    world.out.announces("b", frozenset({"compute"}))
    for sequence in (1, 2):
        world.out.accept(CLIENT, message(sequence, Kind.NOTIFY), 0.0)
        world.out.answered("b", said(sequence, Answer.NOROUTE), 0.0)
    assert told(world.out.accept(CLIENT, message(3, Kind.NOTIFY), AWAY_FOR - 1)) == [(3, Answer.BUSY)]
    assert told(world.out.accept(CLIENT, message(3, Kind.NOTIFY), AWAY_FOR)) == [(1, Answer.EXPIRED), (3, Answer.ACCEPTED)]


def test_that_a_topic_is_unconsumed_is_known_until_a_listener_takes_something_though_a_host_goes_away() -> None:
    world = World(Bounds(2, 1000), b=UP)
    for sequence in (1, 2):
        world.out.accept(CLIENT, message(sequence, Kind.NOTIFY), 0.0)
        world.out.answered("b", said(sequence, Answer.NOROUTE), 0.0)
    world.links["b"] = DOWN
    world.out.link_down("b", 1.0)
    world.out.tick(1.0)
    assert told(world.out.accept(CLIENT, message(3, Kind.NOTIFY), 1.0)) == [(1, Answer.EXPIRED), (3, Answer.ACCEPTED)]


def test_calls_and_casts_to_nobody_are_refused_and_never_dropped() -> None:
    world = World(Bounds(2, 1000))
    for sequence in (1, 2):
        world.out.accept(CLIENT, message(sequence), 0.0)
    assert told(world.out.accept(CLIENT, message(3), 0.0)) == [(3, Answer.BUSY)]


def test_notifications_that_nothing_consumes_take_no_room_from_rpc() -> None:
    world = World(Bounds(1000, 100))
    for sequence in range(1, 9):
        world.out.accept(CLIENT, message(sequence, Kind.NOTIFY, topic=f"t{sequence}.info", body=b"x" * 100), 0.0)
    for sequence in (11, 12):
        assert told(world.out.accept(CLIENT, message(sequence, body=b"x" * 50), 0.0)) == [(sequence, Answer.ACCEPTED)]


def test_a_pool_gets_its_copy_of_a_notification_that_is_dropped() -> None:
    world = World(Bounds(4, 1000), b=UP)
    world.pools.learn("b", frozenset({("nova", "compute", "audit")}))
    copies = {}
    for sequence in (1, 2):
        actions = world.out.accept(CLIENT, message(sequence, Kind.NOTIFY), 0.0)
        copies[sequence] = next(a.message.id for a in actions if isinstance(a, Send) and a.message.header.server == "audit")
        world.out.answered("b", said(sequence, Answer.NOROUTE), 0.0)
    actions = world.out.accept(CLIENT, message(3, Kind.NOTIFY), 0.0)
    assert world.counts["overflowed"] == 1
    assert (1, Answer.EXPIRED) not in told(actions)
    taken = world.out.answered("b", AnswerEntry(copies[1], Answer.TAKEN, "", 1), 0.0)
    assert told(taken) == [(1, Answer.TAKEN)]


def test_what_was_dropped_leaves_nothing_behind() -> None:
    world = _waiting(Bounds(2, 1000), 9)
    world.topic_hosts, world.links["b"] = ("b",), UP
    world.pools.learn("b", frozenset())
    [(_, first)] = sent(world.out.routes_changed(1.0))
    for sequence in (first, *(number for _, number in sent(world.out.answered("b", said(first), 1.0)))):
        world.out.answered("b", said(sequence), 1.0)
    assert (world.out.pending, world.out.pending_bytes) == (0, 0)
