"""TrustFolder: follow the folder of public key files at a cost that hardly grows with it.

What stands in the folder counts from the next look on. A file that is gone takes its host's trust with it, always. A broken file,
for instance a half copied one, changes nothing for its host, and a folder that cannot be listed changes nothing at all: what was
known stays, and the problem is shown.

A look is cheap while nothing changes. A file that is added, removed, or renamed into its place changes the stamp of the folder
itself, which costs one system call to see. A file that is written in its place changes its own stamp only, and the stamps of all
files are compared as often as a small share of a core allows: 200 files twice a second, 13 000 (30 ms) twice a minute. Only
files whose stamp changed are read; a broken one is not read again before it changes. inotify would find writes in place at once,
but is not there on every file system, and has limits of its own that need the same comparison as a fallback.
"""

import os
import time
from collections.abc import Container, Mapping
from pathlib import Path
from typing import NamedTuple

from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.security import keys
from openstack_zeromq.security.trust import SUFFIX, Trust, all_keys, is_key_file, read_revoked, revoked_path

MOST_FILES = 20_000
"""More than any fabric has nodes: such a folder is another one."""

_ALL_EVERY = 0.5
"""Seconds at least between two comparisons of the stamps of all files."""

_SHARE = 0.001
"""Of a core, for comparing the stamps of all files. An idle receiver with 13 000 keys may take 1 %, most of it for its loop."""

_SHOWN = 10
"""Problems that are spelled out; the others are counted, so that a line of the log stays one."""

_WATCHED_BROKEN = 100
"""Broken files that every look compares, because they may be in the middle of being written."""

_Stamp = tuple[int, int, int, int]


class _File(NamedTuple):
    """A key file as it was when it had `stamp`; None: the system does not say. A broken file has a `problem`, and the keys that
    it had before."""

    stamp: _Stamp | None
    keys: tuple[str, ...]
    problem: str


_Files = Mapping[str, _File]
"""Of each host."""


class _Found(NamedTuple):
    trust: Trust
    problem: str


