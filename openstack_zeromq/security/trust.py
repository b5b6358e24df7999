"""Trust: which host has which public key. A folder of public key files, `<host>.pub`, says so; nothing else is trusted.

`trust_folder` follows the folder while a receiver runs. Here are the values, and the functions that keep the folder.
"""

import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.security import keys

SUFFIX = ".pub"
REVOKED = "revoked"
"""A file beside the folder. It lists keys that are refused, whatever the folder holds: in each line a node and a key of it."""
_REVOKED_HEADER = "# NODE KEY: these keys are refused, whatever authorized/ holds. To trust a key again, remove its line.\n"
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


def planned(
    before: Mapping[str, str], wanted: Mapping[str, Sequence[str]], hosts: Iterable[str], revoked: Container[str] = ()
) -> dict[str, str]:
    """Return what the files should hold: `wanted` keys, and for other `hosts` what they hold `before`; no `revoked` key. Pure.

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
    return {host: text for host, old in sorted(after.items()) if (text := _without(old, host, revoked)) is not None}


def _without(text: str, host: str, revoked: Container[str]) -> str | None:
    """Return the text of a public file of `host` without `revoked` keys; None if all its keys are revoked."""
    its = keys_in(text)
    good = tuple(key for key in its if key not in revoked)
    if good == its:
        return text
    return keys.public_text(good, host) if good else None


def revoked_path(folder: Path) -> Path:
    """Return the file that lists the keys that are refused, whatever `folder` holds."""
    return folder.parent / REVOKED


def read_revoked(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the keys that are refused, by the node that had them; empty when there is no such file.

    :raises KeyFileError: it cannot be read, or a line is not understood. To go on without it would trust a revoked key.
    """
    path = revoked_path(folder)
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise KeyFileError(f"{path}: {exc.strerror}; let everybody read it") from None
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        host, _, key = line.strip().partition(" ")
        if not host or host.startswith("#"):
            continue
        if not _HOST.fullmatch(host) or not keys.is_key(key):
            raise KeyFileError(f"{path}: line {number} is not NODE KEY; correct or remove it")
        found[host] = (*found.get(host, ()), key)
    return found


def write_revoked(folder: Path, revoked: Mapping[str, Iterable[str]]) -> None:
    """Write the keys to refuse, by node, into the file beside `folder`.

    :raises KeyFileError: the file cannot be written.
    """
    keys.write_text(revoked_path(folder), _REVOKED_HEADER + shown_revoked(revoked))


def shown_revoked(revoked: Mapping[str, Iterable[str]]) -> str:
    """Return a line for each key, as the file has them."""
    return "".join(f"{host} {key}\n" for host, its in sorted(revoked.items()) for key in its)


def with_revoked(
    remembered: Mapping[str, Iterable[str]],
    texts_: Mapping[str, str],
    others: Mapping[str, Iterable[str]],
    revoke: Iterable[str],
    readmit: Iterable[str],
) -> dict[str, tuple[str, ...]]:
    """Return the keys to refuse: those `remembered` here and by `others`, and those that hosts to `revoke` have in `texts_`, but
    none of hosts to `readmit`. Pure.

    :raises KeyFileError: `others` holds what is no host with its keys.
    """
    for host, its in others.items():
        if not _HOST.fullmatch(host) or not all(isinstance(key, str) and keys.is_key(key) for key in its):
            raise KeyFileError(f"what other nodes refuse of {host!r} is no list of public keys (Z85, 40 characters each)")
    sources = (remembered, others, {host: keys_in(texts_[host]) for host in revoke if host in texts_})
    hosts = {host for source in sources for host in source} - set(readmit)
    merged = {host: tuple(dict.fromkeys(key for source in sources for key in source.get(host, ()))) for host in sorted(hosts)}
    return {host: its for host, its in merged.items() if its}


def all_keys(revoked: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return the keys of all nodes."""
    return frozenset(key for its in revoked.values() for key in its)


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
