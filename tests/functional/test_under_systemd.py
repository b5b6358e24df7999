"""What systemd hands to a receiver and hears from it: played by this process, as sd_listen_fds(3) and sd_notify(3) have it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fabric import RECEIVER, Fabric, eventually
from two_nodes import lets_in

HAND_OVER = """
import fcntl, os, sys
high = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[1].split(",") if each]
for place, each in enumerate(high, start=3):
    os.dup2(each, place)
    os.close(each)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Puts the descriptors it is given where systemd does, and becomes the command."""
STUCK = str(Path(__file__).parent / "programs" / "stuck.py")


class Ear:
    """Where a daemon's notifications arrive."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(20)
        self.path = str(path)

    def hear(self, *wanted: str) -> list[str]:
        """What is said until each of `wanted` begins a message."""
        said: list[str] = []
        left = list(wanted)
        while left:
            message = self.socket.recv(4096).decode()
            said.append(message)
            left = [prefix for prefix in left if not message.startswith(prefix)]
        return said


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    made = Ear(tmp_path / "notify")
    yield made
    made.socket.close()


@pytest.fixture
def launch(make_fabric: Callable[..., Fabric]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start node n1 of `fabric` with further environment, and with `sockets` from descriptor 3 on; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def launch(
        fabric: Fabric, *, sockets: Sequence[socket.socket] = (), command: Sequence[str] = (RECEIVER,), **environment: str
    ) -> subprocess.Popen[str]:
        config = fabric.config_file("n1")
        handed = {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": "link"} if sockets else {}
        descriptors = [each.fileno() for each in sockets]
        process = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, ",".join(map(str, descriptors)), *command, "--config-file", str(config)],
            env={**os.environ, **handed, **environment},
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.communicate()


def refusal(process: subprocess.Popen[str]) -> str:
    """The one line in which a receiver says why it cannot run."""
    said = process.communicate(timeout=30)[1]
    assert (process.returncode, "Traceback" in said) == (1, False)
    return said.splitlines()[-1]


class Echo:
    """An endpoint."""

    def echo(self, _ctxt: dict[str, Any], text: str) -> str:
        return text


def test_it_is_ready_when_peers_and_services_can_come_and_says_how_it_is_until_it_stops(
    make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]], ear: Ear
) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    process = launch(fabric, NOTIFY_SOCKET=ear.path)
    assert ear.hear("READY=1") == ["READY=1"]
    socket.create_connection((fabric.addresses["n1"], fabric.port), 10).close()
    assert fabric.status("n1")
    assert ear.hear("STATUS=")[-1] == "STATUS=0 of 0 links up, 0 services; matchmaker ring: all is well"
    process.send_signal(signal.SIGHUP)
    assert ear.hear("RELOADING=1", "READY=1")[-1] == "READY=1"
    process.terminate()
    ear.hear("STOPPING=1")
    assert process.wait(20) == 0


def test_the_status_line_names_a_link_that_is_down(
    make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]], ear: Ear
) -> None:
    """Before: `0 of 1 links up, 1 services; matchmaker ring: all is well`."""
    fabric = make_fabric(nodes=2, ring={"compute": ["n2"]}, start=False)
    launch(fabric, NOTIFY_SOCKET=ear.path)
    ear.hear("READY=1")
    fabric.client("n1", "compute").prepare(server="n2").cast({}, "anything")
    line = ""
    while "no link" not in line:  # `hear` has an end of its own
        line = ear.hear("STATUS=")[-1]
    assert line == "STATUS=0 of 1 links up, 1 services; matchmaker ring: no link to n2 (no answer)"


def test_a_loop_that_stands_still_sends_no_beat_though_the_process_lives(
    make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]], ear: Ear
) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    process = launch(fabric, command=(sys.executable, STUCK), NOTIFY_SOCKET=ear.path, WATCHDOG_USEC="300000")
    ear.hear("READY=1")
    for _ in range(3):
        ear.hear("WATCHDOG=1")
    process.send_signal(signal.SIGUSR1)
    ear.hear("STUCK=1")
    ear.socket.settimeout(1.0)  # ten beats would have come
    with pytest.raises(TimeoutError):
        ear.hear("WATCHDOG=1")
    assert process.poll() is None
    assert not lets_in(fabric, "n1"), "the gate stands still, too"


def test_a_receiver_that_the_watchdog_ended_is_counted_by_the_next(
    make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]]
) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    with socket.create_server((fabric.addresses["n1"], fabric.port)):
        assert launch(fabric).wait(20) == 1, "it never was there"
    for ends_by, crashes in ((signal.SIGABRT, 0), (signal.SIGTERM, 1), (signal.SIGTERM, 0)):
        process = launch(fabric)
        eventually(lambda: fabric.status("n1"))
        assert fabric.counter("n1", "crashes") == crashes
        assert lets_in(fabric, "n1")
        process.send_signal(ends_by)
        process.wait(20)


