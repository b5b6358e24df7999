"""Bad input: whatever an operator writes or a stranger sends, the receiver says what is wrong and works on."""

import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import zmq
from fabric import Fabric, eventually
from strangers import DEADLINE_MS, JUNK, TOPIC, dealer, header, request, until_closed

from openstack_zeromq import address, wire
from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.node import SILENCE
from openstack_zeromq.wire import Answer, Kind, MessageId

RING = {TOPIC: ["n1"], "zmq-probe": ["n1"]}
CHANNEL = Channel.of_topic("openstack", TOPIC)
MALFORMED, REFUSED = "malformed", "refused_handshakes"


LIMIT = 100_000
REPEATED = 20
_STRANGERS = count()


class Endpoint:
    """Remembers what it was asked; `call` asks it for something good."""

    call: Callable[[], Any]

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def note(self, _ctxt: dict[str, Any], what: Any) -> str:
        self.notes.append(what)
        return "noted"


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Fabric, Endpoint]]:
    """One node for all tests: without keys, so that strangers get as far as frames, and with a small limit of bodies."""
    fabric = Fabric(nodes=1, ring=RING, options={"zmq_max_message_size": LIMIT, "zmq_security": "none"})
    try:
        fabric.start()
        endpoint = Endpoint()
        fabric.server("n1", TOPIC, endpoint)
        client = fabric.client("n1", TOPIC)
        endpoint.call = lambda: client.call({}, "note", what="good")
        yield fabric, endpoint
    finally:
        fabric.close()


@pytest.fixture
def one(shared: tuple[Fabric, Endpoint]) -> Fabric:
    """The node; started again if the test before this one brought it down."""
    if shared[0].processes["n1"].poll() is not None:
        shared[0].log("n1").unlink()
        shared[0].start("n1")
    return shared[0]


@pytest.fixture
def own(make_fabric: Any) -> tuple[Fabric, Endpoint]:
    """A node for one test alone: what the test does to it may outlast a restart, for services send again."""
    fabric, endpoint = make_fabric(nodes=1, ring=RING, options={"zmq_security": "none"}), Endpoint()
    fabric.server("n1", TOPIC, endpoint)
    client = fabric.client("n1", TOPIC)
    endpoint.call = lambda: client.call({}, "note", what="good")
    return fabric, endpoint


@pytest.fixture
def endpoint(one: Fabric, shared: tuple[Fabric, Endpoint]) -> Endpoint:
    shared[1].notes.clear()
    return shared[1]


@pytest.fixture
def stranger() -> str:
    """An address that no other test speaks from, so that what is logged once is logged for this test."""
    number = next(_STRANGERS)
    return f"127.0.{2 + number // 250}.{1 + number % 250}"


@pytest.fixture
def identity() -> bytes:
    """The name of a service that no other test uses."""
    return b"S" + next(_STRANGERS).to_bytes(7, "big")


def assert_works(fabric: Fabric, endpoint: Endpoint) -> None:
    """The receiver is still the same process, a good call comes through, and nothing but that was delivered."""
    assert fabric.processes["n1"].poll() is None, fabric.log("n1").read_text()[-2000:]
    endpoint.notes.clear()
    assert endpoint.call() == "noted"
    assert endpoint.notes == ["good"]
    assert "Traceback" not in fabric.log("n1").read_text()


def lines_with(fabric: Fabric, *words: str) -> list[str]:
    return [line for line in fabric.log("n1").read_text().splitlines() if all(word in line for word in words)]


def tcp(fabric: Fabric, source: str) -> str:
    return f"tcp://{source}:0;{fabric.addresses['n1']}:{fabric.port}"


def ipc(fabric: Fabric) -> str:
    return f"ipc://{fabric.ipc_dir('n1')}/{address.RECEIVER_SOCKET}"


def channel_socket(fabric: Fabric) -> str:
    return f"ipc://{address.socket_path(str(fabric.ipc_dir('n1')), CHANNEL)}"


def raw_control(kind: Kind, data: bytes) -> bytes:
    return wire.encode_control(kind)[:6] + data


def control(kind: Kind, **facts: Any) -> bytes:
    names = {"role": "topic", "exchange": "openstack", "topic": TOPIC, "name": ""}
    return wire.encode_control(kind, **{**names, **facts})


