"""A service that cannot open its receiver's socket says so at once, with its user, the path and the remedy."""

import json
import pwd
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fabric import Fabric, eventually

PROGRAM = Path(__file__).parent / "programs" / "as_user.py"
NOBODY = pwd.getpwnam("nobody")


class Walled:
    """A service as a user who has no right to anything but what modes give to all; `lines`: what it said."""

    def __init__(self, fabric: Fabric, what: str, walls: bool) -> None:
        who = [str(NOBODY.pw_uid), str(NOBODY.pw_gid)]
        command = [sys.executable, "-W", "ignore", str(PROGRAM), str(fabric.config_file("n1")), *who, what, "compute"]
        command += ["walled"] * walls
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[tuple[float, str]] = []
        self._begun = time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic() - self._begun, line))

    def outcome(self) -> dict[str, str]:
        found: str = eventually(lambda: next((line for _, line in self.lines if line.startswith("{")), ""), within=30)
        return dict(json.loads(found))

    def text(self) -> str:
        return "".join(line for _, line in self.lines)


@contextmanager
def walled(fabric: Fabric, what: str, walls: bool = True) -> Iterator[Walled]:
    made = Walled(fabric, what, walls)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


@pytest.fixture
def fabric(make_fabric: Callable[..., Fabric]) -> Fabric:
    """A running receiver in a directory on whose way everybody is let in."""
    made = make_fabric(nodes=1, ring={"compute": ["n1"]})
    made.directory.chmod(0o755)
    return made


@pytest.mark.parametrize("what", ["call", "cast"])
def test_a_user_who_is_not_in_the_group_is_named_in_the_error_with_the_remedy(fabric: Fabric, what: str) -> None:
    fabric.ipc_dir("n1").chmod(0o2750)
    with walled(fabric, what) as service:
        error = service.outcome()["error"]
        assert f"cannot connect to {fabric.ipc_dir('n1')}/receiver as user nobody (groups nogroup): Permission denied" in error
        assert (
            f"{fabric.ipc_dir('n1')} belongs to root:root, mode 2750: add the user to group root and restart the service" in error
        )
        assert "message ID None" not in error


def test_a_notification_that_cannot_leave_says_why_in_the_log(fabric: Fabric) -> None:
    with walled(fabric, "notify") as service:
        service.outcome()  # oslo.messaging logs what a notifier raises
        said = service.text()
        assert said.count("Permission denied") >= 2, "once at the start, once with the notification that failed"


def test_a_directory_for_root_alone_is_named(fabric: Fabric) -> None:
    fabric.ipc_dir("n1").chmod(0o700)
    with walled(fabric, "call") as service:
        assert "mode 0700: give its group the right to enter it" in service.outcome()["error"]


@pytest.mark.parametrize("what", ["call", "listen"])
def test_the_log_says_it_at_once(fabric: Fabric, what: str) -> None:
    with walled(fabric, what) as service:
        at, line = eventually(lambda: next(((at, line) for at, line in service.lines if "Permission denied" in line), None), 20)
        assert line.startswith("WARNING:openstack_zeromq.driver.connection:cannot connect to")
        if what == "call":  # its timeout is 3 s: the warning comes before, not with it
            service.outcome()
            ended = next(when for when, said in service.lines if said.startswith("{"))
            assert ended - at > 2


def test_a_missing_directory_and_a_receiver_that_was_killed_are_told_apart(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    fabric.directory.chmod(0o755)
    with walled(fabric, "call") as service:
        assert f"the directory {fabric.ipc_dir('n1')} is missing" in service.outcome()["error"]
    fabric.start()
    fabric.kill("n1")
    fabric.ipc_dir("n1").chmod(0o755)
    (fabric.ipc_dir("n1") / "receiver").chmod(0o777)
    with walled(fabric, "call") as service:
        error = service.outcome()["error"]
        assert "Connection refused; its receiver has ended: start oslo-messaging-zmq-receiver on this node" in error
    (fabric.ipc_dir("n1") / "receiver").unlink()
    with walled(fabric, "call") as service:
        assert "no receiver listens there: start" in service.outcome()["error"]


def test_a_listener_that_cannot_open_the_socket_of_its_channel_says_which(fabric: Fabric) -> None:
    """Such sockets are for the receiver's group."""
    fabric.ipc_dir("n1").chmod(0o755)
    (fabric.ipc_dir("n1") / "receiver").chmod(0o777)
    with walled(fabric, "listen") as service:
        eventually(lambda: "compute belongs to root:root, mode 0770: add the user to group root" in service.text(), 20)


def test_a_listener_whose_receiver_became_unreachable_while_it_waited_logs_it(fabric: Fabric) -> None:
    fabric.ipc_dir("n1").chmod(0o755)
    with walled(fabric, "listen", walls=False) as service:
        eventually(lambda: "compute" in str((fabric.status("n1") or {}).get("channels")), within=20)
        fabric.kill("n1")
        eventually(lambda: "its receiver has ended: start" in service.text(), within=10)
