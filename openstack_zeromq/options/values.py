"""The options as values: read, checked, frozen. Sizes in bytes, times in seconds. Secrets are in no repr."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TLS:
    """Files in PEM; an empty path is none."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class Redis:
    """Where Redis is, or the Sentinels that know. `tls` None: plain TCP."""

    host: str
    port: int
    db: int
    username: str
    password: str = field(repr=False)
    sentinels: tuple[tuple[str, int], ...]
    group: str
    sentinel_username: str
    sentinel_password: str = field(repr=False)
    tls: TLS | None
    socket_timeout: float


@dataclass(frozen=True, slots=True)
class Consul:
    """Where Consul is, and how it is used. `services`: Consul service -> topic; `tls` None: plain HTTP."""

    host: str
    port: int
    token: str = field(repr=False)
    tls: TLS | None
    datacenter: str
    mode: str
    services: Mapping[str, str]
    prefix: str
    accept_warning: bool
    register: bool
    deregister_after: float
    wait: float
    socket_timeout: float


@dataclass(frozen=True, slots=True)
class Settings:
    """All options."""

    host: str
    bind_address: str
    port: int
    ipc_dir: str
    matchmaker: str
    topic_backlog: int
    backlog_size: int
    security: str
    key_file: str
    authorized_keys: str
    connections_per_peer: int
    handshake_timeout: float
    heartbeat: float
    redial: float
    channel_acl: tuple[str, ...]
    max_message_size: int
    message_ttl: float
    consumer_credit: int
    link_idle: float
    ringfile: str
    ring_topics: tuple[str, ...]
    address: str
    fabric: str
    state_dir: str
    target_expire: float
    target_update: float
    allow_empty: tuple[str, ...]
    redis: Redis
    consul: Consul
