"""ring: topic -> hosts from the ring file, read again when it changes. A file that is not whole keeps the last good ring.

Whoever wrote the ring has decided what to believe, so a whole ring is believed as it stands; but for one that has lost every
topic, which is an accident more often than an intention. A copy of the last good ring is there for a start without one.
"""

import os
import stat
import threading
from collections import Counter as Counts
from pathlib import Path
from urllib.parse import quote

from oslo_log import log as logging

from openstack_zeromq.address import compact
from openstack_zeromq.errors import RingError
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.base import Matchmaker, Member, Topic, View

LOG = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int, int] | None, ...]
_NEVER: _Stamp = ()
"""Like no file: it is read again at the next look."""


class UnreadableError(RingError):
    """The ring may be good, but the system does not give it; perhaps it does a moment later."""


class RingMatchmaker(Matchmaker):
    """Never raises: without a good ring the last good one counts, and `problem` says so."""

    def __init__(self, ringfile: str, state_dir: str, host: str = "") -> None:
        """The last good ring is kept below `state_dir`, for node `host`."""
        self._path = Path(ringfile)
        self._meta = ring_file.meta_path(ringfile)
        self._copy = Path(state_dir, f"matchmaker_ring.{quote(host, safe='@')}.json")
        self._counts: Counts[str] = Counts()
        self._fault = ""
        self._stale = False
        self._keeping = threading.Lock()
        self._keeper: threading.Thread | None = None
        self._to_keep: tuple[bytes, bytes | None] = b"", None
        self._stamp = self._look()
        self.view = View()
        self._load()
        if self._fault:
            self._remember()

    def refresh(self) -> bool:
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        return self._load()

    @property
    def problem(self) -> str:
        if not self._fault:
            return ""
        kept = "the last good ring is kept" if self.view.complete else "there was no good ring yet"
        return f"[matchmaker_ring] ringfile = {self._path}: {self._fault}; {kept}"

    def status(self) -> dict[str, object]:
        return {
            "stale": sorted(self.view.topics) if self._stale else [],
            "topics": {name: len(topic.hosts) for name, topic in sorted(self.view.topics.items())},
            "held": {},
            "counters": dict(self._counts),
        }

    def close(self) -> bool:
        if self._keeper is not None:
            self._keeper.join()
        return True

    # private

    def _look(self) -> _Stamp:
        return tuple(_stamp(path) for path in (self._path, self._meta))

    def _load(self) -> bool:
        """Take the ring over if it is good; is the view another one now?"""
        try:
            ring, meta = read(self._path)
            view = arrange(ring, meta)
            if self.view.topics and not view.topics:
                _doubt(ring, meta)
        except RingError as exc:
            self._counts["refused"] += 1
            if isinstance(exc, UnreadableError):
                self._stamp = _NEVER
            self._fault = str(exc)
            return False
        changed = view != self.view
        if changed:
            LOG.info("the ring changed: %s topics", len(view.topics))
        self.view, self._fault, self._stale = view, "", False
        self._to_keep = ring, meta
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="ring copy")
        self._keeper.start()
        return changed

    def _keep(self) -> None:
        """In a thread: a slow disk is to hold up no message."""
        with self._keeping:
            self._write_copy(*self._to_keep)

    def _write_copy(self, ring: bytes, meta: bytes | None) -> None:
        try:
            self._copy.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            if meta is not None:
                ring_file.write(ring_file.meta_path(self._copy), meta, mode=0o640)
            ring_file.write(self._copy, ring, mode=0o640)
        except OSError as exc:
            self._counts["unsaved"] += 1
            LOG.warning("the last good ring cannot be kept for a start without one: %s", exc)

    def _remember(self) -> None:
        try:
            self.view = arrange(*read(self._copy))
            self._stale = True
        except RingError:
            return  # there was never a ring; `problem` says what is wrong with the one that should be there


def load(path: Path) -> View:
    """The ring at `path` with its side-car, if that belongs to it.

    :raises RingError: what is wrong, and the remedy; without the path.
    """
    return arrange(*read(path))


def read(path: Path) -> tuple[bytes, bytes | None]:
    """The bytes of the ring and of its side-car, None where there is none.

    :raises RingError: one of them cannot be read.
    """
    try:
        ring = contents(path)
    except FileNotFoundError as exc:
        raise RingError(f"{exc.strerror}; write a ring there") from None
    except OSError as exc:
        raise UnreadableError(f"{exc.strerror}; let the receiver's user read it") from None
    meta = ring_file.meta_path(path)
    try:
        return ring, contents(meta)
    except FileNotFoundError:
        return ring, None
    except OSError as exc:
        raise UnreadableError(f"its side-car {meta}: {exc.strerror}") from None


def arrange(ring_bytes: bytes, meta_bytes: bytes | None) -> View:
    """:raises RingError: the bytes are no ring."""
    ring = ring_file.parse(ring_bytes)
    endpoints = ring_file.NO_HOSTS if meta_bytes is None else ring_file.parse_meta(meta_bytes, ring_bytes)
    servers: dict[str, dict[str, tuple[str, ...]]] = {}
    for topic, there in (ring_file.parse_servers(meta_bytes, ring_bytes) if meta_bytes is not None else {}).items():
        servers[compact(topic)] = {compact(server): hosts for server, hosts in there.items()}
    for key, hosts in ring.items():
        topic, colon, server = key.partition(":")
        if colon:
            servers.setdefault(compact(topic), {})[compact(server)] = hosts
    topics = {compact(key): hosts for key, hosts in ring.items()}
    return View(
        {topic: _topic(topics.get(topic, ()), servers.get(topic, {})) for topic in {*topics, *servers}}, endpoints, complete=True
    )


def _topic(hosts: tuple[str, ...], servers: dict[str, tuple[str, ...]]) -> Topic:
    """A ring may place servers on hosts that it does not list for the bare topic."""
    mentioned = dict.fromkeys((*hosts, *(host for there in servers.values() for host in there)))
    return Topic(dict.fromkeys(mentioned, Member()), hosts, servers)


def _doubt(ring: bytes, meta: bytes | None) -> None:
    """A ring has lost every topic: its writer must stand by that with a side-car.

    :raises RingError: nobody does.
    """
    if meta is None or ring_file.load_meta(meta).get("sha256") != ring_file.sha256(ring):
        raise RingError("has no topic any more, the last ones are held; if that is meant, write it with its side-car")


def contents(path: Path) -> bytes:
    """The bytes of a ring or side-car. A directory has none, and a FIFO would never end; a symlink may lead to one.

    :raises RingError: it is no regular file.
    :raises OSError: as the file system says.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise RingError(f"{path} is no regular file; replace it by a ring")
        return file.read(ring_file.MAX_BYTES + 1)


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
