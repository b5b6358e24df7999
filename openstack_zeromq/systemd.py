"""systemd: what a daemon of type notify tells it (sd_notify(3)), and what it hands to a daemon (sd_listen_fds(3)).

All of it is by environment variables; without them nothing happens and nothing is handed over. They are read for this process
alone and then taken away, so that no child believes they were meant for it.
"""

import contextlib
import ipaddress
import os
import socket

from openstack_zeromq.errors import ConfigError

_FIRST = 3
_WITHIN = 0.2
_BEATS_PER_WATCHDOG = 3


def notify(*lines: str) -> None:
    """`READY=1`, `STOPPING=1`, `STATUS=…`, in one message; who does not take it soon does not get it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
            there.settimeout(_WITHIN)
            there.sendto("\n".join(lines).encode(), "\0" + path[1:] if path.startswith("@") else path)


def beat_every() -> float | None:
    """Seconds between two `WATCHDOG=1`, of which systemd may miss two; None: it does not watch this process."""
    usec, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
    if not usec.isdecimal() or not int(usec) or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1e6 / _BEATS_PER_WATCHDOG


def listening(address: str, port: int) -> int | None:
    """The descriptor of the TCP socket that systemd listens on for this process, at `address` (`*`: all) and `port`.

    It becomes non-blocking and is inherited by nobody. None: systemd hands over nothing.

    :raises ConfigError: what is handed over is another socket.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "")
    if pid != str(os.getpid()) or not count.isdecimal() or not int(count):
        return None
    if int(count) > 1:
        raise ConfigError(
            f"systemd hands over {count} sockets ({names}), and one is wanted: leave one ListenStream= in the .socket unit"
        )
    with socket.socket(fileno=os.dup(_FIRST)) as found:
        _check(found, address, port)
    os.set_inheritable(_FIRST, False)
    os.set_blocking(_FIRST, False)
    return _FIRST


def _check(found: socket.socket, address: str, port: int) -> None:
    if (
        found.family not in (socket.AF_INET, socket.AF_INET6)
        or found.type != socket.SOCK_STREAM
        or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        raise ConfigError("systemd hands over what is no listening TCP socket: the .socket unit needs ListenStream= with a port")
    there, its_port = found.getsockname()[:2]
    if its_port != port or _address(there) != _address(address):
        raise ConfigError(
            f"systemd listens on {there} port {its_port}, and rpc_zmq_bind_address = {address}, rpc_zmq_port = {port}:"
            " make ListenStream= of the .socket unit say the same, and restart both units"
        )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None: all addresses. Whether that includes IPv6 is the machine's affair."""
    read = ipaddress.ip_address("::" if text == "*" else text.partition("%")[0])
    if isinstance(read, ipaddress.IPv6Address) and read.ipv4_mapped:
        read = read.ipv4_mapped
    return None if read.is_unspecified else read
