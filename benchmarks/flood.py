"""Flood: raw load through one receiver process, to see what it forwards without any oslo.messaging around it.

    python -m benchmarks.flood [--seconds 2] [--rounds 1] [--path service-link …]

This process is everything around the receiver of node n1: a service that sends, a listener that takes, the peer n2. It is light
on purpose: headers are made once and patched, answers are put together from bytes. A message counts when its sender has read
TAKEN for it; one that comes twice, or is refused, ends the run. `plain pyzmq` is the limit: PUSH and PULL with a process between
that does nothing but pass frames on, and no answers. Prints one JSON object a line.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import click
import zmq

from benchmarks.beds import BenchmarkError, Fabric, cpu_seconds, rss_bytes
from benchmarks.figures import PAYLOAD, PLAIN
from openstack_zeromq import sockets, wire
from openstack_zeromq.delivery.origin import origin
from openstack_zeromq.wire import NO_ID, Answer, AnswerEntry, Header, Kind, MessageId

_WINDOW = 1000
_BATCH = 64
_BUNDLED = 50
_FIRST = 10 * _WINDOW
_PING_EVERY = 0.5
_DRAINS_WITHIN = 10.0
_READY_WITHIN = 10.0
_EXCHANGE, _TOPIC = "bench", "flood"
_SENDER, _TAKER = 55, 77
_RANDOM = 0x5E_ED00_0001
_PEER_INCARNATION = 0x0BEE_F000_0000_0002
_BODY = b"x" * PAYLOAD
_MESSAGE_LIMIT = 1 << 26

_WARM_UP = 0.5
_FORWARD = """
import sys, zmq
ctx = zmq.Context()
pull, push = ctx.socket(zmq.PULL), ctx.socket(zmq.PUSH)
pull.connect(sys.argv[1])
push.connect(sys.argv[2])
while True:
    push.send_multipart(pull.recv_multipart())
