"""The checkout itself: make's targets, its virtual environment, and what must not be written into a repository."""

import ast
import re
import subprocess
import sys

import pytest

from .conftest import CHECKOUT, load

venv = load(CHECKOUT / "tools" / "venv.py")


def make(*arguments):
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)


def test_make_alone_shows_what_there_is_to_do():
    text = (CHECKOUT / "Makefile").read_text()
    documented = set(re.findall(r"^([a-z-]+):.*## ", text, flags=re.MULTILINE))
    assert {"demo", "demo-down", "test", "quick", "lint", "unit", "functional", "molecule", "test-pythons", "clean"} <= documented
    shown = make().stdout
    assert all(f"make {target} " in shown for target in documented)


def functional_tests():
    """Each functional test as its promise in `make quick` ("": it is left out) and its other marks."""
    for path in sorted((CHECKOUT / "tests").glob("functional/test_*.py")) + sorted((CHECKOUT / "tests").glob("stores/test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                promise = "".join(match[1] for mark in marks if (match := re.match(r"pytest\.mark\.quick\('(.*)'\)", mark)))
                yield promise, marks


def test_make_quick_guards_each_promise_with_about_a_tenth_of_the_functional_tests():
    tests = list(functional_tests())
    quick = [(promise, marks) for promise, marks in tests if promise]
    promises = {promise for promise, _ in quick}
    assert promises == {"call", "cast", "fanout", "notification", "killed receiver", "keys", "ring", "redis", "consul"}
    assert 0.08 < len(quick) / len(tests) < 0.15
    assert not [marks for _, marks in quick if "pytest.mark.long" in marks]


def test_python_that_is_too_old_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit, match=r"^python 3\.9 is too old, openstack-zeromq needs 3\.11 .*make PYTHON="):
        venv.check_interpreter()


def test_python_without_venv_is_told_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit, match="apt-get install python3-venv"):
        venv.check_interpreter()


def test_environment_is_stale_when_interpreter_or_place_change(tmp_path, monkeypatch):
    key = venv.base_key(str(tmp_path))
    assert key == venv.base_key(str(tmp_path))
    assert key != venv.base_key(str(tmp_path / "moved"))
    monkeypatch.setattr(sys, "version", "another")
    assert key != venv.base_key(str(tmp_path))


@pytest.mark.parametrize("stamp", [None, "", "{", '{"base": "x", "sources": "y", "extra": "dev"}'])
def test_environment_without_stamp_or_interpreter_counts_as_missing(tmp_path, stamp):
    if stamp is not None:
        (tmp_path / ".openstack-zeromq.json").write_text(stamp)
    assert venv.read_stamp(str(tmp_path)) is None


def test_richer_environment_contains_the_lighter_ones():
    assert venv.contained("dev") == ("rollout", "test", "dev")
    assert venv.contained("rollout") == ("rollout",)


def test_no_file_names_a_place_of_the_machine_it_was_written_on():
    files = subprocess.check_output(["git", "ls-files", "-z"], cwd=CHECKOUT, text=True).split("\0")[:-1]
    texts = {name: (CHECKOUT / name).read_text(errors="replace") for name in files if (CHECKOUT / name).is_file()}
    home = re.compile(r"(?<![\w./])/(?:root|home)/\w|index-url *=? *https?://", re.IGNORECASE)
    found = [name for name, text in texts.items() if home.search(text) or str(CHECKOUT) in text]
    assert found == []
