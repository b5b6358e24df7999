"""Guests: the connections that peers dialled. Who is behind each, and an end to those that are trusted no more.

With keys, a guest is the host whose key it showed at the gate; nothing that it says of itself counts. libzmq ends no single
connection of a socket, so the one to be ended is shut down by the descriptor that the kernel knows it by.
"""

import contextlib
import os
import socket
import stat
import struct
from collections import Counter as Counts
from collections.abc import Container
from typing import NamedTuple

import zmq

from openstack_zeromq import descriptors, sockets
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.origin import is_of
from openstack_zeromq.delivery.past import Origin
from openstack_zeromq.receiver.me import Me
from openstack_zeromq.security.gate import Gate, Verdict
from openstack_zeromq.security.trust import Trust
from openstack_zeromq.security.trust_folder import TrustFolder
from openstack_zeromq.sockets import Peer
from openstack_zeromq.wire import Header

_SHOWN = 8  # characters of a public key
_EVENT = struct.Struct("=HI")
_EVENTS_A_PASS = 1000
"""Events that are read in one pass of the loop: what a thousand connections do keeps messages waiting for about 10 ms."""
_ALL_EVENTS = 100_000
"""Where all that has happened so far counts: more than the connections that a receiver has descriptors for."""
_WATCHED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED

_PART = 2
"""Connections on which no message has come yet get at most half of all descriptors, from however many addresses they are made."""


class Guest(NamedTuple):
    """`host` and `key` are empty where receivers have no keys."""

    address: str
    host: str
    key: str
    descriptor: int


