"""Journal: what a service has begun to execute, in a file of its own that outlives it.

An acknowledgement that is on its way dies with the process that sent it; what is written into shared memory does not. So
a service notes each call and cast here just before it runs it, and a receiver that finds the service dead, or has just started,
reads it.

A receiver that gives up a service **seals** its journal before it reads it, and then gives the service's messages to others. The
service may be alive: it stood still, or its pings got lost. So it notes a message, and then looks at the seal: without one the
receiver will find the note, and the message is the service's; with one the message may be another's, and is not begun. This
needs no clock, and holds though both are stopped at any moment between any two steps."""

import mmap
import os
from pathlib import Path

from openstack_zeromq import wire
from openstack_zeromq.wire import NO_ID, MessageId

PREFIX = "service."
_SLOTS = 1024
_SLOT = 16
_NOTES = _SLOTS * _SLOT
_SIZE = _NOTES + _SLOT
"""The notes, and behind them the seal: a slot that is empty until the receiver writes into it."""

_SEAL = wire.encode_ids((wire.MessageId(2**64 - 1, 2**64 - 1),))


class Journal:
    """The latest messages that were begun, more than a service can have begun unheard. Not for several threads at once.

    :raises OSError: the file is not there, or not ours to write.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._file = os.fstat(descriptor).st_ino
            # A receiver of an earlier version makes it without a slot for the seal, and never seals it.
            self._memory = mmap.mmap(descriptor, min(_SIZE, max(_NOTES, os.fstat(descriptor).st_size)))
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

    @property
    def sealed(self) -> bool:
        """Has the receiver given up this service? What it had not begun may be another's."""
        return any(self._memory[_NOTES:])

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
        data = file.read_bytes()[:_NOTES]
    except OSError:
        return []
    return [message_id for message_id in wire.decode_ids(data[: len(data) - len(data) % _SLOT]) if message_id != NO_ID]


def seal(file: Path) -> list[MessageId]:
    """Seal a journal, remove it, and return what its service had begun before; nothing when there is none.

    Two system calls lie between seal and reading: a note that a processor has not shown to others by then does not exist.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return []
    try:
        os.pwrite(descriptor, _SEAL, _NOTES)
    finally:
        os.close(descriptor)
    found = begun(file)
    file.unlink(missing_ok=True)
    return found
