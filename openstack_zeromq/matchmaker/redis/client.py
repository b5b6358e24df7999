"""Client: ask Redis, and change what it keeps; see `schema`. Its errors are the library's, for `store` to translate."""

import asyncio
import json
import secrets
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import NoPermissionError, ResponseError

from openstack_zeromq.address import NAME_BYTES
from openstack_zeromq.matchmaker.base import Member, Registration, Service
from openstack_zeromq.matchmaker.holding import Mark
from openstack_zeromq.matchmaker.redis import schema
from openstack_zeromq.options import Settings

_LONGEST = 2
"""A host may expire this many times its ttl from now, not later: else the server's clock went back."""


class State(NamedTuple):
    """A topic as it is: how far the store is, its members, who left it, and what is not ours to understand."""

    mark: Mark
    members: dict[str, Member]
    left: frozenset[str]
    garbage: list[str]


class Prospect(NamedTuple):
    """What a script says of the hosts: whether the node is registered; seconds until the first host expires (None: there is
    none), how many there are, which keys could not be read or written, and why, and the address of another machine that registers
    under the same name (empty: there is none)."""

    renewed: bool
    first: float | None
    hosts: int
    broken: list[str]
    rival: str


class Everything(NamedTuple):
    """All keys of a fabric; times in ms of the server's clock. `topics`: topic -> (hosts and their ends, host -> member)."""

    now: float
    epoch: bytes
    beaten: bytes | None
    spared: bytes | None
    generations: dict[bytes, bytes]
    hosts: list[tuple[bytes, float]]
    ttls: dict[bytes, bytes | None]
    topics: dict[bytes, tuple[list[tuple[bytes, float]], dict[bytes, bytes]]]


