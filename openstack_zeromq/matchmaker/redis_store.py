"""redis and sentinel: the store in Redis or Valkey, with or without Sentinels that know the master.

Readers subscribe to the changes of the topics that they follow, then read them once; a change whose generation is not the next
one means that one was missed: the topic is read again. Every few seconds the generations are compared, too, for a connection can
be dead without knowing it. Whoever registers also buries the hosts that have expired, at the moment when the first one does.
"""

import asyncio
import json
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from openstack_zeromq.address import NAME_BYTES
from openstack_zeromq.errors import StoreError
from openstack_zeromq.matchmaker import redis_schema
from openstack_zeromq.matchmaker.base import Member, Registration, Service
from openstack_zeromq.matchmaker.holding import Mark, Reading
from openstack_zeromq.matchmaker.store import Heard, Store, Wanted
from openstack_zeromq.options import Settings

_COMPARE_EVERY = 5.0
_GATHER = 0.01
_BURY_WITHIN = 0.5
_UNDERTAKERS = 20
"""How many nodes, of however many, try to bury the same dead."""
_LONGEST = 2.0
"""A host may expire this many times its ttl from now, not later: else the server's clock went back."""

_T = TypeVar("_T")


class _Followed:
    """A topic as it was read, and what has changed since it was told. `generation` None: to be read (again)."""

    def __init__(self) -> None:
        self.epoch = ""
        self.generation: int | None = None
        self.members: dict[str, Member] = {}
        self.left: set[str] = set()


