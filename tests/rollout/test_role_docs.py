"""The tables of inputs in the roles' READMEs are those of their specs."""

import shutil
import subprocess
import sys

import pytest
import yaml

from .conftest import CHECKOUT, load

TOOL = CHECKOUT / "tools" / "role_docs.py"
role_docs = load(TOOL)


def run(*arguments):
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def roles(tmp_path):
    shutil.copytree(CHECKOUT / "roles" / "zeromq_probe", tmp_path / "zeromq_probe")
    return tmp_path


def test_every_readme_is_up_to_date():
    done = run("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_input_is_missed_and_then_written(roles):
    spec = roles / "zeromq_probe" / "meta" / "argument_specs.yml"
    known = yaml.safe_load(spec.read_text())
    known["argument_specs"]["main"]["options"]["zeromq_probe_x"] = {
        "type": "list",
        "elements": "dict",
        "description": ["A | bar.", "More."],
        "options": {"port": {"type": "int", "required": True, "description": "A port."}},
    }
    spec.write_text(yaml.safe_dump(known, sort_keys=False))
    before = (roles / "zeromq_probe" / "README.md").read_text()
    assert run("--check", "--roles", roles).returncode == 1
    assert (roles / "zeromq_probe" / "README.md").read_text() == before
    assert run("--roles", roles).returncode == 0
    text = (roles / "zeromq_probe" / "README.md").read_text()
    assert "| `zeromq_probe_x` | list of dict |  | A \\| bar. More. |" in text
    assert "| &nbsp;&nbsp;`.port` | int | required | A port. |" in text
    assert run("--check", "--roles", roles).returncode == 0


def test_what_stands_around_the_table_stays():
    text = f"# Title\n\n## Inputs\n\n{role_docs.BEGIN}\n\nold\n\n{role_docs.END}\n\n## Example\n\nmine\n"
    assert role_docs.readme(text, "new") == text.replace("old", "new")
    assert role_docs.readme("# T\n\n## Inputs\n\n| a | b |\n|---|---|\n| c | d |\n\n## Example\n\nmine\n", "new") == (
        f"# T\n\n## Inputs\n\n{role_docs.BEGIN}\n\nnew\n\n{role_docs.END}\n\n## Example\n\nmine\n"
    )


def test_a_readme_without_a_place_for_the_table_is_refused(roles):
    (roles / "zeromq_probe" / "README.md").write_text("# nothing\n")
    done = run("--roles", roles)
    assert done.returncode == 1
    assert "nor a heading '## Inputs' is there" in done.stderr
