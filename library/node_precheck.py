"""Look whether a receiver can run on this node, and what one is already; write nothing. Every complaint names its remedy.

Runs before the package is there, so it stands on the standard library alone; where there is one, that reads the configuration.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: node_precheck
short_description: Look whether a receiver can run on this node
description:
  - Checks the interpreter, the directories and the port, and fails with one line for each thing that cannot work.
  - Tells whether C(zmq_security) or the matchmaker is about to change on a node that has a receiver, and what services listen to.
  - Changes nothing.
author: openstack-zeromq maintainers
options:
  python:
    description: The interpreter that the environment will be made with.
    type: path
    required: true
  ipc_dir:
    description: Directory of the unix sockets.
    type: path
    required: true
  ipc_dir_max:
    description: Most bytes that O(ipc_dir) may have, so that the sockets in it fit a unix address.
    type: int
    required: true
  directories:
    description: Further directories that will be made or written to.
    type: list
    elements: path
    default: []
  bind_address:
    description: Address that the receiver binds; C(*) is every one.
    type: str
    required: true
  port:
    description: Port that the receiver binds.
    type: int
    required: true
  manager:
    description: What is to keep the receiver running, V(systemd) or V(supervisor).
    type: str
    choices: [systemd, supervisor]
    default: systemd
  config_file:
    description: The receiver's configuration; a process that runs with it is the one that may hold the port.
    type: path
    required: true
  matchmaker_config:
    description: The configuration that the receiver reads after O(config_file).
    type: path
  package:
    description: The environment with the package that is in use, which reads the configuration.
    type: path
  security:
    description: C(zmq_security) as it is to be; without it nothing is told of it.
    type: str
  matchmaker:
    description: C(rpc_zmq_matchmaker) as it is to be; without it nothing is told of it.
    type: str
"""

EXAMPLES = r"""
- name: The receiver can run here
  node_precheck:
    python: /usr/bin/python3
    ipc_dir: /var/run/openstack
    ipc_dir_max: 75
    bind_address: 192.0.2.1
    port: 9501
    config_file: /etc/openstack-zeromq/zeromq.conf
    package: /opt/openstack-zeromq
    security: curve
  register: looked
"""

RETURN = r"""
msg:
  description: What cannot work, a line each, with its remedy.
  returned: failure
  type: str
security_change:
  description:
    - C(zmq_security) as it is, of the receiver that runs here, or of the configuration when none runs, and as it is to be.
    - Empty when these are the same, and when there is neither.
  returned: success
  type: str
  sample: none -> curve
matchmaker_change:
  description:
    - The same of C(rpc_zmq_matchmaker). V(redis) and V(sentinel) follow the same store, so a change between them is none.
  returned: success
  type: str
  sample: redis -> ring
topics:
  description: Topics that services of this node listen to; none when no receiver runs.
  returned: success
  type: list
  elements: str
"""

ARGUMENT_SPEC = {
    "python": {"type": "path", "required": True},
    "ipc_dir": {"type": "path", "required": True},
    "ipc_dir_max": {"type": "int", "required": True},
    "directories": {"type": "list", "elements": "path", "default": []},
    "bind_address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "manager": {"type": "str", "choices": ["systemd", "supervisor"], "default": "systemd"},
    "config_file": {"type": "path", "required": True},
    "matchmaker_config": {"type": "path"},
    "package": {"type": "path"},
    "security": {"type": "str"},
    "matchmaker": {"type": "str"},
}

SOCKET_UNIT = Path("/etc/systemd/system/openstack-zeromq-receiver.socket")
LISTEN = "0A"  # state of a listening socket in /proc/net/tcp

# A receiver reads its configuration when it starts: what it says of itself counts more than a file that was written since.
QUESTION = """
import json, sys
from openstack_zeromq import options
from openstack_zeromq.errors import ZeroMQError
from openstack_zeromq.receiver import admin
read = options.given(sys.argv[1:])
now = {"security": read.security, "matchmaker": read.matchmaker, "topics": []}
try:
    status = admin.answer_of(read.ipc_dir)
except ZeroMQError:
    pass
else:
    channels = status["channels"].values()
    now["security"], now["matchmaker"] = status["security"]["mode"], status["matchmaker"]["backend"]
    now["topics"] = sorted({row["topic"] for row in channels if "topic" in row and row.get("consumers")})
print(json.dumps(now))
"""
KNOWN = {"none", "curve", "ring", "redis", "sentinel", "consul", "dummy"}
"""What `zmq_security` and `rpc_zmq_matchmaker` can be."""
FAMILIES = {"sentinel": "redis"}
"""Matchmakers that follow the same store as another one."""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    asked = module.params
    problems = [
        *check_system(),
        *check_python(asked["python"]),
        *check_manager(asked["manager"]),
        *check_ipc_dir(asked["ipc_dir"], asked["ipc_dir_max"]),
        *(problem for path in asked["directories"] for problem in check_directory(Path(path))),
        *check_port(asked["bind_address"], asked["port"], asked["config_file"]),
    ]
    if problems:
        module.fail_json(msg="\n".join(problems))
    now: dict = {}
    if asked["package"] and os.path.exists(asked["config_file"]):
        now = present(asked["package"], [asked["config_file"], asked["matchmaker_config"]], module.warn)
    module.exit_json(
        changed=False,
        security_change=change(now.get("security"), asked["security"]),
        matchmaker_change=change(now.get("matchmaker"), asked["matchmaker"]),
        topics=now.get("topics", []),
    )


