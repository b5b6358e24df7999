"""Write several files, each whole or not at all, and restore their owners and modes, in one execution of a module.

ansible.builtin.template takes two executions for each file. Texts are rendered on the control node, for instance with the lookup
plug-in `template`. Read -> compare -> check -> write beside -> rename.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: files
short_description: Write several files, and restore their owners and modes
description:
  - Writes files that are missing or hold something else, each whole or not at all, and restores mode, owner and group of the
    others.
  - In check mode an owner or group may be unknown yet where the file is missing, too; and nothing is validated.
author: openstack-zeromq maintainers
options:
  files:
    description: The files. Their directories must be there, except in check mode.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it is.
        type: path
        required: true
      content:
        description: All of its text.
        type: str
        required: true
      mode:
        description: Its mode as an octal number in quotes.
        type: str
        default: "0644"
      owner:
        description: Its owner. When empty, the owner stays as it is.
        type: str
        default: ""
      group:
        description: Its group. When empty, the group stays as it is.
        type: str
        default: ""
      validate:
        description:
          - A command that must succeed before a changed file takes its place; C(%s) is where its text lies until then.
          - When empty, every text is good.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Write a service's configuration, and when its log is rotated
  files:
    files:
      - path: /etc/oslo/zeromq.conf
        content: "{{ lookup('ansible.builtin.template', 'zeromq.conf.j2') }}"
        validate: oslo-messaging-zmq-receiver --config-file %s --check
      - path: /etc/logrotate.d/openstack-zeromq
        content: "{{ lookup('ansible.builtin.template', 'logrotate.j2') }}"
"""

RETURN = r"""
written:
  description: The files that were written, or got another owner or mode; in check mode those that would be.
  returned: success
  type: list
  elements: str
"""

ARGUMENT_SPEC = {
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "no_log": True,  # texts may hold passwords: the node's log gets none
        "options": {
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "mode": {"type": "str", "default": "0644"},
            "owner": {"type": "str", "default": ""},
            "group": {"type": "str", "default": ""},
            "validate": {"type": "str", "default": ""},
        },
    }
}


class FileError(Exception):
    """A file cannot be written; the message says which and why."""


@dataclass(frozen=True)
class File:
    """A file that is wanted; an empty `owner` or `group` stays as it is, an empty `validate` finds every text good."""

    path: str
    content: str
    mode: str = "0644"
    owner: str = ""
    group: str = ""
    validate: str = ""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.no_log_values.clear()  # of a difference that is asked for nothing is blotted out
    asked = {"module_args": {"files": [one["path"] for one in module.params["files"]]}}
    written, diffs = [], []
    try:
        for file in [File(**one) for one in module.params["files"]]:
            before = read(file.path)
            changed = before != file.content
            if changed:
                diffs.append(
                    {"before_header": file.path, "after_header": file.path, "before": before or "", "after": file.content}
                )
                if not module.check_mode:
                    write(module, file)
            shown: dict[str, dict] = {"before": {"path": file.path}, "after": {"path": file.path}}
            if not (before is None and module.check_mode) and set_attributes(module, file, shown):
                changed = True
                diffs.append(shown)
            if changed:
                written.append(file.path)
    except FileError as fault:
        module.fail_json(msg=str(fault), invocation=asked)
    except OSError as fault:
        module.fail_json(msg=f"{fault.filename}: {fault.strerror}", invocation=asked)
    module.exit_json(changed=bool(written), written=written, diff=diffs if module._diff else [], invocation=asked)


def read(path: str) -> str | None:
    """Return the text of the file at `path`; None if there is none.

    :raises FileError: the path is not that of a file.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(mode):
        raise FileError(f"{path} is no file: move it away, or name another place")
    with open(path, "rb") as file:
        return file.read().decode(errors="replace")


def write(module: AnsibleModule, file: File) -> None:
    """Put the text in its place, if it is good.

    :raises FileError: it is not, or the directory is missing.
    """
    descriptor, fresh = tempfile.mkstemp(dir=module.tmpdir)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(file.content.encode())
        if file.validate:
            rc, out, err = module.run_command(file.validate.replace("%s", fresh))
            if rc != 0:
                raise FileError(f"{file.path} stays as it was, for {file.validate} failed: {(err or out).strip()}")
        if not os.path.isdir(os.path.dirname(file.path)):
            raise FileError(f"{file.path}: there is no directory {os.path.dirname(file.path)}")
        module.atomic_move(fresh, file.path)
    finally:
        if os.path.exists(fresh):
            os.unlink(fresh)


def set_attributes(module: AnsibleModule, file: File, shown: dict[str, dict]) -> bool:
    """Set owner, group and mode, of a link those of its target; in check mode only compare. Return whether they differed."""
    real = os.path.realpath(file.path)
    changed: Iterable[bool] = (
        module.set_owner_if_different(real, file.owner or None, False, shown),
        module.set_group_if_different(real, file.group or None, False, shown),
        module.set_mode_if_different(real, int(file.mode, 8), False, shown),
    )
    return any(changed)


if __name__ == "__main__":
    main()
