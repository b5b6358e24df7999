"""Edit: what somebody (an operator, Ansible) says of a ring, applied to the ring that is there. Pure.

`exact` makes the ring what is said, `present` adds to it, `absent` takes hosts out of it; a topic that has lost its last host is
no key any more. What a sync remembers in the side-car (what is held and why, how far the store was, servers that a ring cannot
name) survives for every host that stays. `losses` says which topics would lose so many hosts at once that it looks like an
accident.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from openstack_zeromq.catalog.changes import Change, changes
from openstack_zeromq.catalog.shape import Published, topic_of
from openstack_zeromq.errors import RingError
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.ring_file import Endpoint, Ring

FEW = 2
"""So many hosts a topic may lose at once, whatever their share; as in `matchmaker.holding`."""

Said = Mapping[str, Iterable[str]]


def exact(before: Published, topics: Said, hosts: Mapping[str, Endpoint], source: str) -> Published:
    """The ring is `topics` and nothing else.

    :raises RingError: `topics` is no ring."""
    return replace(_after(before, _ring(topics), hosts, source), source=source)


def present(before: Published, topics: Said, hosts: Mapping[str, Endpoint], source: str) -> Published:
    """These hosts serve these topics, besides what is there.

    :raises RingError: `topics` is no ring."""
    said = _ring(topics)
    ring = {key: (*before.ring.get(key, ()), *said.get(key, ())) for key in {*before.ring, *said}}
    return _after(before, ring, {**before.hosts, **hosts}, source)


def absent(before: Published, topics: Said, gone: Collection[str], source: str) -> Published:
    """The hosts of `topics` leave these topics and all servers of them; those in `gone` leave every topic, and are forgotten.

    :raises RingError: `topics` is no ring, or names a topic without a host."""
    said = {key: set(hosts) for key, hosts in _ring(topics).items()}
    empty = sorted(set(topics) - set(said))
    if empty:
        raise RingError(f"topic {empty[0]!r} names no host that is to leave it; name the hosts")
    ring = {}
    for key, hosts in before.ring.items():
        leaving = said.get(key, set()) | said.get(topic_of(key), set()) | set(gone)
        ring[key] = tuple(host for host in hosts if host not in leaving)
    known = {host: endpoint for host, endpoint in before.hosts.items() if host not in gone}
    return _after(before, ring, known, source)


def losses(before: Mapping[str, Iterable[str]], after: Mapping[str, Iterable[str]], floor: float) -> list[Change]:
    """The keys that lose more than the share `floor` (0 to 1) of their hosts, and more than `FEW`."""
    found = []
    for change in changes(
        {key: tuple(hosts) for key, hosts in before.items()}, {key: tuple(hosts) for key, hosts in after.items()}
    ):
        had = len(set(before.get(change.key, ())))
        if len(change.removed) > FEW and len(change.removed) > floor * had:
            found.append(change)
    return found


def _ring(topics: Said) -> Ring:
    """As it would be written: sorted, each host once, no topic without hosts."""
    return ring_file.parse(ring_file.render(topics))


def _after(before: Published, topics: Said, hosts: Mapping[str, Endpoint], source: str) -> Published:
    ring = _ring(topics)
    after = replace(
        before,
        ring=ring,
        hosts=dict(hosts),
        servers={topic: there for topic, named in before.servers.items() if (there := _serving(named, ring.get(topic, ())))},
        held={
            topic: replace(held, hosts=kept)
            for topic, held in before.held.items()
            if (kept := tuple(host for host in held.hosts if host in ring.get(topic, ())))
        },
        marks={topic: mark for topic, mark in before.marks.items() if topic in ring},
    )
    if after.says() == before.says():
        return before
    return replace(after, source=source, generation=before.generation + 1 if before.generation else 0)


def _serving(servers: Mapping[str, tuple[str, ...]], hosts: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Of the servers those whose hosts stay."""
    found = {server: tuple(host for host in there if host in hosts) for server, there in servers.items()}
    return {server: there for server, there in found.items() if there}
