"""Identity: what a receiver needs to prove who it is, and to know who the others are."""

import os
from pathlib import Path

from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.options import Settings
from openstack_zeromq.security import keys
from openstack_zeromq.security.trust import SUFFIX
from openstack_zeromq.security.trust_folder import TrustFolder

RELOAD_WITHIN = 5.0
"""Seconds that may lie between a change of the key's file and the reload, before it is told as a problem."""


class Identity:
    """This node's own `pair`, and the folder of those whom it `trust`s.

    :raises KeyFileError: a key is missing or not as it must be; or the others are told another key of this node than it has.
    """

    def __init__(self, settings: Settings) -> None:
        self._host = settings.host
        self._file = Path(settings.key_file)
        self._seen = _stamp(self._file)
        self._changed_at: float | None = None
        self._refused = ""
        pair = keys.read_secret(self._file)
        self.trust = TrustFolder(Path(settings.authorized_keys))
        self._see_that_others_know(pair)
        self.pair = pair

    def problem(self, now: float) -> str:
        """Why the key in use is not the one in the file; empty: it is, or was a moment ago (`now`, seconds, monotonic)."""
        if _stamp(self._file) == self._seen:
            self._changed_at = None
            return self._refused
        if self._changed_at is None:
            self._changed_at = now
        if now - self._changed_at < RELOAD_WITHIN:
            return self._refused
        return f"{self._file} was changed; `systemctl reload openstack-zeromq-receiver` (SIGHUP) takes what is there into use"

    def reread(self) -> bool:
        """Read this node's key again; True when it is another one. What is no key, or one that others are not told, changes
        nothing and is a `problem`."""
        self._seen, self._refused = _stamp(self._file), ""
        try:
            pair = keys.read_secret(self._file)
            self._see_that_others_know(pair)
        except KeyFileError as exc:
            self._refused = f"{exc}; the key of this node stays what it was"
            return False
        before, self.pair = self.pair, pair
        return pair != before

    def _see_that_others_know(self, pair: keys.KeyPair) -> None:
        if pair.public not in self.trust.trust.keys_of(self._host):
            raise KeyFileError(
                f"{self.trust.path}/{self._host}{SUFFIX} does not hold the key of this node ({pair.public}), so the"
                " other nodes will not know it either: `zmqctl keys show` prints it, and it belongs there on every node"
            )


def identity(settings: Settings) -> Identity | None:
    """As `settings` say; None with zmq_security = none.

    :raises KeyFileError: as `Identity`.
    """
    return None if settings.security == "none" else Identity(settings)


def _stamp(path: Path) -> object:
    """Differs when the file was replaced or written; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
