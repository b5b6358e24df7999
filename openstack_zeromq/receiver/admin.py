"""Admin: a unix socket that answers every connection with one JSON object, and hangs up.

Who says nothing gets the receiver's status: `zmqctl status`, or `socat - UNIX-CONNECT:<ipc dir>/receiver.admin`, show what is
going on without any protocol. Who sends a line of JSON gets what it asks for:

    {"ask": "hosts", "topic": "compute"}      who serves a topic, waiting a moment for a topic that was never asked for
    {"ask": "release", "topic": "compute"}    believe the store that hosts of the topic are gone
    {"ask": "missing"}                        what rings lack, after all nodes that are known were asked
    {"ask": "drain"}, {"ask": "undrain"}      leave new work to other hosts, or take it again
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from openstack_zeromq.address import ADMIN_SOCKET, compact
from openstack_zeromq.errors import ClosedReceiverError, ConfigError, NoReceiverError
from openstack_zeromq.matchmaker.base import Matchmaker
from openstack_zeromq.receiver.faults import Faults

Answer = dict[str, Any]

_ANSWER_WITHIN = 4.0
_ASK_WITHIN = 0.1
_KNOWN_WITHIN = 2.0
_LINE = 4096
_PLACE = "questions at the admin socket"

_SURVEY_WITHIN = 2.5
"""Seconds that nodes have to say what their rings lack: a link needs one, and a beat another one."""

_SURVEY_LOOKS = 0.05


class Controls(NamedTuple):
    """What the receiver can be told, from any thread: `drain` begins or ends draining, `survey` has all nodes asked what they
    serve, `missing` says what is known of that, as `Node.missing` does."""

    drain: Callable[[bool], None]
    survey: Callable[[], None]
    missing: Callable[[], tuple[dict[str, list[str]], list[str]]]


class Admin:
    """Only the receiver's user (and root) may connect."""

    def __init__(self, ipc_dir: str, matchmaker: Matchmaker, controls: Controls, faults: Faults) -> None:
        self._drain, self._survey, self._missing = controls
        self._faults = faults
        self._matchmaker = matchmaker
        self._path = Path(ipc_dir, ADMIN_SOCKET)
        self._path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self.socket.bind(str(self._path))
        except OSError as exc:
            raise ConfigError(f"cannot make the socket {self._path}: {exc.strerror}") from None
        finally:
            os.umask(mask)
        self.socket.listen(16)
        self.socket.setblocking(False)
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def answer(self, status: Callable[[], Answer]) -> bool:
        """Answer whoever has just connected; a slow one holds up nobody. False: for lack of descriptors or threads he was hung up
        on."""
        try:
            connection, _ = self.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return True
        except OSError:
            self._hang_up()
            return False
        thread = None
        with self._faults.contained(_PLACE, "a question"):
            thread = threading.Thread(target=self._converse, args=(connection, status()), daemon=True, name="admin")
        if thread is None:
            connection.close()
            return True
        try:
            thread.start()
        except RuntimeError:
            connection.close()
            return False
        return True

    def close(self) -> None:
        self._give_back()
        self.socket.close()
        self._path.unlink(missing_ok=True)

    def _hang_up(self) -> None:
        """On whoever has just connected, with the descriptor that is kept for this: the socket would stay readable, and the loop
        would turn without a pause."""
        self._give_back()
        with contextlib.suppress(OSError):
            self.socket.accept()[0].close()
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _give_back(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
        self._spare = None

    # in a thread of its own: of the receiver it uses only what any thread may

    def _converse(self, connection: socket.socket, status: Answer) -> None:
        with connection, self._faults.contained(_PLACE, "a question"):
            try:
                answer = self._find(_question(connection), status)
                connection.settimeout(_ANSWER_WITHIN)
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                return  # the asker went away: nothing of ours is lost

    def _find(self, question: Answer, status: Answer) -> Answer:
        topic = compact(str(question.get("topic", "")))
        match question.get("ask"):
            case "status":
                return status
            case "hosts":
                return self._hosts(topic)
            case "release":
                return {"released": self._matchmaker.release(topic)}
            case "missing":
                return self._survey_all()
            case "drain" | "undrain" as verb:
                self._drain(verb == "drain")
                return {"draining": verb == "drain"}
            case other:
                return {"error": f"{other!r} is nothing that can be asked"}

    def _survey_all(self) -> Answer:
        """Ask all nodes, and wait a moment for their answers."""
        self._survey()
        deadline = time.monotonic() + _SURVEY_WITHIN
        while self._missing()[1] and time.monotonic() < deadline:
            time.sleep(_SURVEY_LOOKS)
        lacking, silent = self._missing()
        return {"missing": lacking, "silent": silent, "nodes": len(self._matchmaker.nodes())}

    def _hosts(self, topic: str) -> Answer:
        deadline = time.monotonic() + _KNOWN_WITHIN
        while (hosts := self._matchmaker.hosts(topic)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        endpoints = {host: self._matchmaker.endpoint(host) for host in hosts or ()}
        return {
            "topic": topic,
            "known": hosts is not None,
            "hosts": {
                host: {"address": endpoint.address if endpoint else host, "port": endpoint.port if endpoint else None}
                for host, endpoint in endpoints.items()
            },
            "servers": {server: list(there) for server, there in sorted(self._matchmaker.servers(topic).items())},
            "problem": self._matchmaker.problem,
        }


def ask(ipc_dir: str, question: str = "status", topic: str = "") -> Answer:
    """What the receiver that serves `ipc_dir` answers.

    :raises OSError: nobody answers there.
    :raises ValueError: it answers something that is not JSON.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_WITHIN)
        connection.connect(str(Path(ipc_dir, ADMIN_SOCKET)))
        connection.sendall(json.dumps({"ask": question, "topic": topic}).encode() + b"\n")
        with connection.makefile("rb") as file:
            answer: Answer = json.loads(file.read())
            return answer


def answer_of(ipc_dir: str, question: str = "status", topic: str = "") -> Answer:
    """As `ask`.

    :raises ClosedReceiverError: the receiver there does not answer this user.
    :raises NoReceiverError: nobody answers there, or something that is no answer; the message names the remedy.
    """
    try:
        answer = ask(ipc_dir, question, topic)
    except PermissionError:
        raise ClosedReceiverError(
            f"the receiver below {ipc_dir} answers only root and its own user; become one of them"
        ) from None
    except (OSError, ValueError) as exc:
        raise NoReceiverError(f"no receiver answers below {ipc_dir} ({exc}); is oslo-messaging-zmq-receiver running?") from None
    if not isinstance(answer, dict) or "error" in answer:
        raise NoReceiverError(f"the receiver below {ipc_dir} does not know {question}; is it older than this? restart it")
    return answer


def _question(connection: socket.socket) -> Answer:
    """What is asked for in the first line; status when there is none in time.

    :raises OSError: the asker went away.
    """
    connection.settimeout(_ASK_WITHIN)
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < _LINE and (more := connection.recv(_LINE)):
            line += more
        question = json.loads(line)
    except (TimeoutError, ValueError):
        return {"ask": "status"} if not line.strip() else {"ask": line.decode(errors="replace")}
    return question if isinstance(question, dict) else {"ask": question}
