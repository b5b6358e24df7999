"""The house stands: every module belongs to a floor and imports only floors below it, or its own room ."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "openstack_zeromq"
FLOORS = [
    {"errors", "options", "address", "systemd", "descriptors"},
    {"wire", "delivery", "sockets"},
    {"journal", "matchmaker", "security"},
    {"receiver", "driver", "catalog"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
PURE = [path for path in MODULES if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in {"address", "wire", "delivery"}]
IMPURE = {
    "socket",
    "threading",
    "_thread",
    "time",
    "random",
    "secrets",
    "os",
    "select",
    "selectors",
    "asyncio",
    "zmq",
    "oslo_log",
}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of everything that `path` imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which floor they reach"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _rooms_used(path: Path) -> set[str]:
    return {parts[1] for name in _imports(path) if (parts := name.split("."))[0] == "openstack_zeromq" and len(parts) > 1}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_its_own_room_and_floors_below(path: Path) -> None:
    room = _room(path)
    assert room in FLOOR, f"{room} is on no floor; DESIGN.md section 4 says where rooms are"
    above = {used for used in _rooms_used(path) if used != room and FLOOR[used] >= FLOOR[room]}
    same_floor_allowed = {"errors"} if FLOOR[room] == 0 else {"wire"} if room == "delivery" else set()
    if room == "options":
        same_floor_allowed.add("address")
    assert above <= same_floor_allowed, f"{path.name} of {room} looks up to {sorted(above - same_floor_allowed)}"


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_knows_no_socket_no_thread_no_clock_and_no_chance(path: Path) -> None:
    assert {name.split(".")[0] for name in _imports(path)} & IMPURE == set()


def test_the_walls_would_be_noticed_if_they_were_broken(tmp_path: Path) -> None:
    culprit = tmp_path / "culprit.py"
    culprit.write_text("from openstack_zeromq.driver.plugin import ZmqDriver\nimport time\n")
    assert _rooms_used(culprit) == {"driver"}
    assert "time" in set(_imports(culprit))
