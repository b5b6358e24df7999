"""Services: who is connected, written down for the next receiver, in the directory of the sockets.

A receiver that starts after another one must know for whom to wait before it hands out what was resent, and what was begun to be
executed. So each service has a file, its journal; those of services that are gone are removed, so a first start finds none.
"""

from collections.abc import Collection
from pathlib import Path

from openstack_zeromq import journal
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.receiver.report import Report
from openstack_zeromq.wire import MessageId


class Services:
    """The files below `ipc_dir`."""

    def __init__(self, ipc_dir: str, report: Report) -> None:
        self._ipc_dir = ipc_dir
        self._report = report
        self._written = remembered(ipc_dir)

    def open(self, client: int) -> None:
        """A service is here: it needs its journal, another one if it was given up. Without space or descriptors the next call
        tries again."""
        file = journal.path(self._ipc_dir, client)
        if client in self._written and file.exists():
            return
        try:
            journal.create(file)
            self._written.add(client)
        except OSError as exc:
            self._failed(exc)

    def keep(self, clients: Collection[int]) -> None:
        """Forget all but `clients`."""
        if clients == self._written:
            return
        try:
            for client in self._written - set(clients):
                journal.path(self._ipc_dir, client).unlink(missing_ok=True)
                self._written.discard(client)
        except OSError as exc:
            self._failed(exc)

    def _failed(self, exc: OSError) -> None:
        self._report.bad(Counter.UNWRITTEN, self._ipc_dir, f"who is connected cannot be written down: {exc.strerror}")


def remembered(ipc_dir: str) -> set[int]:
    """The services that the last receiver of this directory knew when it ended, however it ended."""
    names = (path.name.removeprefix(journal.PREFIX) for path in Path(ipc_dir).glob(f"{journal.PREFIX}{'[0-9a-f]' * 16}"))
    return {int(name, 16) for name in names}


def begun(ipc_dir: str, client: int) -> list[MessageId]:
    """What a service had begun to execute, whether or not anybody heard of it."""
    return journal.begun(journal.path(ipc_dir, client))


def given_up(ipc_dir: str, client: int) -> list[MessageId]:
    """The same of a service that is given up: from now on it begins nothing of what it has."""
    return journal.seal(journal.path(ipc_dir, client))
