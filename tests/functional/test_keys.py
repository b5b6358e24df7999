"""Keys: who has none that is trusted gets nothing in and nothing out; keys change, and nobody notices."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
import zmq
from fabric import Fabric, eventually
from ports import free_port
from strangers import JUNK, TOPIC, dealer, header, request, until_closed

from openstack_zeromq import sockets, wire
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.security import keys, trust
from openstack_zeromq.security.gate import Gate
from openstack_zeromq.security.keys import KeyPair
from openstack_zeromq.security.trust import TrustFolder
from openstack_zeromq.wire import Answer, MessageId

RING = {TOPIC: ["n1", "n2"]}
CUT_WITHIN = 1.0
MARKER = "the password is rosebud"


class Endpoint:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def note(self, _ctxt: dict[str, Any], what: Any) -> str:
        self.notes.append(what)
        return "noted"


class Two:
    """Two nodes with a server each; `call(host)` calls the one on `host` from the other node."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.heard = {node: Endpoint() for node in fabric.addresses}
        for node, endpoint in self.heard.items():
            fabric.server(node, TOPIC, endpoint, node)
        self._clients = {"n2": fabric.client("n1", TOPIC), "n1": fabric.client("n2", TOPIC)}

    def call(self, host: str, what: str = "good", timeout: float = 10.0) -> Any:
        return self._clients[host].prepare(server=host, timeout=timeout).call({}, "note", what=what)

    def door(self, host: str = "n1") -> str:
        return f"tcp://{self.fabric.addresses[host]}:{self.fabric.port}"

    def key_of(self, host: str) -> str:
        return keys.read_public(self.public_file(host))[0]

    def pair_of(self, host: str) -> KeyPair:
        return keys.read_secret(self.secret_file(host))

    def public_file(self, host: str) -> Path:
        return self.fabric.directory / "authorized" / f"{host}.pub"

    def secret_file(self, host: str) -> Path:
        return self.fabric.directory / "keys" / f"{host}.key"

    def seen(self, *nodes: str) -> None:
        """Wait until receivers trust whom the files say."""
        said = trust.read(self.fabric.directory / "authorized").digest
        for node in nodes or self.fabric.addresses:
            eventually(lambda node=node: (self.fabric.status(node) or {"security": {}})["security"].get("trusted") == said)

    def link(self, node: str, to: str) -> str:
        status = self.fabric.status(node)
        assert status is not None
        return str(status["links"].get(to, {}).get("state", "none"))


@pytest.fixture
def two(make_fabric: Callable[..., Fabric]) -> Two:
    return Two(make_fabric(nodes=2, ring=RING))


def assert_nothing_came_in(two: Two, frames: list[bytes], peer: Any) -> None:
    """`frames`, a good message, are sent to n1; they are not answered, not delivered, and good calls are."""
    peer.set(zmq.RCVTIMEO, 500)
    peer.send_multipart(frames)
    with pytest.raises(zmq.Again):
        peer.recv_multipart()
    assert two.call("n1", "good") == "noted"
    assert two.heard["n1"].notes == ["good"]
    assert two.fabric.processes["n1"].poll() is None
    assert "Traceback" not in two.fabric.log("n1").read_text()


def cast(source: str, what: str = "evil") -> list[bytes]:
    return [wire.encode(header(source=source, id=MessageId(66, 1))), request(what)]


# who is outside


def test_a_peer_without_a_key_is_refused(two: Two) -> None:
    with dealer(two.door()) as peer:
        assert_nothing_came_in(two, cast("n2"), peer)
    assert two.fabric.counter("n1", "refused_handshakes") > 0


def test_a_key_that_nobody_trusts_is_refused_and_named(two: Two) -> None:
    stranger = keys.new()
    with dealer(two.door(), pair=stranger, server_key=two.key_of("n1")) as peer:
        assert_nothing_came_in(two, cast("n2"), peer)
    assert two.fabric.counter("n1", "refused_keys") > 0
    log = two.fabric.log("n1").read_text()
    assert f"its key is not trusted {stranger.public[:8]}" in log
    assert "refused_keys from 127.0.0.1" in log


def test_who_expects_another_key_of_this_node_gets_nothing_from_it(two: Two) -> None:
    with dealer(two.door(), pair=two.pair_of("n2"), server_key=keys.new().public) as peer:
        assert_nothing_came_in(two, cast("n2"), peer)


