"""Disk: the ring and its side-car as files, read and replaced so that whoever reads sees the old ones or the new, never half.

The side-car is written first: it counts for the new ring and for the one that is replaced, so that a crash in between loses
nothing. Owner, group and mode stay as they are unless others are asked for. A symlink stays, too, and what it leads to is
replaced; but only a link of root or of this process's user is followed, for others could make us overwrite what they may not.
Whatever else is no regular file is left alone.
"""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openstack_zeromq.catalog import shape
from openstack_zeromq.catalog.shape import Published
from openstack_zeromq.errors import RingError
from openstack_zeromq.matchmaker import ring, ring_file

Stamp = tuple[tuple[int, int, int] | None, ...]

_LOCK_WITHIN = 5.0
_LEFT_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Disk:
    """The ring at `path`; `owner`, `group` and `mode` None: as they are."""

    path: Path
    owner: int | None = None
    group: int | None = None
    mode: int | None = None

    def read(self) -> Published | None:
        """What is published; None: there is no ring.

        :raises RingError: what is there is none.
        """
        if not self.path.exists():
            return None
        data, meta = self.contents()
        with contextlib.suppress(RingError):  # a side-car that is none is as good as no side-car
            return shape.parse(data, meta)
        return shape.parse(data, None)

    def stamp(self) -> Stamp:
        """Changes when somebody replaces one of the files."""
        return tuple(_stamp(path) for path in (self.path, ring_file.meta_path(self.path)))

    def is_canonical(self, published: Published) -> bool:
        """Does the ring stand there byte for byte as `write` writes it, with the owner and mode that are asked for?"""
        try:
            there, data = self.path.stat(), ring.contents(self.path)
        except (OSError, RingError):
            return False
        wishes = ((self.owner, there.st_uid), (self.group, there.st_gid), (self.mode, stat.S_IMODE(there.st_mode)))
        return data == ring_file.render(published.ring) and all(wish in {None, has} for wish, has in wishes)

    def write(self, published: Published, before: Published | None) -> Stamp:
        """Replace both files. `before` is what `read` said. The stamp of what was written: nobody's if it is another one by now.

        :raises OSError: as the file system says; one of the files may be the new one.
        :raises RingError: something is in the way that we do not replace.
        """
        old = None
        with contextlib.suppress(RingError, OSError):
            old, _ = self.contents()
        data, meta = shape.render(published, old, before.hosts if before else ring_file.NO_HOSTS)
        side_car, ring_itself = _target(ring_file.meta_path(self.path)), _target(self.path)
        ring_file.write(side_car, meta, *self._wishes(side_car, ring_itself))
        ring_file.write(ring_itself, data, self.mode, self.owner, self.group)
        stamp = self.stamp()
        with contextlib.suppress(RingError):
            if self.contents() == (data, meta):
                return stamp
        return ()

    def publish(self, published: Published, before: Published | None) -> None:
        """As `write`; then the side-car forgets which ring it replaced, so that the same ring is the same bytes on every node.

        :raises OSError: as the file system says; one of the files may be the new one.
        :raises RingError: something is in the way that we do not replace.
        """
        self.write(published, before)
        side_car, ring_itself = _target(ring_file.meta_path(self.path)), _target(self.path)
        ring_file.write(side_car, shape.render(published)[1], *self._wishes(side_car, ring_itself))

    def _wishes(self, side_car: Path, ring_itself: Path) -> tuple[int | None, int | None, int | None]:
        """Mode, owner and group of the side-car: a new one may be read by whom the ring may be read."""
        if side_car.exists() or not ring_itself.exists() or os.geteuid() != 0:
            return self.mode, self.owner, self.group
        there = ring_itself.stat()
        wishes = (self.mode, stat.S_IMODE(there.st_mode)), (self.owner, there.st_uid), (self.group, there.st_gid)
        mode, owner, group = (has if wish is None else wish for wish, has in wishes)
        return mode, owner, group

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else who syncs this directory writes meanwhile.

        :raises OSError: the directory is not there, or somebody else is at it for seconds.
        """
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(directory, self.path.parent)
            yield
        finally:
            os.close(directory)

    def sweep(self) -> None:
        """Remove what writers left that were killed; not what may still be written."""
        for path in (self.path, ring_file.meta_path(self.path)):
            for left in path.parent.glob(f".{path.name}.????????"):
                with contextlib.suppress(OSError):
                    if time.time() - left.stat().st_mtime > _LEFT_AFTER:
                        left.unlink()

    def contents(self) -> tuple[bytes, bytes | None]:
        """Ring and side-car as they are. Without a side-car that can be read there is none.

        :raises RingError: the ring cannot be read.
        """
        try:
            data = ring.contents(self.path)
        except OSError as exc:
            raise RingError(f"{self.path}: {exc.strerror}") from None
        with contextlib.suppress(OSError, RingError):
            return data, ring.contents(ring_file.meta_path(self.path))
        return data, None


def _target(path: Path) -> Path:
    """The file to replace for `path`.

    :raises RingError: there is something else in its place.
    """
    try:
        there = path.lstat()
    except FileNotFoundError:
        return path
    target = path
    if stat.S_ISLNK(there.st_mode):
        if there.st_uid not in {0, os.geteuid()}:
            raise RingError(f"{path} is a symlink of user {there.st_uid}, which is not followed; replace it by a file")
        target = Path(os.path.realpath(path))  # a link to itself stays a link
        try:
            there = target.lstat()
        except FileNotFoundError:
            return target
    if not stat.S_ISREG(there.st_mode):
        raise RingError(f"{path} is no regular file; remove it, and a ring is written there")
    return target


def _lock(directory: int, path: Path) -> None:
    deadline = time.monotonic() + _LOCK_WITHIN
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(f"{path}: another sync has been writing there for {_LOCK_WITHIN:g} s; is one stuck?") from None
            time.sleep(0.02)
        else:
            return


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