GOOD = wire.encode(header())
EMPTY_BUNDLE = wire.bundle([])
BOMB = b'{"a":' + b"[" * 30_000

ANYWHERE = {
    "an empty frame": [b""],
    "a few letters": [b"hello"],
    "a wrong magic": [b"XX" + GOOD[2:], b"{}"],
    "another major version": [GOOD[:2] + b"\x02" + GOOD[3:], b"{}"],
    "an unknown kind": [GOOD[:4] + b"\x0f" + GOOD[5:], b"{}"],
    "a control kind with a body": [wire.encode_control(Kind.PING), b"{}"],
    "a header without a body": [GOOD],
    "a truncated header": [GOOD[:40], b"{}"],
    "a header without its last name": [GOOD[:-3], b"{}"],
    "a header of 300 bytes": [GOOD + b"x" * (300 - len(GOOD)), b"{}"],
    "a newer header of 300 bytes": [GOOD[:3] + b"\x07" + GOOD[4:] + b"x" * (300 - len(GOOD)), b"{}"],
    "a header with more than its names": [GOOD + b"more", b"{}"],
    "names that are no UTF-8": [GOOD[:-7] + b"\xff" * 7, b"{}"],
    "a name with a lone surrogate": [GOOD[:-7] + b"\xed\xa0\x80mute", b"{}"],
    "three frames": [GOOD, b"{}", b"{}"],
    "a hundred frames": [b"x"] * 100,
    "a ping with garbage": [raw_control(Kind.PING, b"\x00\xff garbage")],
    "a ping with broken JSON": [raw_control(Kind.PING, b'{"node": ')],
    "a ping that is no object": [raw_control(Kind.PING, b"[1]")],
    "a ping with a JSON bomb": [raw_control(Kind.PING, BOMB)],
    "a ping of a megabyte": [raw_control(Kind.PING, b'{"a":"' + b"x" * 150_000 + b'"}')],
    "an empty bundle": [EMPTY_BUNDLE],
    "a bundle of nothing": [EMPTY_BUNDLE + bytes(5)],
    "a truncated bundle": [wire.bundle([[GOOD, b"{}"]])[:-1]],
    "a bundle that promises a gigabyte": [EMPTY_BUNDLE + struct.pack("!BI", 1, 1 << 30)],
    "a bundle in a bundle": [wire.bundle([[wire.bundle([[GOOD, b"{}"]])]])],
    "a bundle of garbage": [wire.bundle([[b"garbage"]])],
    "an unasked pong": [wire.encode_control(Kind.PONG, node="n1", incarnation=1)],
}

ANSWERS = wire.encode_answers([wire.AnswerEntry(MessageId(1, 1), Answer.TAKEN)])
OF_PEERS = {
    "answers where messages belong": [ANSWERS],
    "a listen from the network": [control(Kind.LISTEN)],
    "a join from the network": [control(Kind.JOIN, credit=5)],
    "a report from the network": [control(Kind.REPORT), b"", b""],
}

BAD_ANSWERS = {
    "truncated answers": ANSWERS[:-3],
    "answers with an unknown answer": ANSWERS[:6] + struct.pack("!QQBB", 1, 1, 99, 0),
    "answers that promise a longer reason": ANSWERS[:6] + struct.pack("!QQBB", 1, 1, 2, 200) + b"x",
}

OF_SERVICES = {
    **{name: [frame, bytes(8)] for name, frame in BAD_ANSWERS.items()},
    "answers of nobody": [ANSWERS],
    "answers of somebody without a name": [ANSWERS, b""],
    "a listen without names": [raw_control(Kind.LISTEN, b"{}")],
    "a listen with a role that is a list": [control(Kind.LISTEN, role=["topic"])],
    "a listen with an unknown role": [control(Kind.LISTEN, role="everything")],
    "a listen with a name that is too long": [control(Kind.LISTEN, topic="x" * 200)],
    "a listen with a name of a megabyte": [control(Kind.LISTEN, topic="x" * 150_000)],
    "a listen with a name that has no UTF-8": [control(Kind.LISTEN, topic="\ud800")],
    "a listen with a name that is a number": [control(Kind.LISTEN, topic=5)],
    "a join on the wrong socket": [control(Kind.JOIN, credit=5)],
    "a report of half an id": [control(Kind.REPORT), b"", b"x" * 24],
    "a report for the consumer of another service": [control(Kind.REPORT, role="fanout"), bytes(12), b""],
    "a report for a consumer of a shared channel": [control(Kind.REPORT), bytes(12), b""],
    "a report for nobody of a fanout": [control(Kind.REPORT, role="fanout"), b"", b""],
    "a message of another node": [wire.encode(header(source="n7")), b"{}"],
    "a message with a number of another node": [wire.encode(header(source="n1", id=header(source="n7").id)), b"{}"],
}