def test_a_node_with_a_good_key_cannot_speak_in_the_name_of_another(two: Two) -> None:
    with dealer(two.door(), pair=two.pair_of("n2"), server_key=two.key_of("n1")) as peer:
        assert_nothing_came_in(two, cast("n1"), peer)
        assert two.fabric.counter("n1", "misnamed") > 0
        peer.send(wire.encode_control(wire.Kind.PING, node="n1", incarnation=5))
        eventually(lambda: two.fabric.counter("n1", "misnamed") > 1)
        # In its own name it is heard.
        peer.send_multipart(cast("n2", "mine"))
        (entry,) = wire.decode_answers(peer.recv())
        assert entry.answer is Answer.TAKEN
    assert "n2: it speaks in the name of node 'n1'; its rpc_zmq_host must be n2" in two.fabric.log("n1").read_text()


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_what_does_not_speak_our_protocol_is_counted_and_closed(one_of_two: Two, junk: bytes) -> None:
    two = one_of_two
    before = two.fabric.counter("n1", "refused_handshakes")
    for _ in range(3):
        with socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) as connection:
            connection.sendall(junk)
            until_closed(connection)
    eventually(lambda: two.fabric.counter("n1", "refused_handshakes") >= before + 3, within=3)
    assert two.call("n1") == "noted"


@pytest.fixture(scope="module")
def one_of_two() -> Iterator[Two]:
    fabric = Fabric(nodes=2, ring=RING)
    try:
        fabric.start()
        yield Two(fabric)
    finally:
        fabric.close()


def test_a_handshake_that_stops_half_way_or_creeps_is_ended_and_holds_up_nobody(two: Two) -> None:
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(15) + bytes(32)
    began = time.monotonic()
    with (
        socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) as half,
        socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) as slow,
    ):
        half.sendall(greeting)
        for byte in greeting:
            try:
                slow.sendall(bytes([byte]))
            except OSError:
                break
            assert two.call("n1") == "noted"
            time.sleep(0.1)
        until_closed(half)
        until_closed(slow)
    assert time.monotonic() - began < 20
    eventually(lambda: two.fabric.counter("n1", "refused_handshakes") >= 2, within=3)


def test_one_stranger_gets_no_more_connections_than_one_peer_may_have(make_fabric: Callable[..., Fabric]) -> None:
    two = Two(make_fabric(nodes=2, ring=RING, options={"zmq_connections_per_peer": 5}))
    assert two.call("n1") == "noted"  # n2's link comes from this address, too
    open_ = [socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) for _ in range(10)]
    try:
        eventually(lambda: two.fabric.counter("n1", "crowds") >= 5, within=3)
        assert sum(map(_has_ended, open_)) >= 5
        assert (
            "crowds from 127.0.0.1: it has 5 connections (zmq_connections_per_peer); no more" in two.fabric.log("n1").read_text()
        )
        assert two.call("n1") == "noted"
    finally:
        for connection in open_:
            connection.close()
    eventually(lambda: _gets_in(two, within=1.0))


