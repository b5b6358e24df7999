"""Consul as a store: its catalog of services, or its keys, as `[matchmaker_consul] mode` says."""

from openstack_zeromq.matchmaker.consul.catalog import CatalogStore
from openstack_zeromq.matchmaker.consul.keys import KeyStore
from openstack_zeromq.matchmaker.store import Store
from openstack_zeromq.options import Settings


def consul_store(settings: Settings) -> Store:
    """The store; to be made and used within one asyncio loop.

    :raises ConfigError: a file of the TLS options is not what it should be.
    """
    return KeyStore(settings) if settings.consul.mode == "kv" else CatalogStore(settings)
