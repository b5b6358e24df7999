"""tools/scenarios.py: what of a scenario's log is shown last."""

import pytest

from .conftest import CHECKOUT, load

FATAL = """\
\x1b[36mINFO    \x1b[0m \x1b[32mdefault\x1b[0m ➜ converge: Executing
  │ TASK [zeromq_receiver : The package is installed] ***
  │ \x1b[32mok: [node3]\x1b[0m
  │ [ERROR]: Task failed: Module failed: no index
  │ \x1b[31mfatal: [node2]: FAILED! => \x1b[0m
  │ \x1b[31m    changed: false\x1b[0m
  │ \x1b[31m    msg: no index\x1b[0m
  │
  │ PLAY RECAP ***
  └──── Return code: 2 ────
CRITICAL Ansible return code was 2, command was: ansible-playbook
INFO     default ➜ destroy: Executing
"""


@pytest.fixture
def scenarios():
    return load(CHECKOUT / "tools" / "scenarios.py")


@pytest.fixture
def faults(scenarios, tmp_path):
    def faults(text):
        (tmp_path / "x.log").write_text(text)
        return scenarios.faults(tmp_path / "x.log")

    return faults


def test_of_a_log_is_shown_what_failed(faults):
    assert faults(FATAL) == ["fatal: [node2]: FAILED! => ", "    changed: false", "    msg: no index"]


def test_of_a_long_fault_the_first_line_and_the_last_ones(scenarios, faults):
    text = FATAL.replace("    msg: no index", "\n  │ ".join(f"line {n}" for n in range(1000)))
    shown = faults(text)
    assert shown[0] == "fatal: [node2]: FAILED! => "
    assert len(shown) == scenarios.SHOWN + 1
    assert shown[-1] == "line 999"


def test_a_run_that_changes_something_again_is_a_fault(faults):
    critical = "CRITICAL Idempotence test failed because of the following tasks:\n*  => zeromq_receiver : It is there"
    assert faults(critical + "\nINFO     default ➜ destroy: Executing\n") == critical.splitlines()


def test_a_log_without_a_fault_is_shown_by_its_end(scenarios, faults):
    assert faults("\n".join(f"line {n}" for n in range(1000)))[-1] == "line 999"


def test_every_scenario_has_its_place_in_the_order(scenarios):
    there = {path.parent.name for path in (CHECKOUT / "molecule").glob("*/molecule.yml")}
    assert set(scenarios.LONGEST_FIRST) == there
