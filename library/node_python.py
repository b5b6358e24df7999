"""Tell what wheels a node's python can use, for whoever gathers them on the control node.

Runs the interpreter that the environment will be made with, so it may differ from the one that Ansible uses.
"""

from __future__ import annotations

import json
import subprocess

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: node_python
short_description: Tell what wheels a python can use
description:
  - Asks an interpreter for what decides which wheels fit and which requirements apply to it. Changes nothing.
author: openstack-zeromq maintainers
options:
  python:
    description: The interpreter.
    type: path
    default: /usr/bin/python3
"""

EXAMPLES = r"""
- name: Know what wheels fit
  node_python:
    python: /usr/bin/python3
  register: node
"""

RETURN = r"""
target:
  description:
    - What decides, equal for equal nodes. C(machine) and C(libc) as uname and confstr tell them, C(markers) as
      environment markers of requirements name them.
  returned: success
  type: dict
  sample: {machine: x86_64, libc: glibc 2.36, markers: {python_version: "3.11"}}
"""

ARGUMENT_SPEC = {"python": {"type": "path", "default": "/usr/bin/python3"}}

# platform_release and platform_version name the running kernel: no requirement should ask, and no two nodes agree.
QUESTION = """
import json, os, platform, sys
version = "%d.%d.%d" % sys.version_info[:3]
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (ValueError, OSError):
    libc = ""
print(json.dumps({
    "machine": platform.machine(),
    "libc": libc,
    "markers": {
        "implementation_name": sys.implementation.name,
        "implementation_version": version,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_system": platform.system(),
        "python_full_version": version,
        "python_version": "%d.%d" % sys.version_info[:2],
        "sys_platform": sys.platform,
    },
}))
"""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    python = module.params["python"]
    try:
        answer = subprocess.run(  # noqa: S603 - our own arguments, no shell
            [python, "-c", QUESTION], check=True, capture_output=True, text=True
        )
        target = json.loads(answer.stdout)
    except OSError as fault:
        module.fail_json(msg=f"{python}: {fault.strerror}; set zeromq_receiver_python to a python of 3.11 or newer")
    except (subprocess.CalledProcessError, ValueError) as fault:
        module.fail_json(msg=f"{python} does not answer as a python: {getattr(fault, 'stderr', '') or fault}")
    module.exit_json(changed=False, target=target)


if __name__ == "__main__":
    main()
