"""What is registered in Redis: a thin shell over openstack_zeromq.matchmaker.redis.registrations.

Runs under the interpreter of the environment that holds the package, with its extra [redis].
"""

from __future__ import annotations

import asyncio
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from openstack_zeromq import options
    from openstack_zeromq.errors import ZeroMQError
    from openstack_zeromq.matchmaker.redis import registrations
except ImportError:
    PACKAGE_IMPORT_ERROR = traceback.format_exc()
else:
    PACKAGE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: redis_matchmaker_info
short_description: Which hosts are registered in Redis, and for how long
description:
  - Reads what receivers have registered in Redis or Valkey, alone or behind Sentinels. Nothing is held here; a host that has
    expired and is not buried yet is told with 0 seconds left.
  - Fails, with the remedy, when the store does not answer, or does not let in. Changes nothing.
  - Needs a python with openstack-zeromq and its extra C([redis]), so set C(ansible_python_interpreter) to that of its
    environment.
author: openstack-zeromq maintainers
options:
  url:
    description:
      - The store, C(zmq+redis://[user][:password]@host:port/db) or C(zmq+sentinel://:password@host:port,host:port/group),
        every part percent-encoded as the filter zeromq_transport_url does it.
      - Empty means what the options below say, or else O(config_files).
    type: str
    default: ""
  host:
    description: Where Redis or Valkey listens.
    type: str
  port:
    description: Its port.
    type: int
  db:
    description: Number of the database.
    type: int
  username:
    description: User of its ACL.
    type: str
  password:
    description: Its password.
    type: str
  sentinel_hosts:
    description: Sentinels, host or host:port; they name the master.
    type: list
    elements: str
  sentinel_group_name:
    description: The master group that the Sentinels watch.
    type: str
  sentinel_username:
    description: User of the Sentinels' own ACL.
    type: str
  sentinel_password:
    description: Password of the Sentinels themselves.
    type: str
  ssl:
    description: Whether to speak TLS, also with the Sentinels.
    type: bool
  ca_file:
    description: Certificates to trust, PEM.
    type: path
  cert_file:
    description: Certificate of this client, PEM.
    type: path
  key_file:
    description: Its key, PEM.
    type: path
  fabric:
    description: The fabric, as zmq_fabric.
    type: str
  config_files:
    description: Configuration files of a node, for whatever is not said here; a later file wins.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Ask Redis
  redis_matchmaker_info:
    host: 192.0.2.1
    password: "{{ zeromq_redis_password }}"
  register: registered
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python

- name: Nobody is about to expire
  ansible.builtin.assert:
    that: registered.hosts.values() | map(attribute='left_s') | min > 10
"""

RETURN = r"""
topics:
  description: Topic to its hosts, each with C(address), C(port), C(servers) and C(left_s), the seconds until it expires.
  returned: success
  type: dict
hosts:
  description: Host to C(left_s), and C(ttl_s), the seconds that it has from each sign of life.
  returned: success
  type: dict
generations:
  description: Topic to how often it has changed.
  returned: success
  type: dict
epoch:
  description: Another one means that the store was wiped; empty when nobody ever registered.
  returned: success
  type: str
beaten_s:
  description: Seconds since a node said last that it is there; none when no node ever did.
  returned: success
  type: float
"""

ARGUMENT_SPEC = {
    "url": {"type": "str", "default": "", "no_log": True},
    "host": {"type": "str"},
    "port": {"type": "int"},
    "db": {"type": "int"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "sentinel_hosts": {"type": "list", "elements": "str"},
    "sentinel_group_name": {"type": "str"},
    "sentinel_username": {"type": "str"},
    "sentinel_password": {"type": "str", "no_log": True},
    "ssl": {"type": "bool"},
    "ca_file": {"type": "path"},
    "cert_file": {"type": "path"},
    "key_file": {"type": "path", "no_log": False},
    "fabric": {"type": "str"},
    "config_files": {"type": "list", "elements": "path", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if PACKAGE_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("openstack-zeromq[redis]"), exception=PACKAGE_IMPORT_ERROR)
    try:
        there = asyncio.run(read(options.redis_at(module.params)))
    except ZeroMQError as fault:
        module.fail_json(msg=str(fault))
    module.exit_json(
        changed=False,
        topics={topic: {host: row(one) for host, one in hosts.items()} for topic, hosts in there.topics.items()},
        hosts={host: {"left_s": life.left, "ttl_s": life.ttl} for host, life in there.hosts.items()},
        generations=there.generations,
        epoch=there.epoch,
        beaten_s=there.beaten,
    )


async def read(settings: options.Settings) -> registrations.Registrations:
    office = registrations.RedisOffice(settings)
    try:
        return await office.read()
    finally:
        await office.close()


def row(one: registrations.Registered) -> dict[str, object]:
    return {"address": one.address, "port": one.port, "servers": one.servers, "left_s": one.left}


if __name__ == "__main__":
    main()
