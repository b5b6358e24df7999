"""Role zeromq_service and playbooks/services.yml: one service on the bus, and back to the byte."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from .conftest import CHECKOUT
from .test_roles import options, read

ROLE = CHECKOUT / "roles" / "zeromq_service"
BEFORE = "[DEFAULT]\n# the old bus\ntransport_url = rabbit://nova:pw@r1:5672/\n\n[oslo_messaging_rabbit]\nx = 1"


@pytest.fixture
def nova(tmp_path):
    """A service: its configuration, and a virtual environment without our driver; and beside it one that has it.

    What the tests run in has the driver as an editable package, a node has it as a directory: so it is linked.
    """
    (tmp_path / "nova.conf").write_text(BEFORE)
    for name in ("venv", "driver"):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / name], check=True)
    (packages,) = tmp_path.glob("driver/lib/python*/site-packages")
    for path in [*Path(sysconfig.get_path("purelib")).iterdir(), CHECKOUT / "openstack_zeromq"]:
        (packages / path.name).symlink_to(path)
    return tmp_path


@pytest.fixture
def wire(playbook, nova):
    """Run services.yml for one node of this machine, where `entry` is its one service."""

    def wire(*arguments, others=(), **entry):
        service = {
            "name": "nova",
            "config_files": [str(nova / "nova.conf")],
            "user": "",
            "record_dir": str(nova / "services"),
            "python": str(nova / "venv/bin/python"),
            "driver": str(nova / "driver"),
            **entry,
        }
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "zeromq_services": [service, *others],
        }
        (nova / "hosts.yml").write_text(yaml.safe_dump({"zeromq": {"hosts": {"n1": host}}}))
        return playbook("--inventory", nova / "hosts.yml", *arguments, "playbooks/services.yml")

    return wire


def changed(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.search(r"changed=(\d+)", done.stdout)[1])


def changing(done):
    """Return the names of the tasks that changed something."""
    tasks = re.split(r"^TASK \[", done.stdout, flags=re.MULTILINE)[1:]
    return {task.partition("]")[0] for task in tasks if "\nchanged:" in task}


def test_a_service_is_wired_once_and_goes_back_to_the_byte(wire, nova):
    assert changed(wire("--check")) > 0
    assert (nova / "nova.conf").read_text() == BEFORE
    done = wire("--diff")
    assert changed(done) > 0
    assert "nova:pw@" not in done.stdout
    text = (nova / "nova.conf").read_text()
    assert "transport_url = zmq://\n" in text
    assert "[oslo_messaging_zmq]\nrpc_zmq_ipc_dir = /var/run/openstack" in text
    code = "from openstack_zeromq.driver.plugin import ZmqDriver; print(ZmqDriver.__name__)"
    asked = subprocess.run([nova / "venv/bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout == "ZmqDriver\n"
    assert changed(wire()) == 0
    assert changed(wire(state="absent")) > 0
    assert (nova / "nova.conf").read_text() == BEFORE
    assert not list(nova.glob("venv/lib/python*/site-packages/openstack-zeromq.pth"))
    assert changed(wire(state="absent")) == 0


@pytest.fixture
def three(nova):
    """Return the entries of two further services: cinder shares nova's Python, heat brings its driver."""
    entries = []
    for name, python in (("cinder", str(nova / "venv/bin/python")), ("heat", "")):
        (nova / f"{name}.conf").write_text(BEFORE)
        entries.append(
            {
                "name": name,
                "config_files": [str(nova / f"{name}.conf")],
                "user": "",
                "record_dir": str(nova / "services"),
                "python": python,
                "driver": str(nova / "driver"),
            }
        )
    return entries


def test_three_services_of_a_host_are_wired_in_one_run_also_in_check_mode(wire, nova, three):
    foretold, made = wire("--check", others=three), wire(others=three)
    assert changed(foretold) >= changed(made) > 0
    assert changing(foretold) == changing(made), "what the services share is made by the first of them"
    for name in ("nova", "cinder", "heat"):
        assert "transport_url = zmq://\n" in (nova / f"{name}.conf").read_text(), name
    assert changed(wire(others=three)) == 0
    assert changed(wire("--check", others=three)) == 0


def test_services_that_share_a_python_keep_the_driver_until_the_last_one_leaves(wire, nova, three):
    def driver():
        return list(nova.glob("venv/lib/python*/site-packages/openstack-zeromq.pth"))

    changed(wire(others=three))
    changed(wire(others=three, state="absent"))
    assert (nova / "nova.conf").read_text() == BEFORE
    assert len(driver()) == 1, "cinder still uses it"
    assert changed(wire(others=three, state="absent")) == 0
    changed(wire("-e", "zeromq_services_state=absent", others=three))
    assert not driver()
    assert [(nova / f"{name}.conf").read_text() for name in ("cinder", "heat")] == [BEFORE, BEFORE]
    assert not list((nova / "services").iterdir())


def test_notifications_stay_where_they_are_told(wire, nova):
    wire(notification_url="rabbit://n:other@r1:5672/", options={"rpc_zmq_ipc_dir": "/short"}, python="")
    text = (nova / "nova.conf").read_text()
    assert "[oslo_messaging_notifications]\ntransport_url = rabbit://n:other@r1:5672/\n" in text
    assert "rpc_zmq_ipc_dir = /short\n" in text


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"config_file": "/x"}, "zeromq_services of n1: config_file is no input of role zeromq_service; it has name"),
        ({"config_files": ["/nowhere/nova.conf"]}, "/nowhere/nova.conf is not on n1: install nova first"),
        ({"transport_url": "zmq"}, "be URLs (zmq://)"),
        ({"name": "no va"}, "zeromq_service_name must be letters"),
    ],
)
def test_what_cannot_work_is_refused(wire, nova, entry, message):
    done = wire(**entry)
    assert done.returncode != 0, done.stdout
    assert message in " ".join((done.stdout + done.stderr).split())
    assert (nova / "nova.conf").read_text() == BEFORE


def test_another_python_is_refused(wire, nova):
    other = nova / "python"
    other.write_text('#!/bin/sh\necho \'{"python": "3.9", "packages": "/nowhere"}\'\n')
    other.chmod(0o755)
    done = wire(python=str(other))
    assert done.returncode != 0
    version = ".".join(map(str, sys.version_info[:2]))
    assert f"is Python 3.9, and {nova / 'driver'} is for {version}: install openstack-zeromq into" in " ".join(
        done.stdout.split()
    )


def test_the_playbook_hands_on_every_input_with_the_roles_default():
    tasks = CHECKOUT / "playbooks" / "tasks"
    handed = yaml.safe_load((tasks / "service.yml").read_text(encoding="utf-8"))[0]["vars"]
    assert set(handed) == set(options(ROLE))
    known = yaml.safe_load((tasks / "validate_services.yml").read_text(encoding="utf-8"))[0]["vars"]["__zeromq_known"]
    assert {f"zeromq_service_{key}" for key in known} == set(options(ROLE))
    for name, default in read(ROLE, "defaults/main.yml").items():
        if name != "zeromq_service_name":
            plain = default if isinstance(default, str) else json.dumps(default)
            plain = re.sub(r"^\{\{ | \}\}$", "", plain).replace("zeromq_service_name", "__zeromq_one.name").strip("'")
            assert re.sub(r"[\s']", "", plain) in re.sub(r"[\s']", "", handed[name]), name
