"""Trust: which host has which public key. A folder of public key files, `<host>.pub`, says so; nothing else is trusted.

`trust_folder` follows the folder while a receiver runs. Here are the values, and the functions that keep the folder.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.security import keys

SUFFIX = ".pub"
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


@dataclass(frozen=True, slots=True)
class Trust:
    """Public keys of each host, the one to expect first in front. `digest` is the same for equal trust, whatever the order."""

    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    digest: str = field(init=False, repr=False, compare=False)
    _owners: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        owners: dict[str, str] = {}
        for host, its in self.hosts.items():
            for key in its:
                if owners.setdefault(key, host) != host:
                    raise KeyFileError(f"{owners[key]} and {host} have a key in common; make a new one on one of them")
        lines = sorted(f"{host} {key}" for host, its in self.hosts.items() for key in its)
        object.__setattr__(self, "_owners", owners)
        object.__setattr__(self, "digest", hashlib.sha256("\n".join(lines).encode()).hexdigest())

    def host_of(self, key: str) -> str | None:
        """Who has `key`; None: nobody that is trusted."""
        return self._owners.get(key)

    def keys_of(self, host: str) -> tuple[str, ...]:
        """What `host` may have; empty: it is not trusted."""
        return self.hosts.get(host, ())


def is_key_file(name: str) -> bool:
    """Whether a file of that name holds a host's public keys; a hidden one is not whole yet."""
    return name.endswith(SUFFIX) and not name.startswith(".")


# keeping the folder


def texts(folder: Path) -> dict[str, str]:
    """Host to what its file holds; empty when there is no folder.

    :raises OSError: a file cannot be read.
    """
    if not folder.exists():
        return {}
    files = sorted(path for path in folder.iterdir() if is_key_file(path.name))
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
