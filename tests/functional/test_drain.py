"""zmqctl drain on real nodes: new work goes elsewhere, no call fails because of it, and the command knows when all is done."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabric import Fabric, eventually

ZMQCTL = str(Path(sys.executable).parent / "zmqctl")
DRAINED, STILL_BUSY = 0, 3


class Who:
    """An endpoint that says where it is."""

    def __init__(self, node: str) -> None:
        self.node = node

    def who(self, _ctxt: dict[str, Any]) -> str:
        return self.node


def _drain(fabric: Fabric, node: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [ZMQCTL, "drain", "--config-file", str(fabric.config_file(node)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def fabric(make_fabric: Callable[..., Fabric]) -> Fabric:
    """n1 and n2 serve `compute`, n3 calls."""
    made = make_fabric(nodes=3, ring={"compute": ["n1", "n2"]})
    for node in ("n1", "n2"):
        made.server(node, "compute", Who(node))
    return made


def test_bare_calls_leave_a_node_that_drains_directed_ones_do_not_and_it_takes_its_share_again(fabric: Fabric) -> None:
    client = fabric.client("n3", "compute")
    assert {client.call({}, "who") for _ in range(10)} == {"n1", "n2"}
    done = _drain(fabric, "n1")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (DRAINED, "nothing waits here")
    assert {client.call({}, "who") for _ in range(10)} == {"n2"}
    assert client.prepare(server="n1").call({}, "who") == "n1"
    assert fabric.status("n1")["draining_s"] > 0
    assert _drain(fabric, "n1", "--off").returncode == 0
    assert fabric.status("n1")["draining_s"] is None
    eventually(lambda: client.call({}, "who") == "n1")


def test_no_call_fails_when_the_only_node_that_is_left_drains(fabric: Fabric) -> None:
    client = fabric.client("n3", "compute")
    assert _drain(fabric, "n1").returncode == DRAINED
    fabric.kill("n2")
    assert {client.call({}, "who") for _ in range(5)} == {"n1"}


def test_a_restart_ends_it(fabric: Fabric) -> None:
    assert _drain(fabric, "n1").returncode == DRAINED
    fabric.stop("n1")
    fabric.start("n1")
    assert fabric.status("n1")["draining_s"] is None


def test_what_is_left_after_the_time_is_said(fabric: Fabric) -> None:
    fabric.client("n1", "nobody-serves-this").cast({}, "who")
    done = _drain(fabric, "n1", "--timeout", "0")
    assert done.returncode == STILL_BUSY
    assert "1 from them are on their way" in done.stderr
    status = [ZMQCTL, "status", "--config-file", str(fabric.config_file("n1"))]
    assert "draining for" in subprocess.run(status, capture_output=True, text=True, check=True).stdout
