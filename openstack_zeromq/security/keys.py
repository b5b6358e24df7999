"""Keys: the CURVE pair of a node, and the two files it lies in. The secret one never leaves its node and is in no repr.

A key file is text: comments (#), and keys in Z85, 40 characters each, one per line. The secret file has one, and belongs
to its reader alone; a public file has one, or during a rotation two: the first is the one to expect when dialling.
"""

import contextlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from openstack_zeromq.errors import KeyFileError

_VALUE = {digit: value for value, digit in enumerate(z85.Z85CHARS.decode())}
_DIGITS = frozenset(_VALUE)
_LENGTH = 40
_MOST_BYTES = 16 * 1024
SECRET_MODE = 0o600
PUBLIC_MODE = 0o644


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both in Z85."""

    public: str
    secret: str = field(repr=False)


def new() -> KeyPair:
    """A fresh pair, out of the system's own randomness."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def read_secret(path: Path) -> KeyPair:
    """The pair whose secret half lies in `path`.

    :raises KeyFileError: it is missing, others could read it, or it is none.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_MOST_BYTES)
    except FileNotFoundError:
        raise KeyFileError(f"{path} is missing: make this node's key with `zmqctl keys new`") from None
    except OSError as exc:
        raise KeyFileError(f"{path}: {exc.strerror}; it must belong to the user that runs the receiver") from None
    if mode & 0o077 and not _from_systemd(path):
        raise KeyFileError(f"{path} can be read by others than its owner (mode {mode:04o}): chmod 600 {path}, and make a new key")
    keys = _keys(path, text)
    if len(keys) != 1:
        raise KeyFileError(f"{path} holds {len(keys)} keys instead of one: make a new one with `zmqctl keys new --replace`")
    return KeyPair(zmq.curve_public(keys[0].encode()).decode(), keys[0])


def write_secret(path: Path, pair: KeyPair, host: str) -> None:
    """Put the secret half into `path`, whole or not at all; from its first moment only its owner can read it.

    The owner is who calls this, or, where root replaces a file, whose it was.
    """
    _make_folder(path.parent)
    owner = _owner(path)
    text = f"# The secret key of node {host}. It never leaves this node; its public half is given to the others.\n{pair.secret}\n"
    _replace(path, text, SECRET_MODE, owner)


def read_public(path: Path) -> tuple[str, ...]:
    """The keys in `path`, in its order.

    :raises KeyFileError: it cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except OSError as exc:
        raise KeyFileError(f"{path}: {exc.strerror}") from None
    return _keys(path, text)


def write_public(path: Path, keys: tuple[str, ...], host: str) -> None:
    """Put `keys` into `path`, whole or not at all. Everybody may read it and the folder that is made, whatever the umask says."""
    _make_folder(path.parent)
    _replace(path, public_text(keys, host), PUBLIC_MODE, None)


def write_text(path: Path, text: str) -> None:
    """Write `text`, which holds no secret, into `path`, whole or not at all; everybody may read it."""
    _replace(path, text, PUBLIC_MODE, None)


def public_text(keys: tuple[str, ...], host: str) -> str:
    """What a public file of `host` holds."""
    return "".join([f"# Public key of node {host}: who has its secret half is that node.\n", *(f"{key}\n" for key in keys)])


def is_key(text: str) -> bool:
    """Whether `text` is a key in Z85: eight groups of five digits to the base 85, each of which is 32 bits."""
    if len(text) != _LENGTH or not _DIGITS.issuperset(text):
        return False
    groups = (text[at : at + 5] for at in range(0, _LENGTH, 5))
    return all(sum(_VALUE[digit] * 85**place for place, digit in enumerate(reversed(group))) < 2**32 for group in groups)


def _keys(path: Path, text: bytes) -> tuple[str, ...]:
    """Never quotes what it found: that may be a secret."""
    try:
        lines = [line.strip() for line in text.decode("ascii").splitlines()]
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is no key file: it is not text") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    for key in keys:
        if not is_key(key):
            raise KeyFileError(f"{path} is no key file: a key is a line of 40 characters (Z85)")
    return tuple(dict.fromkeys(keys))


def _from_systemd(path: Path) -> bool:
    """A credential (systemd.exec(5)) is for this process alone, whatever its mode says: an access list decides."""
    return (directory := os.environ.get("CREDENTIALS_DIRECTORY")) is not None and path.is_relative_to(directory)


def _make_folder(path: Path) -> None:
    """Make `path` and its parents where they are missing. Everybody may enter them, whatever the umask says: root often makes
    the folder, and the receiver's user reads there."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def _owner(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_uid, found.st_gid
    return None


def _replace(path: Path, text: str, mode: int, owner: tuple[int, int] | None) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, mode)
            if owner is not None and os.geteuid() == 0:
                os.fchown(descriptor, *owner)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        fresh.unlink(missing_ok=True)
        raise KeyFileError(f"{path} cannot be written: {exc.strerror}") from None
