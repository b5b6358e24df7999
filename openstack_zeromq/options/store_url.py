"""A store in a URL, as old configurations have it: `[DEFAULT] transport_url` of the receiver's own configuration.

    zmq+redis://[[user]:password@]host[:port][/db]
    zmq+sentinel://[[user]:password@]host[:port],host[:port]/master-group
    zmq+consul://[token@]host[:port]

What the URL does not say comes from the options of the store's group. `zmq://` alone says nothing.
"""

import re
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from oslo_config import cfg

from openstack_zeromq.errors import ConfigError
from openstack_zeromq.options.values import Consul, Redis, Settings

SENTINEL_PORT = 26379
_STORES = ("redis", "sentinel", "consul")
_SPLIT_SECRET = re.compile(r"[/?#].*@|^[^@,]*,.*@")
"""Something in a password that ends it: the rest of it would be taken for a host or a group, and shown."""
_OPTION = cfg.StrOpt("transport_url", secret=True)


class _Host(NamedTuple):
    """One `user:password@host:port`; what is not there is empty, a port 0."""

    user: str
    password: str
    name: str
    port: int


def register(conf: cfg.ConfigOpts) -> None:
    """Make the URL known to `conf`; for our own programs, since in a service oslo.messaging does."""
    conf.register_opt(_OPTION)


def applied(conf: cfg.ConfigOpts, read: Settings) -> Settings:
    """`read` with what the URL of `conf` says.

    :raises ConfigError: it names no store that there is, or cannot be parsed.
    """
    url = str(conf.transport_url or "") if "transport_url" in conf else ""
    scheme, _, rest = url.partition("://")
    driver, _, store = scheme.partition("+")
    if driver != "zmq" or not store:
        return read
    if store not in _STORES:
        raise ConfigError(
            f"[DEFAULT] transport_url = {scheme}://…: no such matchmaker; use zmq+redis, zmq+sentinel or zmq+consul"
        )
    if _SPLIT_SECRET.search(rest):
        raise ConfigError(
            f"[DEFAULT] transport_url = {scheme}://…: an @ stands after /, ?, # or a comma; write user, password and token"
            " percent-encoded"
        )
    netloc, _, place = rest.partition("/")
    hosts = [_host(scheme, part) for part in netloc.split(",")]
    place = unquote(place.partition("?")[0])
    match store:
        case "consul":
            return replace(read, matchmaker=store, consul=_consul(hosts[0], read.consul))
        case "redis":
            return replace(read, matchmaker=store, redis=_redis(hosts[0], place, read.redis))
        case _:
            return replace(read, matchmaker=store, redis=_sentinels(hosts, place, read.redis))


def sentinel(named: str) -> tuple[str, int]:
    """`host`, `host:port` or `[v6]:port` as (host, port).

    :raises ConfigError: it is none of these.
    """
    host, colon, port = named.strip().rpartition(":")
    if not colon or named.endswith("]"):
        host, port = named.strip(), str(SENTINEL_PORT)
    host = host.strip("[]")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"[matchmaker_redis] sentinel_hosts: {named!r} is not host or host:port")
    return host, int(port)


def _host(scheme: str, text: str) -> _Host:
    try:
        parts = urlsplit(f"//{text}")
        host = _Host(unquote(parts.username or ""), unquote(parts.password or ""), parts.hostname or "", parts.port or 0)
    except ValueError:  # its text could show a part of a password
        raise ConfigError(
            f"[DEFAULT] transport_url = {scheme}://…: has no port that can be read; write {scheme}://host:port, and a password"
            " percent-encoded"
        ) from None
    if not host.name:
        raise ConfigError(f"[DEFAULT] transport_url = {scheme}://…: names no host; write {scheme}://host:port")
    return host


def _consul(host: _Host, given: Consul) -> Consul:
    return replace(given, host=host.name, port=host.port or given.port, token=host.user or host.password or given.token)


def _redis(host: _Host, place: str, given: Redis) -> Redis:
    if place and not place.isdigit():
        raise ConfigError(f"[DEFAULT] transport_url: /{place} is no number of a Redis database")
    return replace(
        given,
        host=host.name,
        port=host.port or given.port,
        db=int(place) if place else given.db,
        username=host.user or given.username,
        password=host.password or given.password,
    )


def _sentinels(hosts: list[_Host], place: str, given: Redis) -> Redis:
    return replace(
        given,
        sentinels=tuple((host.name, host.port or SENTINEL_PORT) for host in hosts),
        group=place or given.group,
        username=next((host.user for host in hosts if host.user), given.username),
        password=next((host.password for host in hosts if host.password), given.password),
    )
