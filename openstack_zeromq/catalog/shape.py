"""Shape: what is known of topics as a ring and its side-car, and back. Pure.

The ring must serve readers of Icehouse, who know nothing of a side-car. Such a reader takes a name with a dot for `topic.host`
and never looks into the ring for it; every other name it looks up as it stands. So of the servers that are not named like their
hosts only those get a key `topic:server` of which that reader finds the truth: without a dot in it. The others are in the side-
car.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from openstack_zeromq.errors import RingError
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.base import Member, Members
from openstack_zeromq.matchmaker.holding import Held as Hold
from openstack_zeromq.matchmaker.holding import Known, Mark, Why
from openstack_zeromq.matchmaker.ring_file import Endpoint, Ring

_Servers = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Held:
    """Hosts that a store has lost and the ring keeps; `since` and `until` in seconds of the epoch, `until` None: until somebody
    acts."""

    hosts: tuple[str, ...]
    why: str
    since: int
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A ring with all that its side-car says. `servers`: topic -> server -> hosts, for those that the ring cannot name; `marks`:
    how far the store was; `problem`: why the ring may be old."""

    ring: Ring = field(default_factory=dict)
    hosts: Mapping[str, Endpoint] = field(default_factory=dict)
    servers: _Servers = field(default_factory=dict)
    source: str = ""
    generation: int = 0
    held: Mapping[str, Held] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    problem: str = ""

    def says(self) -> object:
        """All that is worth a write; what counts or tells the time is not."""
        held = {topic: (one.hosts, one.why) for topic, one in self.held.items()}
        return self.ring, dict(self.hosts), self.servers, self.source, held, bool(self.problem)


NOTHING = Published()


def shape(topics: Mapping[str, Members], kept: Published = NOTHING) -> tuple[Published, list[str]]:
    """The ring of `topics`; those of `kept` that are not among them stay as they are. Also what is left out, for the log."""
    ring: Ring = {key: hosts for key, hosts in kept.ring.items() if topic_of(key) not in topics}
    mentioned = {host for hosts in ring.values() for host in hosts}
    endpoints = {host: endpoint for host, endpoint in kept.hosts.items() if host in mentioned}
    servers = {topic: dict(there) for topic, there in kept.servers.items() if topic not in topics}
    told: dict[str, Endpoint] = {}
    garbage = []
    for topic, members in sorted(topics.items()):
        good = {host: member for host, member in sorted(members.items()) if is_host(host)}
        garbage += [f"the host {host!r} of topic {topic}" for host in members if host not in good]
        if good:
            ring[topic] = tuple(good)
        for server, hosts in _servers(good).items():
            if in_ring(topic, server):
                ring[f"{topic}:{server}"] = hosts
            else:
                servers.setdefault(topic, {})[server] = hosts
        for host, member in good.items():
            known = told.get(host)
            if member.address and (known is None or known.port is None):
                told[host] = Endpoint(member.address, member.port)
    return Published(ring, {**endpoints, **told}, servers), garbage


def memory(published: Published, topics: Iterable[str], now: float = 0.0, offset: float = 0.0) -> dict[str, Known]:
    """What `published` remembers of `topics`; `now` is of the caller's clock, `offset` ahead of the seconds of the epoch."""
    found = {}
    for topic in topics:
        named: dict[str, list[str]] = {}
        for server, hosts in _named(published, topic).items():
            for host in hosts:
                named.setdefault(host, []).append(server)
        members = {host: _member(published.hosts.get(host), named.get(host, ())) for host in published.ring.get(topic, ())}
        if members:
            held = published.held.get(topic)
            found[topic] = Known(members, published.marks.get(topic, Mark()), _hold(held, now, offset) if held else None)
    return found


def is_host(name: str) -> bool:
    """May it stand in a ring? Old readers make an address of it, `tcp://<host>:<port>`."""
    return bool(name) and name.isprintable() and not set(name) & set(" /:")


def is_topic(name: str) -> bool:
    """Can a ring have a key of that name? In a ring a colon ends the topic."""
    return bool(name) and name.isprintable() and name == name.strip() and ":" not in name


def in_ring(topic: str, server: str) -> bool:
    """Does an old reader that looks for `topic:server` look into the ring?"""
    key = f"{topic}:{server}"
    return bool(server) and "." not in key and key.isprintable() and key == key.strip()


def topic_of(key: str) -> str:
    """The topic of a ring's key."""
    return key.partition(":")[0]


# as bytes


