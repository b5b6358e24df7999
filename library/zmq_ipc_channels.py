"""Who consumes what on this node: a thin shell over openstack_zeromq.receiver.channels.

Runs under the interpreter of the environment that holds the package.
"""

from __future__ import annotations

import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from openstack_zeromq import options
    from openstack_zeromq.errors import ZeroMQError
    from openstack_zeromq.receiver import channels
except ImportError:
    PACKAGE_IMPORT_ERROR = traceback.format_exc()
else:
    PACKAGE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: zmq_ipc_channels
short_description: Who consumes what on this node
description:
  - Lists the channels of this node's receiver, and the processes that consume each.
  - Finds sockets that no channel owns, and channels whose socket somebody removed, which no new consumer can reach.
  - Fails, with the remedy, when no receiver answers. Changes nothing.
  - Needs a python with openstack-zeromq, so set C(ansible_python_interpreter) to that of its environment, and to be root or the
    receiver's user. Only root sees the commands of all users where the machine hides processes.
author: openstack-zeromq maintainers
options:
  ipc_dir:
    description: Directory of the unix sockets; empty means that of O(config_files).
    type: str
    default: ""
  config_files:
    description: The node's configuration; a later file wins.
    type: list
    elements: path
    default: [/etc/oslo/zeromq.conf]
  topic:
    description: Only channels of this topic; empty means all.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Who serves compute here?
  zmq_ipc_channels:
    topic: compute
  register: here
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python

- name: Somebody does, and every socket is in its place
  ansible.builtin.assert:
    that:
      - here.channels.values() | sum(attribute='consumers') > 0
      - here.stray == [] and here.missing == []
"""

RETURN = r"""
channels:
  description:
    - Channel to its C(topic), C(server), C(pool), C(exchange), C(kind) (topic, server, fanout or pool) and C(socket).
    - C(consumers) is how many take messages, C(depth) how many messages nobody has taken yet.
    - C(processes) are those behind the consumers, with C(pid), C(uid), C(user), C(command), their C(consumers) of the channel and
      how many messages they are C(holding). A pid of 0 is a process in another container.
  returned: success
  type: dict
stray:
  description: Socket files that no channel owns.
  returned: success
  type: list
missing:
  description: Channels whose socket file is not there; restart the receiver.
  returned: success
  type: list
"""

ARGUMENT_SPEC = {
    "ipc_dir": {"type": "str", "default": ""},
    "config_files": {"type": "list", "elements": "path", "default": ["/etc/oslo/zeromq.conf"]},
    "topic": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if PACKAGE_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("openstack-zeromq"), exception=PACKAGE_IMPORT_ERROR)
    topic = module.params["topic"]
    try:
        seen = channels.look(module.params["ipc_dir"] or options.given(module.params["config_files"]).ipc_dir, topic)
    except ZeroMQError as fault:
        module.fail_json(msg=str(fault))
    except OSError as fault:
        module.fail_json(msg=f"{fault}; is oslo-messaging-zmq-receiver running here, and are you root or its user?")
    module.exit_json(changed=False, **seen)


if __name__ == "__main__":
    main()
