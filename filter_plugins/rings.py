"""Filters about rings: out of a catalog, and how two of them differ. Thin shells over the package.

They run on the control node, which must have openstack-zeromq installed, as `make` installs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from openstack_zeromq.catalog import changes, shape
    from openstack_zeromq.errors import MalformedError
    from openstack_zeromq.matchmaker.consul import instances, names
except ImportError as fault:
    PACKAGE_IMPORT_ERROR: ImportError | None = fault
else:
    PACKAGE_IMPORT_ERROR = None

HEALTH = {"Node", "Service", "Checks"}


def catalog_ring(
    said: Mapping | Iterable,
    services: Mapping[str, str] | None = None,
    prefix: str = "",
    fabric: str = "openstack",
    accept_warning: bool = True,
) -> dict[str, list[str]]:
    """Topic -> hosts, out of a result of `consul_catalog_info`, or of answers of Consul's /v1/health/service.

    `services` (service -> topic), `prefix`, `fabric` and `accept_warning` are those of [matchmaker_consul] and count for such
    answers only.

    :raises AnsibleFilterError: it is neither.
    """
    _need_the_package("zeromq_catalog_ring")
    if isinstance(said, Mapping):
        if not isinstance(said.get("ring"), Mapping):
            raise AnsibleFilterError(
                "zeromq_catalog_ring: give it the result of consul_catalog_info, or a list of Consul's answers"
            )
        return {topic: sorted(hosts) for topic, hosts in said["ring"].items()}
    found: dict[str, dict[str, Any]] = {}
    for service, entries in _by_service(said).items():
        topic = _topic(service, services or {}, prefix)
        if topic:
            read = instances.instances(entries, service, fabric, accept_warning, _refuse)
            for host, member in instances.told(read).members.items():
                there = found.setdefault(topic, {})
                there[host] = instances.joined(there[host], member) if host in there else member
    ring = shape.shape(found)[0].ring
    return {topic: list(hosts) for topic, hosts in ring.items()}


def ring_diff(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    """Topic -> the hosts that it got (`added`) and lost (`removed`); topics that stay as they are have no entry."""
    _need_the_package("zeromq_ring_diff")
    for ring in (before, after):
        if not isinstance(ring, Mapping) or any(isinstance(hosts, str) for hosts in ring.values()):
            raise AnsibleFilterError("zeromq_ring_diff: a ring is a dict of topic to list of hosts")
    found = changes.changes(before, after)
    return {change.key: {"added": list(change.added), "removed": list(change.removed)} for change in found}


def _by_service(said: Iterable) -> dict[str, list]:
    """Entries by their service's name; an answer may be a list in the list."""
    found: dict[str, list] = {}
    for item in said:
        for entry in item if isinstance(item, list) else [item]:
            if not isinstance(entry, Mapping) or not set(entry) >= HEALTH:
                raise AnsibleFilterError(
                    f"zeromq_catalog_ring: an entry has no {', '.join(sorted(HEALTH))}; give it answers of "
                    "/v1/health/service/<name>, for only health says who is there"
                )
            found.setdefault(str(entry["Service"]["Service"]), []).append(entry)
    return found


def _topic(service: str, services: Mapping[str, str], prefix: str) -> str:
    """Empty: it is no topic of ours."""
    if service in services:
        return services[service]
    try:
        name = names.unescape(service)
    except MalformedError:
        return ""
    return name.removeprefix(prefix) if name.startswith(prefix) else ""


def _refuse(what: str) -> None:
    raise AnsibleFilterError(f"zeromq_catalog_ring: {what}; correct it in the catalog")


def _need_the_package(name: str) -> None:
    if PACKAGE_IMPORT_ERROR is not None:
        raise AnsibleFilterError(f"{name}: {PACKAGE_IMPORT_ERROR}; install openstack-zeromq beside ansible-core: pip install .")


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        return {"zeromq_catalog_ring": catalog_ring, "zeromq_ring_diff": ring_diff}
