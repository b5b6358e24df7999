"""Which matchmaker the options ask for."""

from pathlib import Path

from openstack_zeromq.errors import ConfigError
from openstack_zeromq.matchmaker.base import Matchmaker, Registration
from openstack_zeromq.matchmaker.dummy import DummyMatchmaker
from openstack_zeromq.matchmaker.following import StoreMatchmaker
from openstack_zeromq.matchmaker.holding import Rules
from openstack_zeromq.matchmaker.ring import RingMatchmaker
from openstack_zeromq.matchmaker.snapshot import Snapshot
from openstack_zeromq.matchmaker.store import Store
from openstack_zeromq.options import GROUP, Settings

WARM_UP = 60.0
"""Seconds that nodes have at least to register again with a store that was replaced."""


def matchmaker(settings: Settings) -> Matchmaker:
    """The matchmaker of a receiver; it has not started yet.

    :raises ConfigError: its library is not installed, or its directory cannot be made.
    """
    if settings.matchmaker == "dummy":
        return DummyMatchmaker(settings.host)
    if settings.matchmaker == "ring":
        return RingMatchmaker(settings.ringfile, settings.state_dir, settings.host)
    try:
        Path(settings.state_dir).mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"[{GROUP}] zmq_state_dir = {settings.state_dir}: {exc.strerror}; make it a directory that this user may write"
        ) from None
    address = settings.address or ("" if settings.bind_address == "*" else settings.bind_address)
    return StoreMatchmaker(
        lambda: store(settings),
        Registration(settings.host, address, settings.port),
        settings.target_update,
        rules(settings),
        Snapshot(settings.state_dir, settings.host, f"{settings.matchmaker} {settings.fabric}"),
    )


def rules(settings: Settings) -> Rules:
    """What to hold."""
    expire = settings.target_expire
    return Rules(warm_up=max(WARM_UP, expire), outage=expire / 3, allow_empty=frozenset(settings.allow_empty))


def store(settings: Settings) -> Store:
    """The store of `redis`, `sentinel` or `consul`; to be made and used within one asyncio loop.

    :raises ConfigError: its library is not installed.
    """
    try:
        if settings.matchmaker == "consul":
            from openstack_zeromq.matchmaker.consul.store import consul_store  # noqa: PLC0415 - only who uses it needs it

            return consul_store(settings)
        from openstack_zeromq.matchmaker.redis.store import RedisStore  # noqa: PLC0415 - only who uses it needs it

        return RedisStore(settings)
    except ImportError as exc:
        extra = "consul" if settings.matchmaker == "consul" else "redis"
        raise ConfigError(f"rpc_zmq_matchmaker = {settings.matchmaker}: {exc}; pip install 'openstack-zeromq[{extra}]'") from None