def render(
    published: Published, before: bytes | None = None, before_hosts: Mapping[str, Endpoint] = ring_file.NO_HOSTS
) -> tuple[bytes, bytes]:
    """Ring and side-car; the side-car also counts for `before`, the ring's bytes until the new ones are written."""
    ring = ring_file.render(published.ring)
    more: dict[str, object] = {"generation": published.generation}
    if before is not None and before != ring:
        gone = {host: endpoint for host, endpoint in before_hosts.items() if host not in published.hosts}
        more["replaces"] = {"sha256": ring_file.sha256(before), "hosts": _facts(gone)}
    if published.servers:
        more["servers"] = {
            topic: {server: sorted(hosts) for server, hosts in servers.items()} for topic, servers in published.servers.items()
        }
    if published.held:
        more["held"] = {
            topic: {"hosts": list(held.hosts), "why": held.why, "since": held.since, "until": held.until}
            for topic, held in published.held.items()
        }
    if published.marks:
        more["marks"] = {topic: list(mark) for topic, mark in published.marks.items()}
    if published.problem:
        more["problem"] = published.problem
    return ring, ring_file.render_meta(ring, _facts(published.hosts), published.source, more)


def parse(ring: bytes, meta: bytes | None) -> Published:
    """The inverse of `render`. A side-car of another ring says nothing; one that Ansible made says less.

    :raises RingError: one of them is not what it should be.
    """
    bare = Published(ring_file.parse(ring))
    if meta is None:
        return bare
    hosts = ring_file.parse_meta(meta, ring)
    facts = ring_file.load_meta(meta)
    if not belongs(facts, ring):
        return bare
    try:
        return replace(
            bare,
            hosts=hosts,
            servers=ring_file.parse_servers(meta, ring),
            source=str(facts["source"]),
            generation=int(facts.get("generation", 0)),
            held={topic: _held(said) for topic, said in facts.get("held", {}).items()},
            marks={topic: Mark(str(epoch), int(number)) for topic, (epoch, number) in facts.get("marks", {}).items()},
            problem=str(facts.get("problem", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise RingError(f"the ring's side-car is not usable: {exc!r}") from None


def belongs(facts: Mapping[str, Any], ring: bytes) -> bool:
    """Was a side-car that says `facts` made for `ring`, or to replace it?"""
    replaced = facts.get("replaces")
    digests = {facts.get("sha256"), replaced.get("sha256") if isinstance(replaced, dict) else None}
    return ring_file.sha256(ring) in digests


def holds(held: Mapping[str, Hold], topics: Collection[str], offset: float, before: Mapping[str, Held]) -> dict[str, Held]:
    """What is held of `topics`, for the side-car; the times stay what they were while the reason does."""
    found = {}
    for topic, hold in held.items():
        if topic not in topics:
            continue
        now = Held(
            hold.hosts, hold.why.value, round(hold.since - offset), None if hold.until is None else round(hold.until - offset)
        )
        was = before.get(topic)
        if was is not None and was.why == now.why and _near(was.since, now.since) and _near(was.until, now.until):
            now = replace(now, since=was.since, until=was.until)
        found[topic] = now
    return found


def _near(one: int | None, other: int | None) -> bool:
    return one == other or (one is not None and other is not None and abs(one - other) <= 1)


def _servers(members: Members) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for host, member in members.items():
        for server in member.servers:
            found.setdefault(server, []).append(host)
    return {server: tuple(sorted(hosts)) for server, hosts in sorted(found.items())}


def _named(published: Published, topic: str) -> dict[str, tuple[str, ...]]:
    prefix = f"{topic}:"
    in_the_ring = {key.removeprefix(prefix): hosts for key, hosts in published.ring.items() if key.startswith(prefix)}
    return {**published.servers.get(topic, {}), **in_the_ring}


def _member(endpoint: Endpoint | None, servers: Iterable[str]) -> Member:
    return Member(endpoint.address if endpoint else "", endpoint.port if endpoint else None, tuple(sorted(servers)))


def _hold(held: Held, now: float, offset: float) -> Hold:
    """Nothing began in the future: the clock was put back."""
    since = min(held.since + offset, now)
    return Hold(Why(held.why), held.hosts, since, None if held.until is None else since + held.until - held.since)


def _held(said: Mapping[str, Any]) -> Held:
    why, until = Why(said["why"]).value, said["until"]
    return Held(tuple(map(str, said["hosts"])), why, int(said["since"]), None if until is None else int(until))


def _facts(hosts: Mapping[str, Endpoint]) -> dict[str, dict[str, object]]:
    return {
        host: {"address": endpoint.address} | ({} if endpoint.port is None else {"port": endpoint.port})
        for host, endpoint in hosts.items()
    }