class Guests:
    """Who has dialled `inward`. `trust` None: everybody may, and nobody's name is known."""

    def __init__(self, ctx: sockets.ZmqContext, inward: sockets.ZmqSocket, trust: TrustFolder | None, me: Me) -> None:
        self._trust = trust
        self._report = me.report
        self._faults = me.faults
        self._most = me.settings.connections_per_peer
        self._most_silent = descriptors.limit() // _PART
        self._inward = inward
        self.monitor = sockets.monitor(ctx, inward, _WATCHED)
        self.gate = Gate(ctx, lambda: trust.trust, self._judged, self._unjudged) if trust is not None else None
        self._guests: dict[Origin, Guest] = {}
        self._origin_of: dict[int, Origin] = {}
        self._inside: dict[int, str] = {}
        self._from: Counts[str] = Counts()
        self._unwelcome: dict[int, str] = {}

    @property
    def known(self) -> Container[Origin]:
        """Whose next message need not say again whence it comes."""
        return self._guests

    def who(self, origin: Origin, peer: Peer | None) -> Guest:
        """Who sent a message; `peer` as it came with it."""
        if peer is None:
            return self._guests[origin]
        self.watch()
        host = self._trust.trust.host_of(peer.user) if self._trust is not None else ""
        guest = Guest(peer.address.removeprefix("::ffff:"), host or "", peer.user, peer.descriptor)
        if peer.descriptor in self._inside:  # else it has ended: that was among its last words
            self._guests[origin] = guest
            self._origin_of[peer.descriptor] = origin
        return guest

    def may_speak(self, guest: Guest, node: object) -> bool:
        """Whether `guest` is the node in whose name it speaks: by the trust of this moment, for what it said may have waited."""
        if self._trust is None:
            return True
        host = self._trust.trust.host_of(guest.key) if guest.host else None
        if host is None:
            who = guest.host or guest.address
            self._report.bad(Counter.EVICTED, who, "it still speaks, with a key that is not trusted any more")
        elif host != node:
            why = f"it speaks in the name of node {node!r}; its rpc_zmq_host must be {host}"
            self._report.bad(Counter.MISNAMED, host, why)
        return host is not None and host == node

    def may_send(self, guest: Guest, header: Header) -> bool:
        """Whether a message of `guest` is in its own name, and has a number of its own."""
        if not self.may_speak(guest, header.source):
            return False
        if self._trust is None or is_of(header.id.origin, header.source):
            return True
        self._report.bad(Counter.MISNAMED, guest.host, f"message {header.id} has a number of another node")
        return False

    def watch(self, limit: int = _EVENTS_A_PASS) -> None:
        """Count connections that came, and those that ended: before their handshake was done, or later.

        The events are read late: a connection may have ended since, and its number may be another's. So the kernel is asked only
        for connections whose end is not among the events that follow.
        """
        fresh: dict[int, None] = {}
        for frames in sockets.drain(self.monitor, limit):
            with self._faults.contained("connections of peers", "a connection"):
                event, number = _EVENT.unpack(frames[0])
                if event == zmq.EVENT_ACCEPTED:
                    self._forget(number)  # the number is another connection's by now
                    fresh[number] = None
                elif number in fresh:
                    del fresh[number]
                    self._refused_handshake()
                else:
                    self._ended(number)
        for number in fresh:
            with self._faults.contained("connections of peers", "a connection"):
                self._accepted(number)

    def evict(self, trust: Trust) -> None:
        """End the connections of those whose key `trust` does not have, and those that have not said a word yet. What they have
        said before and was not read yet counts for nothing."""
        self.watch(_ALL_EVENTS)
        for origin, guest in list(self._guests.items()):
            if not guest.host or trust.host_of(guest.key) != guest.host:
                self._report.bad(Counter.EVICTED, guest.host or guest.address, "its key is not trusted any more")
                self._guests[origin] = guest._replace(host="")
                self._unwelcome[guest.descriptor] = guest.address
        self._unwelcome |= {number: self._inside[number] for number in self._inside.keys() - self._origin_of.keys()}
        self.see_out()

    def named(self, origin: Origin) -> str:
        """Who sends from `origin`, for people."""
        guest = self._guests.get(origin)
        return "a peer" if guest is None else guest.host or guest.address

    def end(self, origin: Origin) -> None:
        """End the connection that messages of `origin` came on; a peer may make another."""
        guest = self._guests.get(origin)
        if guest is not None:
            self._unwelcome[guest.descriptor] = guest.address
            _show_out(guest.descriptor, guest.address)

    def all_left(self) -> None:
        """The door was shut: libzmq ends the connections that came through it, and says so of none."""
        self.watch(_ALL_EVENTS)
        for accounts in (self._guests, self._origin_of, self._inside, self._from, self._unwelcome):
            accounts.clear()

    def see_out(self) -> None:
        """End what is to be ended and has not yet."""
        for descriptor, address in self._unwelcome.items():
            _show_out(descriptor, address)

    def close(self) -> None:
        self._inward.disable_monitor()
        self.monitor.close(0)
        if self.gate is not None:
            self.gate.close()

    # private

    def _judged(self, verdict: Verdict) -> None:
        if not verdict.admitted:
            key = f" {verdict.key[:_SHOWN]}…" if verdict.key else ""
            self._report.bad(Counter.REFUSED_KEYS, verdict.address, f"{verdict.why}{key}")

    def _unjudged(self, exc: Exception) -> None:
        """Nobody came in by it: without an answer libzmq ends the handshake when its time is up."""
        self._faults.happened("the gate", "a connection", exc)

    def _accepted(self, descriptor: int) -> None:
        """A connection without an address has ended already. It belongs to no account, and its end will be read next."""
        self._inside[descriptor] = address = _address(descriptor)
        if not address:
            return
        self._from[address] += 1
        if self._from[address] > self._most:
            self._report.bad(Counter.CROWDS, address, f"it has {self._most} connections (zmq_connections_per_peer); no more")
            _show_out(descriptor, address)
        elif len(self._inside) - len(self._origin_of) > self._most_silent:
            why = f"{self._most_silent} connections have not said anything yet, half of all descriptors; no more"
            self._report.bad(Counter.CROWDS, "the network", why)
            _show_out(descriptor, address)

    def _ended(self, descriptor: int) -> None:
        if descriptor not in self._inside:
            return  # it left with all the others
        # libzmq says of no handshake whose it was: who has said nothing has not come through it.
        if self._forget(descriptor) is None:
            self._refused_handshake()
            return
        self._report.bad(Counter.DISCONNECTS, "a peer", "it stopped, or sent more than twice zmq_max_message_size at once")

    def _refused_handshake(self) -> None:
        why = "a connection did not speak ZMTP 3 as we do, and was closed"
        self._report.bad(Counter.REFUSED_HANDSHAKES, "the network", why)

    def _forget(self, descriptor: int) -> Origin | None:
        """Close the accounts of a connection; whence its messages came, if there were any."""
        self._unwelcome.pop(descriptor, None)
        if address := self._inside.pop(descriptor, ""):
            self._from[address] -= 1
            if self._from[address] <= 0:
                del self._from[address]
        if (origin := self._origin_of.pop(descriptor, None)) is not None:
            self._guests.pop(origin, None)
        return origin


def _show_out(descriptor: int, address: str) -> None:
    """The kernel ends it, and libzmq notices. By now it may have ended, and the number be another's: one with another address is
    left alone (a file, a unix socket and a closed one have none), one with the same dials again."""
    if not address or _address(descriptor) != address:
        return
    with contextlib.suppress(OSError):  # libzmq's thread may close it at any moment
        connection = socket.socket(fileno=descriptor)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        finally:
            connection.detach()  # it stays libzmq's


def _address(descriptor: int) -> str:
    """Whence a connection comes; empty when it has ended already, or is none."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return ""
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return ""
    try:
        name = connection.getpeername()
    except OSError:
        return ""
    finally:
        connection.detach()
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else ""
