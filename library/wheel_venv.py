"""Hold releases of the package, each in a virtual environment of its own, one of them active.

A release is made beside the running one and named for its wheels, so nothing changes below a process that runs; a
symbolic link says which is active and is turned with one rename. A marker is written last: an interrupted install has
none and is repeated. Several inventory hosts may share one environment on one machine; a lock lets the first do the work.

Packages whose wheels are the same as those of a release that is there are copied from it, file by file as their records say
and only while their digests are right; pip installs the rest. A copy, no hard links: nothing that happens to one release
can reach the one that a rollback needs. Most of the time of an installation goes into compiling, which a copy saves.

Daemons and services of other users run what is installed here, so everybody may read it, whatever root's umask is.
"""

from __future__ import annotations

import base64
import csv
import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
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
  - Packages whose wheels did not change are copied from a release that is there already; pip installs the others.
  - Everybody may read and run what is installed, whatever the umask is; where that is not so any more it is restored.
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
copied:
  description: Packages that were copied from another release; pip has installed the others.
  returned: success
  type: list
  elements: str
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
CHUNK = 1 << 20
"""Bytes that are read at a time."""
READABLE = 0o022
"""The umask under which everybody may read, and only the owner write."""


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
        copied: list[str] = []
        if module.check_mode:
            changed, release = act(asked, places, dry=True, copied=copied)
        else:
            with umask(READABLE), alone(places.releases):
                changed, release = act(asked, places, dry=False, copied=copied)
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
        copied=copied,
    )


def act(asked: dict, places: Places, dry: bool, copied: list[str]) -> tuple[bool, Path | None]:
    """Do what is asked; whether there was something to do, and the release it was about. `copied` gets the packages that
    another release had already.

    :raises VenvError: something else lies where the link belongs, or there is no previous release.
    """
    if asked["state"] == "absent":
        return remove(places, dry), None
    if places.link.exists() and not places.link.is_symlink():
        raise VenvError(
            f"{places.link} is no symbolic link: an environment of another make is there; remove it, or choose another path"
        )
    version = run(asked["python"], "-c", "import sys; print(sys.version)").strip()
    release = places.releases / named_for(asked, version)
    changed = open_to_all(places.releases, dry)
    if asked["state"] == "previous":
        return go_back(places, release, dry) or changed, release
    missing = not _installed(release)
    if missing and not dry:
        copied += install(asked, version, places, release)
    changed = missing or changed
    if asked["state"] == "active" or places.active is None or not _installed(places.active):
        changed = activate(places, release, dry) or changed
    if not dry and changed:
        prune(places, release, asked["keep"])
    return changed, release


def named_for(asked: dict, version: str) -> str:
    """Return the release's name: a digest of all that decides what is in it."""
    decides = [version, sorted(asked["requirements"]), asked["sha256"]]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def install(asked: dict, version: str, places: Places, release: Path) -> list[str]:
    """Make the release; return the packages that another one had already."""
    shutil.rmtree(release, ignore_errors=True)
    run(asked["python"], "-m", "venv", "--without-pip", str(release))
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=release) as place:
        with tarfile.open(asked["archive"]) as pack:
            unpack(pack, Path(place))
        wheels = {wheel.name: digest(wheel) for wheel in sorted(Path(place).glob("*.whl"))}
        pip = next((name for name in wheels if name.startswith("pip-")), None)
        if pip is None:
            raise VenvError(f"{asked['archive']} holds no pip; let module wheelhouse make it")
        base, same = nearest(places, version, wheels)
        copied = [name for name in same if base is not None and carry_over(Path(place) / name, base, release)]
        # A wheel is a zip file, and python runs what is in one.
        run(
            *(str(release / "bin" / "python"), f"{place}/{pip}/pip", "install", "--quiet", "--no-input"),
            *("--disable-pip-version-check", "--no-index", "--find-links", place, *asked["requirements"]),
        )
    record = {"requirements": sorted(asked["requirements"]), "sha256": asked["sha256"], "python": version, "wheels": wheels}
    _write(release / INSTALLED, record)
    return copied


