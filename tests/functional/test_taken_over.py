"""A node that was taken over: it has a key that is trusted, and knows what it was sent. It can be no other node."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fabric import Fabric, eventually
from strangers import TOPIC, cast, dealer, header, listener
from two_nodes import Endpoint, Two

from openstack_zeromq import sockets, wire
from openstack_zeromq.delivery.origin import origin
from openstack_zeromq.driver import payload
from openstack_zeromq.wire import Answer, AnswerEntry, Header, Kind, MessageId


def test_it_has_no_numbers_but_its_own(two: Two) -> None:
    with dealer(two.fabric.door("n1"), pair=two.fabric.pair_of("n2"), server_key=two.fabric.key_of("n1")) as peer:
        peer.send_multipart([wire.encode(header(source="n2", id=MessageId(origin("n1", 66), 1))), cast("n2")[1]])
        eventually(lambda: two.fabric.counter("n1", "misnamed") == 1)
        peer.send_multipart(cast("n2", "mine"))
        (entry,) = wire.decode_answers(peer.recv())
        assert (entry.id.origin, entry.answer) == (origin("n2", 66), Answer.TAKEN)
    assert two.call("n1", "good") == "noted"
    assert two.heard["n1"].notes == ["mine", "good"]
    assert "has a number of another node" in two.fabric.log("n1").read_text()


class Slow(Endpoint):
    """Takes its time until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def note(self, ctxt: dict[str, Any], what: Any) -> str:
        self.asked.set()
        assert self.go.wait(10)
        return super().note(ctxt, what)


def test_it_replies_only_to_calls_that_it_was_given(make_fabric: Callable[..., Fabric]) -> None:
    """It was given one, so it knows whose call it was, and which number the next one has."""
    fabric, slow = make_fabric(nodes=3, ring={TOPIC: ["n1", "n2", "n3"]}), Slow()
    fabric.server("n2", TOPIC, slow, "n2")
    client = fabric.client("n1", TOPIC)
    assert fabric.stop("n3") == 0
    with listener(fabric.door("n3"), fabric.pair_of("n3")) as evil, ThreadPoolExecutor(1) as caller:
        first = caller.submit(client.prepare(server="n3", timeout=10).call, {}, "note", what="a")
        call = _given_a_call(evil)
        with dealer(fabric.door("n1"), pair=fabric.pair_of("n3"), server_key=fabric.key_of("n1")) as back:
            back.send_multipart(_reply(1, call, call.id))
            assert first.result(10) == "evil"
            second = caller.submit(client.prepare(server="n2", timeout=10).call, {}, "note", what="b")
            assert slow.asked.wait(10)
            for number, ahead in enumerate(range(1, 4)):
                back.send_multipart(_reply(2 + number, call, MessageId(call.id.origin, call.id.sequence + ahead)))
            # All of it has come: the service has taken, and passed over, the last of them.
            eventually(lambda: (2 + number) in _taken(back))
            assert not second.done()
            assert fabric.counter("n1", "rejected") == 1, "the one that was for it"
            slow.go.set()
            assert second.result(10) == "noted"


def _given_a_call(evil: Any) -> Header:
    """Be a good receiver until a call comes, and take it."""
    while True:
        peer, *frames = evil.recv_multipart()
        for item in wire.unbundle(frames):
            if wire.kind_of(item[0]) is Kind.PING:
                evil.send_multipart([peer, wire.encode_control(Kind.PONG, node="n3", incarnation=5, pools=[])])
            elif wire.kind_of(item[0]) is Kind.CALL:
                call = wire.decode(item[0])
                evil.send_multipart([peer, wire.encode_answers([AnswerEntry(call.id, Answer.TAKEN)])])
                return call


def _reply(number: int, call: Header, subject: MessageId) -> list[bytes]:
    """The reply of n3 to call `subject`, of whoever made `call`."""
    made = header(
        Kind.REPLY,
        source="n3",
        id=MessageId(origin("n3", 66), number),
        client=call.client,
        subject=subject,
        exchange="",
        topic="",
        server=call.source,
    )
    return [wire.encode(made), payload.pack_result("evil")]


def _taken(back: Any) -> set[int]:
    """The numbers that n1 has answered for by now."""
    found = set()
    while sockets.readable(back):
        for item in wire.unbundle(back.recv_multipart()):
            if wire.kind_of(item[0]) is Kind.ANSWERS:
                found |= {entry.id.sequence for entry in wire.decode_answers(item[0]) if entry.answer is Answer.TAKEN}
    return found
