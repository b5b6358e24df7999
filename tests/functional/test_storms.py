"""Storms: connections by the thousand that end in every way cost those inside nothing, and the receiver no descriptor."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fabric import Fabric, eventually
from strangers import SHAPES, storm
from two_nodes import RING, Two

from openstack_zeromq import address
from openstack_zeromq.address import Channel, Role

_SECONDS = 1.5
_GREW = 8 * 2**20
"""Bytes that a receiver may have grown by after a storm: the allocator keeps some."""
MANY = [f"127.0.9.{number}" for number in range(1, 251)]


@pytest.fixture(scope="module", params=["curve", "none"])
def stormy(request: pytest.FixtureRequest) -> Iterator[Two]:
    """Two nodes, for all storms one after the other: what one leaves behind would show in the next."""
    fabric = Fabric(nodes=2, ring=RING, options={"zmq_security": request.param})
    try:
        fabric.start()
        two = Two(fabric)
        assert two.call("n1") == "noted"
        yield two
    finally:
        fabric.close()


def _sockets(pid: int) -> int:
    """The sockets among the descriptors of a process."""
    found = 0
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(entry.path).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _weather(two: Two, attack: Callable[[], int]) -> None:
    """Let `attack` go; calls of others pass while it lasts and after it, and it leaves nothing behind."""
    process = two.fabric.processes["n1"]
    assert two.call("n1") == "noted"
    before, memory = _sockets(process.pid), _memory(process.pid)
    assert attack() > 1000
    assert process.poll() is None, two.fabric.log("n1").read_text()[-2000:]
    assert two.call("n1") == "noted"
    assert two.call("n2") == "noted"
    eventually(lambda: _sockets(process.pid) <= before)
    assert _memory(process.pid) - memory < _GREW
    assert "Traceback" not in two.fabric.log("n1").read_text()


@pytest.mark.parametrize("shape", SHAPES)
def test_connections_that_end_in_any_way_leave_nothing_behind(stormy: Two, shape: str) -> None:
    door = stormy.fabric.addresses["n1"], stormy.fabric.port
    _weather(stormy, lambda: storm(door, [shape], _SECONDS, MANY[:1]) + storm(door, [shape], _SECONDS, MANY))


def test_all_of_them_at_once(stormy: Two) -> None:
    door = stormy.fabric.addresses["n1"], stormy.fabric.port
    _weather(stormy, lambda: storm(door, list(SHAPES), _SECONDS, MANY))


@pytest.mark.parametrize("which", ["receiver", "channel", "admin"])
def test_the_unix_sockets_weather_the_same(stormy: Two, which: str) -> None:
    channel = Channel(Role.SERVER, "openstack", "compute", "n1")
    ipc_dir = str(stormy.fabric.ipc_dir("n1"))
    paths = {
        "receiver": f"{ipc_dir}/{address.RECEIVER_SOCKET}",
        "channel": address.socket_path(ipc_dir, channel),
        "admin": f"{ipc_dir}/{address.ADMIN_SOCKET}",
    }
    _weather(stormy, lambda: storm(paths[which], list(SHAPES), _SECONDS))
