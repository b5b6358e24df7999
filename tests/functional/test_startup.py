"""A receiver that cannot run says so in one line with the remedy, and ends with status 1."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabric import RECEIVER, Fabric, eventually


class Echo:
    """An endpoint."""

    def echo(self, _ctxt: dict[str, Any], text: str) -> str:
        return text


def _start(fabric: Fabric, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    file = fabric.config_file("n1", **options)
    command = [RECEIVER, "--config-file", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rpc_zmq_port": 70000}, "rpc_zmq_port"),
        ({"rpc_zmq_matchmaker": "oracle"}, "rpc_zmq_matchmaker"),
        ({"zmq_key_file": "/nowhere/node.key"}, "/nowhere/node.key is missing: make this node's key with `zmqctl keys new`"),
        ({"zmq_authorized_keys": "/nowhere"}, "put the public key of each node there, as <host>.pub"),
        ({"rpc_zmq_ipc_dir": "/dev/null"}, "is not a directory"),
        ({"rpc_zmq_ipc_dir": "/proc/nowhere"}, "rpc_zmq_ipc_dir"),
        ({"rpc_zmq_bind_address": "192.0.2.1"}, "rpc_zmq_bind_address"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(make_fabric: Callable[..., Fabric], options: dict[str, Any], words: str) -> None:
    ended = _start(make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False), **options)
    line = ended.stderr.strip().splitlines()[-1]
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert words in line


def test_a_port_in_use_and_a_directory_in_use_are_named(make_fabric: Callable[..., Fabric], tmp_path: Path) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]})
    assert "another receiver serves this directory" in _start(fabric).stderr
    ended = _start(fabric, rpc_zmq_ipc_dir=fabric.directory / "other")
    assert (ended.returncode, "rpc_zmq_port" in ended.stderr) == (1, True)
    assert fabric.status("n1")


@pytest.mark.parametrize("ring", ["", '{"compute": [', "[]", '{"compute": []}'])
def test_a_broken_ring_is_refused_by_check(make_fabric: Callable[..., Fabric], ring: str) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    (fabric.directory / "ring.json").write_text(ring)
    ended = _start(fabric, "--check")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "ringfile" in ended.stderr


@pytest.mark.parametrize("ring", ["", '{"compute": ['])
def test_a_receiver_starts_with_a_broken_ring_says_so_and_takes_the_good_one_that_comes(
    make_fabric: Callable[..., Fabric], ring: str
) -> None:
    fabric = make_fabric(nodes=1, ring={}, start=False)
    (fabric.directory / "ring.json").write_text(ring)
    fabric.start()
    assert "ringfile" in fabric.status("n1")["matchmaker"]["problem"]
    eventually(lambda: "matchmaker: [matchmaker_ring] ringfile" in fabric.log("n1").read_text())
    fabric.server("n1", "compute", Echo())
    fabric.write_ring({"compute": ["n1"]})
    assert fabric.client("n1", "compute").call({}, "echo", text="hello") == "hello"
    eventually(lambda: fabric.status("n1")["matchmaker"]["problem"] == "")


def test_check_accepts_a_good_configuration_and_binds_nothing(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    assert _start(fabric, "--check").returncode == 0
    assert not fabric.ipc_dir("n1").exists()
    assert "did you mean rpc_zmq_port" in _start(fabric, "--check", rpc_zmq_prot=1).stderr


def test_check_refuses_what_could_not_start(make_fabric: Callable[..., Fabric], tmp_path: Path) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False, sections={"matchmaker_reddis": {"host": "r1"}})
    assert "did you mean matchmaker_redis" in _start(fabric, "--check").stderr
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    (tmp_path / "file").touch()
    for state_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        ended = _start(fabric, "--check", rpc_zmq_matchmaker="redis", zmq_state_dir=state_dir)
        assert (ended.returncode, "zmq_state_dir" in ended.stderr) == (1, True)
    assert _start(fabric, "--check", rpc_zmq_matchmaker="redis", zmq_state_dir=tmp_path / "new" / "below").returncode == 0
    assert "zmqctl keys new" in _start(fabric, "--check", zmq_key_file="/nowhere/node.key").stderr


@pytest.mark.parametrize("matchmaker", ["redis", "consul"])
def test_a_receiver_stops_with_status_0_while_the_name_of_its_store_is_asked_for(
    make_fabric: Callable[..., Fabric], tmp_path: Path, matchmaker: str
) -> None:
    options = {"rpc_zmq_matchmaker": matchmaker}
    fabric = make_fabric(nodes=1, options=options, sections={f"matchmaker_{matchmaker}": {"host": "store.invalid"}}, start=False)
    program = Path(__file__).parent / "programs" / "slow_names.py"
    log = tmp_path / "log"
    with log.open("wb") as written:
        receiver = subprocess.Popen(
            [sys.executable, str(program), "--config-file", str(fabric.config_file("n1"))], stdout=written, stderr=written
        )
    try:
        eventually(lambda: "asked for the name" in log.read_text())
        receiver.terminate()
        assert receiver.wait(20) == 0
    finally:
        receiver.kill()
        receiver.wait()
    said = log.read_text()
    assert "stops" in said
    assert said.count("the matchmaker's thread does not end") == 1
    assert not (fabric.ipc_dir("n1") / "receiver.admin").exists()
