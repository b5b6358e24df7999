"""Filters: from inventory to what roles need. Pure functions; peers are known by inventory variables, never by facts.

They run on the control node, also where the package is not installed, so they stand on the standard library.
"""

from __future__ import annotations

import base64
import difflib
import fnmatch
import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from ansible.errors import AnsibleFilterError
from ansible.utils.helpers import pct_to_int

PORT = 9501
SHOWN = 5
"""Hosts that one sentence names; of the others it tells how many they are."""
DIVIDING = (
    (
        "security_change",
        "zmq_security",
        "one with keys does not talk to one without, so calls between nodes that have changed and those that have not would fail "
        "until all have",
    ),
    (
        "matchmaker_change",
        "the matchmaker",
        "receivers that follow different stores do not find each other's topics, so calls between nodes that have changed and "
        "those that have not would fail until all have",
    ),
)
"""What must be alike on all nodes: the fact that tells of a change, its name, and what follows when only some change."""
OWN_INPUT = re.compile(r"zeromq_[a-z]+_[a-z0-9_]+")
PLAYBOOK_INPUTS = frozenset(
    {
        *(
            "zeromq_deploy_hosts",
            "zeromq_deploy_serial",
            "zeromq_services_serial",
            "zeromq_services_state",
            "zeromq_verify_hosts",
            "zeromq_destroy_hosts",
            "zeromq_new_nodes",
            "zeromq_redeploy_nodes",
        ),
        *("zeromq_out_nodes", "zeromq_out_state", "zeromq_stores_left"),
        *("zeromq_removed_nodes", "zeromq_revoked_nodes", "zeromq_readmitted_nodes", "zeromq_local_root", "zeromq_local_node"),
    }
)


def node_name(host: str, hostvars: Mapping) -> str:
    """The node's name: `zeromq_receiver_host`, or the short inventory name."""
    return str(hostvars[host].get("zeromq_receiver_host", short_name(host)))


def short_name(name: str) -> str:
    """What stands before the first dot of a host's name; an address stays as it is. As `openstack_zeromq.address.short_name`."""
    head, dot, _ = name.partition(".")
    try:
        return str(ipaddress.ip_address(name)) if dot else name
    except ValueError:
        return head


def endpoint(host: str, hostvars: Mapping) -> dict[str, object]:
    """Where other nodes reach the receiver of `host`."""
    facts = hostvars[host]
    bound = str(facts.get("zeromq_receiver_bind_address", "*"))
    reached = facts.get("zeromq_matchmaker_address") or (facts.get("ansible_host", host) if bound == "*" else bound)
    return {"address": str(reached), "port": _port(host, facts)}


def endpoints(hosts: Iterable[str], hostvars: Mapping) -> dict[str, dict[str, object]]:
    """Node name -> address and port of each of `hosts`."""
    return {node_name(host, hostvars): endpoint(host, hostvars) for host in hosts}


def public_keys(hosts: Iterable[str], hostvars: Mapping) -> dict[str, list[str]]:
    """Node name -> its public keys, of those `hosts` whose keys this run has asked for (role zeromq_receiver, phase keys)."""
    told = {host: hostvars[host].get("__zeromq_receiver_key") or {} for host in hosts}
    return {node_name(host, hostvars): list(found["public_keys"]) for host, found in told.items() if found.get("public_keys")}


def revoked(hosts: Iterable[str], hostvars: Mapping) -> dict[str, list[str]]:
    """Return revoked nodes and their keys. More than half of the other `hosts` refuse keys of such a node, and trust no other key
    of it. An attacker may own one node, so one node alone decides nothing. playbooks/revoked.yml has asked the `hosts`."""
    votes = {
        node_name(host, hostvars): _refused_by(hostvars[host])
        for host in hosts
        if not (hostvars[host].get("__zeromq_revoked_file") or {}).get("unreachable")
    }
    found = {}
    for node in sorted({node for refused in votes.values() for node in refused}):
        others = [refused for voter, refused in votes.items() if voter != node]
        against = [refused[node] for refused in others if node in refused]
        if 2 * len(against) > len(others):
            found[node] = sorted({key for its in against for key in its})
    return found


def _refused_by(facts: Mapping) -> dict[str, list[str]]:
    """Return the nodes of which this host refuses keys and trusts none, and those keys."""
    file, folder = (facts.get(name) or {} for name in ("__zeromq_revoked_file", "__zeromq_trusted_files"))
    trusted = {Path(found["path"]).stem for found in folder.get("files", [])}
    refused: dict[str, list[str]] = defaultdict(list)
    for line in base64.b64decode(file.get("content", "")).decode("ascii", "replace").splitlines():
        node, _, key = line.strip().partition(" ")
        if key and node != "#" and node not in trusted:
            refused[node].append(key)
    return dict(refused)


