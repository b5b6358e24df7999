"""Options: every setting of the bus, once, with the names that old configurations use as aliases.

Options live in `[oslo_messaging_zmq]`; those that oslo.messaging had before 2018 are also read from `[DEFAULT]`.
`settings()` turns them into one frozen, checked value; nothing else in the package looks at oslo.config.
"""

import difflib
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oslo_config import cfg, types

from openstack_zeromq import address
from openstack_zeromq.errors import ConfigError

GROUP = "oslo_messaging_zmq"
RING_GROUP = "matchmaker_ring"


def _old(option: type[cfg.Opt], name: str, **settings: Any) -> cfg.Opt:
    """An option that oslo.messaging once had in [DEFAULT]."""
    return option(name, deprecated_group="DEFAULT", **settings)


_NODE = [
    _old(
        cfg.StrOpt,
        "rpc_zmq_host",
        default=socket.gethostname().partition(".")[0],
        sample_default="localhost",
        help="Name of this node, as other nodes and the matchmaker know it: a short host name.",
    ),
    _old(
        cfg.StrOpt,
        "rpc_zmq_bind_address",
        default="*",
        help="IP address that the receiver binds; * is every address of the machine.",
    ),
    _old(cfg.PortOpt, "rpc_zmq_port", default=9501, help="TCP port of the receiver, the same on every node."),
    _old(
        cfg.StrOpt,
        "rpc_zmq_ipc_dir",
        default="/var/run/openstack",
        help="Directory of the unix sockets between the receiver and the services of this node; at most 75 bytes long.",
    ),
    _old(
        cfg.StrOpt,
        "rpc_zmq_matchmaker",
        default="ring",
        choices=["ring", "dummy"],
        help="Where the receiver learns which hosts serve a topic. dummy: everything is on this node.",
    ),
    _old(
        cfg.IntOpt,
        "rpc_zmq_topic_backlog",
        default=10_000,
        min=1,
        help="Most messages that wait in one channel of this node; a sender beyond that is told to back off.",
    ),
    cfg.StrOpt(
        "zmq_security",
        default="curve",
        choices=["curve", "none"],
        help="Encryption and authentication between receivers. none is for trials on one machine, never for production.",
    ),
    cfg.IntOpt(
        "zmq_max_message_size",
        default=64 * 1024 * 1024,
        min=4096,
        max=1024 * 1024 * 1024,
        help="Largest message body in bytes; a larger one raises in the sender and is refused by a receiver.",
    ),
    cfg.IntOpt(
        "zmq_backlog_size",
        default=256 * 1024 * 1024,
        min=4096,
        help="Most bytes of bodies that wait in one channel, or on their way out of one process.",
    ),
    cfg.FloatOpt(
        "zmq_message_ttl",
        default=300.0,
        min=1.0,
        max=86_400.0,
        help="Seconds after which a cast, fanout or notification that nobody took is given up (and counted).",
    ),
    cfg.IntOpt(
        "zmq_consumer_credit",
        default=64,
        min=1,
        max=1024,
        help="Most messages that one listener holds without having started on them.",
    ),
    cfg.FloatOpt(
        "zmq_link_idle",
        default=600.0,
        min=1.0,
        help="Seconds without a message after which the link to another node is closed; it opens again when it is needed.",
    ),
]

_RING = [
    cfg.StrOpt(
        "ringfile",
        default="/etc/oslo/matchmaker_ring.json",
        deprecated_opts=[cfg.DeprecatedOpt("matchmaker_ringfile", group="DEFAULT")],
        help="The ring: a JSON object of topic -> list of hosts.",
    )
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """What `oslo-config-generator` prints (entry point oslo.config.opts)."""
    return [(GROUP, list(_NODE)), (RING_GROUP, list(_RING))]


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known to `conf`; harmless when they are already."""
    for group, opts in list_opts():
        conf.register_opts(opts, group=group)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options, checked. Sizes in bytes, times in seconds."""

    host: str
    bind_address: str
    port: int
    ipc_dir: str
    matchmaker: str
    topic_backlog: int
    backlog_size: int
    security: str
    max_message_size: int
    message_ttl: float
    consumer_credit: int
    link_idle: float
    ringfile: str


def settings(conf: cfg.ConfigOpts) -> Settings:
    """Read `conf` (registered and parsed).

    :raises ConfigError: an option has a value that cannot work; the message names it and the remedy.
    """
    try:
        node, ring = conf[GROUP], conf[RING_GROUP]
        read = Settings(
            host=node.rpc_zmq_host,
            bind_address=node.rpc_zmq_bind_address,
            port=node.rpc_zmq_port,
            ipc_dir=os.path.normpath(node.rpc_zmq_ipc_dir),
            matchmaker=node.rpc_zmq_matchmaker,
            topic_backlog=node.rpc_zmq_topic_backlog,
            backlog_size=node.zmq_backlog_size,
            security=node.zmq_security,
            max_message_size=node.zmq_max_message_size,
            message_ttl=node.zmq_message_ttl,
            consumer_credit=node.zmq_consumer_credit,
            link_idle=node.zmq_link_idle,
            ringfile=ring.ringfile,
        )
    except (cfg.Error, ValueError) as exc:
        raise ConfigError(f"{exc}".replace("\n", " ")) from None
    _check(read)
    return read


def unknown_names(config_files: Iterable[str]) -> list[str]:
    """A sentence for every name in our groups of `config_files` that is no option: most often a slip of the pen."""
    sentences = []
    known = {group: {opt.name for opt in opts} for group, opts in list_opts()}
    for file in config_files:
        sections: dict[str, dict[str, object]] = {}
        cfg.ConfigParser(file, sections).parse()
        for group, names in known.items():
            for name in sorted(set(sections.get(group, ())) - names):
                close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
                hint = f"; did you mean {close[0]}?" if close else ""
                sentences.append(f"{file}: [{group}] {name} is no option{hint}")
    return sentences


def _check(read: Settings) -> None:
    if not read.host or len(read.host.encode()) > address.NAME_BYTES or not read.host.isprintable():
        raise ConfigError(f"[{GROUP}] rpc_zmq_host = {read.host!r}: must be a short host name of 1 to {address.NAME_BYTES} bytes")
    if read.bind_address != "*":
        try:
            types.IPAddress()(read.bind_address)
        except ValueError:
            raise ConfigError(
                f"[{GROUP}] rpc_zmq_bind_address = {read.bind_address!r}: must be * or an IP address of this machine"
            ) from None
    if not read.ipc_dir.startswith("/"):
        raise ConfigError(f"[{GROUP}] rpc_zmq_ipc_dir = {read.ipc_dir!r}: must be an absolute path")
    if len(read.ipc_dir.encode()) > address.IPC_DIR_BYTES:
        raise ConfigError(
            f"[{GROUP}] rpc_zmq_ipc_dir = {read.ipc_dir!r}: has {len(read.ipc_dir.encode())} bytes, a unix socket's path"
            f" leaves room for {address.IPC_DIR_BYTES}; choose a shorter directory"
        )
    if Path(read.ipc_dir).exists() and not Path(read.ipc_dir).is_dir():
        raise ConfigError(f"[{GROUP}] rpc_zmq_ipc_dir = {read.ipc_dir!r}: is not a directory; remove it or choose another")
