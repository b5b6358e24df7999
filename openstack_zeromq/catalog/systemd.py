"""Tell systemd how a unit of type notify is doing, if there is a systemd that wants to know (sd_notify(3))."""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """`READY=1`, `STOPPING=1`; without NOTIFY_SOCKET nothing happens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
            there.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