def named(names: str | list[str], hosts: Iterable[str], hostvars: Mapping) -> list[str]:
    """Those of `hosts` that `names` means, by their names as nodes or in the inventory; a text has commas between names.

    :raises AnsibleFilterError: a name is none of theirs.
    """
    asked = [name.strip() for name in names.split(",")] if isinstance(names, str) else [str(name) for name in names]
    known = {name: host for host in hosts for name in (node_name(host, hostvars), host)}
    unknown = sorted({name for name in asked if name} - known.keys())
    if unknown:
        raise AnsibleFilterError(
            f"the group zeromq has no node {', '.join(unknown)}; add it to the inventory or correct the name "
            f"(it has: {', '.join(sorted(known))})"
        )
    return sorted({known[name] for name in asked if name})


def ring(
    topics: Mapping[str, str | list[str]], groups: Mapping, hostvars: Mapping, leaving: Iterable[str] = ()
) -> dict[str, list[str]]:
    """Return topic -> node names, out of topic -> inventory group, or node, or a list of them, without hosts that are `leaving`.

    :raises AnsibleFilterError: a topic names what is no group and no node of the inventory.
    """
    hosts: dict[str, list[str]] = {}
    gone = set(leaving)
    nodes = {name: host for host in groups.get("zeromq", ()) for name in (node_name(host, hostvars), host)}
    for topic, served_by in topics.items():
        members: set[str] = set()
        for group in [served_by] if isinstance(served_by, str) else served_by:
            if group not in groups and group not in nodes:
                raise AnsibleFilterError(
                    f"zeromq_matchmaker_topics: topic {topic} names {group}, which is no group and no node of the inventory; "
                    f"add it, correct the name, or take the topic out (groups: {', '.join(sorted(groups))})"
                )
            there = groups[group] if group in groups else [nodes[group]]
            members.update(node_name(host, hostvars) for host in there if host not in gone)
        hosts[topic] = sorted(members)
    return hosts


def topic_faults(topics: Mapping[str, str | list[str]], groups: Mapping, hostvars: Mapping) -> list[str]:
    """Return a line, with the remedy, for each topic that names what is not in the inventory, and one for all without a host."""
    faults, good = [], {}
    for topic, served_by in topics.items():
        try:
            good |= ring({topic: served_by}, groups, hostvars)
        except AnsibleFilterError as fault:
            faults.append(str(fault))
    empty = [topic for topic, hosts in good.items() if not hosts]
    if empty:
        remedy = "put hosts into the group of each, or remove the topic"
        faults.append(f"zeromq_matchmaker_topics: nobody serves {', '.join(empty)}; {remedy}")
    return faults


def bereft(topics: Mapping[str, str | list[str]], groups: Mapping, hostvars: Mapping, leaving: Iterable[str]) -> list[str]:
    """Return the topics, sorted, that have hosts, and none but those that are `leaving`."""
    before, after = ring(topics, groups, hostvars), ring(topics, groups, hostvars, leaving)
    return sorted(topic for topic, hosts in after.items() if before[topic] and not hosts)


