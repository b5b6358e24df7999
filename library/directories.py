"""Create several directories, and restore their owners and modes, in one execution of a module.

A loop over ansible.builtin.file takes one execution for each directory. Read (stat) -> plan (pure: `plan`) -> apply. A missing
directory is created with its parents, which get the same owner and mode: list a parent first if others must pass it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: directories
short_description: Create several directories, and restore their owners and modes
description:
  - Makes directories that are missing, with their parents, and restores mode, owner and group of those that are there.
  - A symbolic link to a directory is taken for that directory.
  - In check mode an owner or group may be unknown yet where the directory is missing, too.
author: openstack-zeromq maintainers
options:
  directories:
    description: The directories, parents first.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it is.
        type: path
        required: true
      mode:
        description: Its mode as an octal number in quotes.
        type: str
        required: true
      owner:
        description: Its owner. When empty, the owner stays as it is.
        type: str
        default: ""
      group:
        description: Its group. When empty, the group stays as it is.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Create the directories of logs and state
  directories:
    directories:
      - {path: /var/lib/openstack-zeromq, mode: "0755"}
      - {path: /var/lib/openstack-zeromq/state, mode: "0750", owner: zeromq}
"""

RETURN = r"""
mended:
  description: The directories that were made, or got another owner or mode; in check mode those that would be.
  returned: success
  type: list
  elements: str
"""

ARGUMENT_SPEC = {
    "directories": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "path", "required": True},
            "mode": {"type": "str", "required": True},
            "owner": {"type": "str", "default": ""},
            "group": {"type": "str", "default": ""},
        },
    }
}


class PlaceError(Exception):
    """A directory cannot be created; the message says which and why."""


@dataclass(frozen=True)
class Directory:
    """A directory that is wanted; an empty `owner` or `group` stays as it is."""

    path: str
    mode: str
    owner: str = ""
    group: str = ""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    wanted = [Directory(**one) for one in module.params["directories"]]
    mended, before, after = [], {}, {}
    try:
        for directory in wanted:
            missing = plan(directory, found)
            if not module.check_mode:
                for path in missing:
                    Path(path).mkdir()
            shown: dict[str, dict] = {"before": {"state": "absent"} if missing else {}, "after": {}}
            changed = bool(missing)
            for path in () if missing and module.check_mode else missing or [directory.path]:
                changed |= set_attributes(module, path, directory, shown)
            if changed:
                mended.append(directory.path)
                before[directory.path], after[directory.path] = shown["before"], {"state": "directory", **shown["after"]}
    except PlaceError as fault:
        module.fail_json(msg=str(fault))
    except OSError as fault:
        module.fail_json(msg=f"{fault.filename}: {fault.strerror}")
    module.exit_json(changed=bool(mended), mended=mended, diff={"before": before, "after": after})


def plan(directory: Directory, found: Callable[[str], int | None]) -> list[str]:
    """Return the directories to create, parents first. `found(path)` returns the mode of the file at `path`, links followed, or
    None if there is no file.

    :raises PlaceError: the path, or a parent, is no directory.
    """
    path, missing = directory.path, []
    while (mode := found(path)) is None:
        missing.insert(0, path)
        path = os.path.dirname(path)
    if not stat.S_ISDIR(mode):
        raise PlaceError(f"{path} is no directory: move it away, or name another place")
    return missing


def found(path: str) -> int | None:
    """Return the mode of the file at `path`, links followed; a dangling link counts as a file."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return os.lstat(path).st_mode if os.path.islink(path) else None
    except NotADirectoryError:
        return None


def set_attributes(module: AnsibleModule, path: str, directory: Directory, shown: dict[str, dict]) -> bool:
    """Set owner, group and mode, of a link those of its target; in check mode only compare. Return whether they differed."""
    real = os.path.realpath(path)
    changed: Iterable[bool] = (
        module.set_owner_if_different(real, directory.owner or None, False, shown),
        module.set_group_if_different(real, directory.group or None, False, shown),
        module.set_mode_if_different(real, int(directory.mode, 8), False, shown),
    )
    return any(changed)


if __name__ == "__main__":
    main()
