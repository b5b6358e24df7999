"""Telling: a command that does not end is ended, and whatever answers a webhook, nothing is raised."""

import asyncio
import itertools
import logging
import socket
import sys
import threading
from pathlib import Path

import pytest

from openstack_zeromq.catalog import telling
from openstack_zeromq.catalog.shape import Published
from openstack_zeromq.catalog.sync import Written
from openstack_zeromq.catalog.telling import Teller, Telling

BEFORE, AFTER = Published({"a": ("x",)}), Published({"a": ("x", "y")}, generation=2)


def _tell(made: Telling) -> None:
    asyncio.run(made.tell(BEFORE, AFTER))


def test_a_command_that_does_not_end_is_killed_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(telling, "COMMAND_WITHIN", 1.0)
    pid = tmp_path / "pid"
    program = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    with caplog.at_level(logging.ERROR):
        _tell(Telling(tmp_path / "ring", "n1", (sys.executable, "-S", "-c", program)))
    assert "did not end within 1 s" in caplog.text
    assert not Path("/proc", pid.read_text()).exists()


def test_a_webhook_that_speaks_no_http_is_logged_and_that_is_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            for _ in range(telling.WEBHOOK_ATTEMPTS):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"what?\n")

        thread = threading.Thread(target=babble, daemon=True)
        thread.start()
        with caplog.at_level(logging.ERROR):
            _tell(Telling(tmp_path / "ring", "n1", webhook=f"http://127.0.0.1:{server.getsockname()[1]}/"))
        thread.join()
    assert f"failed {telling.WEBHOOK_ATTEMPTS} times" in caplog.text


def test_changes_that_come_while_one_is_told_are_told_as_one(tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = f"import os, time; open({str(told)!r}, 'a').write(os.environ['ZMQ_RING_CHANGED_TOPICS'] + ';'); time.sleep(0.5)"

    async def scenario() -> None:
        teller = Teller(Telling(tmp_path / "ring", "n1", (sys.executable, "-S", "-c", program)))
        rings = [
            Published({"a": ("x",)}),
            Published({"a": ("y",)}),
            Published({"a": ("y",), "b": ("z",)}),
            Published({"c": ("z",)}),
        ]
        for before, after in itertools.pairwise(rings):
            teller.written(Written(after, before, []))
            while not told.exists():
                await asyncio.sleep(0.01)
        await teller.finish(30)

    asyncio.run(scenario())
    assert told.read_text() == "a;a c;", "b came and went"
