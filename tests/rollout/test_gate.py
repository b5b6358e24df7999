"""The roll's gate, with real receivers: what it says of a node that nobody reaches."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fabric import eventually

BIN = Path(sys.executable).parent


@pytest.fixture
def supervised_receiver(short_path):
    """`start(config)` lets a supervisord of its own run a receiver with `config`, as on a node without systemd."""

    def start(config):
        (short_path / "supervisord.conf").write_text(
            f"[supervisord]\nlogfile = {short_path}/supervisord.log\npidfile = {short_path}/supervisord.pid\n"
            f"[unix_http_server]\nfile = {short_path}/sock\n[supervisorctl]\nserverurl = unix://{short_path}/sock\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[program:receiver]\ncommand = {BIN}/oslo-messaging-zmq-receiver --config-file {config}\nstartretries = 100\n"
            f"redirect_stderr = true\nstdout_logfile = {short_path}/receiver.log\n"
        )
        (short_path / "receiver.log").touch()
        subprocess.run([BIN / "supervisord", "-c", short_path / "supervisord.conf"], check=True, cwd="/")
        return short_path

    yield start
    subprocess.run([BIN / "supervisorctl", "-c", short_path / "supervisord.conf", "shutdown"], check=True, capture_output=True)


SAID = {"option": "zmq_message_ttl", "key": "can be read by others"}
"""What a receiver says of each fault that keeps it from starting."""


@pytest.mark.parametrize("fault", SAID)
def test_of_a_node_whose_receiver_died_the_gate_says_what_it_died_of(make_fabric, playbook, tmp_path, supervised_receiver, fault):
    """Not what its neighbour misses, which looks like a fault of the network."""
    fabric = make_fabric(nodes=2, ring={"zmq-probe": ["n1", "n2"]})
    assert fabric.stop("n2") == 0
    hosts = {}
    for node in ("n1", "n2"):
        (tmp_path / node).mkdir()
        text = fabric.config_file(node).read_text()
        broken = "\n[oslo_messaging_zmq]\nzmq_message_ttl = 0\n" if node == "n2" and fault == "option" else ""
        (tmp_path / node / "zeromq.conf").write_text(text + broken)
        hosts[node] = {"zeromq_receiver_host": node, "zeromq_receiver_config_dir": str(tmp_path / node)}
    if fault == "key":
        fabric.secret_file("n2").chmod(0o644)
    place = supervised_receiver(tmp_path / "n2" / "zeromq.conf")
    eventually(lambda: SAID[fault] in (place / "receiver.log").read_text(), within=60)

    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "zeromq_receiver_venv": sys.prefix,
        "zeromq_receiver_manager": "supervisor",
        "zeromq_receiver_supervisor_dir": str(place),
        "zeromq_receiver_log_dir": str(place),
        "zeromq_probe_timeout": 2,
    }
    (tmp_path / "hosts.json").write_text(json.dumps({"zeromq": {"hosts": hosts, "vars": shared}}))
    task = {"name": "Gate", "ansible.builtin.import_role": {"name": "zeromq_probe", "tasks_from": "gate"}}
    (tmp_path / "play.yml").write_text(json.dumps([{"name": "Try", "hosts": "n2", "gather_facts": False, "tasks": [task]}]))
    done = playbook("-i", tmp_path / "hosts.json", tmp_path / "play.yml")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2
    assert "no receiver runs on n2" in said
    assert "supervisor says receiver" in said
    assert f"{place}/receiver.log" in said
    assert SAID[fault] in said
