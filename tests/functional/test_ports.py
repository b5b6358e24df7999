"""Ports of tests: nobody gets one that another has or had."""

import subprocess
import sys
from pathlib import Path

import ports

TAKE = "from ports import free_port; print(*(free_port(['127.0.0.1']) for _ in range(70)), flush=True); input()"


def test_no_port_is_handed_out_twice_also_not_to_another_process():
    others = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE], cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    taken = [port for other in others for port in other.stdout.readline().split()]
    taken += [str(ports.free_port(["127.0.0.1"])) for _ in range(70)]
    for other in others:
        other.communicate("\n")
    assert len(set(taken)) == len(taken) == 5 * 70