"""

Frames = list[bytes]


class Headers:
    """Headers of one stream of messages, made by patching the sequence number into a template."""

    def __init__(self, source: str, server: str, incarnation: int, body: bytes = _BODY) -> None:
        mark = 0x0102_0304_0506_0708
        frame = wire.encode(
            Header(
                kind=Kind.CAST,
                flags=0,
                id=MessageId(origin(source, _RANDOM), mark),
                settled=mark - 2 * _WINDOW,
                source=source,
                incarnation=incarnation,
                ttl_ms=60_000,
                turn=0,
                client=_SENDER,
                subject=NO_ID,
                exchange=_EXCHANGE,
                topic=_TOPIC,
                server=server,
                addressed_to=incarnation,
            )
        )
        before, _ = frame.split(mark.to_bytes(8, "big"))
        self.id_at = len(before) - 8
        item = wire.bundle([(frame, body)])
        self.opening = wire.bundle([])
        self._before, self._after = item[len(self.opening) :].split(mark.to_bytes(8, "big"))

    def __getitem__(self, sequence: int) -> bytes:
        """The message as an item of a bundle."""
        return self._before + sequence.to_bytes(8, "big") + self._after


class Takens:
    """Frames that say TAKEN for many messages, put together from their ids."""

    def __init__(self) -> None:
        self._opening = wire.encode_answers([])
        entry = wire.encode_answers([AnswerEntry(NO_ID, Answer.TAKEN)])[len(self._opening) :]
        self._ending = entry[16:]

    def frame(self, ids: Frames) -> bytes:
        return self._opening + b"".join([message_id + self._ending for message_id in ids])


class Count:
    """What came through, and whether it came once."""

    def __init__(self) -> None:
        self.sent = self.taken = self.acked = 0
        self._seen = bytearray(1 << 24)

    def take(self, sequence: int) -> None:
        self.taken += 1
        if self._seen[sequence]:
            raise BenchmarkError(f"message {sequence} was delivered twice")
        self._seen[sequence] = 1

    def answer(self, frame: bytes) -> None:
        for entry in wire.decode_answers(frame):
            if entry.answer is Answer.TAKEN:
                self.acked += 1
            elif entry.answer is not Answer.ACCEPTED:
                raise BenchmarkError(f"a message was refused: {entry.answer.name} {entry.reason}")


class Service:
    """A service of node n1 that sends: its two connections to the receiver."""

    def __init__(self, ctx: zmq.Context[Any], fabric: Fabric, client: int = _SENDER) -> None:
        endpoint = f"ipc://{fabric.ipc_dir('n1')}/receiver"
        self.name = client.to_bytes(8, "big")
        self.socket = ctx.socket(zmq.DEALER)
        self.socket.routing_id = self.name
        self.socket.connect(endpoint)
        self._outlet = sockets.outlet(ctx, endpoint, self.name + b"out ", _MESSAGE_LIMIT)
        self.ping()
        self.incarnation = int(str(wire.decode_control(self.socket.recv())["incarnation"]))

    def ping(self) -> None:
        self.socket.send(wire.encode_control(Kind.PING, pid=1, settled=getattr(self, "incarnation", None)))

    def out(self, *frames: bytes) -> None:
        self._outlet.send_multipart(frames)

    def send(self, opening: bytes, items: Frames) -> None:
        """One by one, as threads of services send."""
        for item in items:
            self.out(opening + item)

    def answers(self, count: Count) -> None:
        _read_answers(self.socket, count)


class Listener:
    """A listener on node n1: a service with a consumer on one channel."""

    def __init__(self, ctx: zmq.Context[Any], fabric: Fabric, header: Headers) -> None:
        self._service = Service(ctx, fabric, _TAKER)
        self._id_at = header.id_at
        self._takens = Takens()
        channel = {"role": "server", "exchange": _EXCHANGE, "topic": _TOPIC, "name": "n1"}
        self._service.socket.send(wire.encode_control(Kind.LISTEN, **channel))
        path = wire.decode_control(self._service.socket.recv())["path"]
        self._name = self._service.name + b"\0\0\0\1"
        self.socket = ctx.socket(zmq.DEALER)
        self.socket.routing_id = self._name
        self.socket.connect(f"ipc://{path}")
        join = wire.encode_control(Kind.JOIN, **channel, credit=_WINDOW)
        self.socket.send_multipart([join, b""])
        if wire.kind_of(self.socket.recv()) is not Kind.JOINED:
            raise BenchmarkError("the receiver did not let the listener join")
        self.ping()

    def ping(self) -> None:
        self._service.ping()

    def take(self, count: Count) -> None:
        for _ in sockets.drain(self._service.socket, _BATCH):
            pass  # pongs
        for frames in sockets.drain(self.socket, _BATCH):
            ids = [item[0][self._id_at : self._id_at + 16] for item in wire.unbundle(frames)]
            for message_id in ids:
                count.take(int.from_bytes(message_id[8:], "big"))
            self._service.out(self._takens.frame(ids), self._name)


class PeerOut:
    """Node n2, as it dials n1 and sends."""

    def __init__(self, ctx: zmq.Context[Any], fabric: Fabric) -> None:
        self.socket = ctx.socket(zmq.DEALER)
        self.socket.sndhwm = 0
        self.socket.connect(f"tcp://{fabric.addresses['n1']}:{fabric.port}")
        self.ping()
        self.incarnation = int(str(wire.decode_control(self.socket.recv())["incarnation"]))

    def ping(self) -> None:
        self.socket.send(wire.encode_control(Kind.PING, node="n2", incarnation=_PEER_INCARNATION))

    def send(self, opening: bytes, items: Frames) -> None:
        """Together, as a busy receiver sends."""
        for first in range(0, len(items), _BUNDLED):
            self.socket.send(opening + b"".join(items[first : first + _BUNDLED]))

    def answers(self, count: Count) -> None:
        _read_answers(self.socket, count)


class PeerIn:
    """Node n2, as n1 dials it and sends."""

    def __init__(self, ctx: zmq.Context[Any], fabric: Fabric, header: Headers) -> None:
        self._id_at = header.id_at
        self._takens = Takens()
        self.socket = ctx.socket(zmq.ROUTER)
        self.socket.sndhwm = 0
        self.socket.bind(f"tcp://{fabric.addresses['n2']}:{fabric.port}")

    def ping(self) -> None:
        """It is n1 that pings."""

    def take(self, count: Count) -> None:
        for frames in sockets.drain(self.socket, _BATCH):
            origin, ids = frames[0], []
            for item in wire.unbundle(frames[1:]):
                if len(item) == 1:
                    pong = wire.encode_control(Kind.PONG, node="n2", incarnation=_PEER_INCARNATION)
                    self.socket.send_multipart([origin, pong])
                    continue
                message_id = item[0][self._id_at : self._id_at + 16]
                count.take(int.from_bytes(message_id[8:], "big"))
                ids.append(message_id)
            if ids:
                self.socket.send_multipart([origin, self._takens.frame(ids)])


def _read_answers(socket: Any, count: Count) -> None:
    for frames in sockets.drain(socket, _BATCH):
        for item in wire.unbundle(frames):
            if wire.kind_of(item[0]) is Kind.ANSWERS:
                count.answer(item[0])


def service_link(ctx: zmq.Context[Any], fabric: Fabric) -> tuple[Any, Any, Headers]:
    source = Service(ctx, fabric)
    headers = Headers("n1", "n2", source.incarnation)
    return source, PeerIn(ctx, fabric, headers), headers


def link_listener(ctx: zmq.Context[Any], fabric: Fabric) -> tuple[Any, Any, Headers]:
    source = PeerOut(ctx, fabric)
    headers = Headers("n2", "n1", source.incarnation)
    return source, Listener(ctx, fabric, headers), headers


def service_listener(ctx: zmq.Context[Any], fabric: Fabric) -> tuple[Any, Any, Headers]:
    source = Service(ctx, fabric)
    headers = Headers("n1", "n1", source.incarnation)
    return source, Listener(ctx, fabric, headers), headers


PATHS = {"service-link": service_link, "link-listener": link_listener, "service-listener": service_listener}


@dataclass(frozen=True, slots=True)
class Stream:
    """Anything that can be flooded: `send` puts messages in, `turn` reads what there is."""

    sockets: tuple[Any, ...]
    send: Callable[[range], None]
    turn: Callable[[], None]
    ping: Callable[[], None]


def through_receiver(path: str, count: Count, stack: ExitStack) -> tuple[Stream, int]:
    """Along `path` through the one receiver that is started; its process id."""
    fabric = Fabric(nodes=2, ring={_TOPIC: ["n1", "n2"]}, options={"zmq_security": "none"})
    stack.callback(fabric.close)
    fabric.start("n1")
    ctx = _context(stack)
    try:
        source, sink, headers = PATHS[path](ctx, fabric)
    except zmq.Again:
        raise BenchmarkError("the receiver did not answer") from None

    def turn() -> None:
        sink.take(count)
        source.answers(count)

    def ping() -> None:
        source.ping()
        sink.ping()

    def send(sequences: range) -> None:
        source.send(headers.opening, [headers[sequence] for sequence in sequences])

    return Stream((source.socket, sink.socket), send, turn, ping), fabric.processes["n1"].pid


def through_plain_pyzmq(count: Count, stack: ExitStack) -> tuple[Stream, int]:
    """PUSH, a process that passes on, PULL: over a unix socket and TCP, as a service's message to another node."""
    ctx = _context(stack)
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ozb"))
    sink = ctx.socket(zmq.PULL)
    port = sink.bind_to_random_port("tcp://127.0.0.1")
    source = ctx.socket(zmq.PUSH)
    source.bind(f"ipc://{directory}/in")
    forwarder = subprocess.Popen([sys.executable, "-c", _FORWARD, f"ipc://{directory}/in", f"tcp://127.0.0.1:{port}"])
    stack.callback(forwarder.wait)
    stack.callback(forwarder.kill)

    def turn() -> None:
        for header, _ in sockets.drain(sink, _BATCH):
            count.take(int.from_bytes(header, "big"))
            count.acked += 1  # nobody answers here: what came out of the far end counts

    def send(sequences: range) -> None:
        for sequence in sequences:
            source.send_multipart([sequence.to_bytes(8, "big"), _BODY])

    return Stream((sink,), send, turn, lambda: None), forwarder.pid


