"""Many RPC servers in one process, as neutron's agents have: they start before the receiver, and end, without waits in series."""

from collections.abc import Callable

import pytest
from fabric import Fabric
from program import MODES, Program

from openstack_zeromq.driver.connection import JOIN_WITHIN

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
