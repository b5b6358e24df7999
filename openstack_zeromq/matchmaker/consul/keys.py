"""Consul's keys as a store: a key for each host of a topic, bound to a session that its receiver renews.

    <prefix>zeromq/<fabric>/topics/<topic>/<host>    {"address": "10.0.0.1", "port": 9501, "servers": ["c1"]} or {"left": true}
    <prefix>zeromq/<fabric>/hosts/<host>             ["compute"]: topics of which the host may have a key
    <prefix>zeromq/<fabric>/canary                   any text: another one, and the store is another one

Topic and host are escaped (`names`). Consul ends a session that nobody renewed after twice its TTL, of 10 s at least, and
removes its keys: a node that died is gone after `zmq_target_expire`, but not before 20 s. A topic that the node serves no longer
keeps its key for a minute, saying so: a key that just vanished would look like an accident to whoever reads the topic.

The index of some keys goes back when Consul forgets what was deleted (15 minutes later), so it says nothing about the store. That
of a key that is never there is the index of all keys, which only grows: that is the **tide**.
"""

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from openstack_zeromq import address
from openstack_zeromq.errors import MalformedError, StoreError
from openstack_zeromq.matchmaker.base import Member, Registration, Service
from openstack_zeromq.matchmaker.consul.client import Answer, Client
from openstack_zeromq.matchmaker.consul.following import Canary, FollowingStore, Source
from openstack_zeromq.matchmaker.consul.instances import Told
from openstack_zeromq.matchmaker.consul.names import escape, unescape
from openstack_zeromq.matchmaker.consul.own_address import own_address
from openstack_zeromq.matchmaker.holding import Mark
from openstack_zeromq.matchmaker.store import Heard
from openstack_zeromq.options import Settings

LEFT_SHOWN = 60.0
"""Seconds for which a key that says "left" can be seen."""

SESSION_LEAST = 10.0
"""Consul's shortest TTL of a session."""


class KeyStore(FollowingStore):
    """Keys, and one session for all of them."""

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigError: a file of the TLS options is not what it should be."""
        super().__init__(Client(settings.consul))
        self._given = settings.consul
        self._host = settings.host
        self._expire = settings.target_expire
        self._root = f"{escape_path(settings.consul.prefix)}zeromq/{settings.fabric}"
        self._tide = 0
        self._own_key = f"{self._root}/hosts/{escape(settings.host)}"
        self._session = self._noted = ""
        self._lost = False
        self._shown: dict[str, str] = {}
        self._left: dict[str, float] = {}

    # reading

    @property
    def _canary_source(self) -> Source:
        return Source("canary", f"kv/{self._root}/canary")

    def _canary(self, content: Any) -> Canary:
        value = _values(content)
        if not value:
            return Canary(False, why=f"the key {self._root}/canary is not there: no node of the fabric has registered")
        return Canary(True, value[0].text[:64] or "-")

    def _sources(self, topic: str) -> tuple[Source, ...]:
        return (Source(topic, f"kv/{self._root}/topics/{escape(topic)}/", below=True),)

    def _read(self, source: Source, content: Any, heard: Heard) -> Told:
        entries = list(self._entries(content, heard.garbage))
        members = {entry.host: entry.member for entry in entries if not entry.left}
        return Told(members, frozenset(entry.host for entry in entries if entry.left))

    def _mark(self, indices: Iterable[int]) -> Mark:
        self._tide = max(self._tide, *indices)
        return Mark(self._epoch, self._tide)

    async def _begin(self) -> None:
        await self._measure()

    async def _went_back(self, source: Source, answer: Answer) -> Answer:
        await self._measure()
        return answer

    async def _measure(self) -> None:
        """Ask the leader for the tide. When it is lower than it was, the store is an older one: our keys may not be in it."""
        tide = (await self._client.read(f"kv/{self._root}/never", leader=True)).index
        if tide < self._tide:
            self._lost = True
        self._tide = tide

    async def services(self) -> list[Service]:
        answer = await self._client.read(f"kv/{self._root}/topics/", below=True)
        if not answer.content:  # a token without rights is told so for one key, not for what begins so
            await self._client.read(self._canary_source.path)
        entries = self._entries(answer.content, lambda _what: None)
        return sorted(
            Service(entry.topic, server, entry.host, True, None)
            for entry in entries
            if not entry.left
            for server in entry.servers or (entry.host,)
        )

    def _entries(self, content: Any, garbage: Callable[[str], None]) -> Iterator["_Entry"]:
        for value in _values(content):
            try:
                yield _entry(value, f"{self._root}/topics/")
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError, MalformedError) as exc:
                garbage(f"key {value.key}: {type(exc).__name__}: {exc}")

    # registering

    async def beat(self, registration: Registration) -> None:
        if not self._given.register:
            return
        await self._keep_session()
        own = registration.address or await self._own_address()
        wanted = {topic: _written(registration, topic, own) for topic in registration.topics}
        await self._note(wanted.keys() | self._shown.keys() | self._left.keys())
        for topic, text in wanted.items():
            if self._shown.get(topic) != text:
                await self._put(self._key(topic), text)
                self._shown[topic] = text
                self._left.pop(topic, None)
        for topic in self._shown.keys() - wanted.keys():
            await self._put(self._key(topic), json.dumps({"left": True}))
            del self._shown[topic]
            self._left[topic] = time.monotonic()
        for topic in [topic for topic, since in self._left.items() if time.monotonic() - since >= LEFT_SHOWN]:
            await self._client.delete(f"kv/{self._key(topic)}")
            del self._left[topic]
        await self._keep_canary()

    def _key(self, topic: str) -> str:
        return f"{self._root}/topics/{escape(topic)}/{escape(self._host)}"

    async def _note(self, topics: Iterable[str]) -> None:
        """Have it written which keys there may be, before there are."""
        noted = json.dumps(sorted(topics))
        if noted != self._noted:
            await self._put(self._own_key, noted)
            self._noted = noted

    async def _keep_session(self) -> None:
        """Renew the session; where there is none, go on with that of this node's last receiver, or make one."""
        if self._session and not self._lost and await self._renewed(self._session):
            return
        self._session = self._noted = ""
        self._lost = False
        self._shown.clear()
        self._left.clear()
        values = _values((await self._client.read(f"kv/{self._own_key}", leader=True)).content)
        if values and values[0].session and await self._renewed(values[0].session):
            self._session = values[0].session
            self._shown = dict.fromkeys(_topics(values[0].text), "")
            return
        made = await self._client.order(
            "session/create",
            {
                "Name": f"zeromq {self._host}",
                "TTL": f"{max(SESSION_LEAST, self._expire / 2):.3f}s",
                "Behavior": "delete",
                "LockDelay": "0s",
                "NodeChecks": [],
                "Checks": [],
            },
        )
        if not isinstance(made, dict) or not isinstance(made.get("ID"), str):
            raise StoreError(f"{self.name}: it made no session")
        self._session = made["ID"]

    async def _renewed(self, session: str) -> bool:
        return await self._client.order(f"session/renew/{session}") is not None

    async def _owner(self, key: str) -> str:
        """The session that holds `key`; empty: none does."""
        values = _values((await self._client.read(f"kv/{key}", leader=True)).content)
        return values[0].session if values else ""

    async def _put(self, key: str, text: str) -> None:
        """Write a key of ours. Whoever holds it is a former receiver of this node: the key is ours."""
        if await self._client.order(f"kv/{key}", text=text, acquire=self._session) is True:
            return
        former = await self._owner(key)
        if former:
            await self._client.order(f"session/destroy/{former}")
        if await self._client.order(f"kv/{key}", text=text, acquire=self._session) is not True:
            raise StoreError(f"{self.name}: the key {key} cannot be taken")

    async def _keep_canary(self) -> None:
        """Whoever misses it makes it, after having registered."""
        path = self._canary_source.path
        if (await self._client.read(path)).content is None:
            await self._client.order(path, text=str(uuid.uuid4()), cas="0")

    async def _own_address(self) -> str:
        """That of the agent, when it is on this node."""
        own = await asyncio.to_thread(own_address, self._given.host)
        if own:
            return own
        try:
            agent = await self._client.ask_agent("agent/self")
            return str(agent["Member"]["Addr"])
        except (StoreError, KeyError, TypeError):
            return ""