def test_a_receiver_that_nobody_watches_sends_no_beat(
    make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]], ear: Ear
) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    process = launch(fabric, NOTIFY_SOCKET=ear.path, WATCHDOG_USEC="300000", WATCHDOG_PID="1")
    ear.hear("READY=1", "STATUS=")
    process.terminate()
    assert "WATCHDOG=1" not in ear.hear("STOPPING=1")


def test_no_connection_is_refused_while_a_receiver_whose_socket_systemd_keeps_is_killed_and_restarted(
    make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]]
) -> None:
    fabric = make_fabric(nodes=2, ring={"compute": ["n1"]}, start=False)
    done, refused, accepted = threading.Event(), [], []

    def connect() -> None:
        while not done.is_set():
            try:
                socket.create_connection((fabric.addresses["n1"], fabric.port), 10).close()
                accepted.append(1)
            except OSError as exc:
                refused.append(exc)

    with socket.create_server((fabric.addresses["n1"], fabric.port), backlog=4096) as kept:
        process = launch(fabric, sockets=[kept])
        eventually(lambda: fabric.status("n1"))
        fabric.start("n2")
        fabric.server("n1", "compute", Echo())
        client = fabric.client("n2", "compute", timeout=20)
        assert client.call({}, "echo", text="before") == "before"
        thread = threading.Thread(target=connect)
        thread.start()
        for number in (signal.SIGKILL, signal.SIGTERM):
            process.send_signal(number)
            process.wait(20)
            before = len(accepted)
            eventually(lambda before=before: len(accepted) > before + 10)
            process = launch(fabric, sockets=[kept])
            eventually(lambda: fabric.status("n1"))
            assert client.call({}, "echo", text="after") == "after"
        done.set()
        thread.join()
    assert not refused


def test_a_new_key_is_taken_into_use_on_the_socket_that_systemd_keeps(
    make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]]
) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    with socket.create_server((fabric.addresses["n1"], fabric.port), backlog=64) as kept:
        process = launch(fabric, sockets=[kept])
        eventually(lambda: fabric.status("n1"))
        for _ in range(3):
            before = fabric.key_of("n1")
            fabric.write_key("n1")
            process.send_signal(signal.SIGHUP)
            eventually(lambda: fabric.status("n1")["security"]["public_key"] == fabric.key_of("n1"))
            assert lets_in(fabric, "n1")
            assert not lets_in(fabric, "n1", server_key=before)
        assert process.poll() is None


def test_a_socket_for_all_addresses_takes_both_families(
    make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]], ear: Ear
) -> None:
    """As ListenStream= with a bare port makes it."""
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False, options={"rpc_zmq_bind_address": "*"})
    with socket.create_server(("::", fabric.port), family=socket.AF_INET6, dualstack_ipv6=True) as kept:
        launch(fabric, sockets=[kept], NOTIFY_SOCKET=ear.path)
        ear.hear("READY=1")
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, fabric.port), 10) as connection:
            assert connection.recv(1) == b"\xff", "ZMTP's greeting"


@pytest.mark.parametrize(
    ("handed", "options", "words"),
    [
        ("127.0.1.1", {"rpc_zmq_port": 1}, "make ListenStream= of the .socket unit say the same"),
        ("127.0.1.2", {}, "rpc_zmq_bind_address = 127.0.1.1"),
        ("127.0.1.1", {"rpc_zmq_bind_address": "*"}, "rpc_zmq_bind_address = *"),
    ],
)
def test_a_socket_that_contradicts_the_configuration_is_refused_in_one_line(
    make_fabric: Callable[..., Fabric],
    launch: Callable[..., subprocess.Popen[str]],
    handed: str,
    options: dict[str, Any],
    words: str,
) -> None:
    fabric = make_fabric(nodes=2, ring={"compute": ["n1"]}, start=False)
    fabric.options = options
    with socket.create_server((handed, fabric.port)) as wrong:
        said = refusal(launch(fabric, sockets=[wrong]))
    assert words in said


def test_what_is_no_listening_tcp_socket_is_refused(
    make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]]
) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        assert "no listening TCP socket" in refusal(launch(fabric, sockets=[wrong]))


def test_two_sockets_are_refused(make_fabric: Callable[..., Fabric], launch: Callable[..., subprocess.Popen[str]]) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    with socket.create_server(("127.0.1.1", fabric.port)) as one, socket.create_server(("127.0.1.2", fabric.port)) as other:
        assert "systemd hands over 2 sockets" in refusal(launch(fabric, sockets=[one, other]))


def test_sockets_that_were_meant_for_another_process_are_left_alone(
    make_fabric: Callable[..., Fabric], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    make_fabric(nodes=1, ring={"compute": ["n1"]})
