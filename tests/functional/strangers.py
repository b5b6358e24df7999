"""Strangers: peers that are none of ours. They speak ZMTP and our frames as well as they can, or something else altogether."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
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


def until_closed(connection: socket.socket) -> None:
    """Read until the other side hangs up; TimeoutError when it does not."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return
