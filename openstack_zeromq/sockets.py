"""Sockets: every ZeroMQ socket is made here, with the options that experience taught.

Linger is bounded, a bare socket refuses protocols other than ZMTP 3 (`zap_domain`), a one-way cut is noticed (heartbeats), a
message that cannot go out is reported and not dropped (`ROUTER_MANDATORY`), and an address is never silently taken over.
Queues inside libzmq are unlimited on the sending side: the bounds are in `delivery`, which sends only what it has credit for.
"""

import os
import re
import time
from collections import Counter as Counts
from collections.abc import Container, Iterator, Sequence
from typing import Any, NamedTuple

import zmq

from openstack_zeromq import descriptors
from openstack_zeromq.options import Settings

LOCAL_DOMAIN = b"openstack-zeromq.local"
LINKS_DOMAIN = b"openstack-zeromq.links"
"""What sockets say to the gate of their context, if it has one; without a domain a socket would take any protocol."""
_ADDRESS = re.compile(r"[A-Za-z0-9_.:-]{1,253}")
_POLLIN = int(zmq.POLLIN)
_LAST = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_RECONNECT_MS = 20
_RECONNECT_MOST_MS = 100
_BEATS_UNTIL_SILENT = 3
_ROUTING_ID_BYTES = 8
_BIND_AGAIN = 0.002
_DESCRIPTORS = 32
"""A context takes 5 (libzmq 4.3.5), each socket 1, each connection 1: 14 for what a service or a receiver makes at once, and the
rest for the channels of a first listener, and for other threads that open files meanwhile."""

ZmqContext = zmq.Context[Any]
ZmqSocket = zmq.Socket[Any]


class Pace(NamedTuple):
    """How soon links are held to be cut, in seconds: `handshake` is what one may take, `heartbeat` what lies between two signs of
    life, `redial` between two fresh attempts to reach a peer."""

    handshake: float
    heartbeat: float
    redial: float

    @classmethod
    def of(cls, settings: Settings) -> "Pace":
        return cls(settings.handshake_timeout, settings.heartbeat, settings.redial)


def context() -> ZmqContext:
    """A context that can hold a socket for every peer; it never makes the process wait at exit.

    :raises ShortOfDescriptorsError: libzmq would end this process for lack of them.
    """
    descriptors.require(_DESCRIPTORS, "a ZeroMQ context with its sockets")
    made: ZmqContext = zmq.Context()
    made.set(zmq.MAX_SOCKETS, 4096)
    made.set(zmq.BLOCKY, 0)
    return made


def router(ctx: ZmqContext, max_message_size: int, handover: bool = True) -> ZmqSocket:
    """A ROUTER that reports undeliverable messages; frames above twice `max_message_size` end the connection.

    `handover`: who comes back with the name of a connection that still seems to be there takes its place.
    """
    made: ZmqSocket = ctx.socket(zmq.ROUTER)
    made.set(zmq.LINGER, 0)
    made.set(zmq.ROUTER_MANDATORY, 1)
    made.set(zmq.ROUTER_HANDOVER, int(handover))
    made.set(zmq.SNDHWM, 0)
    made.set(zmq.MAXMSGSIZE, 2 * max_message_size)
    made.set(zmq.ZAP_DOMAIN, LOCAL_DOMAIN)
    made.set(zmq.RECONNECT_IVL, _RECONNECT_MS)
    made.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_MOST_MS)
    return made


def outlet(ctx: ZmqContext, endpoint: str, routing_id: bytes, max_message_size: int) -> ZmqSocket:
    """A DEALER that only sends, to one unix socket; what the other side would say to it is never read."""
    made: ZmqSocket = ctx.socket(zmq.DEALER)
    made.set(zmq.LINGER, 0)
    made.set(zmq.SNDHWM, 0)
    made.set(zmq.MAXMSGSIZE, 2 * max_message_size)
    made.set(zmq.RECONNECT_IVL, _RECONNECT_MS)
    made.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_MOST_MS)
    made.set(zmq.ROUTING_ID, routing_id)
    made.connect(endpoint)
    return made


