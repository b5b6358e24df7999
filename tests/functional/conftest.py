"""The fixture that tests of keys share."""

from collections.abc import Callable

import pytest
from fabric import Fabric
from two_nodes import RING, Two


@pytest.fixture
def two(make_fabric: Callable[..., Fabric]) -> Two:
    return Two(make_fabric(nodes=2, ring=RING))