def change(now: str | None, wanted: str | None) -> str:
    """Return `now -> wanted` when both are known and not the same. Of a value that there is not, its role tells."""
    if not now or wanted not in KNOWN or FAMILIES.get(now, now) == FAMILIES.get(wanted, wanted):
        return ""
    return f"{now} -> {wanted}"


def present(package: str, files: list[str | None], warn: Callable[[str], None]) -> dict:
    """Return what this node is now (security, matchmaker, topics); nothing when there is no package that could tell."""
    there = [file for file in files if file and os.path.exists(file)]
    try:
        answer = subprocess.run(  # noqa: S603 - our own arguments, no shell
            [f"{package}/bin/python", "-IBc", QUESTION, *there], check=False, capture_output=True, text=True
        )
    except OSError:  # no package, or a python that is gone: no receiver can start either
        return {}
    if answer.returncode != 0:
        why = (answer.stderr.splitlines() or ["no reason given"])[-1]
        warn(f"{package} cannot tell what this node is, so changes of zmq_security and matchmaker are not noticed: {why}")
        return {}
    return json.loads(answer.stdout)


def check_system() -> Iterator[str]:
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    if not libc.startswith("glibc "):
        yield f"{sys.platform} without glibc: there are no wheels for it; use Debian 12 or 13, or another Linux with glibc"


def check_python(python: str) -> Iterator[str]:
    question = "import sys; print('%d.%d' % sys.version_info[:2]); import venv"
    remedy = "set zeromq_receiver_python to one of 3.11 or newer"
    try:
        answer = subprocess.run(  # noqa: S603 - our own arguments, no shell
            [python, "-c", question], check=False, capture_output=True, text=True
        )
    except OSError as fault:
        yield f"zeromq_receiver_python {python}: {fault.strerror}; {remedy}"
        return
    version = answer.stdout.strip()
    if not version:
        yield f"zeromq_receiver_python {python}: is no python; {remedy}"
    elif tuple(map(int, version.split("."))) < (3, 11):
        yield f"zeromq_receiver_python {python}: is version {version}, too old; {remedy}"
    elif answer.returncode != 0:
        yield f"zeromq_receiver_python {python}: lacks its venv module; install the whole python{version}, not a minimal one"


def check_manager(manager: str) -> Iterator[str]:
    if manager == "systemd" and not Path("/run/systemd/system").is_dir():
        yield "zeromq_receiver_manager systemd: systemd does not run here; set zeromq_receiver_manager: supervisor"
    elif manager == "systemd" and os.geteuid() != 0:
        yield "zeromq_receiver_manager systemd: needs root; use become, or set zeromq_receiver_manager: supervisor"


def check_ipc_dir(path: str, longest: int) -> Iterator[str]:
    length = len(os.fsencode(path))
    if length > longest:
        yield (
            f"zeromq_receiver_ipc_dir {path}: has {length} bytes, more than {longest}, unix sockets need short paths; "
            "choose a shorter one (for the demo: make demo ARGS='-e zeromq_local_root=/short/dir')"
        )
    yield from check_directory(Path(path))


def check_directory(path: Path) -> Iterator[str]:
    """`path` is a directory we may write to, or can be made into one."""
    existing = path
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        yield f"{path}: {existing} is in the way, it is no directory; remove it or choose another path"
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield f"{path}: no permission to write to {existing}; give it, or use become or another path"


def check_port(address: str, port: int, config_file: str) -> Iterator[str]:
    """The port is free, or held by the receiver that this very configuration runs."""
    host = "" if address == "*" else address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as fault:
            if fault.errno != errno.EADDRINUSE:
                yield (
                    f"zeromq_receiver_bind_address {address}: {fault.strerror}; use an address of this machine, "
                    "or * for every one"
                )
                return
        else:
            return
    holders = list(port_holders(host, port))
    # Between a stop and a start systemd alone holds it, for the receiver.
    ours = [(pid == 1 and SOCKET_UNIT.exists()) or config_file in command for pid, command in holders]
    if not any(ours):
        who = ", ".join(f"process {pid} ({' '.join(command)})" for pid, command in holders) or "another user's process"
        yield f"zeromq_receiver_port {port} on {address}: {who} has it; stop that, or set zeromq_receiver_port"


def port_holders(host: str, port: int) -> Iterator[tuple[int, list[str]]]:
    """Pid and command line of each process (that we may look at) whose listening socket keeps us off."""
    wanted = {f"socket:[{inode}]" for inode in listening_inodes(host, port)}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and wanted.intersection(open_files(entry)):
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            yield int(entry.name), command


def open_files(process: Path) -> Iterator[str]:
    """What the descriptors of a process are; nothing when it ended meanwhile or is not ours to look at."""
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield os.readlink(descriptor)


def listening_inodes(host: str, port: int) -> Iterator[str]:
    """Inodes of sockets that listen on `port` at `host`, or at every address; "" for `host` means every one."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue  # no IPv6 here
        for line in lines:
            fields = line.split()
            where, _, number = fields[1].rpartition(":")
            if fields[3] != LISTEN or int(number, 16) != port:
                continue
            listens_at = kernel_address(where)
            if not host or listens_at.is_unspecified or listens_at == ipaddress.ip_address(host):
                yield fields[9]


def kernel_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that /proc/net/tcp writes as words of hexadecimal in the machine's byte order."""
    words = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))
    # An IPv6 socket that carries IPv4, as libzmq's with ZMQ_IPV6.
    return getattr(address, "ipv4_mapped", None) or address


if __name__ == "__main__":
    main()
