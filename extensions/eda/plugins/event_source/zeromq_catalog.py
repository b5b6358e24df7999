"""Event-Driven Ansible: an event for every settled change of the catalog. A thin shell over openstack_zeromq.catalog.watch.

An event is what `zmqctl catalog watch` gives a command: its document and, in small letters, its environment. It counts as told
once it is in ansible-rulebook's queue; that acts on it or logs why not.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from oslo_config import cfg

from openstack_zeromq import options
from openstack_zeromq.catalog.news import News
from openstack_zeromq.catalog.watch import Interest, Patience, State, Watch
from openstack_zeromq.errors import ConfigError

DOCUMENTATION = r"""
---
short_description: Events for nodes and topics that come and go in a catalog
description:
  - Follows topics in Consul, Redis or Valkey, and the nodes of Consul, and gives an event for every settled change.
  - Needs openstack-zeromq in the Python of ansible-rulebook.
options:
  config_file:
    description: Configuration files of openstack-zeromq, which say where the store is.
    type: list
    elements: str
    required: true
  topics:
    description: Topics of interest. Those of C([matchmaker_ring] topics) if there are none here.
    type: list
    elements: str
    default: []
  store:
    description: The store to follow.
    type: str
    choices: [consul, redis, sentinel]
    default: consul
  nodes:
    description: Whether to follow the nodes of Consul, too. They are there before any receiver runs on them.
    type: bool
    default: false
  node_meta:
    description: Only nodes whose Meta has all of this.
    type: dict
    default: {}
  state:
    description: Directory that remembers what was told. C(catalog) in C(zmq_state_dir) if it is not given.
    type: str
  quiet_for:
    description: Seconds without a change before what changed is told.
    type: float
    default: 2
  at_most:
    description: Seconds after a change by which it is told in any case.
    type: float
    default: 10
  initial:
    description: Whether everything that is there at the very first start is an event.
    type: bool
    default: false
"""

EXAMPLES = r"""
- zeromq_catalog:
    config_file: [/etc/oslo/zeromq.conf, /etc/oslo/zeromq-matchmaker.conf]
    nodes: true
    node_meta: {zmq: "true"}
"""

_NAMES = frozenset({"config_file", "topics", "store", "nodes", "node_meta", "state", "quiet_for", "at_most", "initial"})


class Queued:
    """A way for news: into ansible-rulebook's queue."""

    def __init__(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        self._queue = queue

    async def take(self, news: News) -> None:
        flat = {name.lower(): value for name, value in news.environment().items()}
        await self._queue.put({**news.document(), **flat})


async def main(queue: asyncio.Queue[dict[str, Any]], args: dict[str, Any]) -> None:
    """Until cancelled.

    :raises ConfigError: an argument or an option cannot be; the message names it.
    """
    settings = _settings(args)
    interest = Interest(
        tuple(args.get("topics") or settings.ring_topics),
        bool(args.get("nodes", False)),
        {str(name): str(value) for name, value in (args.get("node_meta") or {}).items()},
    )
    state = State(Path(args.get("state") or Path(settings.state_dir, "catalog")))
    patience = Patience(float(args.get("quiet_for", 2)), float(args.get("at_most", 10)))
    with state.claimed():
        store = interest.store(settings)
        try:
            watch = Watch(store, settings, interest, state, patience)
            await watch.run(Queued(queue), asyncio.Event(), initial=bool(args.get("initial", False)))
        finally:
            await store.close()


def _settings(args: dict[str, Any]) -> options.Settings:
    unknown = sorted(set(args) - _NAMES)
    if unknown:
        raise ConfigError(f"zeromq_catalog: no such argument: {', '.join(unknown)}; there are {', '.join(sorted(_NAMES))}")
    files = args.get("config_file") or []
    store = args.get("store", "consul")
    if store not in {"consul", "redis", "sentinel"}:
        raise ConfigError(f"zeromq_catalog: store: {store!r} is none of consul, redis, sentinel")
    conf = cfg.ConfigOpts()
    options.register(conf)
    options.register_store_url(conf)
    try:
        conf(
            [],
            project="openstack-zeromq",
            default_config_files=[files] if isinstance(files, str) else files,
            default_config_dirs=[],
        )
    except cfg.Error as exc:
        raise ConfigError(f"zeromq_catalog: config_file: {exc}") from None
    conf.set_override("rpc_zmq_matchmaker", store, group=options.GROUP)
    return options.settings(conf)
