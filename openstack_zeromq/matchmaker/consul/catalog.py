"""Consul's catalog as a store: a topic is a service, or several, and health decides.

`[matchmaker_consul] services` says which services are which topic; any other topic is the service `prefix` and its name, escaped
(`names`). The receiver registers an instance of its own for each topic with the local agent, with a check that it beats.

A topic that the node serves no longer keeps its instance for a minute, critical and with `zmq_left` in its Meta: an instance that
just vanished would look like an accident to whoever reads the catalog. The canary is Consul's own service.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from openstack_zeromq.errors import MalformedError, StoreError
from openstack_zeromq.matchmaker.base import Registration, Service
from openstack_zeromq.matchmaker.consul import instances as consul_instances
from openstack_zeromq.matchmaker.consul.client import Answer, Client
from openstack_zeromq.matchmaker.consul.following import Canary, FollowingStore, Source
from openstack_zeromq.matchmaker.consul.instances import Instance, Told
from openstack_zeromq.matchmaker.consul.names import escape, instance_id, unescape
from openstack_zeromq.matchmaker.consul.own_address import own_address
from openstack_zeromq.matchmaker.holding import Mark
from openstack_zeromq.matchmaker.store import Heard
from openstack_zeromq.options import CONSUL_GROUP, Settings

CANARY = "consul"
LEFT_SHOWN = 60.0
"""Seconds for which an instance that left can be seen."""

_RIGHTS = 'it needs service_prefix "" read and node_prefix "" read'
_AT_A_TIME = 8


class CatalogStore(FollowingStore):
    """Services, health, and a TTL check for each."""

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigError: a file of the TLS options is not what it should be."""
        super().__init__(Client(settings.consul))
        self._given = settings.consul
        self._fabric, self._host = settings.fabric, settings.host
        self._tag = f"zeromq-{settings.fabric}"
        self._expire = settings.target_expire
        self._services: dict[str, tuple[str, ...]] = {}
        for service, topic in sorted(settings.consul.services.items()):
            self._services[topic] = (*self._services.get(topic, ()), service)
        self._instances = _Registered()

    # reading

    @property
    def _canary_source(self) -> Source:
        return Source(CANARY, f"health/service/{CANARY}")

    def _canary(self, content: Any) -> Canary:
        """The epoch is a server that stays: the eldest, for as long as it is there."""
        servers = {_server(entry): _born(entry) for entry in content or []}
        if not servers:
            return Canary(False, why=f"[{CONSUL_GROUP}] token: the service {CANARY} is not in its catalog; {_RIGHTS}")
        return Canary(True, self._epoch if self._epoch in servers else min(servers, key=lambda server: (servers[server], server)))

    def _sources(self, topic: str) -> tuple[Source, ...]:
        return tuple(Source(service, f"health/service/{service}") for service in self._services_of(topic))

    def _read(self, source: Source, content: Any, heard: Heard) -> Told:
        return consul_instances.told(self._instances_of(source.name, content, heard.garbage))

    def _mark(self, indices: Iterable[int]) -> Mark:
        """The sum goes back when one of them does, for they are told one by one."""
        return Mark(self._epoch, sum(indices))

    async def _went_back(self, source: Source, answer: Answer) -> Answer:
        """A server that lags behind says the same: the leader knows."""
        return await self._client.read(source.path, leader=True)

    def _services_of(self, topic: str) -> tuple[str, ...]:
        return self._services.get(topic) or (escape(self._given.prefix + topic),)

    def _instances_of(self, service: str, content: Any, garbage: Callable[[str], None]) -> Iterable[Instance]:
        return consul_instances.instances(content, service, self._fabric, self._given.accept_warning, garbage)

    async def services(self) -> list[Service]:
        await self._canary_is_there()
        listed = (await self._client.read("catalog/services")).content
        if not isinstance(listed, dict):
            raise StoreError(f"{self.name}: the list of services is none")
        names = [name for name, tags in listed.items() if self._tag in (tags or ()) or name in self._given.services]
        answers = await _some_at_a_time(lambda name: self._client.read(f"health/service/{name}"), names)
        found: dict[tuple[str, str, str], bool] = {}
        for name, answer in zip(names, answers, strict=True):
            topic = self._topic_of(name)
            for instance in self._instances_of(name, answer.content, lambda _what: None) if topic else ():
                for server in () if instance.left else instance.servers or (instance.host,):
                    key = (topic, server, instance.host)
                    found[key] = found.get(key, False) or instance.alive
        return sorted(Service(*key, alive, None) for key, alive in found.items())

    def _topic_of(self, service: str) -> str:
        """Empty: the service is no topic of ours."""
        mapped = self._given.services.get(service)
        if mapped is not None:
            return mapped
        try:
            name = unescape(service)
        except MalformedError:
            return ""
        return name.removeprefix(self._given.prefix) if name.startswith(self._given.prefix) else ""

    # registering

    async def beat(self, registration: Registration) -> None:
        if not self._given.register:
            return
        if not self._instances.known:
            self._instances.found(await self._left_behind())
        address = registration.address or await asyncio.to_thread(own_address, self._given.host)
        wanted = dict(self._instance(registration, topic, address) for topic in registration.topics)
        done = await _some_at_a_time(self._keep, list(wanted.items()), errors=True)
        gone = [key for key in self._instances.shown if key not in wanted]
        done += await _some_at_a_time(self._leave, gone, errors=True)
        done += await _some_at_a_time(self._remove, self._instances.long_gone(time.monotonic()), errors=True)
        for error in done:
            if isinstance(error, BaseException):
                raise error

    def _instance(self, registration: Registration, topic: str, address: str) -> tuple[str, dict[str, Any]]:
        service = self._services_of(topic)[0]
        key = instance_id(self._fabric, service, registration.host)
        meta = {"zmq_host": registration.host, "zmq_fabric": self._fabric, "zmq_port": str(registration.port)}
        return key, {
            "ID": key,
            "Name": service,
            "Tags": [self._tag],
            "Address": address,
            "Port": registration.port,
            "Meta": meta | consul_instances.servers_meta(registration.topics[topic]),
            "EnableTagOverride": False,
            "Check": {
                "Name": "the receiver says that it is there",
                "TTL": f"{self._expire:.3f}s",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": f"{self._given.deregister_after:.3f}s",
            },
        }

    async def _keep(self, wanted: tuple[str, dict[str, Any]]) -> None:
        """Beat what is registered; register what is new, has changed, or was lost.

        It is beaten at once, too: an agent keeps on disk how a check was beaten, not how it began; one that was never beaten is
        critical once its agent was restarted.
        """
        key, instance = wanted
        beat = f"agent/check/pass/service:{key}"
        if self._instances.shown.get(key) == instance and await self._client.order(beat) is not None:
            return
        await self._client.order("agent/service/register", instance)
        await self._client.order(beat)
        self._instances.registered(key, instance)

    async def _leave(self, key: str) -> None:
        instance = self._instances.shown[key]
        check = {**instance["Check"], "Status": "critical", "Notes": "the node serves it no longer"}
        await self._client.order(
            "agent/service/register", {**instance, "Meta": {**instance["Meta"], "zmq_left": "1"}, "Check": check}
        )
        self._instances.left(key, time.monotonic())

    async def _remove(self, key: str) -> None:
        await self._client.order(f"agent/service/deregister/{key}")
        self._instances.removed(key)

    async def _left_behind(self) -> dict[str, dict[str, Any]]:
        """What the last receiver of this node has registered with the agent."""
        registered = await self._client.ask_agent("agent/services")
        ours = {}
        for key, there in registered.items() if isinstance(registered, dict) else ():
            meta = there.get("Meta") or {}
            if key.startswith(f"zmq:{self._fabric}:") and meta.get("zmq_host") == self._host:
                ours[key] = {
                    "ID": key,
                    "Name": there["Service"],
                    "Tags": [self._tag],
                    "Address": there.get("Address", ""),
                    "Port": there.get("Port", 0),
                    "Meta": {name: value for name, value in meta.items() if name != "zmq_left"},
                    "EnableTagOverride": False,
                    "Check": {"TTL": f"{self._expire:.3f}s", "DeregisterCriticalServiceAfter": "60s"},
                }
        return ours


