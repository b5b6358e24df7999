"""Registrations: what is registered in Redis, seen from outside, and changed by somebody who speaks for nodes: to bring a fabric
over from a ring, and to remove the dead.

`Registrations` is what is there; `seeding` and `leaving` say what is to be done (pure); `RedisOffice` reads and does it. A node
that is alive says again what it serves at its next beat, whatever is done here.
"""

import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from openstack_zeromq.address import NAME_BYTES, compact
from openstack_zeromq.errors import StoreError
from openstack_zeromq.matchmaker.base import Member
from openstack_zeromq.matchmaker.redis import schema
from openstack_zeromq.matchmaker.redis.client import Everything, member, text
from openstack_zeromq.matchmaker.redis.store import RedisStore
from openstack_zeromq.matchmaker.ring_file import Endpoint


class Registered(NamedTuple):
    """A host of a topic. `servers`: all of the topic's there, with one that is named like the host; `left`: seconds until it
    expires, 0 when it has."""

    address: str
    port: int
    servers: tuple[str, ...]
    left: float


class Life(NamedTuple):
    """Of a host: seconds until it expires, 0 when it has; and how many it has from each sign of life."""

    left: float
    ttl: float


@dataclass(frozen=True, slots=True)
class Registrations:
    """`topics`: topic -> host -> what is registered; `generations`: topic -> how often it has changed; `beaten`: seconds since a
    node said last that it is there, None: no node ever did; `spared`: seconds for which nobody may be called dead, for the store
    was away."""

    epoch: str = ""
    topics: Mapping[str, Mapping[str, Registered]] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)
    hosts: Mapping[str, Life] = field(default_factory=dict)
    beaten: float | None = None
    spared: float = 0.0

    @property
    def expired(self) -> dict[str, list[str]]:
        """Topic -> hosts whose time is over."""
        found = {topic: sorted(host for host, one in hosts.items() if one.left <= 0) for topic, hosts in self.topics.items()}
        return {topic: hosts for topic, hosts in found.items() if hosts}

    def doubt(self, expire: float) -> str:
        """Why it cannot be said who is dead, with the remedy; empty: it can. `expire`: zmq_target_expire in seconds."""
        if self.spared > 0:
            return f"the store was away lately, and nodes still come back; wait {self.spared:.0f} s"
        if self.beaten is None or self.beaten > expire:
            since = "ever" if self.beaten is None else f"for {self.beaten:.0f} s"
            return f"no node has said that it is there {since}; start a receiver, or name those who are gone in hosts_gone"
        return ""


@dataclass(frozen=True, slots=True)
class Seed:
    """What is to be registered for a host; topic -> member."""

    host: str
    topics: Mapping[str, Member]


def seeding(
    there: Registrations, topics: Mapping[str, Iterable[str]], hosts: Mapping[str, Endpoint], ttl: float, port: int
) -> list[Seed]:
    """What has to be registered so that `topics` are, in the shape of a ring (`topic:server` is a server of the topic). A host
    that is registered so, and has at least half of its time left (that of its own receiver, or `ttl` seconds), is well.

    :raises ValueError: a host has no address in `hosts` and none in the store; the message names the remedy.
    """
    wished: dict[str, dict[str, set[str]]] = {}
    for key, names in topics.items():
        topic, _, server = key.partition(":")
        for host in names:
            servers = wished.setdefault(host, {}).setdefault(compact(topic), {host})
            if server:
                servers.add(compact(server))
    seeds = []
    for host, serves in sorted(wished.items()):
        if not host.isprintable() or len(host.encode()) > NAME_BYTES:
            raise ValueError(f"host {host!r}: a name has 1 to {NAME_BYTES} bytes that can be printed")
        where = hosts.get(host) or _known(there, host)
        if where is None:
            raise ValueError(f"host {host} is nowhere said to have an address; add hosts: {{{host}: {{address: 192.0.2.1}}}}")
        life = there.hosts.get(host, Life(0.0, 0.0)).ttl
        enough = min(ttl, life) / 2
        due = {}
        for topic, servers in sorted(serves.items()):
            before = there.topics.get(topic, {}).get(host)
            wanted = Member(where.address, where.port or port, tuple(sorted({*servers, *(before.servers if before else ())})))
            if not _is_so(before, wanted, enough):
                due[topic] = wanted
        if due:
            seeds.append(Seed(host, due))
    return seeds


