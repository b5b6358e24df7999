"""ring: topic -> hosts from the ring file, read again when it changes. A file that is not whole keeps the last good ring."""

import os
from pathlib import Path

from openstack_zeromq.address import compact
from openstack_zeromq.errors import RingError
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.base import Matchmaker, View

_Stamp = tuple[tuple[int, int, int] | None, ...]


class RingMatchmaker(Matchmaker):
    """:raises RingError: the ring cannot be read at start; later the last good one is kept."""

    def __init__(self, ringfile: str) -> None:
        self._path = Path(ringfile)
        self._meta = ring_file.meta_path(ringfile)
        self._problem = ""
        self._stamp = self._look()
        self.view = load(self._path)

    def refresh(self) -> bool:
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            view = load(self._path)
        except RingError as exc:
            self._problem = str(exc)
            return False
        self._problem = ""
        changed = view != self.view
        self.view = view
        return changed

    @property
    def problem(self) -> str:
        return self._problem

    def _look(self) -> _Stamp:
        return tuple(_stamp(path) for path in (self._path, self._meta))


def load(path: Path) -> View:
    """The ring at `path` with its side-car, if that belongs to it.

    :raises RingError: with the path and the remedy.
    """
    try:
        data = _read(path)
        ring = ring_file.parse(data)
        meta = ring_file.meta_path(path)
        endpoints = ring_file.parse_meta(meta.read_bytes(), data) if meta.is_file() else ring_file.NO_HOSTS
    except OSError as exc:
        raise RingError(f"[matchmaker_ring] ringfile = {path}: {exc.strerror}; write a ring there") from None
    except RingError as exc:
        raise RingError(f"[matchmaker_ring] ringfile = {path}: {exc}") from None
    return View({compact(topic): hosts for topic, hosts in ring.items()}, dict(endpoints))


def _read(path: Path) -> bytes:
    """A directory has no ring, and a FIFO would never end."""
    if path.exists() and not path.is_file():
        raise RingError("is no regular file")
    return path.read_bytes()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
