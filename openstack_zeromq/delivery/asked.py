"""Asked: which nodes may reply to the calls of a service: those that its receiver gave them to, and nobody else.

The receiver tells to which host a call goes, in front of any reply. Only one that was killed may not have told: to a call of
which nothing was known then everybody may reply.
"""

from openstack_zeromq.wire import Answer, AnswerEntry, MessageId


class Asked:
    """The calls of one service that wait for their reply."""

    def __init__(self) -> None:
        self._hosts: dict[MessageId, set[str] | None] = {}

    def posted(self, call: MessageId) -> None:
        """A call was given to the receiver."""
        self._hosts[call] = set()

    def told(self, entry: AnswerEntry) -> None:
        """The receiver says what becomes of a message; perhaps whom it is for."""
        hosts = self._hosts.get(entry.id)
        if hosts is not None and entry.answer is Answer.ACCEPTED and entry.reason:
            hosts.add(entry.reason)

    def receiver_changed(self) -> None:
        """Another receiver is there: what the one before it did not tell will not be told."""
        for call, hosts in self._hosts.items():
            self._hosts[call] = hosts or None

    def may_reply(self, call: MessageId, node: str) -> bool:
        """Was `node` asked, or may it have been?"""
        hosts = self._hosts.get(call, ())
        return hosts is None or node in hosts

    def forget(self, call: MessageId) -> None:
        """Nobody waits for its reply."""
        self._hosts.pop(call, None)