class TrustFolder:
    """`trust` is what counts, and `problem` why the folder says something else. `look` reads, in whatever thread, one at a time;
    `take` lets what was read count, in the thread that uses `trust`.

    :raises KeyFileError: as `read`.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._revoked_path = revoked_path(folder)
        self._folder_stamp = _stamp(folder)
        self._revoked_stamp = _stamp(self._revoked_path)
        self._revoked = all_keys(read_revoked(folder))
        self._files = _whole(folder)
        self.trust = _as_it_stands(self._files, self._revoked)
        self.problem = ""
        self._found = _Found(self.trust, "")
        self._broken: list[str] = []
        self._settled = False
        self._all_due = 0.0

    def look(self, now: float, everything: bool = False) -> bool:
        """Read the files that changed; True when `take` has something new. `now`: seconds, monotonic. `everything`: also what was
        written in its place, at once."""
        stamp, revoked_stamp = _stamp(self.path), _stamp(self._revoked_path)
        same = stamp == self._folder_stamp and revoked_stamp == self._revoked_stamp
        if self._settled and same and now < self._all_due and not everything and not self._mended():
            return False
        before, began = self._found, time.thread_time()
        try:
            revoked = all_keys(read_revoked(self.path))
            files, changed = _scan(self.path, self._files)
        except (OSError, KeyFileError) as exc:
            why = f"{self.path}: {exc.strerror}" if isinstance(exc, OSError) else str(exc)
            self._settled = False
            self._found = before._replace(problem=f"{why}; until it can be read trust stays as it was")
        else:
            # Two changes may have one stamp, which is as coarse as the clock's tick: after a change everything is compared again.
            self._settled = not changed and same
            changed = changed or revoked != self._revoked
            self._folder_stamp, self._files = stamp, files
            self._revoked_stamp, self._revoked = revoked_stamp, revoked
            if changed or before.problem:
                self._broken = [host for host, file in files.items() if file.problem][:_WATCHED_BROKEN]
                self._found = _arranged(files, before.trust, revoked)
        self._all_due = now + max(_ALL_EVERY, (time.thread_time() - began) / _SHARE)
        return self._found != before

    def take(self) -> bool:
        """Let what the last look found count; True when trust is another than before."""
        before = self.trust
        self.trust, self.problem = self._found
        return self.trust is not before

    def _mended(self) -> bool:
        """Whether a broken file is another one now."""
        return any(_stamp(_path(self.path, host)) != self._files[host].stamp for host in self._broken)


def read(folder: Path) -> Trust:
    """All of `folder`.

    :raises KeyFileError: it cannot be read, one of its files is no key file, or two hosts have one key.
    """
    return _as_it_stands(_whole(folder), all_keys(read_revoked(folder)))


def _whole(folder: Path) -> _Files:
    """:raises KeyFileError: the folder cannot be read."""
    try:
        return _scan(folder, {})[0]
    except OSError as exc:
        raise KeyFileError(f"{folder}: {exc.strerror}; put the public key of each node there, as <host>{SUFFIX}") from None


def _scan(folder: Path, known: _Files) -> tuple[_Files, bool]:
    """The key files of `folder`, and whether one is another than in `known`; the others are not read.

    :raises OSError: the folder cannot be listed.
    :raises KeyFileError: it holds too many files.
    """
    files: dict[str, _File] = {}
    changed = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_key_file(entry.name):
                continue
            host = entry.name.removesuffix(SUFFIX)
            file, stamp = known.get(host), _stamp(entry)
            if file is None or stamp != file.stamp:
                file = _read(Path(entry.path), stamp, () if file is None else file.keys)
                changed = True
            if file is not None:
                files[host] = file
    if len(files) > MOST_FILES:
        raise KeyFileError(f"{folder} holds {len(files)} keys, more than any fabric has nodes ({MOST_FILES})")
    return files, changed or len(files) != len(known)


def _read(path: Path, stamp: _Stamp | None, before: tuple[str, ...]) -> _File | None:
    """None: it has gone meanwhile."""
    try:
        return _File(stamp, keys.read_public(path), "")
    except KeyFileError as exc:
        return _File(stamp, before, str(exc)) if path.exists() else None


def _as_it_stands(files: _Files, revoked: Container[str]) -> Trust:
    """:raises KeyFileError: one of `files` is no key file, or two hosts have one key."""
    for file in files.values():
        if file.problem:
            raise KeyFileError(file.problem)
    good = {host: tuple(key for key in file.keys if key not in revoked) for host, file in sorted(files.items())}
    return Trust({host: its for host, its in good.items() if its})


def _arranged(files: _Files, before: Trust, revoked: Container[str]) -> _Found:
    """Trust as far as `files` give it, and why not further. A key that several claim belongs to the one that had it `before`, or
    else to the first by name."""
    hosts: dict[str, tuple[str, ...]] = {}
    owners: dict[str, str] = {}
    problems: list[str] = []
    for host in before.hosts.keys() & files.keys():
        owners.update((key, host) for key in before.keys_of(host) if key in files[host].keys)
    for host, file in sorted(files.items()):
        for key in file.keys:
            owners.setdefault(key, host)
        mine = tuple(key for key in file.keys if owners[key] == host)
        if good := tuple(key for key in mine if key not in revoked):
            hosts[host] = good
        if file.problem:
            problems.append(file.problem)
        problems += [f"{host}{SUFFIX} has the key of {owners[key]}, too" for key in file.keys if key not in mine]
    problem = "; ".join(problems[:_SHOWN]) + (f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else "")
    trust = before if hosts == before.hosts else Trust(hosts)
    return _Found(trust, f"{problem}; for these hosts trust stays as it was" if problems else "")


def _path(folder: Path, host: str) -> Path:
    return folder / f"{host}{SUFFIX}"


def _stamp(place: Path | os.DirEntry[str]) -> _Stamp | None:
    """Differs when what stands there was replaced, written, or given another mode; None: the system does not say."""
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
