"""Instances of a service in Consul's catalog, and what they say of a topic. Pure.

What a receiver registers carries in its Meta: `zmq_host` (the node), `zmq_fabric`, `zmq_port`, `zmq_servers` with all servers of
the topic there (a JSON list; further ones in `zmq_servers_1`, …, for a value has at most 512 bytes), and `zmq_left` once the
node has said that it does not serve the topic any more. An instance that somebody else registered has what it has: a node's short
name and address serve without any Meta, `zmq_servers` may be a list with commas.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from openstack_zeromq import address
from openstack_zeromq.errors import MalformedError
from openstack_zeromq.matchmaker.base import Member

VALUE_BYTES = 512
_LISTS_MOST = 56
"""Meta has at most 64 entries; some are left to others."""

_Garbage = Callable[[str], None]


class Instance(NamedTuple):
    """One instance, read and checked. `servers`: all that it names; `alive`: its checks let it have messages; `shortened`: the
    full name of which `host` is the beginning, empty where it was given."""

    service: str
    host: str
    address: str
    port: int | None
    servers: frozenset[str]
    alive: bool
    left: bool
    shortened: str = ""

    @property
    def member(self) -> Member:
        return Member(self.address, self.port, tuple(sorted(self.servers - {self.host})))


class Told(NamedTuple):
    """What one source says of a topic; `left`: hosts that said that they do not serve it any more."""

    members: Mapping[str, Member]
    left: frozenset[str]


def told(instances: Iterable[Instance]) -> Told:
    """The hosts of `instances`; a host with several is there when one of them is."""
    members: dict[str, Member] = {}
    left = set()
    for instance in instances:
        if instance.left:
            left.add(instance.host)
        elif instance.alive:
            before = members.get(instance.host)
            members[instance.host] = instance.member if before is None else joined(before, instance.member)
    return Told(members, frozenset(left - members.keys()))


def joined(one: Member, other: Member) -> Member:
    """One member out of two of the same host; who names a port knows the receiver's address best."""
    best = one if one.port is not None or other.port is None else other
    return Member(best.address, best.port, tuple(sorted({*one.servers, *other.servers})))


def instances(content: Any, service: str, fabric: str, accept_warning: bool, garbage: _Garbage) -> Iterator[Instance]:
    """Out of an answer of /v1/health/service: those of our fabric and of just this `service` (Consul takes it in any case)."""
    if not isinstance(content, list):
        garbage(f"service {service}: the answer is no list")
        return
    accepted = {"passing", "warning"} if accept_warning else {"passing"}
    found: list[Instance] = []
    for entry in content:
        try:
            instance = _instance(entry, service, fabric, accepted)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, MalformedError) as exc:
            garbage(f"service {service}: an instance is not understood: {type(exc).__name__}: {exc}")
        else:
            if instance is not None:
                found.append(instance)
    doubtful = ambiguous(((one.host, one.shortened) for one in found if one.shortened), f"service {service}", garbage)
    yield from (one for one in found if not one.shortened or one.host not in doubtful)


def ambiguous(shortened: Iterable[tuple[str, str]], where: str, garbage: _Garbage) -> set[str]:
    """Return the short names that several machines would have, out of pairs of a short and a full name: to believe one of them,
    or to merge them, would send messages to the wrong machine."""
    names: dict[str, set[str]] = {}
    for short, full in shortened:
        names.setdefault(short, set()).add(full)
    doubtful = {short for short, fulls in names.items() if len(fulls) > 1}
    for short in sorted(doubtful):
        fulls = ", ".join(sorted(names[short]))
        garbage(f"{where}: {fulls} would all be host {short}; none is believed: give each a zmq_host of its own in its Meta")
    return doubtful


def _instance(entry: Any, service: str, fabric: str, accepted: set[str]) -> Instance | None:
    """None: it is none of ours."""
    node, there, checks = entry["Node"], entry["Service"], entry["Checks"] or []
    meta: dict[str, str] = there["Meta"] or {}
    if there["Service"] != service or meta.get("zmq_fabric", fabric) != fabric:
        return None
    given = meta.get("zmq_host")
    host = given or address.short_name(node["Node"])
    if not host or len(host.encode()) > address.NAME_BYTES or not host.isprintable():
        raise MalformedError(f"host {host[:80]!r}")
    return Instance(
        service,
        host,
        str(there["Address"] or node["Address"]),
        _port(meta, there["Port"]),
        frozenset(_servers(meta)),
        {check["Status"] for check in checks} <= accepted,
        bool(meta.get("zmq_left")),
        "" if given else str(node["Node"]),
    )


def _port(meta: Mapping[str, str], of_service: int) -> int | None:
    """The receiver's port. That of a service is it only where the receiver registered the service."""
    if "zmq_port" in meta:
        port = int(meta["zmq_port"])
        if not 0 < port < 65536:
            raise MalformedError(f"zmq_port {port}")
        return port
    return of_service if "zmq_host" in meta and 0 < of_service < 65536 else None


# servers in Meta


def servers_meta(servers: frozenset[str]) -> dict[str, str]:
    """`servers` (names of the wire) as entries of Meta; those beyond some 600 are left out: they are looked for on the host."""
    lists: list[list[str]] = []
    room = 0
    for server in sorted(servers):
        size = len(json.dumps(server)) + 1
        if size > room:
            lists.append([])
            room = VALUE_BYTES - 1
        lists[-1].append(server)
        room -= size
    return {
        f"zmq_servers_{number}" if number else "zmq_servers": json.dumps(some, separators=(",", ":"))
        for number, some in enumerate(lists[:_LISTS_MOST])
    }


def _servers(meta: Mapping[str, str]) -> Iterator[str]:
    for name, value in meta.items():
        if name == "zmq_servers" or (name.startswith("zmq_servers_") and name[12:].isdigit()):
            for server in _listed(value):
                yield address.compact(server)


def _listed(value: str) -> list[str]:
    if not value.startswith("["):
        return [server for part in value.split(",") if (server := part.strip())]
    servers = json.loads(value)
    if not all(isinstance(server, str) and server for server in servers):
        raise MalformedError("zmq_servers")
    return list(servers)