class RedisStore(Store):
    """Made and used within one asyncio loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prefix = redis_schema.prefix(settings.fabric)
        self._sentinel: Sentinel | None = None
        self._redis = self._connect()
        self._beat = self._redis.register_script(redis_schema.BEAT)
        self._bury = self._redis.register_script(redis_schema.BURY)
        self._address = ""
        self._undertaker: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        redis = self._settings.redis
        if self._sentinel is None:
            return f"redis {redis.host}:{redis.port}"
        return f"sentinel {','.join(f'{host}:{port}' for host, port in redis.sentinels)}/{redis.group}"

    # reading

    async def follow(self, wanted: Wanted, heard: Heard) -> None:
        follower = _Follower(self, wanted, heard)
        await self._guarded(follower.run())

    async def read(self, topic: str) -> tuple[Mark, dict[str, Member], set[str], list[str]]:
        """A topic as it is: how far the store is, its members, who left it, and what is not ours to understand."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.get(self.key("epoch"))
            pipe.hget(self.key("generation"), topic)
            pipe.zrange(self.key(f"topic:{topic}"), 0, -1, withscores=True)
            pipe.hgetall(self.key(f"members:{topic}"))
            pipe.zrange(self.key(f"left:{topic}"), 0, -1)
            time, epoch, generation, hosts, members, left = await pipe.execute()
        now = time[0] * 1000 + time[1] / 1000
        found, garbage = {}, []
        for host in [host for host, expires in hosts if expires > now]:
            member = _member(host, members.get(host))
            if member is None:
                garbage.append(f"host {host!r} of topic {topic}")
            else:
                found[_text(host)] = member
        return Mark(_text(epoch or b""), int(generation or 0)), found, {_text(host) for host in left}, garbage

    async def generations(self, topics: list[str]) -> tuple[str, list[int]]:
        """The epoch, and how often each topic has changed."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self.key("epoch"))
            pipe.hmget(self.key("generation"), topics)
            epoch, generations = await pipe.execute()
        return _text(epoch or b""), [int(generation or 0) for generation in generations]

    def key(self, name: str) -> str:
        return self._prefix + name

    def pubsub(self) -> PubSub:
        return self._redis.pubsub()

    @property
    def patience(self) -> float:
        return self._settings.redis.socket_timeout

    async def services(self) -> list[Service]:
        return await self._guarded(self._services())

    # writing

    async def beat(self, registration: Registration) -> None:
        await self._guarded(self._register(registration))

    async def close(self) -> None:
        if self._undertaker is not None:
            self._undertaker.cancel()
        await self._redis.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    # private

    async def _register(self, registration: Registration) -> None:
        address = registration.address or await self._own_address()
        ttl = round(self._settings.target_expire * 1000)
        arguments: list[str | int] = [registration.host, ttl, round(ttl * _LONGEST), secrets.token_hex(8)]
        for topic in sorted(registration.topics):
            arguments += [topic, json.dumps([address, registration.port, sorted(registration.topics[topic])])]
        self._look_after(await self._beat(keys=[self._prefix], args=arguments))

    async def _own_address(self) -> str:
        """The address that the store sees; not one that only this machine can reach."""
        if not self._address:
            seen = str((await self._redis.client_info())["addr"]).rpartition(":")[0].strip("[]")
            self._address = "" if seen.startswith("127.") or seen == "::1" else seen
        return self._address

    def _look_after(self, reply: list[Any]) -> None:
        """Somebody will expire: be there. And say what is in the way.

        :raises StoreError: keys that are not ours have the names of ours.
        """
        _, first, hosts, broken = reply
        alone = random.random() < _UNDERTAKERS / max(hosts, 1)  # noqa: S311 - spreads work, guards nothing
        if 0 <= first <= self._settings.target_update * 1300 and alone:
            if self._undertaker is not None:
                self._undertaker.cancel()
            delay = first / 1000 + random.uniform(0.02, _BURY_WITHIN)  # noqa: S311 - spreads work
            self._undertaker = asyncio.create_task(self._bury_later(delay))
        if broken:
            keys = ", ".join(self._prefix + _text(key) for key in sorted(broken))
            raise StoreError(f"{self.name}: {keys}: of another type than ours; delete what somebody else wrote there")

    async def _bury_later(self, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            reply = await self._guarded(self._bury(keys=[self._prefix]))
        except StoreError:
            return  # the next registration will say what is wrong
        self._undertaker = None
        self._look_after([*reply[:3], []])

    async def _services(self) -> list[Service]:
        found = []
        for topic in sorted(map(_text, await self._redis.smembers(self.key("topics")))):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.time()
                pipe.zrange(self.key(f"topic:{topic}"), 0, -1, withscores=True)
                pipe.hgetall(self.key(f"members:{topic}"))
                time, hosts, members = await pipe.execute()
            now = time[0] * 1000 + time[1] / 1000
            async with self._redis.pipeline(transaction=False) as pipe:
                for host, _ in hosts:
                    pipe.hget(self.key(f"host:{_text(host)}"), "heard")
                heard = await pipe.execute()
            for (host, expires), when in zip(hosts, heard, strict=True):
                member = _member(host, members.get(host), all_servers=True)
                age = None if when is None else max(0.0, round((now - int(when)) / 1000, 1))
                for server in member.servers if member else ():
                    found.append(Service(topic, server, _text(host), expires > now, age))
        return sorted(found)

    async def _guarded(self, work: Awaitable[_T]) -> _T:
        """:raises StoreError: for whatever the library raises."""
        try:
            return await work
        except (RedisError, OSError, TimeoutError) as exc:
            raise StoreError(f"{self.name}: {_reason(exc)}") from None
        except (UnicodeDecodeError, ValueError, TypeError, LookupError) as exc:
            raise StoreError(f"{self.name}: answers what is none of ours: {exc!r}") from None

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


class _Follower:
    """Follows topics over one connection, until it breaks."""

    def __init__(self, store: RedisStore, wanted: Wanted, heard: Heard) -> None:
        self._store = store
        self._wanted = wanted
        self._heard = heard
        self._topics: dict[str, _Followed] = {}
        self._untold: set[str] = set()
        self._unread = asyncio.Event()
        self._pubsub = store.pubsub()

    async def run(self) -> None:
        """Until something goes wrong; the first error of any part ends all of them."""
        try:
            await self._pubsub.subscribe(self._store.key("changes"))
            parts: list[Callable[[], Awaitable[None]]] = [self._listen, self._keep_up, self._read, self._compare]
            tasks = [asyncio.ensure_future(part()) for part in parts]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _listen(self) -> None:
        """Hear changes; a server that is silent even when it is asked is away."""
        asked = False
        while True:
            message = await self._pubsub.get_message(timeout=self._store.patience)
            if message is None:
                if asked:
                    raise TimeoutError
                await self._pubsub.ping()
                asked = True
                continue
            asked = False
            self._heard.answers()
            if message["type"] == "message":
                self._change(_text(message["channel"]), message["data"])

    async def _keep_up(self) -> None:
        """Subscribe to what is wanted, and no longer to what is not."""
        while True:
            for topic in self._wanted:
                if topic not in self._topics:
                    await self._pubsub.subscribe(self._channel(topic))
                    self._topics[topic] = _Followed()
                    self._unread.set()
            for topic in [topic for topic in self._topics if topic not in self._wanted]:
                del self._topics[topic]
                await self._pubsub.unsubscribe(self._channel(topic))
            await self._wanted.changed()

    async def _read(self) -> None:
        """Read what was not read yet, or missed a change."""
        while True:
            await self._unread.wait()
            self._unread.clear()
            for topic, followed in list(self._topics.items()):
                if followed.generation is None:
                    await self._read_one(topic, followed)

    async def _read_one(self, topic: str, followed: _Followed) -> None:
        mark, members, left, garbage = await self._store.read(topic)
        followed.epoch, followed.generation, followed.members = mark.epoch, mark.generation, members
        for what in garbage:
            self._heard.garbage(what)
        self._heard.reading(Reading(topic, members, mark, left))

    async def _compare(self) -> None:
        """Look whether a change was missed."""
        while True:
            await asyncio.sleep(_COMPARE_EVERY * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the nodes' questions
            known = {topic: (followed.epoch, followed.generation) for topic, followed in self._topics.items()}
            if not known:
                continue
            epoch, generations = await self._store.generations(list(known))
            self._heard.answers()
            for (topic, before), generation in zip(known.items(), generations, strict=True):
                followed = self._topics.get(topic)
                if followed is not None and before == (followed.epoch, followed.generation) != (epoch, generation):
                    self._again(followed)

    def _change(self, channel: str, data: bytes) -> None:
        """Somebody came, changed, left or died."""
        topic = channel.removeprefix(self._channel(""))
        followed = self._topics.get(topic)
        if followed is None or followed.generation is None:
            return
        try:
            epoch, generation, what, host, member = json.loads(data)
        except (ValueError, TypeError):
            self._heard.garbage(f"a message in {channel}")
            return
        if epoch == followed.epoch and isinstance(generation, int) and generation <= followed.generation:
            return
        if (epoch, generation) != (followed.epoch, followed.generation + 1):
            self._again(followed)
            return
        followed.generation = generation
        self._apply(topic, followed, what, str(host), member)

    def _apply(self, topic: str, followed: _Followed, what: str, host: str, member: object) -> None:
        if what == redis_schema.PLUS:
            found = _member(host.encode(), str(member).encode())
            if found is None:
                self._heard.garbage(f"host {host!r} of topic {topic}")
                return
            followed.members[host] = found
            followed.left.discard(host)
        else:
            followed.members.pop(host, None)
            if what == redis_schema.LEFT:
                followed.left.add(host)
        if not self._untold:
            asyncio.get_running_loop().call_later(_GATHER, self._tell)
        self._untold.add(topic)

    def _tell(self) -> None:
        """Many changes of a moment are one reading."""
        for topic in self._untold:
            followed = self._topics.get(topic)
            if followed is not None and followed.generation is not None:
                mark = Mark(followed.epoch, followed.generation)
                self._heard.reading(Reading(topic, dict(followed.members), mark, frozenset(followed.left)))
                followed.left.clear()
        self._untold.clear()

    def _again(self, followed: _Followed) -> None:
        followed.generation = None
        followed.left.clear()
        self._unread.set()

    def _channel(self, topic: str) -> str:
        return self._store.key(f"changes:{topic}")


def _member(host: bytes, text: bytes | None, all_servers: bool = False) -> Member | None:
    """What a host wrote of itself; None when it is none of ours."""
    try:
        name = _text(host)
        address, port, servers = json.loads(text or b"")
        if not isinstance(address, str) or not isinstance(port, int) or not 0 < port < 65536 or not isinstance(servers, list):
            return None
        if not name or not name.isprintable() or len(host) > NAME_BYTES:
            return None
        return Member(address, port, tuple(sorted(str(server) for server in servers if all_servers or server != name)))
    except (ValueError, TypeError):
        return None


def _text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode()


def _reason(exc: BaseException) -> str:
    return str(exc) or {TimeoutError: "it is silent"}.get(type(exc), type(exc).__name__)  # type: ignore[arg-type]
