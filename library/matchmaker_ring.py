"""Publish the ring and its side-car: a thin shell over openstack_zeromq.matchmaker.ring_file.

Runs under the interpreter of the environment that holds the package.
"""

from __future__ import annotations

import hashlib
import traceback
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from openstack_zeromq.errors import RingError
    from openstack_zeromq.matchmaker import ring_file
except ImportError:
    RING_FILE_IMPORT_ERROR = traceback.format_exc()
else:
    RING_FILE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: matchmaker_ring
short_description: Publish the ring, which tells a receiver the hosts of each topic
description:
  - Writes the ring as old readers know it, and beside it the side-car with each host's address and port.
  - Both are replaced whole; a reader sees the old bytes or the new.
  - Needs a python with openstack-zeromq, so set C(ansible_python_interpreter) to that of its environment.
author: openstack-zeromq maintainers
options:
  path:
    description: The ring file. Its side-car lies beside it.
    type: path
    required: true
  state:
    description: Whether the two files should be there.
    type: str
    choices: [present, absent]
    default: present
  topics:
    description: Topic to list of hosts; a topic without hosts is left out.
    type: dict
    default: {}
  hosts:
    description: Host to its C(address) and C(port).
    type: dict
    default: {}
  source:
    description: Who says so, a word for whoever reads the side-car.
    type: str
    default: ansible
"""

EXAMPLES = r"""
- name: Publish the ring
  matchmaker_ring:
    path: /etc/oslo/matchmaker_ring.json
    topics: {compute: [c1, c2]}
    hosts:
      c1: {address: 192.0.2.1, port: 9501}
      c2: {address: 192.0.2.2, port: 9501}
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python
"""

RETURN = r"""
path:
  description: The ring file.
  returned: success
  type: str
sha256:
  description: Digest of the ring as it is, or in check mode would be; empty when absent.
  returned: success
  type: str
"""

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "topics": {"type": "dict", "default": {}},
    "hosts": {"type": "dict", "default": {}},
    "source": {"type": "str", "default": "ansible"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if RING_FILE_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("openstack-zeromq"), exception=RING_FILE_IMPORT_ERROR)
    ring = Path(module.params["path"])
    try:
        wanted = plan(module.params, ring)
        before = {path: read(path) for path in wanted}
        changed = before != wanted
        if changed and not module.check_mode:
            apply(wanted)
    except RingError as fault:
        module.fail_json(msg=str(fault))
    except OSError as fault:
        module.fail_json(msg=f"cannot publish the ring: {fault}")
    data = wanted[ring]
    module.exit_json(
        changed=changed,
        path=str(ring),
        sha256=hashlib.sha256(data).hexdigest() if data is not None else "",
        diff=[difference(path, before[path], wanted[path]) for path in wanted if before[path] != wanted[path]],
    )


def plan(params: dict, ring: Path) -> dict[Path, bytes | None]:
    """What each file should hold, None for nothing, in the order of writing.

    The side-car comes first: it counts once the ring it belongs to is there, and readers look when the ring changes.
    """
    meta = ring_file.meta_path(ring)
    if params["state"] == "absent":
        return {ring: None, meta: None}
    data = ring_file.render(params["topics"])
    return {meta: ring_file.render_meta(data, params["hosts"], params["source"]), ring: data}


def apply(wanted: dict[Path, bytes | None]) -> None:
    for path, data in wanted.items():
        if data is None:
            path.unlink(missing_ok=True)
        else:
            ring_file.write(path, data)


def read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def difference(path: Path, before: bytes | None, after: bytes | None) -> dict[str, str]:
    return {
        "before_header": str(path),
        "after_header": str(path),
        "before": (before or b"").decode(errors="replace"),
        "after": (after or b"").decode(),
    }


if __name__ == "__main__":
    main()
