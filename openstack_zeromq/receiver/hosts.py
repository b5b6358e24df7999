"""Hosts: the connections that we dialled. Where a host listens, and who it has to be.

With keys, only who has the key of a host is dialled as that host. A host whose key is being changed has two, and the one that it
does not have is noticed at once.

libzmq connects again 20 ms after a handshake that failed, for ever. So a connection whose handshake failed is closed here, and
the link decides when the host is dialled again. What the failure means: the peer said no (its gate, or another protocol), or it
closed the connection without a word, or it said nothing in time. A peer that was killed in the handshake closes it, too, and so
does one that has another key; only the latter does so each time.
"""

import errno
import struct
from collections import Counter as Counts
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
_EVENT = struct.Struct("=HI")
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_WATCHED = _FAILED | zmq.EVENT_DISCONNECTED

CLOSED_UNTIL_ALARM = 4
"""Connections in a row that a host closed in the handshake before that counts as a refusal: as many as are made in 0.7 s. A
host that is killed in a handshake closes one, or two."""


class Redialled(NamedTuple):
    """`host` was dialled again at once, as who has another of its keys."""

    host: str


class Refused(NamedTuple):
    """The handshake with `host` failed, and the connection is closed."""

    host: str
    why: str


@dataclass(slots=True)
class _Dialled:
    """A connection to a host: its name in frames, where to (as libzmq got it, and as it is), as who has which key, and which keys
    the host turned out not to have. `heard`: it has that key."""

    name: bytes
    endpoint: str
    address: str
    key: str
    refused: frozenset[str]
    heard: bool = False


