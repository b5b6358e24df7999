"""The node's configuration may lie in several files: the last one wins, and where it lies by default is known."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from openstack_zeromq.cli import settings
from openstack_zeromq.cli.zmqctl import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own configuration, which comes before the machine's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".oslo"
    place.mkdir()
    (place / "zeromq.conf").write_text("[oslo_messaging_zmq]\nrpc_zmq_host = n1\nzmq_security = none\n")
    (place / "zeromq-matchmaker.conf").write_text(
        "[oslo_messaging_zmq]\nrpc_zmq_matchmaker = redis\n[matchmaker_redis]\nport = 7\n"
    )
    return place


def test_of_several_files_the_last_one_wins(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.conf"
    other.write_text("[matchmaker_redis]\nport = 8\n")
    read = settings.read(str(home / "zeromq.conf"), str(home / "zeromq-matchmaker.conf"), str(other))
    assert (read.host, read.matchmaker, read.redis.port) == ("n1", "redis", 8)


def test_both_files_count_when_none_is_named(home: Path) -> None:
    assert settings.found_files() == [str(home / "zeromq.conf"), str(home / "zeromq-matchmaker.conf")]
    assert (settings.read().matchmaker, settings.read().redis.port) == ("redis", 7)


def test_a_file_that_is_named_replaces_the_default_ones(home: Path) -> None:
    assert settings.read(str(home / "zeromq.conf")).matchmaker != "redis"


@pytest.mark.parametrize("command", [["status"], ["hosts", "compute"], ["ring", "held"], ["services"], ["probe", "wait"]])
def test_every_command_takes_the_option_again(command: list[str], home: Path) -> None:
    files = [f"--config-file={home / name}" for name in ("zeromq.conf", "zeromq-matchmaker.conf")]
    told = CliRunner().invoke(main, [*command, *files, "--help"])
    assert told.exit_code == 0
    assert "again for more" in " ".join(told.output.split())


def test_a_node_without_configuration_is_told_where_it_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings.cfg, "find_config_files", lambda **_: [])
    told = CliRunner().invoke(main, ["status"])
    assert told.exit_code == 1
    assert "there is no /etc/oslo/zeromq.conf" in told.output
