"""Node: who is alive, what a death means for others, and which links are kept."""

from messages import REMEMBER, ROOMY, TOPIC, consumer, message

from openstack_zeromq.delivery.channel import Hand
from openstack_zeromq.delivery.incoming import Respond
from openstack_zeromq.delivery.link import Close, Dial
from openstack_zeromq.delivery.node import (
    GONE_AFTER,
    LAST_WORDS,
    LEFT_FOR,
    SILENCE,
    UNHEARD,
    WATCHED_SILENCE,
    Action,
    Node,
    PeerSays,
)
from openstack_zeromq.delivery.outgoing import NodeFacts, Send, Tell
from openstack_zeromq.delivery.past import Former
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Kind, MessageId

PEER = b"peer"
IDLE = 30.0
LATER = 10.0


class Routes:
    """Everything is on node b."""

    def hosts(self, _topic: str) -> tuple[str, ...]:
        return ("b",)

    def directed(self, _topic: str, _server: str) -> tuple[str, ...]:
        return ("b",)

    def lists(self, _topic: str, _host: str) -> bool:
        return True

    def nodes(self) -> tuple[str, ...]:
        return ("b",)


class ShortRing(Routes):
    """Lists no topic."""

    def lists(self, _topic: str, _host: str) -> bool:
        return False


def _node(name: str, begun: dict[int, list[MessageId]] | None = None, routes: Routes | None = None) -> Node:
    journals = begun or {}
    facts = NodeFacts(name, ROOMY, REMEMBER, lambda: 1.0, IDLE)
    former = Former([], lambda service: journals.get(service, []), lambda service: journals.get(service, []))
    return Node(facts, routes or Routes(), 0.0, former, origin=99)


def _serving(begun: dict[int, list[MessageId]] | None = None) -> Node:
    """Node b with two services, each a consumer of the topic; the first one has message 1 in hand."""
    node = _node("b", begun)
    for client in (1, 2):
        node.client_ping(client, 0.0)
        node.client_watched(client)
        node.join(TOPIC, consumer(client), 5, [], 0.0)
    [hand] = node.peer_message(PEER, message(1, Kind.CALL, client=5), 0.0)
    assert isinstance(hand, Hand)
    assert hand.consumer == consumer(1)
    return node


def _handed(actions: list[Action]) -> list[bytes]:
    return [action.consumer for action in actions if isinstance(action, Hand)]


def _of(kind: type[Close] | type[Dial], actions: list[Action]) -> list[str]:
    """The hosts of all actions of one kind."""
    return [action.host for action in actions if isinstance(action, kind)]


def _failures(actions: list[Action]) -> list[tuple[str, MessageId]]:
    """(host, call) of the replies that say that a call failed."""
    return [
        (action.host, action.message.header.subject)
        for action in actions
        if isinstance(action, Send) and action.message.header.flags & Flag.FAILED
    ]


def _dies(node: Node, client: int, now: float) -> list[Action]:
    """Its process ends; what the node does once that is sure, with a link to everybody who is to be told."""
    node.client_ended(client, now)
    actions = [*node.tick(now), *node.tick(now + LAST_WORDS + 0.01)]
    for host in list(node.links):
        actions += node.pong(host, 77, now + LAST_WORDS + 0.02)
    return actions


def test_what_a_dead_service_had_not_begun_goes_to_another_one() -> None:
    assert _handed(_dies(_serving(), 1, 1.0)) == [consumer(2)]


def test_what_a_dead_service_had_begun_goes_to_nobody_and_its_caller_is_told() -> None:
    actions = _dies(_serving({1: [MessageId(7, 1)]}), 1, 1.0)
    assert _handed(actions) == []
    assert _failures(actions) == [("a", MessageId(7, 1))]


def test_what_was_begun_before_a_receivers_start_is_not_handed_out_again() -> None:
    node = Node(
        NodeFacts("b", ROOMY, REMEMBER, lambda: 1.0), Routes(), 0.0, Former([1], lambda _service: [MessageId(7, 1)]), origin=99
    )
    node.client_ping(2, 0.0)
    node.join(TOPIC, consumer(2), 5, [], 0.0)
    again = [*node.peer_message(PEER, message(1, flags=Flag.RESENT), 0.1), *node.tick(LATER)]
    assert _handed(again) == []
    assert [action.entry.answer for action in again if isinstance(action, Respond)] == [Answer.TAKEN]


def test_a_caller_is_told_when_the_service_that_took_its_call_dies_but_not_after_the_reply() -> None:
    for replied in (False, True):
        node = _serving()
        node.consumer_answers(consumer(1), [AnswerEntry(MessageId(7, 1), Answer.TAKEN)], 0.5)
        if replied:
            node.client_message(1, message(1, Kind.REPLY, id=MessageId(8, 1), subject=MessageId(7, 1), server="a"), 0.6)
        assert _failures(_dies(node, 1, 1.0)) == ([] if replied else [("a", MessageId(7, 1))])


def test_a_watched_service_that_is_silent_keeps_what_it_has_for_long_and_another_one_does_not() -> None:
    node = _serving()
    assert _handed(node.tick(SILENCE + 1)) == []
    node.client_ping(2, WATCHED_SILENCE)
    assert _handed(node.tick(WATCHED_SILENCE + 1)) == [consumer(2)]
    stranger = _node("b")
    stranger.client_ping(3, 0.0)
    stranger.tick(SILENCE + 1)
    assert not stranger.clients


