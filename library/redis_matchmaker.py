"""Registrations in Redis on behalf of nodes: a thin shell over openstack_zeromq.matchmaker.redis.registrations.

Read what is there -> plan (pure) -> apply. Runs under the interpreter of the environment that holds the package, with its extra
[redis].
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

try:
    from openstack_zeromq import options
    from openstack_zeromq.errors import ConfigError, ZeroMQError
    from openstack_zeromq.matchmaker.redis import registrations
    from openstack_zeromq.matchmaker.ring_file import Endpoint, strict_endpoints
except ImportError:
    PACKAGE_IMPORT_ERROR = traceback.format_exc()
else:
    PACKAGE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: redis_matchmaker
short_description: Register hosts in Redis on behalf of nodes, or take them out
description:
  - V(present) seeds the store, for instance out of the ring when a fabric moves to Redis, so that nobody is unknown until the
    last receiver has been restarted. V(absent) takes dead nodes out at once, rather than when they expire.
  - A receiver that is alive says itself what it serves at its next beat, whatever was done here. So end it first.
  - Fails, with the remedy, when the store does not answer, or does not let in.
  - Needs a python with openstack-zeromq and its extra C([redis]); name it with O(python), or set C(ansible_python_interpreter).
author: openstack-zeromq maintainers
options:
  python:
    description:
      - A python with openstack-zeromq, most often that of its environment, under which the module goes on. Empty for its own.
      - Unlike C(ansible_python_interpreter) it counts whatever C(-e) says.
    type: path
    default: ""
  state:
    description:
      - V(present) registers the hosts of O(topics), besides what is there.
      - V(absent) removes the hosts of O(topics) from these topics, and those of O(hosts_gone) from all. Receivers believe it at
        once.
    type: str
    choices: [present, absent]
    default: present
  topics:
    description: Topic to list of hosts, in the shape of a ring, so a C(topic:server) is a server of the topic.
    type: dict
    default: {}
  hosts:
    description: With O(state=present), host to its C(address) and C(port); not needed for hosts that the store knows.
    type: dict
    default: {}
  hosts_gone:
    description: With O(state=absent), hosts that leave every topic and are forgotten.
    type: list
    elements: str
    default: []
  expired:
    description:
      - With O(state=absent), remove every host whose time is over. Refused while it cannot be said who is dead, because the store
        was away, or no node says that it is there.
    type: bool
    default: false
  ttl:
    description: With O(state=present), seconds that the hosts have, until their own receivers say that they are there.
    type: float
    default: 300
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
- name: Redis knows what the ring knows
  redis_matchmaker:
    url: "{{ zeromq_store | zeromq_transport_url }}"
    topics: "{{ zeromq_matchmaker_topics | zeromq_ring(groups, hostvars) }}"
    hosts: "{{ groups.zeromq | zeromq_endpoints(hostvars) }}"
  run_once: true
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python

- name: A dead node is in no topic any more
  redis_matchmaker:
    host: 192.0.2.1
    password: "{{ zeromq_redis_password }}"
    state: absent
    hosts_gone: [c2]
"""

RETURN = r"""
changes:
  description: Topic to the hosts that it got (C(added)), lost (C(removed)), or that were registered anew (C(renewed)).
  returned: success
  type: dict
alive:
  description: Hosts among those removed that have not expired; if their receivers run, they come back.
  returned: success
  type: list
"""

ARGUMENT_SPEC = {
    "python": {"type": "path", "default": ""},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "topics": {"type": "dict", "default": {}},
    "hosts": {"type": "dict", "default": {}},
    "hosts_gone": {"type": "list", "elements": "str", "default": []},
    "expired": {"type": "bool", "default": False},
    "ttl": {"type": "float", "default": 300},
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
    if module.params["python"] not in ("", sys.executable) and not has_respawned():
        if not os.access(module.params["python"], os.X_OK):
            module.fail_json(msg=f"there is no {module.params['python']}: name a python that has openstack-zeromq")
        respawn_module(module.params["python"])
    if PACKAGE_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("openstack-zeromq[redis]"), exception=PACKAGE_IMPORT_ERROR)
    try:
        check(module.params)
        result = asyncio.run(work(module.params, options.redis_at(module.params), module.check_mode))
    except ZeroMQError as fault:
        module.fail_json(msg=str(fault))
    if result["alive"] and not module.check_mode:
        module.warn(
            f"{', '.join(result['alive'])} had not expired; a receiver that still runs there registers again: stop it first"
        )
    module.exit_json(**result)