OF_CONSUMERS = {
    **{name: [frame] for name, frame in BAD_ANSWERS.items()},
    "a message": [GOOD, b"{}"],
    "a listen on the wrong socket": [control(Kind.LISTEN)],
    "a leave with broken JSON": [raw_control(Kind.LEAVE, b"{")],
    "a join without credit": [control(Kind.JOIN), b""],
    "a join with negative credit": [control(Kind.JOIN, credit=-1), b""],
    "a join with half a credit": [control(Kind.JOIN, credit=0.5), b""],
    "a join that holds half an id": [control(Kind.JOIN, credit=1), b"x" * 15],
    "a join that does not say what it holds": [control(Kind.JOIN, credit=1)],
    "a join with an unknown role": [control(Kind.JOIN, role="x", credit=1), b""],
}


def _flood(fabric: Fabric, socket: Any, frames: list[bytes], who: str) -> None:
    """Send `frames` often; each time is counted, and the log says it once of `who`."""
    before = fabric.counter("n1", MALFORMED)
    for _ in range(REPEATED):
        socket.send_multipart(frames)
    eventually(lambda: fabric.processes["n1"].poll() is not None or fabric.counter("n1", MALFORMED) == before + REPEATED)
    assert len(lines_with(fabric, MALFORMED, who)) == 1


# on the network


@pytest.mark.parametrize("frames", [*ANYWHERE.values(), *OF_PEERS.values()], ids=[*ANYWHERE, *OF_PEERS])
def test_garbage_in_frames_from_the_network_is_counted_logged_once_and_harmless(
    one: Fabric, endpoint: Endpoint, stranger: str, frames: list[bytes]
) -> None:
    with dealer(tcp(one, stranger)) as peer:
        _flood(one, peer, frames, stranger)
        assert endpoint.notes == []
        peer.send(wire.encode_control(Kind.PING))
        assert wire.kind_of(peer.recv()) is Kind.PONG
    assert_works(one, endpoint)


def test_a_body_above_the_limit_is_refused_with_the_reason_and_counted(one: Fabric, endpoint: Endpoint, stranger: str) -> None:
    before = one.counter("n1", MALFORMED)
    with dealer(tcp(one, stranger)) as peer:
        peer.send_multipart([GOOD, request("x" * LIMIT)])
        [entry] = wire.decode_answers(peer.recv())
    assert (entry.id, entry.answer) == (header().id, Answer.REJECTED)
    assert "zmq_max_message_size" in entry.reason
    assert one.counter("n1", MALFORMED) == before + 1
    assert endpoint.notes == []
    assert_works(one, endpoint)


def test_a_body_far_above_the_limit_ends_the_connection_and_nothing_else(one: Fabric, endpoint: Endpoint, stranger: str) -> None:
    with dealer(tcp(one, stranger)) as peer:
        ends = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        peer.set(zmq.LINGER, 0)
        peer.send_multipart([GOOD, request("x" * 50 * LIMIT)])
        assert ends.poll(DEADLINE_MS)
        peer.disable_monitor()
        ends.close()
    assert endpoint.notes == []
    assert_works(one, endpoint)


def test_a_peer_of_a_newer_minor_version_is_understood(one: Fabric, endpoint: Endpoint, stranger: str) -> None:
    before = one.counter("n1", MALFORMED)
    good = wire.encode(header(id=MessageId(77, 1)))
    newer = good[:3] + b"\x07" + good[4:] + b"what version 1.7 adds"
    with dealer(tcp(one, stranger)) as peer:
        peer.send_multipart([newer, request("newer")])
        [entry] = wire.decode_answers(peer.recv())
    assert entry == wire.AnswerEntry(MessageId(77, 1), Answer.TAKEN)
    eventually(lambda: endpoint.notes == ["newer"])
    assert one.counter("n1", MALFORMED) == before


