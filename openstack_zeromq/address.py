"""Addresses: who consumes a message (channel), and how that is written on the wire and as a file name.

A channel is what one listener consumes: the bare topic, the directed topic (topic and server), the fanout of a
topic, or a pool's copy of a notification topic, each within an exchange. Names are free text: `host@lvm#pool`, dots,
slashes, unicode. On the wire a name has at most `NAME_BYTES` bytes (longer ones end in a digest); as a file
name anything unsafe is percent-escaped, and a path never exceeds what a unix socket can bear.
"""

import hashlib
import ipaddress
from base64 import urlsafe_b64encode
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

NAME_BYTES = 45
"""Longest name in a wire header (bytes of UTF-8): four names and the fixed part make at most 256 bytes."""

SOCKET_PATH_BYTES = 107
"""sun_path is 108 bytes with its closing NUL (unix(7))."""

IPC_DIR_BYTES = 75
"""Longest rpc_zmq_ipc_dir: leaves 31 bytes for the shortest file name that is still unique and legible."""

RECEIVER_SOCKET = "receiver"
ADMIN_SOCKET = "receiver.admin"

_DIGEST_CHARS = 22
KEPT_BYTES = NAME_BYTES - _DIGEST_CHARS - 1
"""How much of the beginning of a longer name is told."""


class Role(StrEnum):
    """What kind of consumer a channel has; the value opens the name of its socket file."""

    TOPIC = "topic"
    SERVER = "server"
    FANOUT = "fanout"
    POOL = "pool"


class Channel(NamedTuple):
    """A consumer address on a node; `name` is the server of a directed topic or the name of a pool."""

    role: Role
    exchange: str
    topic: str
    name: str = ""

    @classmethod
    def of_topic(cls, exchange: str, topic: str) -> "Channel":
        return cls(Role.TOPIC, compact(exchange), compact(topic))

    @classmethod
    def of_server(cls, exchange: str, topic: str, server: str) -> "Channel":
        return cls(Role.SERVER, compact(exchange), compact(topic), compact(server))

    @classmethod
    def of_fanout(cls, exchange: str, topic: str) -> "Channel":
        return cls(Role.FANOUT, compact(exchange), compact(topic))

    @classmethod
    def of_pool(cls, exchange: str, topic: str, pool: str) -> "Channel":
        return cls(Role.POOL, compact(exchange), compact(topic), compact(pool))

    def __str__(self) -> str:
        return f"{self.role.value} {self.exchange}/{self.topic}" + (f".{self.name}" if self.name else "")


@lru_cache(maxsize=16384)
def compact(name: str) -> str:
    """`name` if it fits the wire, else its beginning and a digest: the same text in every process, at most 45 bytes.

    A lone surrogate does not fit the wire: it has no UTF-8.
    """
    data = name.encode("utf-8", "surrogatepass")
    if len(data) <= NAME_BYTES and data.decode("utf-8", "ignore") == name:
        return name
    return _shorten(data, NAME_BYTES)


def short_name(name: str) -> str:
    """Return what stands before the first dot of a host's name; an IP address stays as it is. The only place that shortens names,
    besides the same function in the Ansible filters, which do without this package."""
    head, dot, _ = name.partition(".")
    try:
        return str(ipaddress.ip_address(name)) if dot else name
    except ValueError:
        return head


def file_name(channel: Channel, room: int) -> str:
    """The socket file of `channel`, safe as a file name, in at most `room` bytes (31 or more)."""
    parts = [quote(part, safe="@", errors="strict") for part in channel[1:] if part]
    name = f"{channel.role.value}:" + ":".join(parts)
    return name if len(name) <= room else _shorten(name.encode(), room)


def socket_path(ipc_dir: str, channel: Channel) -> str:
    """Where `channel` is bound below `ipc_dir` (at most 75 bytes long)."""
    return f"{ipc_dir}/{file_name(channel, SOCKET_PATH_BYTES - len(ipc_dir.encode()) - 1)}"


def _shorten(data: bytes, room: int) -> str:
    digest = urlsafe_b64encode(hashlib.sha256(data).digest())[:_DIGEST_CHARS].decode()
    return data[: room - _DIGEST_CHARS - 1].decode("utf-8", "ignore") + "~" + digest
