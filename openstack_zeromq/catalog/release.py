"""Release: an operator accepts that the hosts which are held of a topic are gone; his word lies beside the ring until a sync
takes it.

A request is a file of its own, `.<ring>.release.<random>`, with the topic in it, written whole. A daemon looks for it several
times a second, a sync that is run once when it has heard the store.
"""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from openstack_zeromq.matchmaker import ring_file


def ask(ring: Path, topic: str) -> Path:
    """Leave a request; it is there until it is taken.

    :raises OSError: as the file system says.
    """
    path = ring.with_name(f".{ring.name}.release.{secrets.token_hex(8)}")
    ring_file.write(path, topic.encode(), mode=0o600)
    return path


def asked(ring: Path) -> Iterator[tuple[Path, str]]:
    """The requests that lie there: their files, and the topics."""
    for path in sorted(ring.parent.glob(f".{ring.name}.release.{'[0-9a-f]' * 16}")):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes().decode()


def taken(path: Path) -> None:
    """The request is done with."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