def test_a_link_that_carries_nothing_is_closed_and_opened_again_when_it_is_needed() -> None:
    node = _node("a")
    assert _of(Dial, node.client_message(1, message(1), 0.0)) == ["b"]
    node.pong("b", 77, 0.1)
    assert _of(Close, node.tick(IDLE + 1)) == []  # an answer is still to come
    node.peer_answers("b", [AnswerEntry(MessageId(7, 1), Answer.TAKEN)], IDLE + 2)
    assert _of(Close, node.tick(2 * IDLE + 3)) == ["b"]
    assert node.links == {}
    assert _of(Dial, node.client_message(1, message(2), 2 * IDLE + 4)) == ["b"]


def test_a_notification_waits_for_the_pools_of_a_host_that_restarts_but_not_of_one_that_is_gone() -> None:
    node = _node("a")
    node.tick(0.0)
    node.client_message(1, message(1, Kind.NOTIFY), 0.0)
    for tenth in range(1, 90):
        node.tick(tenth / 10)
    node.pong("b", 77, 9.0)  # it is there again, and does not know its pools yet
    pools = frozenset({("nova", "compute", "audit")})
    sent = [action for action in node.pong("b", 77, 9.5, PeerSays(pools)) if isinstance(action, Send)]
    assert [action.message.header.server for action in sent] == ["audit"]
    gone = _node("a")
    gone.tick(0.0)
    gone.client_message(1, message(1, Kind.NOTIFY), 0.0)
    assert not gone.pools.known("b")
    for tenth in range(1, 10 * int(UNHEARD) + 5):
        gone.tick(tenth / 10)
    assert gone.pools.known("b")


def test_nobody_is_told_of_the_receivers_own_replies() -> None:
    node = _serving()
    node.consumer_answers(consumer(1), [AnswerEntry(MessageId(7, 1), Answer.TAKEN)], 0.5)
    actions = _dies(node, 1, 1.0)
    [reply] = [action.message for action in actions if isinstance(action, Send)]
    assert node.peer_answers("a", [AnswerEntry(reply.id, Answer.TAKEN)], 2.0) == []
    assert not [action for action in actions if isinstance(action, Tell) and action.client == 0]
    assert node.outgoing.pending == 0


def test_a_link_to_a_host_that_was_removed_does_not_linger() -> None:
    node = _node("a")
    node.client_message(1, message(1, Kind.CAST, ttl_ms=1000), 0.0)
    assert "b" in node.links
    node.tick(1.5)
    down = node.links["b"].since
    assert not node.close_gone_links(lambda _host: True, down + GONE_AFTER + 0.1), "the matchmaker knows it"
    assert not node.close_gone_links(lambda _host: False, down + GONE_AFTER - 0.1), "it may be back in a moment"
    closed = node.close_gone_links(lambda _host: False, down + GONE_AFTER + 0.1)
    assert _of(Close, closed) == ["b"]
    assert not node.links


def test_a_link_to_a_host_that_was_removed_stays_while_a_message_may_be_there() -> None:
    node = _node("a")
    node.client_message(1, message(1, Kind.CAST), 0.0)
    node.pong("b", 7, 0.1)
    node.tick(5.0)
    assert not node.close_gone_links(lambda _host: False, 5.0 + GONE_AFTER + 0.1)
    assert "b" in node.links


def test_a_ping_that_comes_after_the_goodbye_does_not_bring_the_service_back() -> None:
    node = _serving()
    node.client_left(1, 1.0)
    node.client_ping(1, 1.1)
    assert list(node.clients) == [2]
    node.tick(1.1 + SILENCE + 0.1)
    assert node.has_left(1)
    node.tick(1.0 + LEFT_FOR + 1)
    assert not node.has_left(1)


def test_a_service_that_was_cut_off_after_a_fault_is_back_with_its_next_ping() -> None:
    """Before, it was taken for one that had said goodbye: its pings counted for nothing for a minute."""
    node = _serving()
    node.client_cut(1, 1.0)
    assert list(node.clients) == [2]
    assert not node.has_left(1)
    node.client_ping(1, 5.0)
    assert sorted(node.clients) == [1, 2]


def test_a_service_that_has_just_joined_a_topic_that_the_ring_lacks_is_there_for_a_peer_that_asks_now() -> None:
    """Before, it was not until the next tick: a fanout that was sent meanwhile went to nobody."""
    node = _node("b", routes=ShortRing())
    node.tick(0.0)
    node.join(TOPIC, consumer(1), 5, [], 0.01)
    assert node.announcement(0.02) == [TOPIC.topic]


def test_a_service_that_ends_without_a_goodbye_is_lost_only_if_it_listened_or_its_messages_are_on_their_way() -> None:
    node = _node("b")
    for client in (1, 2, 3):
        node.client_ping(client, 0.0)
        node.client_watched(client)
    node.join(TOPIC, consumer(1), 5, [], 0.0)
    node.client_message(2, message(5, client=2, topic="nowhere"), 0.0)
    for client, lost in ((1, 1), (2, 2), (3, 2)):
        node.client_ended(client, 0.0)
        node.tick(LAST_WORDS + 0.1)
        assert node.counts["clients_lost"] == lost
