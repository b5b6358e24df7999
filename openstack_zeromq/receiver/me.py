"""Me: what both sides of a receiver, the links and the local sockets, know of the receiver they belong to."""

from dataclasses import dataclass

from openstack_zeromq import wire
from openstack_zeromq.delivery.node import Node
from openstack_zeromq.options import Settings
from openstack_zeromq.receiver.faults import Faults
from openstack_zeromq.receiver.report import Report
from openstack_zeromq.wire import Kind


@dataclass(frozen=True, slots=True)
class Me:
    """`incarnation` is random for each start of the process."""

    settings: Settings
    node: Node
    report: Report
    faults: Faults
    incarnation: int

    def introduction(self, kind: Kind, **more: object) -> bytes:
        """A ping or pong that says who this is."""
        return wire.encode_control(kind, node=self.settings.host, incarnation=self.incarnation, **more)
