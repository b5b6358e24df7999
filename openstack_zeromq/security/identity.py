"""Identity: what a receiver needs to prove who it is, and to know who the others are."""

from dataclasses import dataclass
from pathlib import Path

from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.options import Settings
from openstack_zeromq.security import keys
from openstack_zeromq.security.keys import KeyPair
from openstack_zeromq.security.trust import SUFFIX, TrustFolder


@dataclass(frozen=True, slots=True)
class Identity:
    """This node's own pair, and the folder of those whom it trusts."""

    pair: KeyPair
    trust: TrustFolder


def identity(settings: Settings) -> Identity | None:
    """As `settings` say; None with zmq_security = none.

    :raises KeyFileError: a key is missing or not as it must be; or the others are told another key of this node than it has.
    """
    if settings.security == "none":
        return None
    pair = keys.read_secret(Path(settings.key_file))
    folder = TrustFolder(Path(settings.authorized_keys))
    if pair.public not in folder.trust.keys_of(settings.host):
        raise KeyFileError(
            f"{settings.authorized_keys}/{settings.host}{SUFFIX} does not hold the key of this node ({pair.public}), so the"
            " other nodes will not know it either: `zmqctl keys show` prints it, and it belongs there on every node"
        )
    return Identity(pair, folder)
