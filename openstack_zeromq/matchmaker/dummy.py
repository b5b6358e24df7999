"""dummy: everything is on this node."""

from openstack_zeromq.matchmaker.base import Matchmaker, View


class DummyMatchmaker(Matchmaker):
    """One node, whatever the topic."""

    def __init__(self, host: str) -> None:
        self.view = View(complete=True)
        self._here = (host,)

    def refresh(self) -> bool:
        return False

    @property
    def problem(self) -> str:
        return ""

    def hosts(self, topic: str) -> tuple[str, ...]:
        return self._here

    def directed(self, topic: str, server: str) -> tuple[str, ...]:
        return self._here