def unmatched(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Return those of `names`, sorted, that fit none of `patterns`, which are as those of file names."""
    wanted = list(patterns)
    return sorted(name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted))


def faults(hosts: Iterable[str], hostvars: Mapping, unreachable: Iterable[str]) -> list[str]:
    """Return a line for each fault that `hosts` have collected, with the hosts that have it unless all have.

    A fault is a text of one or more lines in the fact `__zeromq_faults` of its host, or in `__zeromq_common_faults` when it is no
    fault of this host alone (playbooks/tasks/collect.yml).
    """
    found: dict[str, list[str]] = defaultdict(list)
    everywhere = list(hosts)
    for host in everywhere:
        for line in dict.fromkeys(line for fault in hostvars[host].get("__zeromq_faults") or [] for line in fault.splitlines()):
            found[line].append(host)
    common = [text for host in everywhere for text in hostvars[host].get("__zeromq_common_faults") or []]
    lines = [line if len(having) == len(everywhere) > 1 else f"{_named_hosts(having)}: {line}" for line, having in found.items()]
    shared = dict.fromkeys(_RAISED.sub("", line) for text in common for line in text.splitlines())
    return [
        *shared,
        *lines,
        *(f"{host}: cannot be reached; correct its address, start it, or leave it out" for host in unreachable),
    ]


_RAISED = re.compile(r"^Task failed: .*?The filter plugin '[^']+' failed: ")
"""What Ansible puts before the message of a filter that raises."""


def _named_hosts(hosts: list[str]) -> str:
    more = len(hosts) - SHOWN
    return ", ".join(hosts[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def contradictions(hosts: Iterable[str], hostvars: Mapping) -> list[str]:
    """A sentence, with the remedy, for each two nodes that claim the same."""
    names, addresses, directories = defaultdict(list), defaultdict(list), defaultdict(list)
    for host in hosts:
        facts = hostvars[host]
        reached = endpoint(host, hostvars)
        names[node_name(host, hostvars)].append(host)
        addresses[f"{reached['address']}:{reached['port']}"].append(host)
        if facts.get("ansible_connection") == "local":
            directories[str(facts.get("zeromq_receiver_ipc_dir", "/var/run/openstack"))].append(host)
    return [
        *_shared(names, "the node name", "zeromq_receiver_host"),
        *_shared(addresses, "the address", "zeromq_receiver_bind_address or zeromq_receiver_port"),
        *_shared(directories, "the directory of sockets", "zeromq_receiver_ipc_dir"),
    ]


def unknown_inputs(hosts: Iterable[str], hostvars: Mapping, roles: str) -> list[str]:
    """A sentence for each variable that looks like an input of ours but that no role below `roles` has."""
    known = set(PLAYBOOK_INPUTS)
    for spec in Path(roles).glob("zeromq_*/meta/argument_specs.yml"):
        known.update(yaml.safe_load(spec.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"])
    # What a role hands on as a fact is no input.
    known.update({"zeromq_probe_report", "zeromq_probe_failures"})
    found = {name for host in hosts for name in hostvars[host] if OWN_INPUT.fullmatch(name)}
    return [f"{name}: no role has such an input{_nearest(name, known)}" for name in sorted(found - known)]


def divides(hosts: Iterable[str], hostvars: Mapping, played: list[str], serial: object) -> list[str]:
    """Return a sentence, with the remedy, for each thing that must be alike on all nodes and does not change on all `hosts` at
    once: only those that are `played` are in the run, and `serial` of them come first.

    What changes was looked at by role zeromq_receiver, phase validate.
    """
    told = []
    for fact, option, consequence in DIVIDING:
        looked = {host: hostvars[host].get("__zeromq_receiver_looked") or {} for host in played}
        changes = [f"{host}: {found[fact]}" for host, found in looked.items() if found.get(fact)]
        if changes and (part := _part_of(hosts, played, serial)):
            shown = [*changes[:SHOWN], *([f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else [])]
            told.append(
                f"{option} changes ({', '.join(shown)}), and this run {part}: {consequence}. Change all at once, in a quiet "
                "hour: site.yml with -e zeromq_deploy_serial=100% and without --limit; calls between nodes then fail for about "
                "a minute"
            )
    return told


def _part_of(hosts: Iterable[str], played: list[str], serial: object) -> str:
    """Return how a run does not come to all hosts at once; empty: it does."""
    everywhere, first = set(hosts) <= set(played), _first_batch(serial, len(played))
    if not everywhere:
        return f"has only {len(played)} of {len(set(hosts))} nodes"
    return f"begins with {first} of {len(played)} nodes" if first < len(played) else ""


def _port(host: str, facts: Mapping) -> int:
    value = facts.get("zeromq_receiver_port", PORT)
    try:
        port = int(value)
    except (TypeError, ValueError):
        port = 0
    if not 0 < port < 65536:
        raise AnsibleFilterError(f"zeromq_receiver_port of {host} is {value!r}: must be a number from 1 to 65535")
    return port


def _first_batch(serial: object, count: int) -> int:
    """How many of `count` hosts come first, read as Ansible reads the keyword `serial`."""
    sizes = serial.split(",") if isinstance(serial, str) else serial if isinstance(serial, list) else [serial]
    try:
        size = pct_to_int(sizes[0], count) if sizes else 0
    except (TypeError, ValueError):
        raise AnsibleFilterError(
            f"zeromq_deploy_serial is {serial!r}: must be a number of nodes, a percentage, or a list of these"
        ) from None
    return size if size > 0 else count


def _shared(claims: Mapping[str, list[str]], what: str, remedy: str) -> list[str]:
    return [
        f"{' and '.join(claimants)} have {what} {claim} in common; give each its own {remedy}"
        for claim, claimants in sorted(claims.items())
        if len(claimants) > 1
    ]


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else "; remove it"


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        return {
            "zeromq_bereft": bereft,
            "zeromq_contradictions": contradictions,
            "zeromq_divides": divides,
            "zeromq_endpoints": endpoints,
            "zeromq_faults": faults,
            "zeromq_named": named,
            "zeromq_public_keys": public_keys,
            "zeromq_revoked": revoked,
            "zeromq_ring": ring,
            "zeromq_topic_faults": topic_faults,
            "zeromq_unknown_inputs": unknown_inputs,
            "zeromq_unmatched": unmatched,
        }
