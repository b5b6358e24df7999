"""A process that is short of file descriptors gets an error that names the remedy, and is not ended by libzmq."""

import resource
import subprocess
from collections.abc import Callable
from functools import partial

import pytest
from fabric import RECEIVER, Fabric
from program import MODES, Program


class Echo:
    def echo(self, _ctxt: object, what: str) -> str:
        return what


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("left", [0, 3, 12, 31])
def test_a_service_short_of_descriptors_fails_in_order_leaks_nothing_and_recovers(
    make_fabric: Callable[..., Fabric], mode: str, left: int
) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]})
    fabric.server("n1", "compute", Echo())
    program = Program("few_descriptors", mode, fabric, "compute", left)
    try:
        assert program.hear("answer", within=60) == ["sent"]
        [facts] = [facts for facts in program.said if "errors" in facts]
        assert facts["errors"] == 100
        assert "raise LimitNOFILE of its unit" in facts["error"]
        assert facts["open_first"] == facts["open_last"]
        program.ended()
    finally:
        program.close()


def test_a_receiver_short_of_descriptors_says_so_in_one_line(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=1, ring={"compute": ["n1"]}, start=False)
    few = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (20, 20))
    ended = subprocess.run(
        [RECEIVER, "--config-file", str(fabric.config_file("n1"))],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        preexec_fn=few,
    )
    assert ended.returncode == 1
    assert "raise LimitNOFILE" in ended.stderr.strip().splitlines()[-1]
