"""Channels, for people: who consumes what on this node.

The receiver's status tells each channel with its socket and the processes behind it (`rows`). Whoever looks from outside adds
what the machine knows (`look`): users, commands, sockets that no channel owns, and channels whose socket somebody removed.
"""

import os
import pwd
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openstack_zeromq.address import SOCKET_PATH_BYTES, Channel, Role, file_name
from openstack_zeromq.delivery.channel import ConsumerId, Copies, SharedQueue
from openstack_zeromq.errors import NoReceiverError
from openstack_zeromq.receiver import admin
from openstack_zeromq.receiver.processes import Peer

Row = dict[str, Any]


def rows(
    channels: Mapping[Channel, SharedQueue | Copies], ipc_dir: str, peer: Callable[[ConsumerId], Peer | None]
) -> dict[str, Row]:
    """Each channel by its name; `peer` says who is behind a consumer."""
    ordered = sorted(channels.items(), key=lambda item: str(item[0]))
    return {str(channel): _row(channel, queue, ipc_dir, peer) for channel, queue in ordered}


def look(ipc_dir: str, topic: str = "") -> Row:
    """`channels` (of `topic`, or all) as the receiver's status has them, each process with its `user` and `command`; `stray`:
    socket files that no channel owns; `missing`: channels whose socket file is not there.

    :raises NoReceiverError: no receiver answers there.
    :raises OSError: the directory cannot be read.
    """
    before = _sockets(ipc_dir)
    status = admin.answer_of(ipc_dir)
    after = _sockets(ipc_dir)
    if "sockets" not in status:
        raise NoReceiverError(f"the receiver below {ipc_dir} is too old to tell who consumes what; upgrade and restart it")
    channels = {
        name: {**row, "processes": [_known(process) for process in row["processes"]]}
        for name, row in status["channels"].items()
        if topic in {"", row["topic"]}
    }
    return {
        "channels": channels,
        "stray": sorted((before & after) - set(status["sockets"])),
        "missing": sorted(name for name, row in channels.items() if row["socket"] not in before | after),
    }


def _sockets(ipc_dir: str) -> set[str]:
    """The files of channels in the directory."""
    roles = tuple(f"{role.value}:" for role in Role)
    return {entry.name for entry in os.scandir(ipc_dir) if entry.name.startswith(roles) and _is_socket(entry)}


def _is_socket(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _row(channel: Channel, queue: SharedQueue | Copies, ipc_dir: str, peer: Callable[[ConsumerId], Peer | None]) -> Row:
    return {
        "kind": channel.role.value,
        "exchange": channel.exchange,
        "topic": channel.topic,
        "server": channel.name if channel.role is Role.SERVER else "",
        "pool": channel.name if channel.role is Role.POOL else "",
        "socket": file_name(channel, SOCKET_PATH_BYTES - len(ipc_dir.encode()) - 1),
        "consumers": queue.consumers,
        "depth": queue.depth,
        "processes": _processes(queue.loads, peer),
    }


def _processes(loads: Mapping[ConsumerId, int], peer: Callable[[ConsumerId], Peer | None]) -> list[Row]:
    """A process may have several consumers of one channel."""
    found: dict[Peer | None, Row] = {}
    for consumer, holding in loads.items():
        who = peer(consumer)
        facts = {"pid": who.pid if who else 0, "uid": who.uid if who else None, "consumers": 0, "holding": 0}
        row = found.setdefault(who, facts)
        row["consumers"] += 1
        row["holding"] += holding
    return sorted(found.values(), key=lambda row: row["pid"])


def _known(process: Row) -> Row:
    return {**process, "user": _user(process["uid"]), "command": _command(process["pid"])}


def _user(uid: int | None) -> str:
    """Empty: nobody knows; a number that has no name stands for itself."""
    if uid is None:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _command(pid: int) -> str:
    """Empty: the process is in a place of its own, is not ours to look at, or has just ended."""
    try:
        return " ".join(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")).strip() if pid else ""
    except OSError:
        return ""