def listening_router(ctx: ZmqContext, max_message_size: int, pace: Pace, secret_key: str = "") -> ZmqSocket:
    """A router that peers dial. With a key of its own (Z85) each of them must pass the gate of this context, and nobody
    comes in where there is none."""
    made = _tcp_router(ctx, max_message_size, pace)
    if secret_key:
        made.set(zmq.CURVE_SERVER, 1)
        made.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        take_key(made, "", secret_key)
    return made


def dialing_router(ctx: ZmqContext, max_message_size: int, pace: Pace, public_key: str = "", secret_key: str = "") -> ZmqSocket:
    """A router that dials peers, as who has this pair (Z85)."""
    made = _tcp_router(ctx, max_message_size, pace)
    if secret_key:
        take_key(made, public_key, secret_key)
    return made


def take_key(socket: ZmqSocket, public_key: str, secret_key: str) -> None:
    """Connections that `socket` makes or accepts at an address bound from now on have this key (Z85); who only listens needs
    no `public_key`."""
    if public_key:
        socket.set(zmq.CURVE_PUBLICKEY, public_key.encode())
    socket.set(zmq.CURVE_SECRETKEY, secret_key.encode())


def _tcp_router(ctx: ZmqContext, max_message_size: int, pace: Pace) -> ZmqSocket:
    """A router for links: with heartbeats, IPv6 where an address is one."""
    made = router(ctx, max_message_size)
    made.set(zmq.ZAP_DOMAIN, LINKS_DOMAIN)
    made.set(zmq.IPV6, 1)
    made.set(zmq.HEARTBEAT_IVL, _ms(pace.heartbeat))
    made.set(zmq.HEARTBEAT_TIMEOUT, _ms(pace.heartbeat * _BEATS_UNTIL_SILENT))
    made.set(zmq.HANDSHAKE_IVL, _ms(pace.handshake))
    made.set(zmq.TCP_KEEPALIVE, 1)
    made.set(zmq.RECONNECT_IVL_MAX, max(_RECONNECT_MS, _ms(pace.redial / 2)))
    return made


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def tcp_endpoint(address: str, port: int) -> str:
    """`tcp://…` for a host name, an IPv4 or IPv6 address, or `*`.

    :raises ValueError: for anything else; libzmq would read a port, a local address or a device into it.
    """
    if address != "*" and not _ADDRESS.fullmatch(address):
        raise ValueError("is no host name and no IP address")
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def bind(socket: ZmqSocket, endpoint: str, patience: float = 0.0) -> None:
    """Listen at `endpoint`; what was unbound there just now may be open still for a moment, `patience` seconds at most.

    :raises zmq.ZMQError: it cannot be bound.
    """
    until = time.monotonic() + patience
    while True:
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as exc:
            if exc.errno != zmq.EADDRINUSE or time.monotonic() >= until:
                raise
            time.sleep(_BIND_AGAIN)
        else:
            return


