"""Gate: the answer to libzmq's question whether a connection may come in (ZAP, RFC 27), asked once per connection.

It fails closed. Sockets ask for one domain and enforce it, so without a gate nobody comes in; what is not a well-formed
question about a trusted key gets "no". Services of this node come by unix sockets, which only they can open, and need no key.
The receiver's own loop serves it: when that stands still nobody is let in, and the watchdog ends the process.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import zmq
from zmq.utils import z85

from openstack_zeromq import sockets
from openstack_zeromq.security.trust import Trust

ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_FRAMES = 6
_LOCAL = "localhost:"
_KEY_BYTES = 32


class Verdict(NamedTuple):
    """Whether it is `admitted`, and if not `why`; `key` is what it showed, `address` whence it comes."""

    admitted: bool
    why: str
    key: str
    address: str


def judge(question: Sequence[bytes], trust: Trust) -> tuple[list[bytes], Verdict]:
    """The answer to one question, and what it means; who comes in is known by its key from then on. Pure.

    `question`: version, request id, domain, address, routing id, mechanism, credentials (RFC 27).
    """
    request = question[1] if len(question) > 1 else b""
    verdict = _verdict(question, trust)
    status = (b"200", b"OK", verdict.key.encode()) if verdict.admitted else (b"400", verdict.why.encode(), b"")
    return [_VERSION, request, *status, b""], verdict


def _verdict(question: Sequence[bytes], trust: Trust) -> Verdict:
    address = question[3].decode("ascii", "replace").removeprefix("::ffff:") if len(question) > 3 else ""
    if len(question) < _FRAMES or question[0] != _VERSION:
        return Verdict(False, "it does not say who it is", "", address)
    domain, mechanism, credentials = question[2], question[5], question[6:]
    if domain == sockets.LOCAL_DOMAIN and mechanism == b"NULL" and address.startswith(_LOCAL):
        return Verdict(True, "", "", address)
    if domain != sockets.LINKS_DOMAIN or mechanism != b"CURVE" or [len(part) for part in credentials] != [_KEY_BYTES]:
        return Verdict(False, "it shows no key", "", address)
    key = z85.encode(credentials[0]).decode()
    if trust.host_of(key) is None:
        return Verdict(False, "its key is not trusted", key, address)
    return Verdict(True, "", key, address)


class Gate:
    """The socket that libzmq asks. There is one per context; `hear` gets each verdict, `fault` what kept a question from its
    answer."""

    def __init__(
        self,
        ctx: sockets.ZmqContext,
        trust: Callable[[], Trust],
        hear: Callable[[Verdict], None],
        fault: Callable[[Exception], None],
    ) -> None:
        self._trust = trust
        self._hear = hear
        self._fault = fault
        self.socket: sockets.ZmqSocket = ctx.socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)

    def answer(self, limit: int = 100) -> None:
        """Answer what was asked, at most `limit`: handshakes must not keep messages waiting."""
        for frames in sockets.drain(self.socket, limit):
            try:
                self._answer(frames)
            except Exception as exc:  # of any kind: it concerns one connection, which does not come in
                self._fault(exc)

    def _answer(self, frames: Sequence[bytes]) -> None:
        cut = frames.index(b"") + 1 if b"" in frames else len(frames)
        answer, verdict = judge(frames[cut:], self._trust())
        sockets.send(self.socket, [*frames[:cut], *answer])
        self._hear(verdict)

    def close(self) -> None:
        self.socket.close(0)
