"""Gather a checkout and all it needs as wheels, once, on the control node: nodes then need no index and no compiler.

The wheel of the checkout lies in a directory named for the sha256 of the sources, so unchanged sources need no work
and no version bump. It is built in a copy: nothing is written into the checkout, no stale build/ gets in. The archive
for one kind of node has a directory beside it, named for what went into it; pip itself is in it, so a node needs a
bare python. What the checkout needs lies in a directory of its own, named for the requirements: a new version with the
same requirements fetches nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import Parser
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, respawn_module

DOCUMENTATION = r"""
module: wheelhouse
short_description: Gather a checkout and all it needs as one archive of wheels
description:
  - Builds the wheel of a checkout, unless that was done for the same sources before.
  - Fetches the wheels of all it needs, for a python that need not be this one, and packs all of them.
  - Reproducible, the same sources and the same fetched wheels give the same bytes.
  - What was fetched for the same requirements before is used again. For newer versions of it remove C(requirements-*) below
    O(path).
author: openstack-zeromq maintainers
options:
  python:
    description:
      - A python with pip; empty for the one that runs the module.
      - Unlike C(ansible_python_interpreter) it counts whatever C(-e) says.
    type: path
    default: ""
  source:
    description: The checkout, a directory with C(pyproject.toml).
    type: path
    required: true
  path:
    description: Where wheels and archives are kept.
    type: path
    required: true
  include:
    description: Files and directories of O(source) that the wheel is made of; missing ones are left out.
    type: list
    elements: str
    required: true
  extras:
    description: Extras of the checkout whose requirements are gathered, too.
    type: list
    elements: str
    default: []
  requirements:
    description: Further requirements, as for pip.
    type: list
    elements: str
    default: []
  target:
    description: What M(node_python) says of the node's python.
    type: dict
    required: true
  pip_arguments:
    description: Further arguments of C(pip download), for instance an index or a constraints file.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Gather the wheels for this kind of node
  wheelhouse:
    source: "{{ playbook_dir }}/.."
    path: "{{ playbook_dir }}/../.build/wheels"
    include: [pyproject.toml, setup.py, README.md, LICENSE, openstack_zeromq]
    extras: [redis]
    target: "{{ node.target }}"
  delegate_to: localhost
"""

RETURN = r"""
archive:
  description: Path of the archive; empty in check mode when it has yet to be made.
  returned: success
  type: str
sha256:
  description: Digest of the archive; empty when RV(archive) is.
  returned: success
  type: str
wheels:
  description: Names of the wheels in it.
  returned: success
  type: list
  elements: str
"""

ARGUMENT_SPEC = {
    "python": {"type": "path", "default": ""},
    "source": {"type": "path", "required": True},
    "path": {"type": "path", "required": True},
    "include": {"type": "list", "elements": "str", "required": True},
    "extras": {"type": "list", "elements": "str", "default": []},
    "requirements": {"type": "list", "elements": "str", "default": []},
    "target": {"type": "dict", "required": True},
    "pip_arguments": {"type": "list", "elements": "str", "default": []},
}

BUILD_TIME = "946684800"  # 2000-01-01: dates in the wheel say nothing, so that equal sources give equal bytes
OLDEST_GLIBC = 5  # glibc 2.5 is the first that a wheel's name can ask for (PEP 600)
LEGACY_PLATFORMS = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}  # and the glibc 2.x that each means

# pip asks its own interpreter which requirements apply. This gives it the node's answers.
PIP_FOR_ANOTHER_PYTHON = """
import json, runpy, sys
from pip._vendor.packaging import markers
ours, theirs = markers.default_environment, json.loads(sys.argv.pop(1))
markers.default_environment = lambda: {**ours(), **theirs}
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


class WheelhouseError(Exception):
    """What cannot be done, with the remedy."""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    asked = module.params
    if asked["python"] not in ("", sys.executable) and not has_respawned():
        respawn_module(asked["python"])
    source, shelf = Path(asked["source"]), Path(asked["path"])
    try:
        files = source_files(source, asked["include"])
        sources = sources_digest(source, files)
        archive = shelf / named_for(asked, sources) / "wheelhouse.tar"
        made = not archive.exists()
        if made and not module.check_mode:
            with alone(shelf):  # several control nodes' users, or runs, may share the shelf
                made = not archive.exists()
                if made:
                    gather(asked, built(source, files, shelf / sources[:16]), archive)
    except WheelhouseError as fault:
        module.fail_json(msg=str(fault))
    except OSError as fault:
        module.fail_json(msg=f"cannot gather wheels in {shelf}: {fault}")
    there = archive.exists()
    module.exit_json(
        changed=made,
        archive=str(archive) if there else "",
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest() if there else "",
        wheels=contents(archive) if there else [],
    )


def source_files(source: Path, include: list[str]) -> list[str]:
    """Sorted names, relative to `source`, of what goes into the wheel.

    :raises WheelhouseError: `source` is no checkout.
    """
    names: set[str] = set()
    for top in include:
        path = source / top
        found = path.rglob("*") if path.is_dir() else [path]
        names.update(str(file.relative_to(source)) for file in found if file.is_file() and not _is_cache(file))
    if "pyproject.toml" not in names:
        raise WheelhouseError(f"{source}/pyproject.toml is missing: source must be a checkout, and include must name it")
    return sorted(names)