def flood(path: str, seconds: float, tell: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Messages along `path`, always a window full of them: first half a second that does not count, then `seconds`.

    `tell` is told the id of the process in the middle, once it is under load.
    """
    with ExitStack() as stack:
        count = Count()
        stream, pid = through_plain_pyzmq(count, stack) if path == PLAIN else through_receiver(path, count, stack)
        _keep_full(stream, count, _WARM_UP)
        if tell is not None:
            tell(pid)
        acked, begun, cpu, own = count.acked, time.monotonic(), cpu_seconds(pid), time.process_time()
        while count.acked == acked and time.monotonic() - begun < _DRAINS_WITHIN:
            _keep_full(stream, count, seconds)
        if count.acked == acked:
            raise BenchmarkError(f"nothing came through in {_DRAINS_WITHIN:g} s")
        took, messages = time.monotonic() - begun, count.acked - acked
        cpu, own = cpu_seconds(pid) - cpu, time.process_time() - own
        rss = rss_bytes(pid)
        _keep_full(stream, count, 0)
        if not count.sent == count.taken == count.acked:
            raise BenchmarkError(f"sent {count.sent}, taken {count.taken}, answered {count.acked}")
    return {
        "rate": messages / took,
        "cpu_us": cpu / messages * 1e6,
        "cores": cpu / took,
        "flood_cores": own / took,
        "rss": rss,
    }


def _keep_full(stream: Stream, count: Count, seconds: float) -> None:
    """Keep a window of messages in flight for `seconds`; with 0, wait until none is."""
    poller = zmq.Poller()
    for socket in stream.sockets:
        poller.register(socket, zmq.POLLIN)
    now = time.monotonic()
    end, next_ping = now + (seconds or _DRAINS_WITHIN), now
    while now < end and (seconds or count.acked < count.sent):
        if now >= next_ping:
            next_ping = now + _PING_EVERY
            stream.ping()
        if seconds and (room := _WINDOW - (count.sent - count.acked)) > 0:
            first = _FIRST + count.sent + 1
            count.sent += room
            stream.send(range(first, first + room))
        poller.poll(100)
        stream.turn()
        now = time.monotonic()


def _context(stack: ExitStack) -> "zmq.Context[Any]":
    ctx: zmq.Context[Any] = zmq.Context()
    ctx.linger = 0
    ctx.rcvtimeo = int(_READY_WITHIN * 1000)
    stack.callback(ctx.destroy, linger=0)
    return ctx


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="How long each path is measured.")
@click.option("--rounds", default=1, show_default=True, help="How often.")
@click.option("--path", "paths", multiple=True, type=click.Choice([PLAIN, *PATHS]), help="Default: all.")
def main(seconds: float, rounds: int, paths: tuple[str, ...]) -> None:
    """Measure each path in turn, `rounds` times."""
    for _ in range(rounds):
        for path in paths or (PLAIN, *PATHS):
            try:
                found = flood(path, seconds, lambda pid: click.echo(f"the process in the middle is {pid}", err=True))
                click.echo(json.dumps({"path": path, **found}))
            except BenchmarkError as exc:
                raise click.ClickException(f"{path}: {exc}") from None


if __name__ == "__main__":
    main()
