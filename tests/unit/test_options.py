"""Options: old names still work, wrong values are refused with the option's name and the remedy."""

from pathlib import Path

import pytest
from oslo_config import cfg

from openstack_zeromq import options
from openstack_zeromq.errors import ConfigError


def _read(tmp_path: Path, text: str) -> options.Settings:
    path = tmp_path / "zeromq.conf"
    path.write_text(text)
    conf = cfg.ConfigOpts()
    options.register(conf)
    conf(["--config-file", str(path)], project="test")
    return options.settings(conf)


def test_the_old_default_section_is_still_read(tmp_path: Path) -> None:
    read = _read(
        tmp_path,
        "[DEFAULT]\nrpc_zmq_host = c1\nrpc_zmq_bind_address = 10.0.0.1\nrpc_zmq_port = 9555\nrpc_zmq_ipc_dir = /run/x\n"
        "rpc_zmq_matchmaker = dummy\nmatchmaker_ringfile = /etc/ring.json\n",
    )
    assert (read.host, read.bind_address, read.port, read.ipc_dir) == ("c1", "10.0.0.1", 9555, "/run/x")
    assert (read.matchmaker, read.ringfile) == ("dummy", "/etc/ring.json")


def test_security_is_on_unless_somebody_turns_it_off(tmp_path: Path) -> None:
    assert _read(tmp_path, "").security == "curve"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rpc_zmq_host =", "rpc_zmq_host"),
        ("rpc_zmq_host = " + "h" * 64, "short host name"),
        ("rpc_zmq_port = 70000", "rpc_zmq_port"),
        ("rpc_zmq_port = nine", "rpc_zmq_port"),
        ("rpc_zmq_bind_address = not an address", "IP address"),
        ("rpc_zmq_ipc_dir = run", "absolute"),
        ("rpc_zmq_ipc_dir = /" + "d" * 75, "shorter directory"),
        ("rpc_zmq_ipc_dir = /dev/null", "not a directory"),
        ("rpc_zmq_matchmaker = oracle", "rpc_zmq_matchmaker"),
        ("zmq_security = plain", "zmq_security"),
        ("zmq_message_ttl = 0", "zmq_message_ttl"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_option(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        _read(tmp_path, f"[oslo_messaging_zmq]\n{line}\n")
    assert line.partition(" ")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_slip_of_the_pen_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "zeromq.conf"
    path.write_text("[oslo_messaging_zmq]\nrpc_zmq_prot = 9501\nrpc_zmq_host = a\n[other]\nwhatever = 1\n")
    assert options.unknown_names([str(path)]) == [
        f"{path}: [oslo_messaging_zmq] rpc_zmq_prot is no option; did you mean rpc_zmq_port?"
    ]
