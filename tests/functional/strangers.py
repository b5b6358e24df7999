"""Strangers: peers that are none of ours. They speak ZMTP and our frames as well as they can, or something else altogether."""

import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import zmq

from openstack_zeromq import wire
from openstack_zeromq.delivery.origin import origin
from openstack_zeromq.driver import payload
from openstack_zeromq.security.keys import KeyPair
from openstack_zeromq.wire import NO_ID, Flag, Header, Kind, MessageId

TOPIC = "compute"
DEADLINE_MS = 5000

TLS_HELLO = bytes.fromhex("160301002e0100002a0303") + bytes(32) + bytes.fromhex("000002c02b0100")
ZMTP_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
JUNK = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n",
    "TLS": TLS_HELLO,
    "ZMTP/1": b"\x01\x00",
    "ZMTP/1 with an identity": b"\x05\x00abcd",
    "ones": b"\xff" * 200,
    "zeros": bytes(200),
    "noise": bytes(number * number % 251 for number in range(7, 500)),
    "ZMTP/2": ZMTP_SIGNATURE + b"\x01\x06",
    "PLAIN": ZMTP_SIGNATURE + b"\x03\x00PLAIN" + bytes(50),
    "CURVE": ZMTP_SIGNATURE + b"\x03\x00CURVE" + bytes(50),
    "a bad command": ZMTP_SIGNATURE + b"\x03\x00NULL" + bytes(48) + b"\x04\xff\x00\x00\x00\x00",
}


def header(kind: Kind = Kind.CAST, source: str = "n9", **facts: Any) -> Header:
    """The header of a good message of node `source` to the topic; `facts` replace fields."""
    number = MessageId(origin(source, 1), 1)
    made = Header(kind, Flag.NONE, number, 1, source, 1, 60_000, 0, 1, NO_ID, "openstack", TOPIC, "")
    return made._replace(**facts)


def request(what: Any) -> bytes:
    """A body that the endpoint understands."""
    return payload.pack_request({}, {"method": "note", "args": {"what": what}, "version": "1.0"})


def cast(source: str, what: str = "evil", number: int = 1) -> list[bytes]:
    """The frames of a good cast that says it is the message `number` of node `source`."""
    return [wire.encode(header(source=source, id=MessageId(origin(source, 66), number))), request(what)]


@contextmanager
def dealer(endpoint: str, routing_id: bytes | None = None, pair: KeyPair | None = None, server_key: str = "") -> Iterator[Any]:
    """A ZeroMQ peer that speaks ZMTP properly, and says what it likes; with a `pair`, encrypted."""
    context = zmq.Context()
    made = context.socket(zmq.DEALER)
    made.set(zmq.LINGER, 1000)
    made.set(zmq.SNDHWM, 0)
    made.set(zmq.RCVTIMEO, DEADLINE_MS)
    if routing_id is not None:
        made.set(zmq.ROUTING_ID, routing_id)
    if pair is not None:
        made.set(zmq.CURVE_PUBLICKEY, pair.public.encode())
        made.set(zmq.CURVE_SECRETKEY, pair.secret.encode())
        made.set(zmq.CURVE_SERVERKEY, server_key.encode())
    made.connect(endpoint)
    try:
        yield made
    finally:
        context.destroy(linger=1000)


@contextmanager
def listener(endpoint: str, pair: KeyPair) -> Iterator[Any]:
    """Somebody who listens where a receiver would, with the key `pair`."""
    context = zmq.Context()
    made = context.socket(zmq.ROUTER)
    made.set(zmq.LINGER, 0)
    made.set(zmq.RCVTIMEO, DEADLINE_MS)
    made.set(zmq.CURVE_SERVER, 1)
    made.set(zmq.CURVE_SECRETKEY, pair.secret.encode())
    made.bind(endpoint)
    try:
        yield made
    finally:
        context.destroy(linger=0)


@contextmanager
def blackholes(addresses: Iterable[str], port: int) -> Iterator[None]:
    """Half of `addresses` refuse a connection, the other half take one and never say anything."""
    made = []
    try:
        for address in list(addresses)[::2]:
            listening = socket.socket()
            made.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address, port))
            listening.listen(1)
        yield
    finally:
        for listening in made:
            listening.close()


def until_closed(connection: socket.socket) -> None:
    """Read until the other side hangs up; TimeoutError when it does not."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return


# connections that end in every way: what each shape of a storm does with a connection once it is made

AT_ONCE = 200
"""Connections that a storm has at a time."""

GREETING = ZMTP_SIGNATURE + b"\x03\x00"
NULL_GREETING = GREETING + b"NULL" + bytes(16) + bytes(32)
CURVE_GREETING = GREETING + b"CURVE" + bytes(15) + bytes(32)
HELLO = b"\x04\xc8\x05HELLO\x01\x00" + bytes(range(192))  # what follows the version, a public key, a nonce and a box, is noise
READY = b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
_RESET = struct.pack("ii", 1, 0)
_BIND_ADDRESS_NO_PORT = 24
"""From <linux/in.h>: the port is chosen by `connect`, so that each address has all of them for each door."""

Shape = Callable[[socket.socket], None]


def _say(*words: bytes) -> Shape:
    def say(connection: socket.socket) -> None:
        for word in words:
            connection.send(word)

    return say


def _reset(connection: socket.socket) -> None:
    """The next close sends RST and no FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _half_close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


SHAPES: Mapping[str, tuple[Shape, ...]] = {
    "connect and hang up": (),
    "connect and reset": (_reset,),
    "connect and half-close": (_half_close,),
    "reset during the greeting": (_say(GREETING), _reset),
    "reset after the greeting": (_say(NULL_GREETING), _reset),
    "half-close during the greeting": (_say(GREETING), _half_close),
    "reset during the CURVE handshake": (_say(CURVE_GREETING, HELLO[:100]), _reset),
    "reset after a false HELLO": (_say(CURVE_GREETING, HELLO), _reset),
    "half-close during the CURVE handshake": (_say(CURVE_GREETING, HELLO[:100]), _half_close),
    "reset after a NULL handshake": (_say(NULL_GREETING, READY), _reset),
    "half-close after a NULL handshake": (_say(NULL_GREETING, READY), _half_close),
    "something else, and reset": (_say(JUNK["HTTP"]), _reset),
}
"""One thing after another, without waiting for an answer; in the end the connection is closed."""


def storm(where: tuple[str, int] | str, shapes: Sequence[str], seconds: float, sources: Sequence[str] = ("127.0.0.1",)) -> int:
    """Make `AT_ONCE` connections to `where` (address and port, or the path of a unix socket) and end them, again and again, in
    turn by each of `shapes` and from each of `sources`. How many there were."""
    made, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        connections = []
        try:
            for _ in range(AT_ONCE):
                connections.append(_connected(where, sources[made % len(sources)]))
                made += 1
            for number, connection in enumerate(connections):
                for step in SHAPES[shapes[(made + number) % len(shapes)]]:
                    with suppress(OSError):  # the other side has closed it, or not accepted it yet
                        step(connection)
        finally:
            for connection in connections:
                connection.close()
    return made


def _connected(where: tuple[str, int] | str, source: str) -> socket.socket:
    """A connection that is being made: nothing waits for it."""
    made = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    made.setblocking(False)
    with suppress(OSError):
        if not isinstance(where, str):
            made.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            made.bind((source, 0))
        made.connect(where)
    return made
