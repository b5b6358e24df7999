"""What the receiver of this node says of itself: a thin shell over openstack_zeromq.receiver.admin, as `zmqctl status --json` is.

Runs under the interpreter of the environment that holds the package.
"""

from __future__ import annotations

import os
import sys
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

try:
    from openstack_zeromq import options
    from openstack_zeromq.errors import ZeroMQError
    from openstack_zeromq.receiver import admin
except ImportError:
    PACKAGE_IMPORT_ERROR = traceback.format_exc()
else:
    PACKAGE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: zmq_receiver_info
short_description: What the receiver of this node is doing
description:
  - Asks the receiver's admin socket and returns its status, the same data as C(zmqctl status --json).
  - Fails, with the remedy, when no receiver answers. Changes nothing.
  - Needs a python with openstack-zeromq; name it with O(python), or set C(ansible_python_interpreter), and to be root or the
    receiver's user.
author: openstack-zeromq maintainers
options:
  python:
    description:
      - A python with openstack-zeromq, most often that of its environment, under which the module goes on. Empty for its own.
      - Unlike C(ansible_python_interpreter) it counts whatever C(-e) says.
    type: path
    default: ""
  ipc_dir:
    description: Directory of the unix sockets; empty means that of O(config_files).
    type: str
    default: ""
  config_files:
    description: The node's configuration; a later file wins.
    type: list
    elements: path
    default: [/etc/oslo/zeromq.conf]
"""

EXAMPLES = r"""
- name: Ask the receiver
  zmq_receiver_info:
  register: node
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python

- name: Every link is up
  ansible.builtin.assert:
    that: node.receiver.links.values() | rejectattr('state', 'equalto', 'up') | list | length == 0
"""

RETURN = r"""
receiver:
  description:
    - C(node), C(version), C(wire), C(incarnation), C(pid), C(uptime_s), C(services).
    - C(matchmaker) with its backend, what it knows, what it holds and its C(problem).
    - C(links), a peer to its state and messages in flight; C(channels), a channel to its consumers and depth.
    - C(counters), every event that is counted.
  returned: success
  type: dict
"""

ARGUMENT_SPEC = {
    "python": {"type": "path", "default": ""},
    "ipc_dir": {"type": "str", "default": ""},
    "config_files": {"type": "list", "elements": "path", "default": ["/etc/oslo/zeromq.conf"]},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if module.params["python"] not in ("", sys.executable) and not has_respawned():
        if not os.access(module.params["python"], os.X_OK):
            module.fail_json(msg=f"there is no {module.params['python']}: name a python that has openstack-zeromq")
        respawn_module(module.params["python"])
    if PACKAGE_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("openstack-zeromq"), exception=PACKAGE_IMPORT_ERROR)
    try:
        status = admin.answer_of(module.params["ipc_dir"] or options.given(module.params["config_files"]).ipc_dir)
    except ZeroMQError as fault:
        module.fail_json(msg=str(fault))
    module.exit_json(changed=False, receiver=status)


if __name__ == "__main__":
    main()
