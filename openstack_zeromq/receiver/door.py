"""Door: the socket that peers dial, which systemd may have opened."""

import os

import zmq

from openstack_zeromq import sockets, systemd
from openstack_zeromq.errors import ConfigError
from openstack_zeromq.options import GROUP, Settings
from openstack_zeromq.security.keys import KeyPair

_FREE_WITHIN = 2.0
"""Seconds within which libzmq gives up a port that it was told not to listen on any more."""


class Door:
    """`pair` None: whoever comes is let in.

    :raises ConfigError: the port cannot be bound.
    """

    def __init__(self, ctx: sockets.ZmqContext, settings: Settings, pair: KeyPair | None) -> None:
        self._address, self._port = settings.bind_address, settings.port
        secret = "" if pair is None else pair.secret
        self.socket = sockets.listening_router(ctx, settings.max_message_size, sockets.Pace.of(settings), secret)
        self._handed = systemd.listening(self._address, self._port)
        self._open()

    def shut(self) -> None:
        """Who is inside is cut off, and nobody comes in."""
        sockets.unbind(self.socket)

    def open_with(self, pair: KeyPair) -> None:
        """Open again, with another key."""
        sockets.take_key(self.socket, "", pair.secret)
        self._open(_FREE_WITHIN)

    def close(self) -> None:
        self.socket.close(500)

    def _open(self, patience: float = 0.0) -> None:
        """What systemd handed over stays open for the next time: libzmq closes what it gets."""
        if self._handed is not None:
            self.socket.set(zmq.USE_FD, os.dup(self._handed))
        try:
            sockets.bind(self.socket, sockets.tcp_endpoint(self._address, self._port), patience)
        except zmq.ZMQError as exc:
            if exc.errno == zmq.EADDRINUSE:
                remedy = f"another program listens there; stop it, or set [{GROUP}] rpc_zmq_port"
            elif exc.errno == zmq.EADDRNOTAVAIL or "No such device" in str(exc):
                remedy = f"this machine has no such address; set [{GROUP}] rpc_zmq_bind_address"
            else:
                remedy = f"see [{GROUP}] rpc_zmq_bind_address and rpc_zmq_port"
            raise ConfigError(f"cannot listen on {self._address} port {self._port}: {exc.strerror}: {remedy}") from None
