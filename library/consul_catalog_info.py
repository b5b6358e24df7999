"""Who serves which topic, as Consul has it: a thin shell over openstack_zeromq.catalog.once.

Runs under the interpreter of the environment that holds the package, with its extra [consul].
"""

from __future__ import annotations

import asyncio
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    from openstack_zeromq import options
    from openstack_zeromq.catalog import once
    from openstack_zeromq.errors import ZeroMQError
    from openstack_zeromq.matchmaker import choose
except ImportError:
    PACKAGE_IMPORT_ERROR = traceback.format_exc()
else:
    PACKAGE_IMPORT_ERROR = None

DOCUMENTATION = r"""
module: consul_catalog_info
short_description: Who serves which topic, as Consul has it
description:
  - Reads Consul's catalog and health as a receiver does, and returns the healthy hosts of each topic. Nothing is held here; an
    empty answer is told as it is.
  - Can wait for a change, by index.
  - Fails, with the remedy, when Consul does not answer, or the token may not read. Changes nothing.
  - Needs a python with openstack-zeromq and its extra C([consul]), so set C(ansible_python_interpreter) to that of its
    environment.
author: openstack-zeromq maintainers
options:
  url:
    description:
      - Where the agent listens, C(http://127.0.0.1:8500); empty means that of O(config_files), or else that one.
      - With C(https) the certificates are those of O(ca_file), O(cert_file) and O(key_file).
    type: str
    default: ""
  token:
    description: ACL token; it needs to read services and nodes. Empty means that of O(config_files).
    type: str
    default: ""
  topics:
    description: Topics to ask for. Empty means all that are in the catalog; then a topic that is new is no news to wait for.
    type: list
    elements: str
    default: []
  services:
    description: Consul service to topic, as [matchmaker_consul] services; others keep their name.
    type: dict
  prefix:
    description: What the names of services begin with, as [matchmaker_consul] prefix.
    type: str
  mode:
    description: V(catalog) for services with health, V(kv) for keys of sessions, as [matchmaker_consul] mode.
    type: str
    choices: [catalog, kv]
  fabric:
    description: The fabric, as zmq_fabric.
    type: str
  accept_warning:
    description: Whether a service whose checks warn counts.
    type: bool
  datacenter:
    description: Datacenter to ask; the agent's own where none is named.
    type: str
  ca_file:
    description: Certificates to trust, PEM.
    type: path
  cert_file:
    description: Certificate of this client, PEM.
    type: path
  key_file:
    description: Its key, PEM.
    type: path
  config_files:
    description: Configuration files of a node, for whatever is not said here; a later file wins.
    type: list
    elements: path
    default: []
  newer_than:
    description:
      - An C(index) that was returned before, for the same topics. With it, RV(newer) says whether there is news.
    type: int
  wait:
    description: Seconds to wait for an index past O(newer_than).
    type: float
    default: 0
  within:
    description: Seconds that Consul may take to tell all topics.
    type: float
    default: 10
"""

EXAMPLES = r"""
- name: Ask the catalog
  consul_catalog_info:
    url: http://127.0.0.1:8500
    services: {nova-compute: compute}
  register: catalog
  vars:
    ansible_python_interpreter: /opt/openstack-zeromq/bin/python

- name: Wait a minute for a change
  consul_catalog_info:
    topics: [compute, scheduler]
    newer_than: "{{ catalog.index }}"
    wait: 60
"""

RETURN = r"""
topics:
  description: Topic to its healthy hosts.
  returned: success
  type: dict
servers:
  description: Topic to its servers that are not named like their hosts, each with its hosts.
  returned: success
  type: dict
endpoints:
  description: Host to the C(address), and the C(port) if it is known, of its receiver.
  returned: success
  type: dict
ring:
  description: The ring that this makes, for M(matchmaker_ring) or the filter zeromq_catalog_ring.
  returned: success
  type: dict
index:
  description: How far Consul is with these topics.
  returned: success
  type: int
newer:
  description: Whether that is past O(newer_than); true when none was given.
  returned: success
  type: bool
"""

ARGUMENT_SPEC = {
    "url": {"type": "str", "default": ""},
    "token": {"type": "str", "default": "", "no_log": True},
    "topics": {"type": "list", "elements": "str", "default": []},
    "services": {"type": "dict"},
    "prefix": {"type": "str"},
    "mode": {"type": "str", "choices": ["catalog", "kv"]},
    "fabric": {"type": "str"},
    "accept_warning": {"type": "bool"},
    "datacenter": {"type": "str"},
    "ca_file": {"type": "path"},
    "cert_file": {"type": "path"},
    "key_file": {"type": "path", "no_log": False},
    "config_files": {"type": "list", "elements": "path", "default": []},
    "newer_than": {"type": "int"},
    "wait": {"type": "float", "default": 0},
    "within": {"type": "float", "default": 10},
}

CONSUL = ("services", "prefix", "mode", "accept_warning", "datacenter", "ca_file", "cert_file", "key_file")


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if PACKAGE_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("openstack-zeromq"), exception=PACKAGE_IMPORT_ERROR)
    asked = module.params
    try:
        settings = read(asked)
        how = {"newer_than": asked["newer_than"], "wait": asked["wait"], "within": asked["within"]}
        said = asyncio.run(once.ask(lambda: choose.store(settings), *asked["topics"], **how))
    except ZeroMQError as fault:
        module.fail_json(msg=str(fault))
    published = said.ring
    module.exit_json(
        changed=False,
        topics={topic: sorted(members) for topic, members in said.topics.items()},
        servers=said.servers,
        endpoints={
            host: {"address": where.address} | ({} if where.port is None else {"port": where.port})
            for host, where in sorted(published.hosts.items())
        },
        ring={key: list(hosts) for key, hosts in sorted(published.ring.items())},
        index=said.index,
        newer=said.newer,
    )


def read(asked: dict) -> options.Settings:
    """The settings that the module's options make.

    :raises ConfigError: one of them cannot work.
    """
    consul = {name: asked[name] for name in CONSUL} | {"token": asked["token"] or None}
    if asked["url"]:
        consul |= options.consul_at(asked["url"])
    node = {"rpc_zmq_matchmaker": "consul", "zmq_fabric": asked["fabric"]}
    return options.given(asked["config_files"], {options.CONSUL_GROUP: consul, options.GROUP: node})


if __name__ == "__main__":
    main()
