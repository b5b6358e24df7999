"""A real RPC call from this node: a thin shell over `zmqctl ping`, in a process of its own that is ended when its time is over.

Runs under the interpreter of the environment that holds the package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

try:
    import openstack_zeromq
except ImportError:
    PACKAGE_IMPORT_ERROR = traceback.format_exc()
else:
    PACKAGE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: zmq_rpc_ping
short_description: A real RPC call from this node to a topic, or to a server of it
description:
  - Calls a service through oslo.messaging, the driver, the receivers and back, as any OpenStack service would.
  - When nobody answers it fails and says what is known, whether the matchmaker knows a host, the link to it is up, and somebody
    listens there.
  - Is over when O(timeout) is, but for the seconds that a python needs to start. Changes nothing, also not in check mode.
  - Needs a python with openstack-zeromq; name it with O(python), or set C(ansible_python_interpreter), and to be a user who
    may use the receiver, such as one in its group.
author: openstack-zeromq maintainers
options:
  python:
    description:
      - A python with openstack-zeromq, most often that of its environment, under which the module goes on. Empty for its own.
      - Unlike C(ansible_python_interpreter) it counts whatever C(-e) says.
    type: path
    default: ""
  topic:
    description: The topic; by default that of the probe, which C(zeromq_probe) runs on every node.
    type: str
    default: zmq-probe
  server:
    description: The server of the topic, most often the name of a node; empty means any.
    type: str
    default: ""
  exchange:
    description: Exchange of the topic, for instance C(nova).
    type: str
    default: openstack-zeromq
  method:
    description:
      - Method to call. A service that does not know it answers so, and this counts as an answer.
      - C(oslo_rpc_server_ping) is one that services have where C(rpc_ping_enabled) is set.
    type: str
    default: ping
  count:
    description: Timed calls, after one that sets up the path.
    type: int
    default: 3
  timeout:
    description: Seconds for all calls together.
    type: float
    default: 10
  config_files:
    description: The node's configuration; a later file wins.
    type: list
    elements: path
    default: [/etc/oslo/zeromq.conf]
"""

EXAMPLES = r"""
- name: A neighbour reaches the node that was just restarted
  zmq_rpc_ping:
    server: "{{ zeromq_receiver_host }}"
  delegate_to: "{{ neighbour }}"
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python

- name: Some conductor of nova answers
  zmq_rpc_ping:
    topic: conductor
    exchange: nova
    timeout: 5
"""

RETURN = r"""
latency_ms:
  description: Round trips in milliseconds, C(min), C(median) and C(max).
  returned: success
  type: dict
answered_by:
  description: The nodes that answered, as far as they say so; the probe does.
  returned: success
  type: list
remote_error:
  description: What a service answered that does not know the method.
  returned: success
  type: str
msg:
  description: What is known when nobody answers, with the remedy.
  returned: failure
  type: str
receiver:
  description:
    - False when this node has no receiver that runs, or a configuration that none can run with.
    - Then nothing is known about who should have answered.
  returned: always
  type: bool
"""

ARGUMENT_SPEC = {
    "python": {"type": "path", "default": ""},
    "topic": {"type": "str", "default": "zmq-probe"},
    "server": {"type": "str", "default": ""},
    "exchange": {"type": "str", "default": "openstack-zeromq"},
    "method": {"type": "str", "default": "ping"},
    "count": {"type": "int", "default": 3},
    "timeout": {"type": "float", "default": 10},
    "config_files": {"type": "list", "elements": "path", "default": ["/etc/oslo/zeromq.conf"]},
}

START = 15.0
"""Seconds that a python may need to start on a busy node."""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if module.params["python"] not in ("", sys.executable) and not has_respawned():
        if not os.access(module.params["python"], os.X_OK):
            module.fail_json(msg=f"there is no {module.params['python']}: name a python that has openstack-zeromq")
        respawn_module(module.params["python"])
    if PACKAGE_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("openstack-zeromq"), exception=PACKAGE_IMPORT_ERROR)
    if module.params["count"] < 1 or module.params["timeout"] < 0.1:
        module.fail_json(msg="count must be 1 or more, and timeout 0.1 s or more")
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments, no shell
            command(module.params),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=module.params["timeout"] + START,
        )
        pong = json.loads(done.stdout)
    except subprocess.TimeoutExpired as fault:
        module.fail_json(msg=f"the call did not end within {fault.timeout:g} s; is this node short of memory or processors?")
    except ValueError:
        said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()
        module.fail_json(msg=f"the call could not be made: {said[-1]}")
    if pong.pop("error") or done.returncode:
        module.fail_json(msg=json.loads(done.stdout)["error"], receiver=pong.get("receiver", True))
    module.exit_json(changed=False, **{"receiver": True, **pong})


def command(params: dict) -> list[str]:
    """What to run; nothing of it is read by a shell."""
    start = f"from {openstack_zeromq.__name__}.cli.zmqctl import main; main()"
    options = [f"--{name}={params[name]}" for name in ("server", "exchange", "method", "count", "timeout")]
    files = [f"--config-file={path}" for path in params["config_files"]]
    return [sys.executable, "-W", "ignore", "-c", start, "ping", "--json", *options, *files, "--", params["topic"]]


if __name__ == "__main__":
    main()