class Hosts:
    """The hosts that we dialled, over one socket. `identity` None: receivers have no keys, and who answers is believed."""

    def __init__(self, ctx: sockets.ZmqContext, me: Me, matchmaker: Matchmaker, identity: Identity | None) -> None:
        self._settings = settings = me.settings
        self._report = me.report
        self._faults = me.faults
        self._matchmaker = matchmaker
        self._trust = identity.trust if identity is not None else None
        pair = identity.pair if identity is not None else KeyPair("", "")
        pace = sockets.Pace.of(settings)
        self.socket = sockets.dialing_router(ctx, settings.max_message_size, pace, pair.public, pair.secret)
        self.refusals = sockets.monitor(ctx, self.socket, _WATCHED)
        self._dialer = sockets.Dialer(self.socket)
        self._dialled: dict[str, _Dialled] = {}
        self._host_of: dict[bytes, str] = {}
        self._introduced: dict[str, Endpoint] = {}
        self._closed_by: Counts[str] = Counts()
        self._endpoints: set[str] = set()

    def name_of(self, host: str) -> bytes | None:
        """The name of the connection to `host`; None: there is none."""
        dialled = self._dialled.get(host)
        return None if dialled is None else dialled.name

    def host_of(self, name: bytes) -> str | None:
        """Whose connection that is; None: nobody's any more."""
        return self._host_of.get(name)

    def has_spoken(self, host: str) -> bool:
        """Whether `host` has said where it listens, on a connection that it made."""
        return host in self._introduced

    def room(self, most: int) -> int:
        """How many more may be dialled if there are to be at most `most` connections on which no host has answered yet."""
        room = most - len(self._dialled)
        return room if room > 0 else most - sum(not dialled.heard for dialled in self._dialled.values())

    def heard(self, host: str) -> None:
        """It has the key as whose owner it was dialled."""
        if (dialled := self._dialled.get(host)) is not None:
            dialled.heard = True
            self._closed_by.pop(host, None)

    def address_of(self, host: str) -> str:
        """Where `host` was dialled, or would be."""
        dialled = self._dialled.get(host)
        return "tcp://{}:{}".format(*self._endpoint(host)) if dialled is None else dialled.address

    def introduce(self, host: str, at: Endpoint) -> None:
        """`host` says where it listens: one that sends calls wants replies, whatever the matchmaker knows of it."""
        if host not in self._introduced and len(self._introduced) >= _KNOWN_PEERS:
            self._introduced.clear()
        self._introduced[host] = at

    def dial(self, host: str) -> str:
        """Open a fresh connection to `host`, instead of the one there was; why there is none, or empty."""
        keys = self._keys_of(host)
        if keys:
            return self._open(host, _best(keys, self._dialled.get(host)))
        self._end(host)
        why = f"{self._settings.authorized_keys} has no key of it; put its public key there as {host}.pub"
        self._report.bad(Counter.UNTRUSTED, host, why)
        return why

    def put_off(self, host: str) -> None:
        """Close the connection to `host`, if there is one, until it is dialled again."""
        self._end(host)

    def hang_up(self, host: str) -> None:
        """Close the connection to `host`, if there is one, and forget what it did."""
        self._end(host)
        self._closed_by.pop(host, None)

    def refused(self) -> list[Redialled | Refused]:
        """Handshakes have failed: try the next key of a host that has several, or else close the connection."""
        done: list[Redialled | Refused] = []
        failed = set[str]()
        for frames in sockets.drain(self.refusals, 100):
            event, value = _EVENT.unpack(frames[0])
            address = _plain(frames[1].decode("ascii", "replace"))
            if event == zmq.EVENT_DISCONNECTED and address in failed:
                failed.discard(address)  # the end of the connection whose handshake failed just before
                continue
            if event & _FAILED:
                failed.add(address)
            for host in self._whose(address, bool(event & _FAILED)):
                with self._faults.contained("refusals of peers", host):
                    done.append(self._failed(host, event, value))
        return done

    def _whose(self, address: str, is_failure: bool) -> list[str]:
        """The hosts whose handshake at `address` that can have been: of several that are said to be there, those that were not
        heard. A connection that was heard and ended is made again by libzmq."""
        there = {host: dialled.heard for host, dialled in self._dialled.items() if _plain(dialled.address) == address}
        return [host for host, heard in there.items() if not heard or (is_failure and len(there) == 1)]

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

    def _open(self, host: str, key: str, refused: frozenset[str] = frozenset()) -> str:
        """Dial `host` as who has `key`, and none of those that were `refused`; why that is not possible, or empty. What was
        refused before tells nothing of this connection, and who else was refused will be again."""
        self._end(host)
        for _ in sockets.drain(self.refusals, 1000):
            pass
        address, port = self._endpoint(host)
        try:
            endpoint = plain = sockets.tcp_endpoint(address, port)
            while endpoint in self._endpoints:
                endpoint = _twin(endpoint)
            name = self._dialer.open(endpoint, server_key=key)
        except (zmq.ZMQError, ValueError) as exc:
            why = f"no connection to {address!r} port {port}: {exc}"
            self._report.bad(Counter.UNREACHABLE, host, why)
            return why
        self._dialled[host], self._host_of[name] = _Dialled(name, endpoint, plain, key, refused), host
        self._endpoints.add(endpoint)
        return ""

    def _end(self, host: str) -> None:
        dialled = self._dialled.pop(host, None)
        if dialled is not None:
            del self._host_of[dialled.name]
            self._endpoints.discard(dialled.endpoint)
            self._dialer.close(dialled.name)

    def _failed(self, host: str, event: int, value: int) -> Redialled | Refused:
        """The handshake with `host` failed."""
        dialled = self._dialled[host]
        refused = dialled.refused | {dialled.key}
        if others := [key for key in self._keys_of(host) if key not in refused]:
            self._open(host, others[0], refused)
            return Redialled(host)
        why, is_refusal = self._meaning(host, dialled.address, event, value)
        if is_refusal:
            self._report.bad(Counter.REFUSED_BY_PEERS, host, why)
        self._end(host)
        return Refused(host, why)

    def _meaning(self, host: str, endpoint: str, event: int, value: int) -> tuple[str, bool]:
        """Why a handshake failed, and whether that is how the host is set up, and not how it is just now."""
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return f"{host} does not trust the key of this node; compare `zmqctl keys list` on both", True
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return f"{host} has another zmq_security, or something else listens at {endpoint}", True
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value == errno.EAGAIN:
            return f"{endpoint} takes the connection and says nothing: its receiver stands still, or has no time", False
        self._closed_by[host] += 1
        if self._closed_by[host] < CLOSED_UNTIL_ALARM:
            return f"{endpoint} closed the connection in the handshake", False
        what = "zmq_security" if self._trust is None else "key than the one that is trusted here"
        return (
            f"{host} has another {what}, or something else listens at {endpoint}: it closes every connection in the handshake;"
            " compare `zmqctl keys list` on both"
        ), True

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
    """An endpoint as libzmq shows it, of IPv4 in whichever form, and with zeros in front of the port (`_twin`) or without."""
    address, _, port = endpoint.replace("[::ffff:", "").replace("]:", ":").replace("[", "").rpartition(":")
    return f"{address}:{port.lstrip('0')}"


def _twin(endpoint: str) -> str:
    """Another name of `endpoint`. libzmq ends all connections to one name at once, but a wrong address may be another host's."""
    address, _, port = endpoint.rpartition(":")
    return f"{address}:0{port}"