def _has_ended(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        while connection.recv(1024):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


# what can be seen on the way


class Tap:
    """Listens for `host`, passes everything on, and keeps what it saw of each connection."""

    def __init__(self, address: str, port: int, to: tuple[str, int]) -> None:
        self.said: list[bytearray] = []
        self.answered = bytearray()
        self._to = to
        self._listening = socket.create_server((address, port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:
                return
            there = socket.create_connection(self._to)
            said = bytearray()
            self.said.append(said)
            threading.Thread(target=self._pass, args=(here, there, said), daemon=True).start()
            threading.Thread(target=self._pass, args=(there, here, self.answered), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket, seen: bytearray) -> None:
        try:
            while data := source.recv(65536):
                seen += data
                sink.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        self._listening.close()


@pytest.fixture(params=["curve", "none"])
def tapped(request: pytest.FixtureRequest, make_fabric: Callable[..., Fabric]) -> Iterator[tuple[Two, Tap]]:
    """Two nodes, of which n1 reaches n2 over the tap. Without keys as well: a tap that sees nothing proves nothing."""
    fabric = make_fabric(nodes=2, ring=RING, options={"zmq_security": request.param}, start=False)
    port = free_port(["127.0.1.77"])
    tap = Tap("127.0.1.77", port, (fabric.addresses["n2"], fabric.port))
    path = fabric.directory / "ring.json"
    hosts = {name: {"address": address, "port": fabric.port} for name, address in fabric.addresses.items()}
    hosts["n2"] = {"address": "127.0.1.77", "port": port}
    ring_file.write(ring_file.meta_path(path), ring_file.render_meta(path.read_bytes(), hosts, "test"))
    fabric.start()
    try:
        yield Two(fabric), tap
    finally:
        tap.close()


def test_what_is_on_the_wire_tells_nothing_and_cannot_be_replayed(tapped: tuple[Two, Tap]) -> None:
    two, tap = tapped
    assert two.call("n2", MARKER) == "noted"
    assert tap.said
    seen = b"".join(tap.said)
    encrypted = two.fabric.options["zmq_security"] == "curve"
    assert len(seen) > 300
    assert (MARKER.encode() not in seen) == encrypted
    assert (b"note" not in seen and b"noted" not in tap.answered) == encrypted
    before = len(two.heard["n2"].notes)
    for said in tap.said:
        with socket.create_connection((two.fabric.addresses["n2"], two.fabric.port), timeout=10) as again:
            again.sendall(bytes(said))
            again.shutdown(socket.SHUT_WR)
            until_closed(again)
    assert two.call("n2", "after it") == "noted"
    assert len(two.heard["n2"].notes) == before + 1
    if encrypted:
        eventually(lambda: two.fabric.counter("n2", "refused_handshakes") > 0)


# revocation and rotation


@pytest.mark.alone
def test_a_host_that_is_trusted_no_more_is_cut_off_at_once_and_comes_back_when_it_is(two: Two) -> None:
    assert two.call("n1") == two.call("n2") == "noted"
    assert (two.link("n1", "n2"), two.link("n2", "n1")) == ("up", "up")
    public = two.public_file("n2").read_bytes()
    two.public_file("n2").unlink()
    began = time.monotonic()
    eventually(lambda: two.link("n1", "n2") == "down" and two.fabric.counter("n1", "evicted") > 0, within=CUT_WITHIN)
    assert time.monotonic() - began <= CUT_WITHIN
    with pytest.raises(oslo_messaging.MessagingException):
        two.call("n2", "out", timeout=2)
    with pytest.raises(oslo_messaging.MessagingException):
        two.call("n1", "in", timeout=2)
    assert "in" not in two.heard["n1"].notes
    assert "has no key of it; put its public key there as n2.pub" in two.fabric.log("n1").read_text()

    two.public_file("n2").write_bytes(public)
    eventually(lambda: two.link("n1", "n2") == "up")
    assert two.call("n2") == "noted"
    assert two.call("n1") == "noted"


def test_what_a_host_said_before_it_was_cut_off_and_nobody_read_counts_for_nothing(two: Two) -> None:
    """It may have said much: here while the receiver stood still."""
    with dealer(two.door(), pair=two.pair_of("n2"), server_key=two.key_of("n1")) as peer:
        peer.send(wire.encode_control(wire.Kind.PING, node="n2", incarnation=5))
        peer.recv()
        two.fabric.processes["n1"].send_signal(signal.SIGSTOP)
        for number in range(2000):
            peer.send_multipart([wire.encode(header(source="n2", id=MessageId(66, number + 1))), request("evil")])
        two.public_file("n2").unlink()
        two.fabric.processes["n1"].send_signal(signal.SIGCONT)
        eventually(lambda: two.fabric.counter("n1", "evicted") > 0, within=5)
        heard = len(two.heard["n1"].notes)
        time.sleep(1.0)
        assert len(two.heard["n1"].notes) == heard, "no word of it is heard any more"


@pytest.mark.alone
def test_a_removed_key_counts_though_another_file_is_broken(two: Two) -> None:
    assert two.call("n2") == "noted"
    two.public_file("n9").write_text("half a ke")
    two.public_file("n2").unlink()
    eventually(lambda: two.link("n1", "n2") == "down", within=CUT_WITHIN)


@pytest.mark.alone
def test_a_key_that_its_host_has_no_more_does_not_come_in(two: Two) -> None:
    lost = two.pair_of("n2")
    fresh = keys.new()
    keys.write_secret(two.secret_file("n2"), fresh, "n2")
    keys.write_public(two.public_file("n2"), (fresh.public,), "n2")
    assert two.fabric.stop("n2") == 0
    two.fabric.start("n2")
    two.seen()
    with dealer(two.door(), pair=lost, server_key=two.key_of("n1")) as peer:
        assert_nothing_came_in(two, cast("n2"), peer)


def test_keys_of_all_nodes_are_rotated_under_calls_and_none_fails(two: Two) -> None:
    stop, failed, done = threading.Event(), [], []

    def calling(host: str) -> None:
        while not stop.is_set():
            try:
                done.append(two.call(host))
            except oslo_messaging.MessagingException as exc:
                failed.append(f"{host}: {exc}")

    callers = [threading.Thread(target=calling, args=(host,)) for host in two.heard]
    for caller in callers:
        caller.start()
    try:
        before = {node: two.pair_of(node) for node in two.heard}
        after = {node: keys.new() for node in two.heard}
        for node in two.heard:  # published beside the old ones
            keys.write_public(two.public_file(node), (before[node].public, after[node].public), node)
        for node in two.heard:  # switched, one node after the other
            two.seen()
            keys.write_secret(two.secret_file(node), after[node], node)
            assert two.fabric.stop(node) == 0
            two.fabric.start(node)
            count = len(done)
            eventually(lambda count=count: len(done) > count + 20)
        for node in two.heard:  # withdrawn
            keys.write_public(two.public_file(node), (after[node].public,), node)
        two.seen()
        count = len(done)
        eventually(lambda: len(done) > count + 50)
    finally:
        stop.set()
        for caller in callers:
            caller.join(20)
    assert not failed
    for node, pair in after.items():
        status = two.fabric.status(node)
        assert status is not None
        assert status["security"]["public_key"] == pair.public
    for node, pair in before.items():
        with dealer(two.door("n1"), pair=pair, server_key=after["n1"].public) as peer:
            peer.set(zmq.RCVTIMEO, 300)
            peer.send_multipart(cast(node, "old key"))
            with pytest.raises(zmq.Again):
                peer.recv_multipart()
    assert "old key" not in two.heard["n1"].notes


def test_a_half_written_folder_changes_nothing_and_is_told(two: Two) -> None:
    two.public_file("n2").write_text("# Public key of node n2\nabc\n")
    eventually(lambda: "is no key file" in two.fabric.status("n1")["security"]["problem"])
    assert two.call("n2") == two.call("n1") == "noted"
    assert "for these hosts trust stays as it was" in two.fabric.log("n1").read_text()


# the gate


@pytest.mark.parametrize("gate", ["none", "silent", "answering"])
def test_without_an_answer_from_the_gate_nobody_comes_in(gate: str, short_path: Path) -> None:
    """Whether it was never made, or stands still: what libzmq does with our options, and only the last one lets in."""
    here, there = keys.new(), keys.new()
    keys.write_public(short_path / "n2.pub", (there.public,), "n2")
    folder, port = TrustFolder(short_path), free_port(["127.0.1.78"])
    context = sockets.context()
    inward = sockets.listening_router(context, 4096, here.secret)
    asked = Gate(context, lambda: folder.trust, lambda _verdict: None) if gate != "none" else None
    inward.bind(f"tcp://127.0.1.78:{port}")
    try:
        with dealer(f"tcp://127.0.1.78:{port}", pair=there, server_key=here.public) as peer:
            peer.send(b"hello")
            deadline = time.monotonic() + 2.0
            while time.monotonic() < deadline and not inward.poll(20):
                if asked is not None and gate == "answering":
                    asked.answer()
            assert bool(inward.poll(0)) == (gate == "answering")
    finally:
        if asked is not None:
            asked.close()
        inward.close(0)
        context.term()


def test_a_receiver_that_stands_still_lets_nobody_in_and_goes_on(two: Two) -> None:
    two.fabric.processes["n1"].send_signal(signal.SIGSTOP)
    try:
        assert not _gets_in(two, within=2.0)
    finally:
        two.fabric.processes["n1"].send_signal(signal.SIGCONT)
    assert _gets_in(two, within=10.0)


def test_what_a_peer_says_of_itself_in_the_handshake_counts_for_nothing(make_fabric: Callable[..., Fabric]) -> None:
    """Without keys libzmq hands on what a peer calls itself, even where that is no text."""
    two = Two(make_fabric(nodes=2, ring=RING, options={"zmq_security": "none"}))
    ready = b"\x05READY" + b"\x0bSocket-Type" + b"\x00\x00\x00\x06DEALER" + b"\x07User-Id" + b"\x00\x00\x00\x02\xff\xfe"
    with socket.create_connection((two.fabric.addresses["n1"], two.fabric.port), timeout=10) as peer:
        peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32))
        peer.sendall(b"\x04" + bytes([len(ready)]) + ready + b"\x00\x05hello")
        eventually(lambda: two.fabric.counter("n1", "malformed") > 0)
    assert two.call("n1") == "noted"


def _gets_in(two: Two, within: float) -> bool:
    with dealer(two.door(), pair=two.pair_of("n2"), server_key=two.key_of("n1")) as peer:
        peer.set(zmq.RCVTIMEO, int(within * 1000))
        peer.send(wire.encode_control(wire.Kind.PING, node="n2", incarnation=5))
        try:
            peer.recv()
        except zmq.Again:
            return False
        return True
