"""Many RPC servers in one process, as neutron's agents have: they start before the receiver, and end, without waits in series."""

import time
from collections.abc import Callable

import pytest
from fabric import Fabric
from program import MODES, Program

from openstack_zeromq.driver import connection
from openstack_zeromq.driver.connection import JOIN_WITHIN, Connection
from openstack_zeromq.driver.listener import ZmqListener

SERVERS = 12


@pytest.mark.parametrize("mode", MODES)
def test_twelve_servers_that_start_before_the_receiver_wait_once_and_serve_when_it_comes(
    make_fabric: Callable[..., Fabric], mode: str
) -> None:
    fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy"}, start=False)
    program = Program("many", mode, fabric, SERVERS)
    try:
        [seconds] = program.hear("started", within=5 * JOIN_WITHIN)
        assert JOIN_WITHIN <= seconds < 2 * JOIN_WITHIN
        assert program.errors().count("cannot connect to") >= 1
        fabric.start()
        for number in range(SERVERS):
            assert fabric.client("n1", f"topic-{number}", timeout=20).call({}, "echo", what=number) == number
        fabric.client("n1", "topic-0").cast({}, "stop")
        program.ended()
    finally:
        program.close()


@pytest.mark.parametrize("how", [(), ("at-once",)], ids=["in turn", "at once"])
@pytest.mark.parametrize("mode", MODES)
def test_twelve_servers_stop_and_are_cleaned_up_in_a_moment(
    make_fabric: Callable[..., Fabric], mode: str, how: tuple[str, ...]
) -> None:
    fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy"})
    program = Program("many", mode, fabric, SERVERS, *how)
    try:
        program.hear("started", within=60)
        fabric.client("n1", "topic-0").cast({}, "stop")
        assert program.hear("stopped", within=60)[0] < 0.5 * SERVERS
        assert program.hear("cleaned_up", within=60)[0] < 5
        program.ended()
    finally:
        program.close()


def test_stopping_a_listener_never_waits_for_a_ping_however_busy_the_machine(
    make_fabric: Callable[..., Fabric], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that stops is put off just after it has woken the one that polls, as a busy machine does. That one reads for
    all, and would look again only with the next ping."""
    monkeypatch.setattr(connection, "_PING_EVERY", 2.0)
    fabric = make_fabric(nodes=1, options={"rpc_zmq_matchmaker": "dummy"})
    drain = Connection.drain

    def put_off(self: Connection, listener: ZmqListener) -> None:
        drain(self, listener)
        time.sleep(0.05)

    monkeypatch.setattr(Connection, "drain", put_off)
    waited = []
    for number in range(5):
        server = fabric.server("n1", f"topic-{number}", object())
        begun = time.monotonic()
        server.stop()
        waited.append(time.monotonic() - begun)
    assert sorted(waited)[2] < 0.4, f"they waited for something else, up to a second: {waited}"
