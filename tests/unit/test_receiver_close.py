"""Closing a receiver: what has gathered leaves before anything is waited for."""

import tempfile

import pytest
from oslo_config import cfg
from ports import free_port

from openstack_zeromq import options
from openstack_zeromq.matchmaker.dummy import DummyMatchmaker
from openstack_zeromq.receiver import loop
from openstack_zeromq.receiver.departures import Departures


def _settings(directory: str) -> options.Settings:
    conf = cfg.ConfigOpts()
    options.register(conf)
    conf([])
    node = {
        "rpc_zmq_host": "n1",
        "rpc_zmq_matchmaker": "dummy",
        "rpc_zmq_bind_address": "127.0.1.1",
        "rpc_zmq_port": free_port(["127.0.1.1"]),
        "rpc_zmq_ipc_dir": directory,
        "zmq_security": "none",
    }
    for name, value in node.items():
        conf.set_override(name, value, group=options.GROUP)
    return options.settings(conf)


@pytest.mark.parametrize("ended", [True, False])
def test_what_has_gathered_leaves_before_the_matchmaker_ends_and_whether_it_ended_is_told(
    monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    done: list[str] = []

    class Slow(DummyMatchmaker):
        def close(self) -> bool:
            done.append("matchmaker")
            return ended

    flush = Departures.flush

    def flushed(self: Departures, now: float) -> None:
        done.append("messages")
        flush(self, now)

    monkeypatch.setattr(loop, "matchmaker", lambda _settings: Slow("n1"))
    monkeypatch.setattr(Departures, "flush", flushed)
    with tempfile.TemporaryDirectory(prefix="oz", dir="/tmp") as directory:
        assert loop.Receiver(_settings(directory)).close() is ended
    assert done[-1] == "matchmaker"
    assert "messages" in done
