"""Publish the ring and its side-car: a thin shell over openstack_zeromq.catalog (`edit` is the plan, `disk` the files).

Runs under the interpreter of the environment that holds the package.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

try:
    from openstack_zeromq.catalog import edit, shape
    from openstack_zeromq.catalog.changes import changes
    from openstack_zeromq.catalog.disk import Disk
    from openstack_zeromq.errors import RingError
    from openstack_zeromq.matchmaker import ring_file
except ImportError:
    PACKAGE_IMPORT_ERROR = traceback.format_exc()
else:
    PACKAGE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: matchmaker_ring
short_description: Publish the ring, which tells a receiver the hosts of each topic
description:
  - Writes the ring as old readers know it, and beside it the side-car with each host's address and port.
  - Both are replaced whole; a reader sees the old bytes or the new. Owner, group and mode stay as they are.
  - What a sync remembers in the side-car, above all what it holds and why, survives for every host that stays.
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
    description: The ring file. Its side-car lies beside it.
    type: path
    required: true
  state:
    description:
      - V(exact) makes the ring just what O(topics) and O(hosts) say.
      - V(present) adds them to what is there.
      - V(absent) takes the hosts of O(topics) out of these topics and their servers, those of O(hosts_gone) out of all topics.
      - V(removed) takes both files away.
    type: str
    choices: [exact, present, absent, removed]
    default: present
  topics:
    description:
      - Topic to list of hosts. A C(topic:server) is a key like any other.
      - With V(exact) and V(present) a topic without hosts is left out; with V(absent) it is refused.
    type: dict
    default: {}
  hosts:
    description: Host to its C(address) and, if it is not the usual one, C(port). Not used to take hosts out.
    type: dict
    default: {}
  hosts_gone:
    description: With O(state=absent), hosts that leave every topic and are forgotten.
    type: list
    elements: str
    default: []
  floor:
    description:
      - Refuse, and write nothing, when a topic would lose more than this share of its hosts, and more than two.
      - V(1) refuses nothing. Does not count for V(removed).
    type: float
    default: 0.5
  source:
    description: Who says so, a word for whoever reads the side-car.
    type: str
    default: ansible
"""

EXAMPLES = r"""
- name: The ring is what the inventory says
  matchmaker_ring:
    path: /etc/oslo/matchmaker_ring.json
    state: exact
    topics: {compute: [c1, c2]}
    hosts:
      c1: {address: 192.0.2.1, port: 9501}
      c2: {address: 192.0.2.2, port: 9501}
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python

- name: A new node serves a topic, too
  matchmaker_ring:
    path: /etc/oslo/matchmaker_ring.json
    topics: {compute: [c3]}
    hosts:
      c3: {address: 192.0.2.3}

- name: A dead node is in no topic any more
  matchmaker_ring:
    path: /etc/oslo/matchmaker_ring.json
    state: absent
    hosts_gone: [c2]
"""

RETURN = r"""
path:
  description: The ring file.
  returned: success
  type: str
sha256:
  description: Digest of the ring as it is, or in check mode would be; empty when there is none.
  returned: success
  type: str
topics:
  description: Topic to its hosts, as they are, or in check mode would be.
  returned: success
  type: dict
changes:
  description: Topic to the hosts that it got (C(added)) and lost (C(removed)).
  returned: success
  type: dict
"""

ARGUMENT_SPEC = {
    "python": {"type": "path", "default": ""},
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["exact", "present", "absent", "removed"], "default": "present"},
    "topics": {"type": "dict", "default": {}},
    "hosts": {"type": "dict", "default": {}},
    "hosts_gone": {"type": "list", "elements": "str", "default": []},
    "floor": {"type": "float", "default": 0.5},
    "source": {"type": "str", "default": "ansible"},
}