def nearest(places: Places, version: str, wheels: Mapping[str, str]) -> tuple[Path | None, list[str]]:
    """Return the release of this Python that has the most of `wheels`, and the names of those."""
    found: tuple[Path | None, list[str]] = (None, [])
    for release in sorted(path for path in places.releases.iterdir() if _installed(path)):
        record = _read(release / INSTALLED)
        same = sorted(dict(record.get("wheels", {})).items() & wheels.items()) if record.get("python") == version else []
        if len(same) > len(found[1]):
            found = release, [name for name, _digest in same]
    return found


def carry_over(wheel: Path, base: Path, release: Path) -> bool:
    """Copy from `base` what `wheel` has installed there; False, and nothing is copied, where that is not as recorded.

    The record of an installed package names its files, with digests but for what was compiled (PyPA, "Recording installed
    projects"). Compiled files hold the time and size of their source, which a copy keeps.
    """
    with zipfile.ZipFile(wheel) as content:
        record = next(name for name in content.namelist() if name.endswith(".dist-info/RECORD"))
    theirs = next(base.glob("lib/python*/site-packages"))
    if not (theirs / record).is_file():
        return False
    with (theirs / record).open(encoding="utf-8", newline="") as file:
        rows = [(theirs / row[0], row[1]) for row in csv.reader(file) if row]
    within = all(Path(os.path.normpath(path)).is_relative_to(base) for path, _digest in rows)
    if not within or not all(path.is_file() and (is_script(path) or matches(path, told)) for path, told in rows):
        return False
    for path, _digest in rows:
        place = release / Path(os.path.normpath(path)).relative_to(base)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)
        if is_script(path):
            place.write_bytes(path.read_bytes().replace(os.fsencode(base), os.fsencode(release)))
    return True


def is_script(path: Path) -> bool:
    """Whether it lies in bin: pip writes the path of the interpreter into such a file."""
    return path.parent.name == "bin" and "site-packages" not in Path(os.path.normpath(path)).parts


def matches(path: Path, told: str) -> bool:
    """Whether the file has the digest that a record tells; records tell none of compiled files and of themselves."""
    if not told:
        return path.suffix == ".pyc" or path.name == "RECORD"
    algorithm, _, value = told.partition("=")
    return base64.urlsafe_b64encode(hashlib.new(algorithm, path.read_bytes()).digest()).rstrip(b"=").decode() == value


def digest(file: Path) -> str:
    told = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            told.update(chunk)
    return told.hexdigest()


def unpack(pack: tarfile.TarFile, place: Path) -> None:
    """Plain files, by their last name alone: nothing can land elsewhere, also where tarfile has no filters yet (3.11.2)."""
    for member in pack:
        content = pack.extractfile(member)
        if content is not None:
            with (place / Path(member.name).name).open("wb") as file:
                shutil.copyfileobj(content, file)


def open_to_all(top: Path, dry: bool) -> bool:
    """Let everybody read what lies below `top`, and run what its owner may run; True when somebody could not."""
    closed = [(path, mode) for path, mode in _modes(top) if mode != _opened(mode)]
    for path, mode in () if dry else closed:
        os.chmod(path, _opened(mode))
    return bool(closed)


def _modes(top: Path) -> Iterator[tuple[str, int]]:
    """`top`, and each file and directory below it, with its mode; links have none of their own."""
    if top.is_dir():
        yield str(top), top.stat().st_mode
    for folder, _, _ in os.walk(top):
        with os.scandir(folder) as entries:
            yield from ((entry.path, entry.stat().st_mode) for entry in entries if not entry.is_symlink())


def _opened(mode: int) -> int:
    runs = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH if mode & stat.S_IXUSR else 0
    return mode | stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH | runs


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
def umask(mask: int) -> Iterator[None]:
    """What is made meanwhile, by commands too, has the modes that `mask` leaves."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


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