def sources_digest(source: Path, files: list[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        content = (source / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def named_for(asked: dict, sources: str) -> str:
    """The archive's directory: a digest of all that decides what is in it."""
    decides = [sources, sorted(asked["extras"]), sorted(asked["requirements"]), asked["target"], asked["pip_arguments"]]
    return "wheelhouse-" + hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def built(source: Path, files: list[str], place: Path) -> Path:
    """The wheel of the sources, built unless it is there.

    Built in a copy and put in place with one rename; whoever comes second finds it there.
    """
    if wheel := next(iter(sorted(place.glob("*.whl"))), None):
        return wheel
    with tempfile.TemporaryDirectory(prefix=".build-", dir=place.parent) as scratch:
        copy, fresh = Path(scratch) / "source", Path(scratch) / "wheels"
        for name in files:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, copy / name)
        _pip(f"build {source}", [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(fresh), str(copy)])
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    return next(iter(sorted(place.glob("*.whl"))))


def gather(asked: dict, wheel: Path, archive: Path) -> None:
    """Pack `wheel` and all it needs on the node."""
    others = fetched(asked, wheel, archive.parents[1])
    with tempfile.TemporaryDirectory(prefix=".gather-", dir=archive.parents[1]) as scratch:
        packed = Path(scratch) / "archive.tar"
        with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as pack:
            for file in sorted([wheel, *others.iterdir()], key=lambda file: file.name):
                pack.add(file, file.name, filter=_plain)
        archive.parent.mkdir(exist_ok=True)
        packed.replace(archive)


def fetched(asked: dict, wheel: Path, shelf: Path) -> Path:
    """Return the directory of the wheels that `wheel` needs on the node; they are fetched unless that was done before.

    Put in place with one rename, so a directory is complete or not there.
    """
    place = shelf / f"requirements-{requirements_digest(asked, wheel)}"
    if place.is_dir():
        return place
    target = asked["target"]
    extras = f"[{','.join(sorted(asked['extras']))}]" if asked["extras"] else ""
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=shelf) as scratch:
        fresh = Path(scratch) / "wheels"
        _pip(
            f"fetch what {wheel.name} needs",
            [
                *(sys.executable, "-c", PIP_FOR_ANOTHER_PYTHON, json.dumps(target["markers"])),
                *("download", "--dest", str(fresh), "--only-binary=:all:", *tags(target), *asked["pip_arguments"]),
                *(f"{wheel}{extras}", "pip", *asked["requirements"]),
            ],
        )
        (fresh / wheel.name).unlink()
        fresh.rename(place)
    return place


def requirements_digest(asked: dict, wheel: Path) -> str:
    """Return a digest of all that decides what `wheel` needs on the node: the version of `wheel` does not."""
    with zipfile.ZipFile(wheel) as content:
        name = next(name for name in content.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(content.read(name).decode())
    stated = sorted(metadata.get_all("Requires-Dist") or ())
    decides = [stated, sorted(asked["extras"]), sorted(asked["requirements"]), asked["target"], asked["pip_arguments"]]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def tags(target: dict) -> Iterator[str]:
    """pip's arguments for the wheels that fit: those of `target`'s interpreter, for its libc and older ones.

    :raises WheelhouseError: a libc other than glibc.
    """
    version = target["markers"]["python_version"].replace(".", "")
    yield from ("--implementation", "cp", "--python-version", target["markers"]["python_full_version"])
    yield from ("--abi", f"cp{version}", "--abi", "abi3", "--abi", "none")
    glibc = re.fullmatch(r"glibc 2\.(\d+).*", target["libc"])
    if glibc is None:
        raise WheelhouseError(
            f"the node's C library is {target['libc'] or 'not glibc'}, for which wheels are not gathered; use a node with glibc"
        )
    newest, machine = int(glibc[1]), target["machine"]
    for minor in range(newest, OLDEST_GLIBC - 1, -1):
        yield from ("--platform", f"manylinux_2_{minor}_{machine}")
    for name, minor in LEGACY_PLATFORMS.items():
        if minor <= newest:
            yield from ("--platform", f"{name}_{machine}")
    yield from ("--platform", f"linux_{machine}")


def contents(archive: Path) -> list[str]:
    with tarfile.open(archive) as pack:
        return sorted(pack.getnames())


@contextmanager
def alone(shelf: Path) -> Iterator[None]:
    """One at a time builds and fetches."""
    shelf.mkdir(parents=True, exist_ok=True)
    with (shelf / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _pip(what: str, command: list[str]) -> None:
    done = subprocess.run(  # noqa: S603 - our own arguments, no shell
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "SOURCE_DATE_EPOCH": BUILD_TIME,
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
    )
    if done.returncode:
        raise WheelhouseError(f"pip cannot {what}: {_last_lines(done.stdout)}")


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = int(BUILD_TIME)
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    return member


def _last_lines(output: str, count: int = 15) -> str:
    return "\n".join(output.strip().splitlines()[-count:])


def _is_cache(file: Path) -> bool:
    return "__pycache__" in file.parts or file.suffix == ".pyc"


if __name__ == "__main__":
    main()
