"""This node's own CURVE key: a thin shell over openstack_zeromq.security.own.

Runs under the interpreter of the environment that holds the package. A secret key is made on the node and stays there.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

try:
    from openstack_zeromq.errors import ZeroMQError
    from openstack_zeromq.receiver import admin
    from openstack_zeromq.security.own import OwnKey, State
except ImportError:
    PACKAGE_IMPORT_ERROR = traceback.format_exc()
else:
    PACKAGE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: zmq_curve_keypair
short_description: This node's own CURVE key
description:
  - Makes the key that proves to other nodes who this one is, and tells its public half. The secret half is written to a file
    that only its owner can read, and to nowhere else; it is in no result, no diff and no log.
  - A key is changed in two steps. With O(state=next) another one is made beside it, so that the other nodes can be given both;
    with O(state=switched) that one takes its place, and counts from the receiver's next start or reload. The one before it is
    still told, for a receiver goes on with it until then, until O(state=settled).
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
    description: The file of the secret key; the next one lies beside it, with C(.next) after its name.
    type: path
    default: /etc/oslo/zeromq/node.key
  host:
    description: Name of this node, for the comment in the file.
    type: str
    required: true
  state:
    description:
      - V(present) makes a key if there is none; one that is there is never changed.
      - V(next) makes the one that will follow it, too, if there is none.
      - V(switched) puts that one in its place, if there is one; else as V(present).
      - V(settled) forgets the public half of the one before it; else as V(present). It fails when O(ipc_dir) is given and its
        receiver uses another key still, or does not answer.
      - V(absent) removes all of it. The node is nobody then until it has another key.
    type: str
    choices: [present, next, switched, settled, absent]
    default: present
  owner:
    description: Who may read the files, the receiver's user; without it whoever runs this.
    type: str
  ipc_dir:
    description: Directory of the sockets of a receiver that is asked which key it uses; without it none is asked.
    type: path
"""

EXAMPLES = r"""
- name: This node has a key
  zmq_curve_keypair:
    host: "{{ zeromq_receiver_host }}"
    owner: openstack-zeromq
  register: key
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python

- name: Every node trusts every node
  zmq_authorized_keys:
    keys: "{{ {'node1': key.public_keys} }}"
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python
"""

RETURN = r"""
public_keys:
  description: Public halves of the key, of the one that follows, and of the one before, as far as they are there.
  returned: success
  type: list
  elements: str
in_use:
  description: Public half of the key that the receiver uses; empty when none answers. A reload makes it use the first of
    RV(public_keys).
  returned: success
  type: str
steps:
  description: What was done, or in check mode would be.
  returned: success
  type: list
  elements: str
"""

ARGUMENT_SPEC = {
    "python": {"type": "path", "default": ""},
    "path": {"type": "path", "default": "/etc/oslo/zeromq/node.key"},
    "host": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "next", "switched", "settled", "absent"], "default": "present"},
    "owner": {"type": "str"},
    "ipc_dir": {"type": "path"},
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
    own = OwnKey(Path(asked["path"]), asked["host"])
    in_use = _in_use(asked["ipc_dir"]) if asked["ipc_dir"] else ""
    try:
        if asked["state"] == State.SETTLED and asked["ipc_dir"] and in_use not in own.public()[:1]:
            uses = f"uses {in_use} still: reload or restart it" if in_use else "does not answer"
            module.fail_json(msg=f"the receiver {uses}; until then the others must trust the key before {asked['path']}")
        steps = own.plan(State(asked["state"]))
        if not module.check_mode:
            own.apply(steps)
        changed = bool(steps)
        for path in (own.path, own.next):
            if asked["owner"] and os.path.exists(path):
                changed = module.set_owner_if_different(str(path), asked["owner"], changed)
        public = own.public()
    except ZeroMQError as fault:
        module.fail_json(msg=str(fault))
    except OSError as fault:
        module.fail_json(msg=f"{asked['path']}: {fault.strerror}")
    module.exit_json(changed=changed, public_keys=public, in_use=in_use, steps=[step.value for step in steps])


def _in_use(ipc_dir: str) -> str:
    try:
        return str(admin.answer_of(ipc_dir)["security"].get("public_key", ""))
    except ZeroMQError:
        return ""


if __name__ == "__main__":
    main()
