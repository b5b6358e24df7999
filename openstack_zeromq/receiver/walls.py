"""Walls: what services of this node may do, and whether the sockets they meet at are still the receiver's own.

Who a service is says the kernel, of the connection that a message came on: what it calls itself counts for nothing. Nobody speaks
for a service that another user began.
"""

import os

from openstack_zeromq.address import Channel
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.errors import MalformedError
from openstack_zeromq.options import Settings
from openstack_zeromq.receiver.processes import Peer as Process
from openstack_zeromq.receiver.processes import owner
from openstack_zeromq.receiver.report import Report
from openstack_zeromq.security.acl import Acl, Verb, parse
from openstack_zeromq.sockets import Peer
from openstack_zeromq.wire import Header

_LOOK_EVERY = 1.0


class Walls:
    """:raises ConfigError: zmq_channel_acl holds something that is no rule."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self._report = report
        self._acl = Acl(parse(settings.channel_acl)) if settings.channel_acl else None
        self._inodes: dict[Channel, tuple[str, int]] = {}
        self._next_look = 0.0

    @property
    def ask_who(self) -> bool:
        """Whether it matters who sends a message."""
        return self._acl is not None

    def forbidden(self, peer: Peer | None, verb: Verb, target: Channel | Header, now: float) -> str:
        """Why who is behind `peer` may not; empty: it may."""
        if self._acl is None:
            return ""
        who = owner(peer.address if peer is not None else "")
        why = self._acl.refused(verb, f"{target.exchange}/{target.topic}", who, now)
        if why:
            self._report.bad(Counter.FORBIDDEN, f"uid {who[0]}", why)
        return why

    def same(self, peer: Peer | None, first: Process | None) -> None:
        """See that who speaks as a service is the user who was `first` to do so.

        :raises MalformedError: it is another one.
        """
        if self._acl is not None and first is not None and owner(peer.address if peer is not None else "")[0] != first.uid:
            raise MalformedError("identity")

    def built(self, channel: Channel, path: str) -> None:
        """The socket of `channel` was made."""
        self._inodes[channel] = path, _inode(path)

    def pulled_down(self, channel: Channel) -> None:
        """It is to be removed."""
        self._inodes.pop(channel, None)

    def tick(self, now: float) -> None:
        """Whoever may write in the directory can put another socket in the place of a channel's, and get its new consumers."""
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        for channel, (path, made) in self._inodes.items():
            if _inode(path) != made:
                why = f"{path} is not the socket that this receiver made: who may write there took it away; restart the receiver"
                self._report.bad(Counter.STOLEN_SOCKETS, str(channel), why)


def _inode(path: str) -> int:
    """What the kernel calls the file at `path`; 0: there is none."""
    try:
        return os.stat(path, follow_symlinks=False).st_ino
    except OSError:
        return 0