class _Registered:
    """What the agent has of this node. `shown`: as members, key -> what was registered."""

    def __init__(self) -> None:
        self.known = False
        self.shown: dict[str, dict[str, Any]] = {}
        self._left: dict[str, float] = {}

    def found(self, there: Mapping[str, dict[str, Any]]) -> None:
        self.known = True
        self.shown.update(there)

    def registered(self, key: str, instance: dict[str, Any]) -> None:
        self.shown[key] = instance
        self._left.pop(key, None)

    def left(self, key: str, now: float) -> None:
        del self.shown[key]
        self._left[key] = now

    def removed(self, key: str) -> None:
        del self._left[key]

    def long_gone(self, now: float) -> list[str]:
        return [key for key, since in self._left.items() if now - since >= LEFT_SHOWN]


def _server(entry: Any) -> str:
    node = entry.get("Node") if isinstance(entry, dict) else None
    return str(node.get("ID") or node.get("Node")) if isinstance(node, dict) else ""


def _born(entry: Any) -> int:
    born = entry["Node"].get("CreateIndex") if _server(entry) else 0
    return born if isinstance(born, int) else 0


async def _some_at_a_time(do: Callable[[Any], Awaitable[Any]], items: list[Any], errors: bool = False) -> list[Any]:
    """Do it for all of them, a few at a time; `errors`: those stand in the result."""
    turn = asyncio.Semaphore(_AT_A_TIME)

    async def one(item: Any) -> Any:
        async with turn:
            return await do(item)

    return await asyncio.gather(*map(one, items), return_exceptions=errors)
