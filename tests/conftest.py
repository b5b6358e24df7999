"""Fixtures: a factory for fabrics that are closed whatever happens, and a directory for unix sockets."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fabric import Fabric

pytest.register_assert_rewrite("two_nodes")  # what fails there says what it compared, as in a test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, or one worker would still be at it when all others have ended."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture
def make_fabric() -> Iterator[Callable[..., Fabric]]:
    """`make_fabric(nodes=2, ring={...})` gives a fabric whose receivers run."""
    made: list[Fabric] = []

    def make(*, start: bool = True, **settings: Any) -> Fabric:
        fabric = Fabric(**settings)
        made.append(fabric)
        if start:
            fabric.start()
        return fabric

    yield make
    for fabric in made:
        fabric.close()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for unix sockets, which bear no long path; `tmp_path` is long where tests run in parallel."""
    with tempfile.TemporaryDirectory(prefix="oz", dir="/tmp") as path:
        yield Path(path)