def unbind(socket: ZmqSocket) -> None:
    """Listen no more where `socket` was bound last; who had connected there is cut off. The port is free some time later."""
    socket.unbind(bytes(socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode())


def send(socket: ZmqSocket, frames: Sequence[bytes]) -> bool:
    """Send without waiting; False when the addressee (the first frame) is not connected."""
    last = len(frames) - 1
    try:
        for number, frame in enumerate(frames):
            socket.send(frame, _LAST if number == last else _MORE)
    except zmq.ZMQError as exc:
        if exc.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
            return False
        raise
    return True


def readable(socket: ZmqSocket) -> bool:
    """Is there something to read now? Cheaper to ask than to be told by an exception."""
    return bool(int(socket.get(zmq.EVENTS)) & _POLLIN)


def drain(socket: ZmqSocket, limit: int) -> Iterator[list[bytes]]:
    """The messages that are there now, at most `limit`, so that one busy socket does not starve the others."""
    for _ in range(limit):
        if not readable(socket):
            return
        yield socket.recv_multipart()


def monitor(ctx: ZmqContext, watched: ZmqSocket, events: int) -> ZmqSocket:
    """What happens to the connections of `watched`. Its queue has no end: libzmq would wait, with all its sockets, for a reader
    that has just no time, and for ever for one that is about to end."""
    endpoint = f"inproc://monitor.{watched.underlying:x}"
    watched.monitor(endpoint, events)
    made: ZmqSocket = ctx.socket(zmq.PAIR)
    made.set(zmq.LINGER, 0)
    made.set(zmq.RCVHWM, 0)
    made.connect(endpoint)
    return made


class Peer(NamedTuple):
    """Who sent a message, as the kernel and libzmq have it.

    `address` is an IP address, or, at a unix socket, `localhost:uid:gid:pid`; `user` what the gate said of the connection,
    empty without one; `descriptor` the connection's own.
    """

    address: str
    user: str
    descriptor: int


def receive(socket: ZmqSocket, known: Container[bytes]) -> tuple[bytes, list[bytes], Peer | None]:
    """The next message of a ROUTER: who sent it, its frames, and, unless the sender is `known`, whence it comes."""
    name = socket.recv()
    if name in known:
        return name, socket.recv_multipart(), None
    first = socket.recv(copy=False)
    more = socket.recv_multipart() if first.more else []
    return name, [first.bytes, *more], Peer(str(first.get("Peer-Address")), _user(first), int(first.get(zmq.SRCFD)))


def _user(frame: zmq.Frame) -> str:
    try:
        return str(frame.get("User-Id"))
    except (zmq.ZMQError, UnicodeDecodeError):  # no gate was asked; then it is the peer's own word, and counts for nothing
        return ""


class Dialer:
    """Connections from one ROUTER to many addresses, each with a name of its own that is never used twice.

    libzmq ends all connections to an address at once. So one that is closed while others to the same address are in use only
    becomes spare; a user that does not mind its past can have it (`spare`), and it ends together with the last one.
    """

    def __init__(self, socket: ZmqSocket) -> None:
        self.socket = socket
        self._endpoints: dict[bytes, str] = {}
        self._used: Counts[str] = Counts()
        self._spare: dict[str, list[bytes]] = {}
        self._serial = 0

    def open(self, endpoint: str, routing_id: bytes | None = None, server_key: str = "") -> bytes:
        """Start connecting; the name that stands for the connection in frames to and from it.

        `routing_id` is what the other side sees; by default a fresh random one. With `server_key` (Z85) only who has its
        secret half can answer.
        """
        self._serial += 1
        if server_key:
            self.socket.set(zmq.CURVE_SERVERKEY, server_key.encode())
        name = b"%d" % self._serial
        self.socket.set(zmq.ROUTING_ID, routing_id or os.urandom(_ROUTING_ID_BYTES))
        self.socket.set(zmq.CONNECT_ROUTING_ID, name)
        self.socket.connect(endpoint)
        self._endpoints[name] = endpoint
        self._used[endpoint] += 1
        return name

    def spare(self, endpoint: str) -> bytes | None:
        """The name of a connection to `endpoint` that somebody closed and that is still there; None: open one."""
        spare = self._spare.get(endpoint)
        if not spare:
            return None
        name = spare.pop()
        self._endpoints[name] = endpoint
        self._used[endpoint] += 1
        return name

    def close(self, name: bytes) -> None:
        """Give up a connection; what waits in it is dropped once no other to the same address is in use."""
        endpoint = self._endpoints.pop(name, None)
        if endpoint is None:
            return
        self._used[endpoint] -= 1
        if self._used[endpoint]:
            self._spare.setdefault(endpoint, []).append(name)
        else:
            del self._used[endpoint]
            self._spare.pop(endpoint, None)
            self.socket.disconnect(endpoint)
