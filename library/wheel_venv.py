"""Hold one wheel, and what it needs, in a virtual environment of its own.

A marker with the wheel's digest is written last: an interrupted install has none and is repeated. Several
inventory hosts may share one environment on one machine; a lock lets the first of them do the work.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: wheel_venv
short_description: Install a wheel into its own virtual environment
description:
  - Makes a virtual environment and installs one wheel with its dependencies into it.
  - Does nothing while the marker in it names the same wheel, requirements and interpreter.
author: openstack-zeromq maintainers
options:
  path:
    description: The virtual environment. It is ours alone and is removed as a whole.
    type: path
    required: true
  state:
    description: Whether the environment should be there.
    type: str
    choices: [present, absent]
    default: present
  python:
    description: The interpreter to make it with.
    type: path
    default: /usr/bin/python3
  wheel:
    description: The wheel, on the node. Empty only in check mode, when it has yet to be built.
    type: path
    default: ""
  sha256:
    description: Digest of O(wheel).
    type: str
    default: ""
  requirements:
    description: Further requirements, as for pip.
    type: list
    elements: str
    default: []
  pip_arguments:
    description: Further arguments of C(pip install), for instance a constraints file or an index.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Install the package
  wheel_venv:
    path: /opt/openstack-zeromq
    wheel: /opt/openstack-zeromq.dist/openstack_zeromq-0.1.0-py3-none-any.whl
    sha256: "{{ wheel.sha256 }}"
    requirements: [supervisor>=4.3]
"""

RETURN = r"""
marker:
  description: The file whose time of change tells when the installed package changed.
  returned: success
  type: str
usable:
  description: Whether the environment is there now; false in a first check mode run.
  returned: success
  type: bool
"""

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "wheel": {"type": "path", "default": ""},
    "sha256": {"type": "str", "default": ""},
    "requirements": {"type": "list", "elements": "str", "default": []},
    "pip_arguments": {"type": "list", "elements": "str", "default": []},
}

MARKER = ".installed.json"


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_if=[("state", "present", ("wheel", "sha256"))],
        supports_check_mode=True,
    )
    place = Path(module.params["path"])
    act = hold if module.params["state"] == "present" else remove
    if module.check_mode:
        changed = act(module.params, place, dry=True)
    else:
        try:
            with alone(place):
                changed = act(module.params, place, dry=False)
        except subprocess.CalledProcessError as fault:
            lines = "\n".join(fault.stdout.strip().splitlines()[-15:])
            module.fail_json(msg=f"failed: {' '.join(map(str, fault.cmd))}\n{lines}")
        except OSError as fault:
            module.fail_json(msg=f"cannot change {place}: {fault}")
    marker = place / MARKER
    module.exit_json(changed=changed, marker=str(marker), usable=marker.is_file())


def hold(wanted: dict, place: Path, dry: bool) -> bool:
    """Install what is wanted, unless the marker says that it is there; True when there was something to do."""
    want = {
        "python": interpreter_version(wanted["python"]),
        "requirements": sorted(wanted["requirements"]),
        "sha256": wanted["sha256"],
    }
    have = read_marker(place)
    if have == want:
        return False
    if dry:
        return True
    (place / MARKER).unlink(missing_ok=True)
    if have is None or have["python"] != want["python"] or not works(place):
        shutil.rmtree(place, ignore_errors=True)
        run(wanted["python"], "-m", "venv", str(place))
    pip = (str(place / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
    # The same version may hold other bytes: the wheel itself is put in by force, then what it needs.
    run(*pip, *wanted["pip_arguments"], "--force-reinstall", "--no-deps", wanted["wheel"])
    run(*pip, *wanted["pip_arguments"], wanted["wheel"], *wanted["requirements"])
    temporary = place / f"{MARKER}.new"
    temporary.write_text(json.dumps(want, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(place / MARKER)
    return True


def remove(wanted: dict, place: Path, dry: bool) -> bool:
    """Remove the environment; True when it was there."""
    there = place.exists()
    if there and not dry:
        shutil.rmtree(place)
    return there


def read_marker(place: Path) -> dict | None:
    try:
        return json.loads((place / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def works(place: Path) -> bool:
    return os.access(place / "bin" / "python", os.X_OK)


def interpreter_version(python: str) -> str:
    return run(python, "-c", "import sys; print(sys.version)").strip()


def run(*command: str) -> str:
    return subprocess.run(  # noqa: S603 - our own arguments, no shell
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Hold the lock beside `place`; the lock goes when the environment does."""
    lock = place.with_name(f".{place.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        if not place.exists():
            lock.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
