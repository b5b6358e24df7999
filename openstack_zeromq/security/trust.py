"""Trust: whose key is whose. A folder of public key files, `<host>.pub`, that an operator fills; nothing else is trusted.

What stands there counts from the next look on; a file that is gone takes its host's trust with it. A folder that cannot be
read as a whole, for instance while it is half copied, changes nothing: what was known stays, and the problem is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.security import keys

SUFFIX = ".pub"
_MOST_FILES = 20_000


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


def read(folder: Path) -> Trust:
    """All of `folder`.

    :raises KeyFileError: it cannot be read, one of its files is no key file, or two hosts have one key.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    except OSError as exc:
        raise KeyFileError(f"{folder}: {exc.strerror}; put the public key of each node there, as <host>{SUFFIX}") from None
    if len(files) > _MOST_FILES:
        raise KeyFileError(f"{folder} holds {len(files)} keys, more than any fabric has nodes")
    return Trust({path.name.removesuffix(SUFFIX): keys.read_public(path) for path in files})


class TrustFolder:
    """What the folder said when it was last looked at and made sense. `problem` is why it does not now."""

    def __init__(self, folder: Path) -> None:
        """:raises KeyFileError: as `read`."""
        self._folder = folder
        self._stamp = _stamp(folder)
        self.trust = read(folder)
        self.problem = ""

    def refresh(self) -> bool:
        """Look again; True when trust is another than before."""
        stamp = _stamp(self._folder)
        if stamp == self._stamp:
            return False
        before = self.trust
        try:
            self.trust = read(self._folder)
        except KeyFileError as exc:
            self.problem = f"{exc}; until then trust stays as it was"
            return False
        # What changed while it was read is seen at the next look.
        self._stamp, self.problem = stamp, ""
        return self.trust.hosts != before.hosts


def _stamp(folder: Path) -> object:
    """Differs whenever a file was added, removed or replaced; None: there is no folder."""
    try:
        files = sorted((path.name, path.stat()) for path in folder.iterdir() if path.suffix == SUFFIX)
    except OSError:
        return None
    return tuple((name, found.st_ino, found.st_mtime_ns, found.st_size) for name, found in files)
