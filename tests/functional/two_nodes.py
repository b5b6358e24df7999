"""Two nodes with a server each, and what tests of keys ask of them: is this one heard, is that one let in."""

from typing import Any

import pytest
import zmq
from fabric import Fabric, eventually
from strangers import TOPIC, dealer

from openstack_zeromq import wire
from openstack_zeromq.security import trust_folder

RING = {TOPIC: ["n1", "n2"]}


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

    def call(self, host: str, what: str = "good", timeout: float = 10.0, **prepared: Any) -> Any:
        return self._clients[host].prepare(server=host, timeout=timeout, **prepared).call({}, "note", what=what)

    def key_in_use(self, host: str) -> str | None:
        """The public half of the key that the receiver of `host` has now; None: it does not answer."""
        status = self.fabric.status(host)
        return None if status is None else str(status["security"]["public_key"])

    def seen(self, *nodes: str) -> None:
        """Wait until receivers trust whom the files say."""
        said = trust_folder.read(self.fabric.directory / "authorized").digest
        for node in nodes or self.fabric.addresses:
            eventually(lambda node=node: (self.fabric.status(node) or {"security": {}})["security"].get("trusted") == said)

    def link(self, node: str, to: str) -> str:
        status = self.fabric.status(node)
        assert status is not None
        return str(status["links"].get(to, {}).get("state", "none"))


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


def lets_in(fabric: Fabric, node: str, who: str = "", within: float = 2.0, server_key: str = "") -> bool:
    """Whether `node` lets in a new connection of `who` (itself), which takes it for who has `server_key` (its own)."""
    who = who or node
    with dealer(fabric.door(node), pair=fabric.pair_of(who), server_key=server_key or fabric.key_of(node)) as peer:
        peer.set(zmq.RCVTIMEO, int(within * 1000))
        peer.send(wire.encode_control(wire.Kind.PING, node=who, incarnation=5))
        try:
            peer.recv()
        except zmq.Again:
            return False
        return True
