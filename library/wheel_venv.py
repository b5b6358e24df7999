"""Hold releases of the package, each in a virtual environment of its own, one of them active.

A release is made beside the running one and named for its wheels, so nothing changes below a process that runs; a
symbolic link says which is active and is turned with one rename. A marker is written last: an interrupted install has
none and is repeated. Several inventory hosts may share one environment on one machine; a lock lets the first do the work.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: wheel_venv
short_description: Install an archive of wheels into a virtual environment, beside the one in use
description:
  - Makes a virtual environment below C(<path>.releases) and installs from the archive of M(wheelhouse), without an index.
  - O(path) is a symbolic link to the active release. The first release is active at once, others when O(state=active).
  - Does nothing while the release is there, with the same wheels, requirements and interpreter.
author: openstack-zeromq maintainers
options:
  path:
    description: The symbolic link to the active release. It and C(<path>.releases) are ours alone.
    type: path
    required: true
  state:
    description:
      - V(present) installs the release, V(active) also makes it the active one.
      - V(previous) makes the release active again that was so before the one that is asked for; there is nothing to do when that
        one is not active, so what was interrupted can be repeated.
      - V(absent) removes all releases.
    type: str
    choices: [present, active, previous, absent]
    default: present
  python:
    description: The interpreter to make environments with.
    type: path
    default: /usr/bin/python3
  archive:
    description: The archive of wheels, on the node. Empty only in check mode, when it has yet to be made.
    type: path
    default: ""
  sha256:
    description: Digest of O(archive).
    type: str
    default: ""
  requirements:
    description: What to install, as for pip.
    type: list
    elements: str
    default: []
  keep:
    description: How many releases stay, those in use among them.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: Install the package
  wheel_venv:
    path: /opt/openstack-zeromq
    archive: /opt/openstack-zeromq.dist/wheelhouse-0123456789abcdef.tar
    sha256: "{{ wheels.sha256 }}"
    requirements: ["openstack-zeromq[redis]"]
"""

RETURN = r"""
release:
  description: Directory of the release that was asked for, or of the previous one; empty when it is not there.
  returned: success
  type: str
active:
  description: Directory of the release that is active now; empty when there is none.
  returned: success
  type: str
previous:
  description: Directory of what O(state=previous) would go back to; empty when RV(release) is not active, or the first one.
  returned: success
  type: str
marker:
  description: The file whose time of change tells since when the active release is active.
  returned: success
  type: str
"""

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "active", "previous", "absent"], "default": "present"},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "archive": {"type": "path", "default": ""},
    "sha256": {"type": "str", "default": ""},
    "requirements": {"type": "list", "elements": "str", "default": []},
    "keep": {"type": "int", "default": 3},
}

INSTALLED = ".installed.json"


class VenvError(Exception):
    """What cannot be done, with the remedy."""


@dataclass(frozen=True)
class Places:
    """Where things lie: the link, the releases, and what remembers which release is and was active."""

    link: Path

    @property
    def releases(self) -> Path:
        return self.link.with_name(f"{self.link.name}.releases")

    @property
    def marker(self) -> Path:
        return self.releases / "active.json"

    @property
    def active(self) -> Path | None:
        return self.link.resolve() if self.link.is_symlink() else None

    @property
    def previous(self) -> Path | None:
        """The release that was active before, if it is still there."""
        name = _read(self.marker).get("previous")
        return self.releases / name if name and _installed(self.releases / name) else None


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_if=[("state", state, ("archive", "sha256", "requirements")) for state in ("present", "active", "previous")],
        supports_check_mode=True,
    )
    asked, places = module.params, Places(Path(module.params["path"]))
    try:
        if module.check_mode:
            changed, release = act(asked, places, dry=True)
        else:
            with alone(places.releases):
                changed, release = act(asked, places, dry=False)
    except VenvError as fault:
        module.fail_json(msg=str(fault))
    except subprocess.CalledProcessError as fault:
        lines = "\n".join(fault.stdout.strip().splitlines()[-15:])
        module.fail_json(msg=f"failed: {' '.join(map(str, fault.cmd))}\n{lines}")
    except (OSError, tarfile.TarError) as fault:
        module.fail_json(msg=f"cannot change {places.link}: {fault}")
    module.exit_json(
        changed=changed,
        release=str(release) if release and release.exists() else "",
        active=str(places.active or ""),
        previous=str((places.previous if release == places.active else None) or ""),
        marker=str(places.marker),
    )


