"""Walls on a node: who is outside the group reaches nothing, whom a rule does not name is refused and told so."""

import contextlib
import json
import pwd
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fabric import Fabric, eventually

from openstack_zeromq import address
from openstack_zeromq.address import Channel

RING = {"compute": ["n1"], "private": ["n1"]}
PROGRAM = Path(__file__).parent / "programs" / "as_user.py"
NOBODY, DAEMON = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")


@contextlib.contextmanager
def as_user(fabric: Fabric, user: pwd.struct_passwd, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A service on n1 as `user`; the directory is open to it, so that it is the rules that decide."""
    who = [str(user.pw_uid), str(user.pw_gid)]
    command = [sys.executable, "-W", "ignore", str(PROGRAM), str(fabric.config_file("n1")), *who, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def outcome(fabric: Fabric, user: pwd.struct_passwd, *words: str) -> dict[str, str]:
    """What the service says of its one call or its listening."""
    with as_user(fabric, user, *words) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                found: dict[str, str] = json.loads(line)
                return found
    raise AssertionError("it said nothing")


class Endpoint:
    def echo(self, _ctxt: dict[str, object], what: str) -> str:
        return what


def test_a_user_outside_the_group_can_neither_list_nor_open_the_sockets(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring=RING)
    fabric.directory.chmod(0o755)
    directory = fabric.ipc_dir("n1")
    assert directory.stat().st_mode & 0o007 == 0
    question = (
        "import os, socket, sys\n"
        "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "for do in (lambda: os.listdir(sys.argv[1]),\n"
        "           lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[1] + '/receiver'),\n"
        "           lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[1] + '/receiver.admin')):\n"
        "    try: do(); print('open')\n"
        "    except PermissionError: print('closed')\n"
    )
    said = subprocess.run([sys.executable, "-c", question, str(directory)], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["closed"] * 3


@pytest.mark.quick("keys")
def test_who_may_send_is_decided_by_the_first_rule_that_fits(make_fabric: Callable[..., Fabric]) -> None:
    rules = "send openstack/private daemon, send openstack/* nobody daemon"
    fabric = make_fabric(nodes=1, ring=RING, options={"zmq_channel_acl": rules})
    for topic in ("compute", "private"):
        fabric.server("n1", topic, Endpoint())
    assert outcome(fabric, NOBODY, "call", "compute") == {"answer": "hello"}
    refused = outcome(fabric, NOBODY, "call", "private")
    assert "user nobody may not send to openstack/private: zmq_channel_acl lets only daemon" in refused["error"]
    assert outcome(fabric, DAEMON, "call", "private") == {"answer": "hello"}
    assert fabric.counter("n1", "forbidden") == 1
    assert "forbidden from uid 65534: user nobody may not send to openstack/private" in fabric.log("n1").read_text()


def test_who_may_not_consume_is_told_in_its_own_log_and_gets_nothing(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring=RING, options={"zmq_channel_acl": "consume openstack/private daemon"})
    with as_user(fabric, NOBODY, "listen", "private") as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "cannot be listened to" in line)
        assert "user nobody may not consume from openstack/private: zmq_channel_acl lets only daemon" in line
        status = fabric.status("n1")
        assert status is not None
        assert not [channel for channel in status["channels"] if "private" in channel]


def test_where_there_are_rules_nobody_speaks_for_a_service_of_another_user(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring=RING, options={"zmq_channel_acl": "consume openstack/private daemon"})
    fabric.server("n1", "compute", Endpoint())
    client = fabric.client("n1", "compute")
    assert client.call({}, "echo", what="before") == "before"
    (journal, *_) = fabric.ipc_dir("n1").glob("service.*")
    impostor = Path(__file__).parent / "programs" / "impostor.py"
    who = [str(fabric.ipc_dir("n1")), str(NOBODY.pw_uid), str(NOBODY.pw_gid), journal.name.removeprefix("service.")]
    subprocess.run([sys.executable, "-W", "ignore", str(impostor), *who], check=True)
    assert fabric.counter("n1", "malformed") == 1
    assert client.call({}, "echo", what="after") == "after"


def test_a_socket_that_somebody_puts_in_the_place_of_a_channels_is_noticed(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring=RING)
    fabric.server("n1", "compute", Endpoint())
    path = Path(address.socket_path(str(fabric.ipc_dir("n1")), Channel.of_topic("openstack", "compute")))
    eventually(path.exists)
    time.sleep(1.2)  # two looks: all is well
    assert fabric.counter("n1", "stolen_sockets") == 0
    path.unlink()
    with socket.socket(socket.AF_UNIX) as thief:
        thief.bind(str(path))
        eventually(lambda: fabric.counter("n1", "stolen_sockets") > 0)
    assert f"{path} is not the socket that this receiver made" in fabric.log("n1").read_text()
