"""Whom this node trusts: a thin shell over openstack_zeromq.security.

Runs under the interpreter of the environment that holds the package.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

try:
    from openstack_zeromq.errors import ZeroMQError
    from openstack_zeromq.security import trust
except ImportError:
    PACKAGE_IMPORT_ERROR = traceback.format_exc()
else:
    PACKAGE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: zmq_authorized_keys
short_description: Whom this node trusts
description:
  - Keeps the directory of public keys, one file C(<host>.pub) for each host. A running receiver sees a change within a second,
    and cuts off whose key is not there any more.
  - A host of O(hosts) whose keys are not given keeps the file that it has, so that a run that is limited to some nodes does not
    cut off the others. Files of all other hosts are removed.
  - The folder and its files can be read by everybody, whatever the umask is; where that is not so any more it is restored.
  - Needs a python with openstack-zeromq; name it with O(python), or set C(ansible_python_interpreter).
author: openstack-zeromq maintainers
options:
  python:
    description:
      - A python with openstack-zeromq, most often that of its environment, under which the module goes on. Empty for its own.
      - Unlike C(ansible_python_interpreter) it counts whatever C(-e) says.
    type: path
    default: ""
  path:
    description: The directory.
    type: path
    default: /etc/oslo/zeromq/authorized
  keys:
    description: Host to its public keys, the one in use first. An empty list changes nothing for that host.
    type: dict
    required: true
  hosts:
    description: Further hosts that are trusted with the keys that they have here.
    type: list
    elements: str
    default: []
  revoke:
    description:
      - Hosts whose keys, as they are here, are refused from now on.
      - The keys are remembered in the file C(revoked) beside the directory. No later run trusts them, and no receiver accepts
        them, until O(readmit) names the host.
    type: list
    elements: str
    default: []
  readmit:
    description: Hosts whose revoked keys are forgotten. They are trusted again if O(keys) has them.
    type: list
    elements: str
    default: []
  revoked:
    description: Host to its revoked keys as other nodes remember them. They are remembered here, too.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: node1 and node2 are trusted, and nobody else
  zmq_authorized_keys:
    keys:
      node1: "{{ hostvars.node1.key.public_keys }}"
      node2: "{{ hostvars.node2.key.public_keys }}"
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python
"""

RETURN = r"""
written:
  description: Hosts whose file was written, or in check mode would be.
  returned: success
  type: list
  elements: str
removed:
  description: Hosts that are trusted no more.
  returned: success
  type: list
  elements: str
unknown:
  description: Hosts of O(hosts) that have no key here, so that there is no link to them.
  returned: success
  type: list
  elements: str
refused:
  description: Hosts of O(keys) that were left out, because all their keys are revoked.
  returned: success
  type: list
  elements: str
digest:
  description: The same as C(security.trusted) of M(zmq_receiver_info) once the receiver has seen it.
  returned: success
  type: str
"""

ARGUMENT_SPEC = {
    "python": {"type": "path", "default": ""},
    "path": {"type": "path", "default": "/etc/oslo/zeromq/authorized"},
    "keys": {"type": "dict", "required": True, "no_log": False},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "revoke": {"type": "list", "elements": "str", "default": []},
    "readmit": {"type": "list", "elements": "str", "default": []},
    "revoked": {"type": "dict", "default": {}},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if module.params["python"] not in ("", sys.executable) and not has_respawned():
        if not os.access(module.params["python"], os.X_OK):
            module.fail_json(msg=f"there is no {module.params['python']}: name a python that has openstack-zeromq")
        respawn_module(module.params["python"])
    if PACKAGE_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("openstack-zeromq"), exception=PACKAGE_IMPORT_ERROR)
    asked = module.params
    folder = Path(asked["path"])
    try:
        before, remembered = trust.texts(folder), trust.read_revoked(folder)
        revoked = trust.with_revoked(remembered, before, asked["revoked"], asked["revoke"], asked["readmit"])
        wanted = trust.planned(before, asked["keys"], asked["hosts"], trust.all_keys(revoked))
        if not module.check_mode:
            if revoked != remembered:
                trust.write_revoked(folder, revoked)  # First: a run that ends in between leaves no revoked key trusted.
            trust.write(folder, before, wanted)
        closed = restore_modes(module, folder, wanted)
    except ZeroMQError as fault:
        module.fail_json(msg=str(fault))
    except OSError as fault:
        module.fail_json(msg=f"{folder}: {fault.strerror}")
    module.exit_json(
        changed=wanted != before or revoked != remembered or closed,
        written=sorted(host for host, text in wanted.items() if before.get(host) != text),
        removed=sorted(before.keys() - wanted.keys()),
        unknown=sorted(set(asked["hosts"]) - wanted.keys()),
        refused=sorted(host for host, its in asked["keys"].items() if its and host not in wanted),
        digest=trust.Trust({host: trust.keys_in(text) for host, text in wanted.items()}).digest,
        diff={
            "before": trust.shown(before) + refusals(remembered),
            "after": trust.shown(wanted) + refusals(revoked),
            "before_header": str(folder),
            "after_header": str(folder),
        },
    )


def refusals(revoked: dict[str, tuple[str, ...]]) -> str:
    """Return what the diff shows of the revoked keys."""
    return "".join(f"refused: {line}\n" for line in trust.shown_revoked(revoked).splitlines())


def restore_modes(module: AnsibleModule, folder: Path, hosts: Iterable[str]) -> bool:
    """Let the receiver's user read the folder, the files of `hosts` and the list of revoked keys; True when it could not."""
    changed = False
    files = [*(folder / f"{host}.pub" for host in hosts), trust.revoked_path(folder)]
    for path, mode in ({folder: "0755"} | dict.fromkeys(files, "0644")).items():
        if path.exists():
            changed = module.set_mode_if_different(str(path), mode, changed)
    return changed


if __name__ == "__main__":
    main()
