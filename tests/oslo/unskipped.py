"""The two tests of the functional suite that run for RabbitMQ alone, though they ask nothing that this driver does not do.

They look at how the URL begins, and at nothing else. So here they get a URL that begins as they like, and is `zmq://` all the
same.
"""

import unittest
from typing import Any

from oslo_messaging.tests.functional import test_functional

NAMES = ("test_mandatory_call", "test_monitor_long_call")


class _AnyDriver(str):
    """A URL that begins with whatever it is asked for."""

    __slots__ = ()

    def startswith(self, *_asked: Any) -> bool:
        return True


class UnskippedCallTestCase(test_functional.CallTestCase):
    """`CallTestCase` as it would run for RabbitMQ."""

    def setUp(self) -> None:
        super().setUp()
        self.rpc_url = _AnyDriver(self.rpc_url)


def suite() -> unittest.TestSuite:
    """Only the two: the others run as they ship."""
    return unittest.TestSuite(UnskippedCallTestCase(name) for name in NAMES)
