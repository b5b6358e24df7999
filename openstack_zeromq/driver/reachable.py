"""Reachable: why a process cannot open a unix socket of its receiver, in words that name the remedy.

libzmq tries again for ever and says nothing: the receiver may be stopped, the directory missing, or the service's user not
in the group. The kernel knows which: `connect` asks it. Names of users and groups are looked up only when something is wrong.
"""

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

from openstack_zeromq.driver.waiting import original
from openstack_zeromq.options import GROUP

_THERE = frozenset({0, errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE})
"""Answers of `connect` that do not speak against the path. EAGAIN: the receiver is there and busy (its backlog is full)."""

_START = "start oslo-messaging-zmq-receiver on this node"


def unreachable(path: str) -> str:
    """Return why this process cannot connect to the unix socket at `path`; empty when it can."""
    error = _connect(path)
    if error in _THERE:
        return ""
    return f"cannot connect to {path} as {_me()}: {os.strerror(error)}; {_remedy(path, error)}"


def _connect(path: str) -> int:
    """Connect, and hang up; the error number, 0 when it worked."""
    socket = original("socket")
    try:
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as exc:
        return exc.errno or errno.EMFILE
    with probe:
        probe.setblocking(False)
        return int(probe.connect_ex(path))


def _remedy(path: str, error: int) -> str:
    directory = str(Path(path).parent)
    if error == errno.ECONNREFUSED:
        return f"its receiver has ended: {_START}"
    if error == errno.ENOENT:
        if Path(directory).is_dir():
            return f"no receiver listens there: {_START}"
        return f"the directory {directory} is missing: {_START}, or correct [{GROUP}] rpc_zmq_ipc_dir of this service"
    if error in (errno.EACCES, errno.EPERM):
        return _let_in(path)
    return f"look at [{GROUP}] rpc_zmq_ipc_dir of this service and of the receiver"


def _let_in(path: str) -> str:
    """What shuts this user out, from the root down, and how to let it in."""
    way = [*reversed(Path(path).parents), Path(path)]
    for place in way:
        is_socket = place == way[-1]
        try:
            found = place.stat()
            if os.access(place, os.W_OK if is_socket else os.X_OK, effective_ids=os.access in os.supports_effective_ids):
                continue
        except OSError:
            continue
        mode = stat.S_IMODE(found.st_mode)
        belongs = f"{place} belongs to {_user(found.st_uid)}:{_group(found.st_gid)}, mode {mode:04o}"
        needed = stat.S_IWGRP if is_socket else stat.S_IXGRP
        if mode & needed and found.st_gid not in _groups():
            group = _group(found.st_gid)
            return f"{belongs}: add the user to group {group} and restart the service"
        return f"{belongs}: give its group the right to {'write' if is_socket else 'enter'} it, as the receiver's role does"
    return "see to the modes of the directories on the way, and to what confines this service (AppArmor, SELinux)"


def _me() -> str:
    groups = ", ".join(sorted(_group(gid) for gid in _groups()))
    return f"user {_user(os.geteuid())} (groups {groups})"


def _groups() -> set[int]:
    return {os.getegid(), *os.getgroups()}


def _user(uid: int) -> str:
    """The name of a user; a number that has none stands for itself."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    """The name of a group; a number that has none stands for itself."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
