"""Trust: whose key is whose. A folder of public key files, `<host>.pub`, that an operator fills; nothing else is trusted.

What stands there counts from the next look on; a file that is gone takes its host's trust with it, always. A file that is broken,
for instance half copied, changes nothing for its host, and a folder that cannot be listed changes nothing at all: what was known
stays, and the problem is told.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.security import keys

SUFFIX = ".pub"
_MOST_FILES = 20_000
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


@dataclass(frozen=True, slots=True)
class Trust:
    """Public keys of each host, the one to expect first in front."""

    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _owners: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        owners: dict[str, str] = {}
        for host, its in self.hosts.items():
            for key in its:
                if owners.setdefault(key, host) != host:
                    raise KeyFileError(f"{owners[key]} and {host} have a key in common; make a new one on one of them")
        object.__setattr__(self, "_owners", owners)

    def host_of(self, key: str) -> str | None:
        """Who has `key`; None: nobody that is trusted."""
        return self._owners.get(key)

    def keys_of(self, host: str) -> tuple[str, ...]:
        """What `host` may have; empty: it is not trusted."""
        return self.hosts.get(host, ())

    @property
    def digest(self) -> str:
        """The same for equal trust, whatever the order of keys."""
        lines = sorted(f"{host} {key}" for host, its in self.hosts.items() for key in its)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read(folder: Path) -> Trust:
    """All of `folder`.

    :raises KeyFileError: it cannot be read, one of its files is no key file, or two hosts have one key.
    """
    try:
        files = _files(folder)
    except OSError as exc:
        raise KeyFileError(f"{folder}: {exc.strerror}; put the public key of each node there, as <host>{SUFFIX}") from None
    if len(files) > _MOST_FILES:
        raise KeyFileError(f"{folder} holds {len(files)} keys, more than any fabric has nodes")
    return Trust({path.name.removesuffix(SUFFIX): keys.read_public(path) for path in files})


class TrustFolder:
    """What the folder said when it was last looked at and made sense. `problem` is why it does not now."""

    def __init__(self, folder: Path) -> None:
        """:raises KeyFileError: as `read`."""
        self.path = folder
        self._stamp = _stamp(folder)
        self.trust = read(folder)
        self.problem = ""

    def refresh(self) -> bool:
        """Look again; True when trust is another than before."""
        stamp = _stamp(self.path)
        if stamp == self._stamp and not self.problem:
            return False
        before = self.trust
        try:
            self.trust, broken = _as_far_as_possible(self.path, before)
        except OSError as exc:
            self.problem = f"{self.path}: {exc.strerror}; until it can be read trust stays as it was"
            return False
        # What changed while it was read is seen at the next look.
        self._stamp = stamp
        self.problem = f"{'; '.join(broken)}; for these hosts trust stays as it was" if broken else ""
        return self.trust.hosts != before.hosts


def _as_far_as_possible(folder: Path, before: Trust) -> tuple[Trust, list[str]]:
    """What can be read of `folder`, and why the rest cannot; of that stays what was known `before`.

    :raises OSError: nothing can be read.
    """
    hosts: dict[str, tuple[str, ...]] = {}
    broken: list[str] = []
    owners: dict[str, str] = {}
    files = _files(folder)
    present = {path.name.removesuffix(SUFFIX) for path in files}
    for path in files:
        host = path.name.removesuffix(SUFFIX)
        try:
            found = keys.read_public(path)
        except KeyFileError as exc:
            if not path.exists():
                continue  # it went while the folder was read
            broken.append(str(exc))
            found = before.keys_of(host)
        # A key is its first owner's: of two that claim it, who had it before.
        theirs = {key for key in found if before.host_of(key) in present - {host}}
        mine = tuple(key for key in found if key not in theirs and owners.setdefault(key, host) == host)
        if mine != found:
            broken.append(f"{path} has a key of another host")
        hosts[host] = mine
    return Trust(hosts), broken


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))


# keeping the folder


def texts(folder: Path) -> dict[str, str]:
    """Host to what its file holds; empty when there is no folder.

    :raises OSError: a file cannot be read.
    """
    if not folder.exists():
        return {}
    files = _files(folder)
    return {path.name.removesuffix(SUFFIX): path.read_text(encoding="ascii", errors="replace") for path in files}


def planned(before: Mapping[str, str], wanted: Mapping[str, Sequence[str]], hosts: Iterable[str]) -> dict[str, str]:
    """What the files should hold: `wanted` keys, and for other `hosts` what they hold `before`. Pure.

    :raises KeyFileError: what is to be written is no key, is another host's, or a host's name is no file name.
    """
    after = {host: before[host] for host in hosts if host in before}
    for host, its in wanted.items():
        if not its:
            continue
        if not _HOST.fullmatch(host):
            raise KeyFileError(f"{host!r} cannot be the name of a node: letters, digits and . _ - only")
        if not all(isinstance(key, str) and keys.is_key(key) for key in its):
            raise KeyFileError(f"what is given for {host} is no list of public keys (Z85, 40 characters each)")
        after[host] = keys.public_text(tuple(its), host)
    Trust({host: keys_in(text) for host, text in after.items()})
    return dict(sorted(after.items()))


def write(folder: Path, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Change the files from `before` to `after`: first who is new, then who is gone.

    :raises KeyFileError: a file cannot be written.
    :raises OSError: one cannot be removed.
    """
    for host, text in after.items():
        if before.get(host) != text:
            keys.write_public(folder / f"{host}{SUFFIX}", keys_in(text), host)
    for host in before.keys() - after.keys():
        (folder / f"{host}{SUFFIX}").unlink(missing_ok=True)


def keys_in(text: str) -> tuple[str, ...]:
    """The keys that the text of a public file holds."""
    return tuple(line for line in text.splitlines() if keys.is_key(line))


def shown(texts_: Mapping[str, str]) -> str:
    """For a diff: a line for each key."""
    return "".join(f"{host} {key}\n" for host, text in sorted(texts_.items()) for key in keys_in(text))


def _stamp(folder: Path) -> object:
    """Differs whenever a file was added, removed or replaced; None: there is no folder."""
    try:
        files = sorted((path.name, path.stat()) for path in folder.iterdir() if path.suffix == SUFFIX)
    except OSError:
        return None
    return tuple((name, found.st_ino, found.st_mtime_ns, found.st_size) for name, found in files)