def act(asked: dict, places: Places, dry: bool) -> tuple[bool, Path | None]:
    """Do what is asked; whether there was something to do, and the release it was about.

    :raises VenvError: something else lies where the link belongs, or there is no previous release.
    """
    if asked["state"] == "absent":
        return remove(places, dry), None
    if places.link.exists() and not places.link.is_symlink():
        raise VenvError(
            f"{places.link} is no symbolic link: an environment of another make is there; remove it, or choose another path"
        )
    release = places.releases / named_for(asked)
    if asked["state"] == "previous":
        return go_back(places, release, dry), release
    changed = install(asked, release, dry)
    if asked["state"] == "active" or places.active is None or not _installed(places.active):
        changed = activate(places, release, dry) or changed
    if not dry and changed:
        prune(places, release, asked["keep"])
    return changed, release


def named_for(asked: dict) -> str:
    """The release's name: a digest of all that decides what is in it."""
    version = run(asked["python"], "-c", "import sys; print(sys.version)").strip()
    decides = [version, sorted(asked["requirements"]), asked["sha256"]]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def install(asked: dict, release: Path, dry: bool) -> bool:
    """Make the release, unless it is there; True when there was something to do."""
    if _installed(release) or dry:
        return not _installed(release)
    shutil.rmtree(release, ignore_errors=True)
    run(asked["python"], "-m", "venv", "--without-pip", str(release))
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=release) as wheels:
        with tarfile.open(asked["archive"]) as pack:
            unpack(pack, Path(wheels))
        pip = next(iter(sorted(Path(wheels).glob("pip-*.whl"))), None)
        if pip is None:
            raise VenvError(f"{asked['archive']} holds no pip; let module wheelhouse make it")
        # A wheel is a zip file, and python runs what is in one.
        run(
            *(str(release / "bin" / "python"), f"{pip}/pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"),
            *("--no-index", "--find-links", wheels, *asked["requirements"]),
        )
    _write(release / INSTALLED, {"requirements": sorted(asked["requirements"]), "sha256": asked["sha256"]})
    return True


def unpack(pack: tarfile.TarFile, place: Path) -> None:
    """Plain files, by their last name alone: nothing can land elsewhere, also where tarfile has no filters yet (3.11.2)."""
    for member in pack:
        content = pack.extractfile(member)
        if content is not None:
            with (place / Path(member.name).name).open("wb") as file:
                shutil.copyfileobj(content, file)


def activate(places: Places, release: Path, dry: bool) -> bool:
    """Turn the link; True when it pointed elsewhere."""
    before = places.active
    if before == release:
        return False
    if not dry:
        turned = places.link.with_name(f".{places.link.name}.new")
        turned.unlink(missing_ok=True)
        turned.symlink_to(release)
        turned.replace(places.link)
        _write(places.marker, {"active": release.name, "previous": before.name if before else ""})
    return True


def go_back(places: Places, release: Path, dry: bool) -> bool:
    """From `release` to what was active before it; True when it was active.

    :raises VenvError: nothing was active before it, or it is gone.
    """
    if places.active != release:
        return False
    if places.previous is None:
        raise VenvError(f"{places.link} has no previous release to go back to; install the one you want from its checkout")
    return activate(places, places.previous, dry)


def prune(places: Places, release: Path, keep: int) -> None:
    """Remove the oldest releases, never one that is in use, was so before, or is about to be."""
    needed = {places.active, places.previous, release}
    others = [path for path in places.releases.iterdir() if path.is_dir() and path not in needed]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[max(0, keep - len(needed - {None})) :]:
        shutil.rmtree(path)


def remove(places: Places, dry: bool) -> bool:
    there = os.path.lexists(places.link) or any(path.is_dir() for path in places.releases.glob("*"))
    if there and not dry:
        if places.link.is_symlink():
            places.link.unlink()
        elif places.link.exists():
            shutil.rmtree(places.link)
        shutil.rmtree(places.releases, ignore_errors=True)
    return there


def run(*command: str) -> str:
    return subprocess.run(  # noqa: S603 - our own arguments, no shell
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


@contextmanager
def alone(releases: Path) -> Iterator[None]:
    """Hold the lock beside `releases`; the lock goes when they do."""
    lock = releases.with_name(f".{releases.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        releases.mkdir(exist_ok=True)
        yield
        if not any(releases.glob("*")):
            shutil.rmtree(releases, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _installed(release: Path) -> bool:
    return (release / INSTALLED).is_file() and os.access(release / "bin" / "python", os.X_OK)


def _read(file: Path) -> dict:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write(file: Path, content: dict) -> None:
    temporary = file.with_name(f"{file.name}.new")
    temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(file)


if __name__ == "__main__":
    main()
