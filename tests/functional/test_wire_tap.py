"""What is on the wire: who listens between two nodes learns nothing, and cannot say again what he heard."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from fabric import Fabric, eventually
from ports import free_port
from strangers import until_closed
from two_nodes import RING, Two

from openstack_zeromq.matchmaker import ring_file

MARKER = "the password is rosebud"


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
