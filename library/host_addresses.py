"""Resolve names to addresses on the node that asks: a packet filter knows addresses, and at boot there is no name service.

The node's own name service is asked, as the receiver there asks it: with split DNS the control node may see other addresses.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_addresses
short_description: Resolve names to addresses, on the node
description:
  - Returns all addresses of all names, IPv4 and IPv6; addresses and networks are taken as they are.
  - Fails when a name has no address, and names it. Changes nothing.
author: openstack-zeromq maintainers
options:
  names:
    description: Names, addresses and networks.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Resolve the peers
  host_addresses:
    names: [compute1.example.com, 192.0.2.7, 2001:db8::/64]
  register: peers
"""

RETURN = r"""
ipv4:
  description: IPv4 addresses and networks, sorted; neighbours are merged into one network.
  returned: success
  type: list
  elements: str
ipv6:
  description: The same for IPv6.
  returned: success
  type: list
  elements: str
"""

ARGUMENT_SPEC = {"names": {"type": "list", "elements": "str", "required": True}}

AT_A_TIME = 32
"""Names that are resolved at the same time: most of the time is spent in waiting for the name service."""
ENOUGH = 5
"""Failures after which the others are not tried: a name service that is away would cost ten seconds a name."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass
class Resolved:
    """The networks of all names, and the names without one, each with the reason."""

    networks: set[Network] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)

    def of_version(self, version: int) -> list[str]:
        """Return the networks of this IP version as packet filters write them: a single address has no length."""
        kept: list[Network] = []
        for network in sorted(network for network in self.networks if network.version == version):
            # Sorted by address, then length: what lies in a larger network comes after it. nft refuses overlaps.
            if not kept or not network.subnet_of(kept[-1]):
                kept.append(network)
        return [str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net) for net in kept]


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    found = resolve(module.params["names"])
    if found.failures:
        module.fail_json(msg=complaint(found.failures, socket.gethostname()))
    module.exit_json(changed=False, ipv4=found.of_version(4), ipv6=found.of_version(6))


def resolve(names: Iterable[str]) -> Resolved:
    """Resolve `names`; stop early when ENOUGH of them have failed."""
    found = Resolved()
    wanted = sorted(set(names))
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for name, answer in zip(wanted, pool.map(networks_of, wanted), strict=True):
            if isinstance(answer, str):
                found.failures[name] = answer
            else:
                found.networks |= answer
            if len(found.failures) >= ENOUGH:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    return found


def networks_of(name: str) -> set[Network] | str:
    """Return the networks that `name` stands for, or the reason why there is none."""
    literal = name.strip("[]").partition("%")[0]
    try:
        return {ipaddress.ip_network(literal, strict=False)}
    except ValueError:
        pass
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as fault:
        return getattr(fault, "strerror", None) or str(fault)
    return {ipaddress.ip_network(str(answer[4][0]).partition("%")[0]) for answer in answers}


def complaint(failures: Mapping[str, str], node: str) -> str:
    named = ", ".join(f"{name} ({reason})" for name, reason in failures.items())
    return (
        f"{node} cannot resolve {named}, so its firewall cannot let them in: mend the name service or /etc/hosts of {node}, or "
        "set zeromq_matchmaker_address (or ansible_host) of these nodes to an address"
    )


if __name__ == "__main__":
    main()
