"""The systemd units: systemd understands every line, and what is started is what is installed."""

import re
import subprocess

import pytest

from .conftest import CHECKOUT

UNITS = sorted((CHECKOUT / "systemd").glob("*.service"))
MOST_EXPOSED = 2.5
"""On the scale of `systemd-analyze security`, 10 being wide open: the daemon runs as root to keep a ring's owner."""


@pytest.fixture(params=UNITS, ids=lambda path: path.name)
def unit(request):
    return request.param


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_systemd_understands_every_line(unit, tmp_path):
    """Of a program that is not installed here it would complain, so another one stands in for it."""
    stand_in = tmp_path / unit.name
    stand_in.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(encoding="utf-8")), encoding="utf-8")
    assert analyze("verify", stand_in) == (0, "")


def test_a_line_that_systemd_does_not_understand_would_be_noticed(unit, tmp_path):
    broken = tmp_path / unit.name
    broken.write_text(unit.read_text(encoding="utf-8").replace("ProtectHome=yes", "ProtectHome=perhaps"), encoding="utf-8")
    assert re.search(rf"{unit.name}:\d+: Failed to parse", analyze("verify", broken)[1])


def test_it_is_not_more_exposed_than_it_must_be(unit):
    status, said = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:g}", unit)
    assert status == 0, said.splitlines()[-1]


def test_the_command_it_starts_is_one_of_ours(unit):
    from click.testing import CliRunner  # noqa: PLC0415

    from openstack_zeromq.cli.zmqctl import main  # noqa: PLC0415

    words = re.search(r"^ExecStart=\S+/zmqctl (.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)[1].split()
    told = CliRunner().invoke(main, [*words[:2], "--help"])
    assert told.exit_code == 0
    assert all(word in told.output for word in words if word.startswith("--"))
