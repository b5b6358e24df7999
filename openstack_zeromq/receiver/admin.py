"""Admin: a unix socket that answers every connection with the receiver's status as one JSON object, and hangs up.

So `zmqctl status`, or `socat - UNIX-CONNECT:<ipc dir>/receiver.admin`, show what is going on without any protocol.
"""

import json
import os
import socket
import threading
from pathlib import Path

from openstack_zeromq.address import ADMIN_SOCKET
from openstack_zeromq.errors import ConfigError

_ANSWER_WITHIN = 2.0


class Admin:
    """Only the receiver's user (and root) may connect."""

    def __init__(self, ipc_dir: str) -> None:
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

    def answer(self, status: dict[str, object]) -> None:
        """Give `status` to whoever has just connected; a slow reader holds up nobody."""
        try:
            connection, _ = self.socket.accept()
        except BlockingIOError:
            return
        data = json.dumps(status).encode() + b"\n"
        threading.Thread(target=_give, args=(connection, data), daemon=True, name="admin").start()

    def close(self) -> None:
        self.socket.close()
        self._path.unlink(missing_ok=True)


def ask(ipc_dir: str) -> dict[str, object]:
    """The status of the receiver that serves `ipc_dir`.

    :raises OSError: nobody answers there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_WITHIN)
        connection.connect(str(Path(ipc_dir, ADMIN_SOCKET)))
        with connection.makefile("rb") as file:
            answer: dict[str, object] = json.loads(file.read())
            return answer


def _give(connection: socket.socket, data: bytes) -> None:
    with connection:
        connection.settimeout(_ANSWER_WITHIN)
        try:
            connection.sendall(data)
        except OSError:
            return  # the asker went away: nothing of ours is lost