@pytest.mark.parametrize("name", ["a\0b", "evil host", "x" * 40, "-", ""], ids=ascii)
def test_a_call_from_a_node_with_an_impossible_name_runs_and_its_reply_harms_nobody(
    own: tuple[Fabric, Endpoint], stranger: str, name: str
) -> None:
    fabric, endpoint = own
    with dealer(tcp(fabric, stranger)) as peer:
        peer.send_multipart([wire.encode(header(Kind.CALL, source=name)), request("odd")])
        assert [entry.answer for entry in wire.decode_answers(peer.recv())] == [Answer.TAKEN]
    eventually(lambda: fabric.processes["n1"].poll() is not None or fabric.counter("n1", "accepted") == 1)
    assert_works(fabric, endpoint)


def test_a_message_whose_body_is_no_request_is_dropped_logged_by_the_service_and_not_asked_for_again(
    one: Fabric, endpoint: Endpoint, stranger: str, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [b"", b"\xff\xfe", b"[]", b"{}", b'{"context": {}}', BOMB]
    with dealer(tcp(one, stranger)) as peer:
        for sequence, body in enumerate(bodies, 1):
            peer.send_multipart([wire.encode(header(id=MessageId(78, sequence))), body])
        settled: set[int] = set()
        while len(settled) < len(bodies):
            settled |= {entry.id.sequence for entry in wire.decode_answers(peer.recv())}
    assert sum("no request" in record.getMessage() for record in caplog.records) == len(bodies)
    assert_works(one, endpoint)


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_a_connection_that_does_not_speak_our_protocol_is_counted_and_closed(
    one: Fabric, endpoint: Endpoint, junk: bytes
) -> None:
    before = one.counter("n1", REFUSED)
    for _ in range(3):
        with socket.create_connection((one.addresses["n1"], one.port), timeout=10) as connection:
            connection.sendall(junk)
            until_closed(connection)
    eventually(lambda: one.counter("n1", REFUSED) == before + 3, within=3)
    assert_works(one, endpoint)


def test_connections_that_stay_silent_are_counted_logged_once_and_closed_while_others_are_served(
    own: tuple[Fabric, Endpoint],
) -> None:
    fabric, endpoint = own
    silent = [socket.create_connection((fabric.addresses["n1"], fabric.port), timeout=10) for _ in range(50)]
    assert_works(fabric, endpoint)
    for connection in silent:
        until_closed(connection)
        connection.close()
    eventually(lambda: fabric.counter("n1", REFUSED) == len(silent))
    assert len(lines_with(fabric, REFUSED)) == 1
    assert_works(fabric, endpoint)


# on the unix sockets


@pytest.mark.parametrize("frames", [*ANYWHERE.values(), *OF_SERVICES.values()], ids=[*ANYWHERE, *OF_SERVICES])
def test_garbage_from_a_service_is_counted_logged_once_and_harmless(
    one: Fabric, endpoint: Endpoint, identity: bytes, frames: list[bytes]
) -> None:
    with dealer(ipc(one), identity) as service:
        _flood(one, service, frames, identity.hex())
        assert endpoint.notes == []
        service.send(wire.encode_control(Kind.PING))
        while wire.kind_of(service.recv()) is not Kind.PONG:
            pass
    assert_works(one, endpoint)


@pytest.mark.parametrize("frames", [*ANYWHERE.values(), *OF_CONSUMERS.values()], ids=[*ANYWHERE, *OF_CONSUMERS])
def test_garbage_from_a_consumer_is_counted_logged_once_and_harmless(
    one: Fabric, endpoint: Endpoint, identity: bytes, frames: list[bytes]
) -> None:
    with dealer(channel_socket(one), identity + b"0001") as consumer:
        _flood(one, consumer, frames, identity.hex())
    assert_works(one, endpoint)


def test_a_service_without_an_identity_of_ours_is_refused(one: Fabric, endpoint: Endpoint) -> None:
    with dealer(ipc(one), b"short") as service:
        _flood(one, service, [wire.encode_control(Kind.PING, pid=1)], b"short".hex())
    assert_works(one, endpoint)


def test_a_service_can_not_answer_for_the_consumer_of_another_one(one: Fabric, endpoint: Endpoint, identity: bytes) -> None:
    for frame in (ANSWERS, wire.encode_control(Kind.LEAVE, drain=False)):
        before = one.counter("n1", MALFORMED)
        with dealer(ipc(one), identity) as service:
            service.send_multipart([frame, bytes(8) + b"0001"])
        eventually(lambda before=before: one.counter("n1", MALFORMED) == before + 1)
    assert_works(one, endpoint)


def test_a_service_that_answers_for_what_it_never_got_changes_nothing(one: Fabric, endpoint: Endpoint, identity: bytes) -> None:
    before = one.counter("n1", MALFORMED)
    entries = [wire.AnswerEntry(MessageId(origin, 1), answer) for origin in (1, 2**64 - 1) for answer in Answer]
    answers = wire.encode_answers(entries)
    for where, name, frames in (
        (ipc(one), identity, [answers, identity + b"0001"]),
        (channel_socket(one), identity + b"0001", [answers]),  # which is no way to answer: malformed itself
    ):
        with dealer(where, name) as service:
            service.send_multipart(frames)
            service.send(b"marks the end")
    eventually(lambda: one.counter("n1", MALFORMED) == before + 3)
    assert_works(one, endpoint)


@pytest.mark.parametrize("name", ["evil host", "-", ""], ids=ascii)
def test_a_service_that_replies_to_a_node_with_an_impossible_name_harms_nobody(
    own: tuple[Fabric, Endpoint], identity: bytes, name: str
) -> None:
    fabric, endpoint = own
    reply = header(Kind.REPLY, source="n1", server=name)
    with dealer(ipc(fabric), identity) as service:
        service.send_multipart([wire.encode(reply), b"{}"])
        eventually(lambda: fabric.processes["n1"].poll() is not None or fabric.counter("n1", "accepted") == 1)
    assert_works(fabric, endpoint)


PATHS = {
    "upwards": {"topic": "../../x"},
    "absolute": {"exchange": "/x", "topic": "/etc/x"},
    "the directory itself": {"exchange": "", "topic": "."},
    "above the directory": {"role": "server", "exchange": "..", "topic": "..", "name": ".."},
    "another socket": {"role": "pool", "exchange": "../n1", "topic": "receiver"},
    "escaped already": {"topic": "%2e%2e%2fx"},
    "a NUL": {"topic": "x\0y"},
    "nothing": {"exchange": "", "topic": ""},
}


@pytest.mark.parametrize("names", PATHS.values(), ids=PATHS)
def test_a_listen_with_a_path_in_its_names_makes_a_socket_in_the_directory_and_nowhere_else(
    one: Fabric, endpoint: Endpoint, identity: bytes, names: dict[str, str]
) -> None:
    def elsewhere() -> set[Path]:
        return {path for path in one.directory.rglob("*") if path.parent != one.ipc_dir("n1")}

    before = elsewhere()
    with dealer(ipc(one), identity) as service:
        service.send(control(Kind.LISTEN, **names))
        facts = wire.decode_control(service.recv())
    made = Path(str(facts["path"]))
    assert (facts["error"], made.parent, made.is_socket()) == ("", one.ipc_dir("n1"), True)
    assert elsewhere() == before
    assert_works(one, endpoint)


# services that stand still


def test_a_service_that_stands_still_is_not_given_up_and_answers_when_it_goes_on(one: Fabric) -> None:
    zmqctl = str(Path(sys.executable).parent / "zmqctl")
    before = one.counter("n1", "clients_lost")
    with (one.directory / "probe.log").open("wb") as log:
        probe = subprocess.Popen(
            [zmqctl, "probe", "serve", "--config-file", str(one.config_file("n1"))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        client = one.client("n1", "zmq-probe", exchange="openstack-zeromq", timeout=20)
        assert client.call({}, "ping", sender="test")["host"] == "n1"
        probe.send_signal(signal.SIGSTOP)
        threading.Timer(2 * SILENCE, probe.send_signal, [signal.SIGCONT]).start()
        assert client.call({}, "ping", sender="test")["host"] == "n1"
        assert one.counter("n1", "clients_lost") == before
    finally:
        probe.send_signal(signal.SIGCONT)
        probe.terminate()
        probe.wait(10)
