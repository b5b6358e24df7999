"""Services: who is connected, written down for the next receiver, in the directory of the sockets.

A receiver that starts after another one must know for whom to wait before it hands out what was resent. One empty file for each
service, `service.<client id>`; gone services are removed, so a first start finds none.
"""

from collections.abc import Collection
from pathlib import Path

from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.receiver.report import Report

_PREFIX = "service."


class Services:
    """The files below `ipc_dir`."""

    def __init__(self, ipc_dir: str, report: Report) -> None:
        self._directory = Path(ipc_dir)
        self._report = report
        self._written = remembered(ipc_dir)

    def keep(self, clients: Collection[int]) -> None:
        """Write down exactly `clients`; what cannot be written now (a full disk, no descriptors) is tried again next time."""
        if clients == self._written:
            return
        wanted = set(clients)
        try:
            for client in wanted - self._written:
                self._file(client).touch(mode=0o600)
                self._written.add(client)
            for client in self._written - wanted:
                self._file(client).unlink(missing_ok=True)
                self._written.discard(client)
        except OSError as exc:
            self._report.bad(Counter.UNWRITTEN, str(self._directory), f"who is connected cannot be written down: {exc.strerror}")

    def _file(self, client: int) -> Path:
        return self._directory / f"{_PREFIX}{client:016x}"


def remembered(ipc_dir: str) -> set[int]:
    """The services that the last receiver of this directory knew when it ended, however it ended."""
    return {int(path.name.removeprefix(_PREFIX), 16) for path in Path(ipc_dir).glob(f"{_PREFIX}{'[0-9a-f]' * 16}")}
