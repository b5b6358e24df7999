"""Outlet: the socket that only sends, for all threads of a process. Whoever finds it free sends for those who come meanwhile: so
nobody waits for anybody else's send, and what comes together leaves together.
"""

import errno
from collections import deque
from collections.abc import Callable, Sequence

import zmq

from openstack_zeromq import sockets, wire
from openstack_zeromq.driver.waiting import original


class Outlet:
    """`connect()` makes the socket; its queue has no bound of its own, so sending never waits. When no socket can be had, for
    lack of descriptors, what was added waits here."""

    def __init__(self, connect: Callable[[], sockets.ZmqSocket]) -> None:
        self._connect = connect
        self._socket: sockets.ZmqSocket | None = connect()
        self._closed = False
        self._items: deque[Sequence[bytes]] = deque()
        self._turn = original("_thread").allocate_lock()

    def add(self, frames: Sequence[bytes]) -> None:
        """An item leaves with the next `drain`, in the order in which items were added."""
        self._items.append(frames)

    def drain(self) -> None:
        """Send what was added, unless another thread is at it: then that one will."""
        while self._items and self._turn.acquire(blocking=False):
            try:
                if self._socket is None and not self._connected_again():
                    return
                batch = []
                while self._items:
                    batch.append(self._items.popleft())
                for frames in wire.together(batch):
                    if self._socket is not None:
                        sockets.send(self._socket, frames)
            finally:
                self._turn.release()

    def start_afresh(self) -> None:
        """Give up what has not left, with the socket in which it waits."""
        with self._turn:
            self._items.clear()
            if self._socket is not None:
                self._socket.close(0)
                self._socket = None

    def close(self, linger_ms: int) -> None:
        """Send what was added, and nothing more."""
        self.drain()
        with self._turn:
            self._closed = True
            self._items.clear()
            if self._socket is not None:
                self._socket.close(linger_ms)
                self._socket = None

    def _connected_again(self) -> bool:
        """Make another socket; False: not now."""
        if self._closed:
            self._items.clear()
            return False
        try:
            self._socket = self._connect()
        except zmq.ZMQError as exc:
            if exc.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            return False
        return True
