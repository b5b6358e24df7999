"""The admin socket of a receiver that has no more to give."""

import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openstack_zeromq.matchmaker.dummy import DummyMatchmaker
from openstack_zeromq.receiver.admin import Admin, Controls
from openstack_zeromq.receiver.faults import Faults
from openstack_zeromq.receiver.report import Report

_NO_ADDRESSES = 1 << 47
"""Bytes of a stack that no process can have."""


@contextmanager
def _no_threads() -> Iterator[None]:
    usual = threading.stack_size(_NO_ADDRESSES)
    try:
        yield
    finally:
        threading.stack_size(usual)


def test_whoever_asks_when_no_thread_can_be_started_is_hung_up_on() -> None:
    with tempfile.TemporaryDirectory(prefix="oz", dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as asker:
        admin = Admin(
            directory,
            DummyMatchmaker("n1"),
            Controls(lambda _begin: None, lambda: None, lambda: ({}, [])),
            Faults(Report(Counter())),
        )
        asker.connect(str(Path(directory, "receiver.admin")))
        with _no_threads():
            assert not admin.answer(dict)
        assert asker.recv(1) == b""
        admin.close()
