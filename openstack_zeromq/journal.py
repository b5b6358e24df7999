"""Journal: what a service has begun to execute, in a file of its own that outlives it.

An acknowledgement that is on its way dies with the process that sent it; what is written into shared memory does not. So
a service notes each call and cast here just before it runs it, and a receiver that finds the service dead, or has just started,
reads it.
"""

import mmap
import os
from pathlib import Path

from openstack_zeromq import wire
from openstack_zeromq.wire import NO_ID, MessageId

PREFIX = "service."
_SLOTS = 1024
_SLOT = 16
_SIZE = _SLOTS * _SLOT


class Journal:
    """The latest messages that were begun, more than a service can have begun unheard. Not for several threads at once.

    :raises OSError: the file is not there, or not ours to write.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._file = os.fstat(descriptor).st_ino
            self._memory = mmap.mmap(descriptor, _SIZE)
        except ValueError as exc:
            raise OSError(f"{path} is no journal: {exc}") from None
        finally:
            os.close(descriptor)
        self._path = path
        self._next = 0

    @property
    def read_by_others(self) -> bool:
        """Is this still the file that a receiver would read? It makes another one for a service that it had given up."""
        try:
            return os.stat(self._path, follow_symlinks=False).st_ino == self._file
        except OSError:
            return False

    def note(self, message_id: MessageId) -> None:
        """`message_id` is about to be executed."""
        at = self._next * _SLOT
        self._memory[at : at + _SLOT] = wire.encode_ids((message_id,))
        self._next = (self._next + 1) % _SLOTS


def path(ipc_dir: str, client: int) -> Path:
    """Where the journal of service `client` is."""
    return Path(ipc_dir, f"{PREFIX}{client:016x}")


def create(file: Path) -> None:
    """Make a journal; one that is there stays as it is.

    :raises OSError: it cannot be made.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
    try:
        # Services write it: they are of the directory's group, whatever our umask.
        os.fchmod(descriptor, 0o660)  # nosec B103
        os.ftruncate(descriptor, _SIZE)
    finally:
        os.close(descriptor)


def begun(file: Path) -> list[MessageId]:
    """What its service had begun; nothing when there is none."""
    try:
        data = file.read_bytes()
    except OSError:
        return []
    return [message_id for message_id in wire.decode_ids(data[: len(data) - len(data) % _SLOT]) if message_id != NO_ID]
