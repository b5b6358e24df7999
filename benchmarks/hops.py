"""Hops: the least that a call through two nodes can take, whatever the receivers do.

    python -m benchmarks.hops [--calls 3000] [--work 0]

Four processes, as in a call: who calls, two in between, who answers; unix socket, TCP, unix socket, and back: six hops of
libzmq. Those in between only pass on what they get, or are busy for `--work` microseconds before. Prints p50 and p99 in ms.
"""

import json
import subprocess
import sys
import tempfile
import time
from typing import Any

import click
import zmq

from benchmarks.figures import PAYLOAD

_WARM_UP = 200
_READY_WITHIN_MS = 10_000


def _busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _pass_on(inward: str, outward: str, work: float) -> None:
    ctx: zmq.Context[Any] = zmq.Context()
    near, far = ctx.socket(zmq.ROUTER), ctx.socket(zmq.DEALER)
    near.bind(inward)
    far.connect(outward)
    poller = zmq.Poller()
    for socket in (near, far):
        poller.register(socket, zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        for here, there in ((near, far), (far, near)):
            if here in ready:
                frames = here.recv_multipart()
                _busy(work)
                there.send_multipart(frames)


def _answer(inward: str, _outward: str, work: float) -> None:
    ctx: zmq.Context[Any] = zmq.Context()
    socket = ctx.socket(zmq.ROUTER)
    socket.bind(inward)
    while True:
        frames = socket.recv_multipart()
        _busy(work)
        socket.send_multipart(frames)


_ROLES = {"pass": _pass_on, "answer": _answer}


def measure(calls: int, work: float) -> dict[str, float]:
    """p50 and p99 of a round trip in ms, with `work` seconds of Python in each process that a message passes."""
    with tempfile.TemporaryDirectory(prefix="ozh") as directory:
        first, last = f"ipc://{directory}/a", f"ipc://{directory}/b"
        between = f"tcp://127.0.0.1:{_free_port()}"
        parts = (("answer", last, "-"), ("pass", between, last), ("pass", first, between))
        run = [sys.executable, "-c", "import sys; from benchmarks import hops; hops.play(*sys.argv[1:])"]
        processes = [subprocess.Popen([*run, *part, str(work)]) for part in parts]
        ctx: zmq.Context[Any] = zmq.Context()
        try:
            socket = ctx.socket(zmq.DEALER)
            socket.rcvtimeo = _READY_WITHIN_MS
            socket.connect(first)
            times = sorted([_call(socket, work) for _ in range(calls + _WARM_UP)][_WARM_UP:])
        finally:
            ctx.destroy(linger=0)
            for process in processes:
                process.kill()
                process.wait()
    return {"work_us": work * 1e6, "p50_ms": 1e3 * times[calls // 2], "p99_ms": 1e3 * times[calls * 99 // 100]}


def play(role: str, inward: str, outward: str, work: str) -> None:
    """One of the other processes, for ever."""
    _ROLES[role](inward, outward, float(work))


def _call(socket: Any, work: float) -> float:
    begun = time.perf_counter()
    socket.send(b"x" * PAYLOAD)
    socket.recv()
    _busy(work)
    return time.perf_counter() - begun


def _free_port() -> int:
    ctx: zmq.Context[Any] = zmq.Context()
    socket = ctx.socket(zmq.PULL)
    port = int(socket.bind_to_random_port("tcp://127.0.0.1"))
    ctx.destroy(linger=0)
    return port


@click.command()
@click.option("--calls", default=3000, show_default=True, help="How many round trips.")
@click.option("--work", "work_us", default=[0.0, 50.0, 100.0], multiple=True, show_default=True, help="Busy so long, in µs.")
def main(calls: int, work_us: tuple[float, ...]) -> None:
    """Measure the round trip for each amount of work."""
    for each in work_us:
        click.echo(json.dumps(measure(calls, each / 1e6)))


if __name__ == "__main__":
    main()