def leaving(there: Registrations, topics: Mapping[str, Iterable[str]], gone: Collection[str]) -> dict[str, list[str]]:
    """Topic -> hosts to remove, of what is there: those of `topics`, and those in `gone` of every topic."""
    found = {}
    said = {compact(topic): hosts for topic, hosts in topics.items()}
    for topic, hosts in there.topics.items():
        named = {*said.get(topic, ()), *gone}
        leave = sorted(host for host in hosts if host in named)
        if leave:
            found[topic] = leave
    return found


class RedisOffice(RedisStore):
    """The store, for those who speak for others."""

    async def read(self) -> Registrations:
        """What is registered; what is none of ours is left out.

        :raises StoreError: the store does not answer, or refuses.
        """
        return _registrations(await self._guarded(self._client.everything()))

    async def seed(self, seeds: Iterable[Seed], ttl: float) -> None:
        """:raises StoreError: the store does not answer, or refuses."""
        for one in seeds:
            arguments: list[str | int] = [one.host, round(ttl * 1000), secrets.token_hex(8)]
            for topic, facts in one.topics.items():
                arguments += [topic, json.dumps([facts.address, facts.port, sorted(facts.servers)])]
            await self._change(schema.SEED, arguments)

    async def dismiss(self, topics: Mapping[str, Iterable[str]], forget: Collection[str], expired: bool = False) -> None:
        """Remove hosts from topics, and forget `forget` altogether; `expired`: only if they still are.

        :raises StoreError: the store does not answer, or refuses.
        """
        pairs = [(topic, host) for topic, hosts in topics.items() for host in hosts]
        arguments: list[str | int] = [schema.DIED if expired else schema.LEFT, len(pairs)]
        for pair in pairs:
            arguments += pair
        await self._change(schema.DISMISS, [*arguments, *sorted(forget)])

    async def _change(self, script: str, arguments: list[str | int]) -> None:
        prospect = await self._guarded(self._client.run(script, arguments))
        if prospect.broken:
            raise StoreError(f"{self.name}: {'; '.join(prospect.broken)}; delete what is not ours, or let this user touch it")


def _registrations(kept: Everything) -> Registrations:
    def left(expires: float) -> float:
        return max(0.0, round((expires - kept.now) / 1000, 1))

    topics: dict[str, dict[str, Registered]] = {}
    for topic, (hosts, members) in sorted(kept.topics.items()):
        there = topics.setdefault(text(topic), {})
        for host, expires in sorted(hosts):
            facts = member(host, members.get(host), every_server=True)
            if facts is not None and facts.port is not None:
                there[text(host)] = Registered(facts.address, facts.port, facts.servers, left(expires))
    return Registrations(
        text(kept.epoch),
        topics,
        {text(topic): int(number) for topic, number in sorted(kept.generations.items())},
        {text(host): Life(left(expires), int(kept.ttls[host] or 0) / 1000) for host, expires in sorted(kept.hosts)},
        None if kept.beaten is None else max(0.0, round((kept.now - float(kept.beaten)) / 1000, 1)),
        0.0 if kept.spared is None else left(float(kept.spared)),
    )


def _known(there: Registrations, host: str) -> Endpoint | None:
    found = next((hosts[host] for hosts in there.topics.values() if host in hosts and hosts[host].address), None)
    return None if found is None else Endpoint(found.address, found.port)


def _is_so(there: Registered | None, wanted: Member, enough: float) -> bool:
    return there is not None and there.left >= enough and there[:3] == (wanted.address, wanted.port, wanted.servers)
