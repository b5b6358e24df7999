"""Which matchmaker the options ask for."""

from openstack_zeromq.matchmaker.base import Matchmaker
from openstack_zeromq.matchmaker.dummy import DummyMatchmaker
from openstack_zeromq.matchmaker.ring import RingMatchmaker
from openstack_zeromq.options import Settings


def matchmaker(settings: Settings) -> Matchmaker:
    """:raises RingError: the ring that the options name cannot be read."""
    if settings.matchmaker == "dummy":
        return DummyMatchmaker(settings.host)
    return RingMatchmaker(settings.ringfile)
