"""Build the wheel of a checkout once, on the control node.

The wheel lies in a directory named for the sha256 of the sources, so unchanged sources need no work and no
version bump. The build happens in a copy: nothing is written into the checkout, no stale build/ gets in.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: wheelhouse
short_description: Build the wheel of a Python checkout, once per state of its sources
description:
  - Hashes the sources and builds a wheel of them below O(path), unless that was done before.
  - Reproducible, the same sources give the same bytes.
author: openstack-zeromq maintainers
options:
  source:
    description: The checkout, a directory with C(pyproject.toml).
    type: path
    required: true
  path:
    description: Where wheels are kept, in one directory per state of the sources.
    type: path
    required: true
  include:
    description: Files and directories of O(source) that the wheel is made of; missing ones are left out.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Build the wheel of this checkout
  wheelhouse:
    source: "{{ playbook_dir }}/.."
    path: "{{ playbook_dir }}/../.build/wheels"
    include: [pyproject.toml, setup.py, README.md, LICENSE, openstack_zeromq]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
wheel:
  description: Path of the wheel; empty in check mode when it has yet to be built.
  returned: success
  type: str
sha256:
  description: Digest of the wheel; empty when RV(wheel) is.
  returned: success
  type: str
sources_sha256:
  description: Digest of the sources.
  returned: success
  type: str
"""

ARGUMENT_SPEC = {
    "source": {"type": "path", "required": True},
    "path": {"type": "path", "required": True},
    "include": {"type": "list", "elements": "str", "required": True},
}

BUILD_TIME = "946684800"  # 2000-01-01: dates in the wheel say nothing, so that equal sources give equal bytes


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    source, shelf = Path(module.params["source"]), Path(module.params["path"])
    files = source_files(source, module.params["include"])
    if "pyproject.toml" not in files:
        module.fail_json(msg=f"{source}/pyproject.toml is missing: source must be a checkout, and include must name it")
    digest = sources_digest(source, files)
    place = shelf / digest[:16]
    wheel = find_wheel(place)
    built = wheel is None
    if built and not module.check_mode:
        try:
            wheel = build(source, files, place)
        except subprocess.CalledProcessError as fault:
            module.fail_json(msg=f"pip cannot build {source}: {last_lines(fault.stdout)}")
    module.exit_json(
        changed=built,
        wheel=str(wheel or ""),
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest() if wheel else "",
        sources_sha256=digest,
    )


def source_files(source: Path, include: list[str]) -> list[str]:
    """Sorted names, relative to `source`, of what goes into the wheel."""
    names: set[str] = set()
    for top in include:
        path = source / top
        found = path.rglob("*") if path.is_dir() else [path]
        names.update(str(file.relative_to(source)) for file in found if file.is_file() and not _is_cache(file))
    return sorted(names)


def sources_digest(source: Path, files: list[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        content = (source / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def find_wheel(place: Path) -> Path | None:
    return next(iter(sorted(place.glob("*.whl"))), None)


def build(source: Path, files: list[str], place: Path) -> Path:
    """Build in a copy and put the whole result in place with one rename; whoever comes second finds it there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=place.parent) as scratch:
        copy, fresh = Path(scratch) / "source", Path(scratch) / "wheels"
        for name in files:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, copy / name)
        subprocess.run(  # noqa: S603 - our own arguments, no shell
            [
                *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-input", "--disable-pip-version-check"),
                *("--wheel-dir", str(fresh), str(copy)),
            ],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": BUILD_TIME},
        )
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    wheel = find_wheel(place)
    if wheel is None:
        raise FileNotFoundError(f"pip left no wheel in {place}")
    return wheel


def last_lines(output: str, count: int = 15) -> str:
    return "\n".join(output.strip().splitlines()[-count:])


def _is_cache(file: Path) -> bool:
    return "__pycache__" in file.parts or file.suffix == ".pyc"


if __name__ == "__main__":
    main()
