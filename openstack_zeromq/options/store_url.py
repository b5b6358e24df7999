"""A store in a URL, as old configurations have it: `[DEFAULT] transport_url` of the receiver's own configuration.

    zmq+redis://[[user]:password@]host[:port][/db]
    zmq+sentinel://[[user]:password@]host[:port],host[:port]/master-group
    zmq+consul://[token@]host[:port]

What the URL does not say comes from the options of the store's group. `zmq://` alone says nothing.
"""

from dataclasses import replace

from oslo_config import cfg
from oslo_messaging import TransportURL
from oslo_messaging.exceptions import InvalidTransportURL
from oslo_messaging.transport import TransportHost

from openstack_zeromq.errors import ConfigError
from openstack_zeromq.options.values import Consul, Redis, Settings

SENTINEL_PORT = 26379
_STORES = ("redis", "sentinel", "consul")


def applied(conf: cfg.ConfigOpts, read: Settings) -> Settings:
    """`read` with what the URL of `conf` says.

    :raises ConfigError: it names no store that there is, or cannot be parsed.
    """
    try:
        url = TransportURL.parse(conf)
    except InvalidTransportURL as exc:
        raise ConfigError(f"[DEFAULT] transport_url: {exc}") from None
    driver, _, store = url.transport.partition("+")
    if driver != "zmq" or not store:
        return read
    if store not in _STORES:
        raise ConfigError(
            f"[DEFAULT] transport_url = {url.transport}://…: no such matchmaker; use zmq+redis, zmq+sentinel or zmq+consul"
        )
    if not url.hosts:
        raise ConfigError(f"[DEFAULT] transport_url = {url.transport}://: names no host; write {url.transport}://host:port")
    place = url.virtual_host or ""
    match store:
        case "consul":
            return replace(read, matchmaker=store, consul=_consul(url.hosts[0], read.consul))
        case "redis":
            return replace(read, matchmaker=store, redis=_redis(url.hosts[0], place, read.redis))
        case _:
            return replace(read, matchmaker=store, redis=_sentinels(url.hosts, place, read.redis))


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


def _consul(host: TransportHost, given: Consul) -> Consul:
    return replace(
        given, host=host.hostname or given.host, port=host.port or given.port, token=host.username or host.password or given.token
    )


def _redis(host: TransportHost, place: str, given: Redis) -> Redis:
    if place and not place.isdigit():
        raise ConfigError(f"[DEFAULT] transport_url: /{place} is no number of a Redis database")
    return replace(
        given,
        host=host.hostname or given.host,
        port=host.port or given.port,
        db=int(place) if place else given.db,
        username=host.username or given.username,
        password=host.password or given.password,
    )


def _sentinels(hosts: list[TransportHost], place: str, given: Redis) -> Redis:
    return replace(
        given,
        sentinels=tuple((host.hostname, host.port or SENTINEL_PORT) for host in hosts if host.hostname),
        group=place or given.group,
        username=next((host.username for host in hosts if host.username), given.username),
        password=next((host.password for host in hosts if host.password), given.password),
    )
