"""What the tests of all scenarios share: the scenario's machines, reached over ssh, and its playbooks.

A test that takes `node` runs once per node; `nodes` are all of them, by name. Each is a testinfra host.
"""

# ruff: noqa: S101, S603 - as in tests/

import os
import subprocess
import sys
from pathlib import Path

import pytest
import testinfra
import yaml

CHECKOUT = Path(__file__).parents[1]
SCENARIO = os.environ["MOLECULE_SCENARIO_NAME"]
LAB = CHECKOUT / ".lab" / f"molecule-{SCENARIO}"


def names():
    """The scenario's nodes; none in a scenario without machines."""
    listed = LAB / "hosts.yml"
    return sorted(yaml.safe_load(listed.read_text())["all"]["hosts"]) if listed.exists() else []


def pytest_generate_tests(metafunc):
    if "node" in metafunc.fixturenames and "node" not in metafunc.module.__dict__:
        metafunc.parametrize("node", names(), indirect=True)


@pytest.fixture(scope="session")
def nodes():
    return {name: testinfra.get_host(f"ssh://{name}", ssh_config=str(LAB / "ssh_config"), controlpersist=60) for name in names()}


@pytest.fixture
def node(request, nodes):
    return nodes[request.param]


@pytest.fixture
def playbook():
    """Run a playbook of the checkout on the scenario's machines; returns what it printed. It must succeed, or, with
    `fails`, must not."""

    def run(*arguments, fails=False):
        own = LAB / "inventory"  # of a scenario whose inventory is made
        inventories = (own,) if own.exists() else (LAB / "hosts.yml", CHECKOUT / "molecule" / SCENARIO / "inventory")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ansible", "playbook"),
                *(word for path in inventories for word in ("--inventory", str(path))),
                *arguments,
            ],
            cwd=CHECKOUT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def changes():
    """The names of the tasks that changed something, out of what a playbook printed."""

    def read(output):
        tasks, current = [], ""
        for line in output.splitlines():
            if line.startswith("TASK ["):
                current = line[line.index("[") + 1 : line.rindex("]")]
            elif line.startswith("changed:"):
                tasks.append(current)
        return tasks

    return read