class _Value(NamedTuple):
    key: str
    text: str
    session: str


class _Entry(NamedTuple):
    """A host of a topic, read and checked."""

    topic: str
    host: str
    address: str
    port: int | None
    servers: tuple[str, ...]
    left: bool

    @property
    def member(self) -> Member:
        return Member(self.address, self.port, tuple(server for server in self.servers if server != self.host))


def _values(content: Any) -> list[_Value]:
    """The keys of an answer."""
    return [
        _Value(str(entry.get("Key")), _text(entry.get("Value")), str(entry.get("Session") or ""))
        for entry in (content if isinstance(content, list) else ())
        if isinstance(entry, dict)
    ]


def _text(value: Any) -> str:
    """What is no text counts as empty."""
    try:
        return base64.b64decode(value or "").decode()
    except (ValueError, TypeError):
        return ""


def _entry(value: _Value, root: str) -> _Entry:
    topic, slash, host = value.key.removeprefix(root).partition("/")
    if not value.key.startswith(root) or not slash:
        raise MalformedError("no key of a topic")
    if not value.session:
        raise MalformedError("belongs to no session: it would be there for ever")
    topic, host = unescape(topic), unescape(host)
    if not topic or not host or len(host.encode()) > address.NAME_BYTES or not host.isprintable():
        raise MalformedError("host")
    facts: Mapping[str, Any] = json.loads(value.text)
    if facts.get("left"):
        return _Entry(topic, host, "", None, (), True)
    where, port, servers = facts.get("address", ""), facts.get("port"), facts.get("servers", [])
    if not isinstance(where, str) or not all(isinstance(server, str) for server in servers):
        raise MalformedError("address or servers")
    if not (port is None or (isinstance(port, int) and 0 < port < 65536)):
        raise MalformedError("port")
    return _Entry(topic, host, where, port, tuple(sorted({address.compact(server) for server in servers})), False)


def _topics(text: str) -> list[str]:
    """Those that a host noted."""
    try:
        noted = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [topic for topic in noted if isinstance(topic, str)] if isinstance(noted, list) else []


def _written(registration: Registration, topic: str, own: str) -> str:
    return json.dumps({"address": own, "port": registration.port, "servers": sorted(registration.topics[topic])})


def escape_path(prefix: str) -> str:
    """`prefix` with each of its parts escaped."""
    return "/".join(map(escape, prefix.split("/")))
