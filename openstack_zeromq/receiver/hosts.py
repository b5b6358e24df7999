"""Hosts: the connections that we dialled. Where a host listens, and who it has to be.

With keys, only who has the key of a host is dialled as that host. A host whose key is being changed has two, and the one that it
does not have is noticed at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import zmq

from openstack_zeromq import sockets
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.matchmaker.base import Matchmaker
from openstack_zeromq.matchmaker.ring_file import Endpoint
from openstack_zeromq.receiver.me import Me
from openstack_zeromq.security.identity import Identity
from openstack_zeromq.security.keys import KeyPair
from openstack_zeromq.security.trust import Trust

_KNOWN_PEERS = 10_000
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH

_WHY_REFUSED = {
    True: "the handshake fails: {0} has another key than the one that is trusted here, or does not trust the one of this node;"
    " compare `zmqctl keys list` on both",
    False: "the handshake fails: {0} has another zmq_security, or something else listens there",
}


@dataclass(slots=True)
class _Dialled:
    """A connection to a host: its name in frames, where to, as who has which key, and which keys the host turned out not to have.
    `heard`: it has that key."""

    name: bytes
    endpoint: str
    key: str
    refused: frozenset[str]
    heard: bool = False


class Hosts:
    """The hosts that we dialled, over one socket. `identity` None: receivers have no keys, and who answers is believed."""

    def __init__(self, ctx: sockets.ZmqContext, me: Me, matchmaker: Matchmaker, identity: Identity | None) -> None:
        self._settings = settings = me.settings
        self._report = me.report
        self._matchmaker = matchmaker
        self._trust = identity.trust if identity is not None else None
        pair = identity.pair if identity is not None else KeyPair("", "")
        pace = sockets.Pace.of(settings)
        self.socket = sockets.dialing_router(ctx, settings.max_message_size, pace, pair.public, pair.secret)
        self.refusals = sockets.monitor(ctx, self.socket, _FAILED)
        self._dialer = sockets.Dialer(self.socket)
        self._dialled: dict[str, _Dialled] = {}
        self._host_of: dict[bytes, str] = {}
        self._introduced: dict[str, Endpoint] = {}

    def name_of(self, host: str) -> bytes | None:
        """The name of the connection to `host`; None: there is none."""
        dialled = self._dialled.get(host)
        return None if dialled is None else dialled.name

    def host_of(self, name: bytes) -> str | None:
        """Whose connection that is; None: nobody's any more."""
        return self._host_of.get(name)

    def heard(self, host: str) -> None:
        """It has the key as whose owner it was dialled."""
        if (dialled := self._dialled.get(host)) is not None:
            dialled.heard = True

    def introduce(self, host: str, at: Endpoint) -> None:
        """`host` says where it listens: one that sends calls wants replies, whatever the matchmaker knows of it."""
        if host not in self._introduced and len(self._introduced) >= _KNOWN_PEERS:
            self._introduced.clear()
        self._introduced[host] = at

    def dial(self, host: str) -> None:
        """Open a fresh connection to `host`, instead of the one there was."""
        keys = self._keys_of(host)
        if keys:
            self._open(host, _best(keys, self._dialled.get(host)))
            return
        self.hang_up(host)
        folder = self._settings.authorized_keys
        self._report.bad(Counter.UNTRUSTED, host, f"{folder} has no key of it; put its public key there as {host}.pub")

    def hang_up(self, host: str) -> None:
        """Close the connection to `host`, if there is one."""
        dialled = self._dialled.pop(host, None)
        if dialled is not None:
            del self._host_of[dialled.name]
            self._dialer.close(dialled.name)

    def refused(self) -> list[str]:
        """Handshakes have failed: try the next key of a host that has several. The hosts that were dialled again."""
        again = []
        for frames in sockets.drain(self.refusals, 100):
            address = _plain(frames[1].decode("ascii", "replace"))
            for host in [host for host, dialled in self._dialled.items() if _plain(dialled.endpoint) == address]:
                refused = self._dialled[host].refused | {self._dialled[host].key}
                if others := [key for key in self._keys_of(host) if key not in refused]:
                    self._open(host, others[0], refused)
                    again.append(host)
                else:
                    self._report.bad(Counter.REFUSED_BY_PEERS, host, _WHY_REFUSED[self._trust is not None].format(host))
        return again

    def trust_changed(self, trust: Trust) -> list[str]:
        """Hang up on those that would not be dialled so now; who that was."""
        cut = [host for host, dialled in self._dialled.items() if dialled.key not in trust.keys_of(host)]
        for host in cut:
            self.hang_up(host)
        return cut

    def take_key(self, pair: KeyPair) -> list[str]:
        """Be known by another key from now on: hang up on everybody; who that was."""
        cut = list(self._dialled)
        for host in cut:
            self.hang_up(host)
        sockets.take_key(self.socket, pair.public, pair.secret)
        return cut

    def close(self) -> None:
        self.socket.disable_monitor()
        self.refusals.close(0)
        self.socket.close(0)

    # private

    def _keys_of(self, host: str) -> tuple[str, ...]:
        """The keys that `host` may have; an empty one where receivers have none."""
        return ("",) if self._trust is None else self._trust.trust.keys_of(host)

    def _open(self, host: str, key: str, refused: frozenset[str] = frozenset()) -> None:
        """Dial `host` as who has `key`, and none of those that were `refused`. What was refused before tells nothing of this
        connection, and who else was refused will be again."""
        self.hang_up(host)
        for _ in sockets.drain(self.refusals, 1000):
            pass
        address, port = self._endpoint(host)
        try:
            endpoint = sockets.tcp_endpoint(address, port)
            name = self._dialer.open(endpoint, server_key=key)
        except (zmq.ZMQError, ValueError) as exc:
            self._report.bad(Counter.UNREACHABLE, host, f"no connection to {address!r} port {port}: {exc}")
            return
        self._dialled[host], self._host_of[name] = _Dialled(name, endpoint, key, refused), host

    def _endpoint(self, host: str) -> tuple[str, int]:
        """Where `host` listens: as the matchmaker says, or it said itself when it dialled us; or its name is its address."""
        known = self._matchmaker.endpoint(host) or self._introduced.get(host) or Endpoint(host)
        return known.address, known.port or self._settings.port


def _best(keys: Sequence[str], before: _Dialled | None) -> str:
    """The key to try first: the one with which the host was heard before, or the one after that with which it was not."""
    if before is None or before.key not in keys:
        return keys[0]
    return keys[(keys.index(before.key) + (not before.heard)) % len(keys)]


def _plain(endpoint: str) -> str:
    """An endpoint as libzmq tells it, of IPv4 in whichever dress."""
    return endpoint.replace("[::ffff:", "").replace("]:", ":").replace("[", "")