class RefusedError(Exception):
    """What is asked for cannot or must not be done; the message names the remedy."""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if module.params["python"] not in ("", sys.executable) and not has_respawned():
        if not os.access(module.params["python"], os.X_OK):
            module.fail_json(msg=f"there is no {module.params['python']}: name a python that has openstack-zeromq")
        respawn_module(module.params["python"])
    if PACKAGE_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("openstack-zeromq"), exception=PACKAGE_IMPORT_ERROR)
    disk = Disk(Path(module.params["path"]))
    try:
        check(module.params)
        with contextlib.nullcontext() if module.check_mode or not disk.path.parent.exists() else disk.locked():
            before = read(disk, module.params["state"])
            after = plan(before, module.params)
            told = tell(disk, before, after, module.params["state"])
            if told["changed"] and not module.check_mode:
                apply(disk, before, after)
    except (RingError, RefusedError) as fault:
        module.fail_json(msg=f"{disk.path}: {fault}")
    except OSError as fault:
        module.fail_json(msg=f"cannot publish the ring {disk.path}: {fault}; make its directory, and run as who may write there")
    module.exit_json(path=str(disk.path), **told)


def check(params: dict) -> None:
    """What the specs cannot say."""
    state = params["state"]
    if params["hosts_gone"] and state != "absent":
        raise RefusedError(f"hosts_gone has no meaning with state={state}; use state=absent")
    if state == "absent" and not params["topics"] and not params["hosts_gone"]:
        raise RefusedError("nobody is to leave: name topics with the hosts that leave them, or hosts_gone")
    if not 0 <= params["floor"] <= 1:
        raise RefusedError(f"floor is {params['floor']:g}: must be a share from 0 to 1")


def read(disk: Disk, state: str) -> shape.Published | None:
    """What is published, None: nothing. For a ring that is to be replaced or removed what is none counts as nothing, too."""
    try:
        return disk.read()
    except RingError as fault:
        if state in {"exact", "removed"}:
            return None
        raise RefusedError(
            f"{fault}; nothing can be added to or taken out of what is no ring: write it with state=exact"
        ) from None


def plan(before: shape.Published | None, params: dict) -> shape.Published | None:
    """What should be published; None: nothing."""
    state, topics, source = params["state"], params["topics"], params["source"]
    if state == "removed" or (state == "absent" and before is None):
        return None
    old = before or shape.NOTHING
    if state == "absent":
        after = edit.absent(old, topics, params["hosts_gone"], source)
    else:
        after = (edit.exact if state == "exact" else edit.present)(
            old, topics, ring_file.strict_endpoints(params["hosts"]), source
        )
    lost = edit.losses(old.ring, after.ring, params["floor"])
    if lost:
        which = "; ".join(
            f"{change.key} would lose {', '.join(change.removed)} of {len(old.ring[change.key])}" for change in lost
        )
        raise RefusedError(
            f"refused, as it looks like an accident: {which}; if it is meant, say so with floor=1, or in smaller steps"
        )
    return after


def apply(disk: Disk, before: shape.Published | None, after: shape.Published | None) -> None:
    if after is not None:
        disk.publish(after, before)
        return
    for path in (disk.path, ring_file.meta_path(disk.path)):
        path.unlink(missing_ok=True)


def tell(disk: Disk, before: shape.Published | None, after: shape.Published | None, state: str) -> dict[str, object]:
    """The result: what is so, or will be."""
    meta = ring_file.meta_path(disk.path)
    there = {meta: contents(meta), disk.path: contents(disk.path)}
    wanted: dict[Path, bytes | None] = dict.fromkeys(there)
    if after is not None:
        wanted[disk.path], wanted[meta] = shape.render(after)
        if before is not None and before.says() == after.says() and disk.is_canonical(after):
            wanted = dict(there)  # how the side-car is written does not matter
    elif state == "absent":
        wanted = dict(there)  # nobody is there who could leave
    old, new = before or shape.NOTHING, after or shape.NOTHING
    return {
        "changed": there != wanted,
        "sha256": "" if after is None else ring_file.sha256(wanted[disk.path]),
        "topics": {key: list(hosts) for key, hosts in sorted(new.ring.items())},
        "changes": {change.key: {"added": change.added, "removed": change.removed} for change in changes(old.ring, new.ring)},
        "diff": [difference(path, there[path], wanted[path]) for path in there if there[path] != wanted[path]],
    }


def contents(path: Path) -> bytes | None:
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
