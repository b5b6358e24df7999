"""Services: who is connected, written down for the next receiver, in the directory of the sockets.

A receiver that starts after another one must know for whom to wait before it hands out what was resent. One empty file for each
service, `service.<client id>`; gone services are removed, so a first start finds none.
"""

from collections.abc import Collection
from pathlib import Path

_PREFIX = "service."


class Services:
    """The files below `ipc_dir`."""

    def __init__(self, ipc_dir: str) -> None:
        self._directory = Path(ipc_dir)
        self._written = remembered(ipc_dir)

    def keep(self, clients: Collection[int]) -> None:
        """Write down exactly `clients`."""
        if clients == self._written:
            return
        for client in set(clients) - self._written:
            self._file(client).touch(mode=0o600)
        for client in self._written - set(clients):
            self._file(client).unlink(missing_ok=True)
        self._written = set(clients)

    def _file(self, client: int) -> Path:
        return self._directory / f"{_PREFIX}{client:016x}"


def remembered(ipc_dir: str) -> set[int]:
    """The services that the last receiver of this directory knew when it ended, however it ended."""
    return {int(path.name.removeprefix(_PREFIX), 16) for path in Path(ipc_dir).glob(f"{_PREFIX}{'[0-9a-f]' * 16}")}