def check(asked: dict) -> None:
    """What the specs cannot say."""
    absent = asked["state"] == "absent"
    if absent and not (asked["topics"] or asked["hosts_gone"] or asked["expired"]):
        raise ConfigError("nobody is to leave: name topics with the hosts that leave them, or hosts_gone, or set expired")
    if not absent and (asked["hosts_gone"] or asked["expired"]):
        raise ConfigError("hosts_gone and expired have no meaning with state=present; use state=absent")
    if not 1 <= asked["ttl"] <= 86_400:
        raise ConfigError(f"ttl is {asked['ttl']:g}: must be 1 to 86400 seconds")
    for topic, hosts in asked["topics"].items():
        if absent and ":" in topic:
            raise ConfigError(f"topics: {topic} is a server of a topic, and a server cannot leave alone; name the topic")
        if not isinstance(hosts, list) or not all(isinstance(host, str) and host for host in hosts):
            raise ConfigError(f"topics: {topic} must have a list of host names")
    strict_endpoints(asked["hosts"])


async def work(asked: dict, settings: options.Settings, check_mode: bool) -> dict[str, object]:
    office = registrations.RedisOffice(settings)
    try:
        there = await office.read()
        if asked["state"] == "present":
            seeds = plan_seeds(asked, there, settings)
            if not check_mode:
                await office.seed(seeds, asked["ttl"])
            return result(there, seeds=tuple(seeds))
        gone, expired = plan_leaving(asked, there, settings)
        forget = [host for host in asked["hosts_gone"] if host in there.hosts]
        if not check_mode:
            if gone or forget:
                await office.dismiss(gone, forget)
            if expired:
                await office.dismiss(expired, [host for host, life in there.hosts.items() if life.left <= 0], expired=True)
        removed = {topic: sorted({*gone.get(topic, ()), *expired.get(topic, ())}) for topic in {*gone, *expired}}
        return result(there, removed=removed, forgotten=bool(forget))
    finally:
        await office.close()


def plan_seeds(asked: dict, there: registrations.Registrations, settings: options.Settings) -> list[registrations.Seed]:
    hosts = {
        host: Endpoint(str(facts["address"]), int(facts.get("port", settings.port))) for host, facts in asked["hosts"].items()
    }
    try:
        return registrations.seeding(there, asked["topics"], hosts, asked["ttl"], settings.port)
    except ValueError as fault:
        raise ConfigError(str(fault)) from None


def plan_leaving(
    asked: dict, there: registrations.Registrations, settings: options.Settings
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Topic -> hosts that leave, and topic -> hosts that have expired."""
    gone = registrations.leaving(there, asked["topics"], asked["hosts_gone"])
    expired = there.expired if asked["expired"] else {}
    doubt = there.doubt(settings.target_expire)
    if expired and doubt:
        raise ConfigError(f"expired: {doubt}")
    return gone, expired


def result(
    there: registrations.Registrations,
    seeds: tuple[registrations.Seed, ...] = (),
    removed: dict[str, list[str]] | None = None,
    forgotten: bool = False,
) -> dict[str, object]:
    """The same in check mode and for real."""
    changes: dict[str, dict[str, list[str]]] = {}
    before = {topic: {host: shown(one[:3]) for host, one in hosts.items()} for topic, hosts in there.topics.items()}
    after = {topic: dict(hosts) for topic, hosts in before.items()}
    for seed in seeds:
        for topic, facts in seed.topics.items():
            what = "renewed" if seed.host in before.get(topic, {}) else "added"
            change(changes, topic)[what].append(seed.host)
            after.setdefault(topic, {})[seed.host] = shown(tuple(facts))
    for topic, hosts in (removed or {}).items():
        change(changes, topic)["removed"] += hosts
        after[topic] = {host: facts for host, facts in after[topic].items() if host not in hosts}
    alive = {host for topic, hosts in (removed or {}).items() for host in hosts if there.topics[topic][host].left > 0}
    return {
        "changed": bool(changes) or forgotten,
        "changes": dict(sorted(changes.items())),
        "alive": sorted(alive),
        "diff": {"before": before, "after": {topic: hosts for topic, hosts in after.items() if hosts}},
    }


def change(changes: dict, topic: str) -> dict[str, list[str]]:
    return changes.setdefault(topic, {"added": [], "removed": [], "renewed": []})


def shown(facts: tuple) -> dict[str, object]:
    address, port, servers = facts
    return {"address": address, "port": port, "servers": list(servers)}


if __name__ == "__main__":
    main()