class RedisClient:
    """One command at a time: a node has two connections, this one and that for changes, however busy it is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prefix = schema.prefix(settings.fabric)
        self._sentinel: Sentinel | None = None
        self._redis = self._connect()
        self._beat = self._redis.register_script(schema.BEAT)
        self._bury = self._redis.register_script(schema.BURY)
        self._turn = asyncio.Lock()
        self._address = ""
        self._process = secrets.token_hex(8)
        self._registered = False

    @property
    def name(self) -> str:
        """What it is and where, for people."""
        redis = self._settings.redis
        if self._sentinel is None:
            return f"redis {redis.host}:{redis.port}"
        return f"sentinel {','.join(f'{host}:{port}' for host, port in redis.sentinels)}/{redis.group}"

    @property
    def patience(self) -> float:
        """Seconds that it may be silent."""
        return self._settings.redis.socket_timeout

    def key(self, name: str) -> str:
        return self._prefix + name

    async def close(self) -> None:
        await self._redis.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    # asking

    def pubsub(self) -> PubSub:
        """A connection to hear changes over."""
        return self._redis.pubsub()

    async def read(self, topic: str) -> State:
        """A host whose time is over is a member until it is buried: perhaps nobody could say that he is there."""
        async with self._turn, self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self.key("epoch"))
            pipe.hget(self.key("generation"), topic)
            pipe.zrange(self.key(f"topic:{topic}"), 0, -1)
            pipe.hgetall(self.key(f"members:{topic}"))
            pipe.zrange(self.key(f"left:{topic}"), 0, -1)
            epoch, generation, hosts, members, left = await pipe.execute()
        found, garbage = {}, []
        for host in hosts:
            facts = member(host, members.get(host))
            if facts is None:
                garbage.append(f"host {host!r} of topic {topic}")
            else:
                found[text(host)] = facts
        mark = Mark(text(epoch or b""), int(generation or 0))
        return State(mark, found, frozenset(host.decode(errors="replace") for host in left), garbage)

    async def marks(self, topics: list[str]) -> list[Mark]:
        """How far the store is with each topic."""
        async with self._turn, self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self.key("epoch"))
            pipe.hmget(self.key("generation"), topics)
            epoch, generations = await pipe.execute()
        return [Mark(text(epoch or b""), int(generation or 0)) for generation in generations]

    async def services(self) -> list[Service]:
        """Every server of every topic, sorted."""
        async with self._turn:
            topics = sorted(map(text, await self._redis.smembers(self.key("topics"))))
            return [service for topic in topics for service in sorted(await self._services_of(topic))]

    async def everything(self) -> Everything:
        """All that is kept of the fabric."""
        async with self._turn:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.time()
                for name in ("epoch", "beaten", "spared"):
                    pipe.get(self.key(name))
                pipe.hgetall(self.key("generation"))
                pipe.zrange(self.key("hosts"), 0, -1, withscores=True)
                pipe.smembers(self.key("topics"))
                time, epoch, beaten, spared, generations, hosts, topics = await pipe.execute()
            async with self._redis.pipeline(transaction=True) as pipe:
                for host, _ in hosts:
                    pipe.hget(self.key(f"host:{text(host)}"), "ttl")
                for topic in topics:
                    pipe.zrange(self.key(f"topic:{text(topic)}"), 0, -1, withscores=True)
                    pipe.hgetall(self.key(f"members:{text(topic)}"))
                found = await pipe.execute()
        ttls = {host: ttl for (host, _), ttl in zip(hosts, found, strict=False)}
        kept = found[len(hosts) :]
        there = dict(zip(topics, zip(kept[::2], kept[1::2], strict=True), strict=True))
        return Everything(_milliseconds(time), epoch or b"", beaten, spared, generations, hosts, ttls, there)

    # changing

    async def run(self, script: str, arguments: list[str | int]) -> Prospect:
        """Run a script of `schema` that is not run often."""
        return await self._run(self._redis.register_script(script), arguments)

    async def beat(self, registration: Registration) -> Prospect:
        """Register a node anew, withdraw what it does not serve any more, remove the dead."""
        async with self._turn:
            address = registration.address or await self._own_address()
        ttl = round(self._settings.target_expire * 1000)
        arguments: list[str | int] = [registration.host, ttl, ttl * _LONGEST, secrets.token_hex(8)]
        arguments += [self._process, f"{address} port {registration.port}", int(self._registered)]
        for topic, servers in sorted(registration.topics.items()):
            arguments += [topic, json.dumps([address, registration.port, sorted(servers)])]
        prospect = await self._run(self._beat, arguments)
        self._registered |= prospect.renewed
        return prospect

    async def bury(self) -> Prospect:
        """Remove the dead."""
        return await self._run(self._bury, [round(self._settings.target_expire * 1000)])

    # private

    async def _run(self, script: AsyncScript, arguments: list[str | int]) -> Prospect:
        async with self._turn:
            renewed, first, hosts, broken, rival = await script(keys=[self._prefix], args=arguments)
        if any("READONLY" in text(why) for why in broken):
            await self._redis.connection_pool.disconnect()  # it was the master once: the next connection asks for the present one
        return Prospect(bool(renewed), first / 1000 if first >= 0 else None, hosts, sorted(map(text, broken)), text(rival))

    async def _own_address(self) -> str:
        """The address that the store sees; not one that only this machine can reach."""
        if not self._address:
            seen = str((await self._who_am_i())["addr"]).rpartition(":")[0].strip("[]")
            self._address = "" if seen.startswith("127.") or seen == "::1" else seen
        return self._address

    async def _who_am_i(self) -> dict[str, Any]:
        """What the store knows of this connection."""
        try:
            return dict(await self._redis.client_info())
        except ResponseError as exc:
            if not isinstance(exc, NoPermissionError) and "unknown subcommand" not in str(exc).lower():
                raise
        # Redis before 6.2 has no CLIENT INFO: the connection is looked for among all of them, once.
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.client_id()
            pipe.client_list()
            mine, clients = await pipe.execute()
        return next(dict(client) for client in clients if int(client["id"]) == mine)

    async def _services_of(self, topic: str) -> list[Service]:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.zrange(self.key(f"topic:{topic}"), 0, -1, withscores=True)
            pipe.hgetall(self.key(f"members:{topic}"))
            time, hosts, members = await pipe.execute()
        async with self._redis.pipeline(transaction=False) as pipe:
            for host, _ in hosts:
                pipe.hget(self.key(f"host:{text(host)}"), "heard")
            heard = await pipe.execute()
        now = _milliseconds(time)
        found = []
        for (host, expires), when in zip(hosts, heard, strict=True):
            facts = member(host, members.get(host), every_server=True)
            age = None if when is None else max(0.0, round((now - int(when)) / 1000, 1))
            found += [Service(topic, server, text(host), expires > now, age) for server in (facts.servers if facts else ())]
        return found

    def _connect(self) -> "Redis":
        redis = self._settings.redis
        common: dict[str, Any] = {
            "socket_timeout": redis.socket_timeout,
            "socket_connect_timeout": redis.socket_timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if redis.tls is not None:
            common |= {
                "ssl": True,
                "ssl_ca_certs": redis.tls.ca_file or None,
                "ssl_certfile": redis.tls.cert_file or None,
                "ssl_keyfile": redis.tls.key_file or None,
            }
        login: dict[str, Any] = {"username": redis.username or None, "password": redis.password or None}
        if self._settings.matchmaker != "sentinel":
            return Redis(host=redis.host, port=redis.port, db=redis.db, **common, **login)
        guards = {**common, "username": redis.sentinel_username or None, "password": redis.sentinel_password or None}
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            redis.sentinels, sentinel_kwargs=guards, db=redis.db, **common, **login
        )
        master: Redis = self._sentinel.master_for(redis.group)
        return master


def member(host: bytes, facts: bytes | None, every_server: bool = False) -> Member | None:
    """What a host wrote of itself; None when it is none of ours."""
    try:
        name = text(host)
        address, port, servers = json.loads(facts or b"")
        if not isinstance(address, str) or not isinstance(port, int) or not 0 < port < 65536 or not isinstance(servers, list):
            return None
        if not name or not name.isprintable() or len(host) > NAME_BYTES:
            return None
        return Member(address, port, tuple(sorted(str(server) for server in servers if every_server or server != name)))
    except (ValueError, TypeError):
        return None


def text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode()


def _milliseconds(time: tuple[int, int]) -> float:
    return time[0] * 1000 + time[1] / 1000
