"""tools/stores.py: fetches once, finds the machine's own mirror, and says in one line what is missing."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "stores.py"

DEB822 = """\
# the security archive comes first
Types: deb
URIs: http://one.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 Suites: nothing

Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src deb
URIs: http://two.example/debian
  http://three.example/debian
Suites: bookworm bookworm-updates
Components: main non-free
"""
ONE_LINE = """\
# deb http://none.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://one.example/debian-security bookworm-security main
deb [arch=amd64 signed-by=/k.gpg] http://two.example/debian bookworm main non-free
"""


@pytest.fixture(scope="module")
def stores() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetching", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    env = None if path is None else {"PATH": path}
    return subprocess.run([sys.executable, script, *arguments], env=env, capture_output=True, text=True, timeout=120, check=False)


def copy(place: Path) -> Path:
    """The script in a checkout that has nothing yet."""
    script = place / "tools" / "stores.py"
    script.parent.mkdir()
    script.write_text(SCRIPT.read_text())
    return script


def test_what_is_there_is_not_fetched_again() -> None:
    done = run(SCRIPT, path="/nonexistent")  # without apt it could not
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_apt_it_says_what_to_do(tmp_path: Path) -> None:
    done = run(copy(tmp_path), path="/nonexistent")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "apt-get is missing" in done.stderr


def test_a_mirror_that_lacks_a_release_is_named_with_the_remedy(tmp_path: Path) -> None:
    done = run(copy(tmp_path), "--mirror", f"file:{tmp_path}/empty")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no usable bookworm" in done.stderr
    assert "--mirror" in done.stderr


@pytest.mark.parametrize(("name", "text"), [("debian.sources", DEB822), ("debian.list", ONE_LINE)])
def test_the_archive_itself_is_found_in_either_format(stores: ModuleType, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert stores.machine_mirror([str(tmp_path / name)]) == "http://two.example/debian"


def test_a_machine_without_a_debian_mirror_is_told_the_remedy(stores: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(stores.StoreError, match="--mirror"):
        stores.machine_mirror([str(tmp_path / "none.list")])
