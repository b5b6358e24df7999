"""What the tests of the rollout share: Ansible's modules and filters as Python modules, and a way to run them."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

CHECKOUT = Path(__file__).parents[2]


def load(path):
    """A file of library/ or filter_plugins/ as a Python module."""
    spec = importlib.util.spec_from_file_location(f"rollout_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_module(capsys):
    """Run an Ansible module as Ansible would, in this process; returns its result."""

    def run(module, check=False, diff=True, **arguments):
        with (
            patch_module_args({**arguments, "_ansible_check_mode": check, "_ansible_diff": diff}),
            pytest.raises(SystemExit),
        ):
            module.main()
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture(scope="session")
def playbook():
    """Run a playbook of this checkout with inventories/local; returns the finished process."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", *map(str, arguments)],
            cwd=CHECKOUT,
            env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
