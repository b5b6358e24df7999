"""Options: every setting of the bus, once, with the names that old configurations use as aliases.

Options live in `[oslo_messaging_zmq]` and in a group for each of the matchmaker's stores; those that oslo.messaging had before
2018 are also read from `[DEFAULT]`. `settings()` turns them into one frozen, checked value; nothing else in the package looks at
oslo.config. `declared` has the options, `values` what they become, `reading` the way from one to the other, `store_url` the
stores that are named in a URL, `given` settings for whoever has no command line.
"""

from oslo_config import cfg

from openstack_zeromq.options.declared import CONSUL_GROUP, GROUP, REDIS_GROUP, RING_GROUP, list_opts
from openstack_zeromq.options.given import consul_at, given, redis_at
from openstack_zeromq.options.reading import settings, unknown_names
from openstack_zeromq.options.store_url import register as register_store_url
from openstack_zeromq.options.values import TLS, Consul, Redis, Settings

__all__ = [
    "CONSUL_GROUP",
    "GROUP",
    "REDIS_GROUP",
    "RING_GROUP",
    "TLS",
    "Consul",
    "Redis",
    "Settings",
    "consul_at",
    "given",
    "list_opts",
    "redis_at",
    "register",
    "register_store_url",
    "settings",
    "unknown_names",
]


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known to `conf`; harmless when they are already."""
    for group, opts in list_opts():
        conf.register_opts(opts, group=group)
