"""One Consul agent over HTTP: questions, orders, and what can go wrong with them, which is always a `StoreError`.

py-consul carries the requests; its own readings of answers are not used, for they drop what says whether an answer is to be
trusted: whether the cluster has a leader, and how old the answer is. Environment variables of Consul's own tools count for
nothing here: the options decide.
"""

import asyncio
import contextlib
import json
import os
import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
from consul import aio, base
from consul.exceptions import ConsulException

from openstack_zeromq.errors import ConfigError, StoreError
from openstack_zeromq.options import CONSUL_GROUP, TLS
from openstack_zeromq.options.values import Consul

CONNECTIONS = 80
"""Most connections of one store. An agent allows 200 for each client address; it counts those of a blocking query that was given
up, by a receiver that ended, until their wait is over; and `zmqctl ring sync` may want as many."""

OLD = 10.0
"""Seconds without contact to the leader after which a server's answer is not believed."""

_SHOWN = 200
_REFUSALS = (401, 403)
_ABSENT = ("does not have associated TTL", "Unknown check", "Unknown service")


@dataclass(frozen=True, slots=True)
class Answer:
    """What Consul answered: JSON, None for "no such thing" where that is an answer; `index` as Consul counts, at least 1."""

    content: Any
    index: int


class _Raw(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: str


class _Transport(aio.HTTPClient):  # type: ignore[misc]  # py-consul has no types
    """py-consul's client with a TLS context of ours: its own trusts the system's authorities besides the one it was given."""

    def __init__(self, host: str, port: int, scheme: str, context: ssl.SSLContext | None) -> None:
        base.HTTPClient.__init__(self, host, port, scheme)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=True if context is None else context)
        self._session = aiohttp.ClientSession(connector=connector)


class Client:
    """To be made and used within one asyncio loop. `early`: a blocking query waits for longer than these seconds."""

    def __init__(self, given: Consul) -> None:
        """:raises ConfigError: a file of the TLS options is not what it should be."""
        host = f"[{given.host}]" if ":" in given.host else given.host
        context = None if given.tls is None else _context(given.tls)
        self.name = f"consul {host}:{given.port}"
        self._http = _Transport(host, given.port, "http" if context is None else "https", context)
        self._headers = {"X-Consul-Token": given.token} if given.token else {}
        self._datacenter = [("dc", given.datacenter)] if given.datacenter else []
        self.early = given.wait / 2
        self._wait, self._patience = given.wait, given.socket_timeout

    async def read(self, path: str, *, index: int = 0, below: bool = False, leader: bool = False) -> Answer:
        """The present state of something that all servers share; `below`: of all keys that begin so.

        With `index`: once it is past that, or after a while. Any server may answer, unless `leader` wants the leader. What is not
        there is None.
        """
        query = [("recurse", ""), *self._datacenter] if below else [*self._datacenter]
        patience = self._patience
        if not leader:
            query.append(("stale", ""))
        if index:
            wait = self._wait * random.uniform(0.8, 1.0)  # noqa: S311 - spreads the nodes' questions
            query += [("index", str(index)), ("wait", f"{wait * 1000:.0f}ms")]
            patience += wait * 17 / 16  # Consul adds up to a sixteenth
        raw = await self._ask(self._http.get, path, query, patience)
        if raw.headers.get("X-Consul-KnownLeader", "true") != "true":
            raise StoreError(f"{self.name}: the servers have no leader")
        age = _number(raw.headers.get("X-Consul-LastContact", "0")) / 1000
        if age > OLD:
            raise StoreError(f"{self.name}: the answer is {age:.0f} s old: that server has lost its leader")
        content = None if raw.status == 404 else self._parsed(raw, path)
        return Answer(content, max(1, _number(raw.headers.get("X-Consul-Index", "0"))))

    async def ask_agent(self, path: str) -> Any:
        """What the agent itself knows."""
        return self._parsed(await self._ask(self._http.get, path, [], self._patience), path)

    async def order(self, path: str, content: object = None, *, text: str = "", **params: str) -> Any:
        """Have something done, with `content` as JSON or `text` as it is. None: there is no such thing to do it with."""
        data = text if content is None else json.dumps(content)
        query = [*params.items(), *self._place(path)]
        raw = await self._ask(self._http.put, path, query, self._patience, data=data)
        return None if raw.status == 404 else self._parsed(raw, path) if raw.body else True

    async def put(self, path: str, data: bytes, **params: str) -> bool:
        """Store bytes as the value of a key; False when its conditions do not hold."""
        raw = await self._ask(self._http.put, path, list(params.items()), self._patience, data=data)
        return self._parsed(raw, path) is True

    async def delete(self, path: str) -> None:
        """Remove something; well, too, if it is not there."""
        await self._ask(self._http.delete, path, self._place(path), self._patience)

    def _place(self, path: str) -> list[tuple[str, str]]:
        """Where the datacenter counts, it; the agent is where it is."""
        return [] if path.startswith("agent/") else self._datacenter

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._http.close()

    async def _ask(
        self, method: Callable[..., Any], path: str, query: list[tuple[str, str]], patience: float, **more: object
    ) -> _Raw:
        headers = dict(self._headers)
        try:
            raw: _Raw = await method(_raw, f"/v1/{path}", query, headers=headers, connections_timeout=patience, **more)
        except TimeoutError:
            raise StoreError(f"{self.name}: no answer within {patience:.0f} s") from None
        except aiohttp.ClientSSLError as exc:
            raise StoreError(f"{self.name}: TLS: {exc}") from None
        except aiohttp.ClientConnectorError as exc:
            raise StoreError(f"{self.name}: {os.strerror(exc.errno) if exc.errno else exc.os_error}") from None
        except (aiohttp.ClientError, OSError) as exc:
            raise StoreError(f"{self.name}: {exc or type(exc).__name__}") from None
        except (ValueError, ConsulException) as exc:
            raise StoreError(f"{self.name}: the question or its answer is no HTTP: {type(exc).__name__}") from None
        if raw.status >= 400 and not _is_absence(raw):
            refused = raw.status in _REFUSALS
            remedy = f"; see [{CONSUL_GROUP}] token" if refused else ""
            raise StoreError(f"{self.name}: {raw.status}: {_short(raw.body) or 'without a word'}{remedy}", refused=refused)
        return raw if raw.status < 400 else raw._replace(status=404)

    def _parsed(self, raw: _Raw, path: str) -> Any:
        try:
            return json.loads(raw.body)
        except (ValueError, RecursionError):
            raise StoreError(f"{self.name}: /v1/{path}: the answer is no JSON: {_short(raw.body)!r}") from None


def _raw(response: base.Response) -> _Raw:
    return _Raw(response.code, response.headers, response.body)


def _is_absence(raw: _Raw) -> bool:
    """Does it say that there is no such thing? Consul 1.8 says it of checks and services with 500."""
    return raw.status == 404 or (raw.status == 500 and any(words in raw.body for words in _ABSENT))


def _short(body: str) -> str:
    text = " ".join(body.split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _context(tls: TLS) -> ssl.SSLContext:
    """:raises ConfigError: a file is not what it should be."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"[{CONSUL_GROUP}] ca_file = {tls.ca_file}: {exc}; give certificates in PEM") from None
    if tls.cert_file:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file or None, password="")
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"[{CONSUL_GROUP}] cert_file = {tls.cert_file}, key_file = {tls.key_file}: {exc}; give a certificate and its own"
                " key without a password, in PEM"
            ) from None
    return context
