"""From oslo.config to `Settings`, checked."""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from oslo_config import cfg, types

from openstack_zeromq import address
from openstack_zeromq.errors import ConfigError
from openstack_zeromq.options import store_url
from openstack_zeromq.options.declared import CONSUL_GROUP, GROUP, REDIS_GROUP, RING_GROUP, list_opts
from openstack_zeromq.options.values import TLS, Consul, Redis, Settings

STORES = ("redis", "sentinel", "consul")
"""Matchmakers with a store that nodes register with."""

CONSUL_SESSION = 20.0
"""Seconds within which a session of Consul that is not renewed has ended: its shortest TTL is 10 s, and it may take two."""

_FABRIC = re.compile(r"[A-Za-z0-9._-]{1,40}")


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
            key_file=node.zmq_key_file,
            authorized_keys=node.zmq_authorized_keys,
            connections_per_peer=node.zmq_connections_per_peer,
            handshake_timeout=node.zmq_handshake_timeout,
            heartbeat=node.zmq_heartbeat,
            redial=node.zmq_redial,
            channel_acl=tuple(node.zmq_channel_acl),
            max_message_size=node.zmq_max_message_size,
            message_ttl=node.zmq_message_ttl,
            consumer_credit=node.zmq_consumer_credit,
            link_idle=node.zmq_link_idle,
            ringfile=ring.ringfile,
            ring_topics=tuple(ring.topics),
            address=node.zmq_address,
            fabric=node.zmq_fabric,
            state_dir=os.path.normpath(node.zmq_state_dir),
            target_expire=node.zmq_target_expire,
            target_update=node.zmq_target_update,
            allow_empty=tuple(node.zmq_allow_empty),
            redis=_redis(conf[REDIS_GROUP]),
            consul=_consul(conf[CONSUL_GROUP]),
        )
    except (cfg.Error, ValueError) as exc:
        raise ConfigError(f"{exc}".replace("\n", " ")) from None
    read = store_url.applied(conf, read)
    _check(read)
    return read


def unknown_names(config_files: Iterable[str]) -> list[str]:
    """A sentence for every name in our groups of `config_files` that is no option, and for every group that is nearly one of
    ours: most often a slip of the pen."""
    sentences = []
    known = {group: {opt.name for opt in opts} for group, opts in list_opts()}
    for file in config_files:
        sections: dict[str, dict[str, object]] = {}
        cfg.ConfigParser(file, sections).parse()
        for group in sorted(set(sections) - set(known)):
            close = difflib.get_close_matches(group, known, n=1, cutoff=0.8)
            if close:
                sentences.append(f"{file}: [{group}] is no group; did you mean {close[0]}?")
        for group, names in known.items():
            for name in sorted(set(sections.get(group, ())) - names):
                close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
                hint = f"; did you mean {close[0]}?" if close else ""
                sentences.append(f"{file}: [{group}] {name} is no option{hint}")
    return sentences


def _redis(group: cfg.ConfigOpts.GroupAttr) -> Redis:
    return Redis(
        host=str(group.host),
        port=group.port,
        db=group.db,
        username=group.username,
        password=group.password,
        sentinels=tuple(store_url.sentinel(named) for named in group.sentinel_hosts),
        group=group.sentinel_group_name,
        sentinel_username=group.sentinel_username,
        sentinel_password=group.sentinel_password,
        tls=_tls(group) if group.ssl else None,
        socket_timeout=group.socket_timeout,
    )


def _consul(group: cfg.ConfigOpts.GroupAttr) -> Consul:
    return Consul(
        host=str(group.host),
        port=group.port,
        token=group.token,
        tls=_tls(group) if group.scheme == "https" else None,
        datacenter=group.datacenter,
        mode=group.mode,
        services=dict(group.services),
        prefix=group.prefix,
        accept_warning=group.accept_warning,
        register=group.register,
        deregister_after=group.deregister_after,
        wait=group.wait,
        socket_timeout=group.socket_timeout,
    )


def _tls(group: cfg.ConfigOpts.GroupAttr) -> TLS:
    """:raises ConfigError: a file is not there."""
    for name in ("ca_file", "cert_file", "key_file"):
        if group[name] and not Path(group[name]).is_file():
            raise ConfigError(f"{name} = {group[name]}: there is no such file; correct the path in the matchmaker's group")
    return TLS(group.ca_file, group.cert_file, group.key_file)


def _check(read: Settings) -> None:
    _check_names(read)
    _check_places(read)
    _check_store(read)


def _check_names(read: Settings) -> None:
    if not read.host or len(read.host.encode()) > address.NAME_BYTES or not read.host.isprintable():
        raise ConfigError(f"[{GROUP}] rpc_zmq_host = {read.host!r}: must be a short host name of 1 to {address.NAME_BYTES} bytes")
    if read.bind_address != "*":
        try:
            types.IPAddress()(read.bind_address)
        except ValueError:
            raise ConfigError(
                f"[{GROUP}] rpc_zmq_bind_address = {read.bind_address!r}: must be * or an IP address of this machine"
            ) from None
    if read.address:
        try:
            types.HostAddress()(read.address)
        except ValueError:
            raise ConfigError(
                f"[{GROUP}] zmq_address = {read.address!r}: must be an IP address or a host name, and nothing else on the line"
            ) from None


def _check_places(read: Settings) -> None:
    if not read.ipc_dir.startswith("/"):
        raise ConfigError(f"[{GROUP}] rpc_zmq_ipc_dir = {read.ipc_dir!r}: must be an absolute path")
    if len(read.ipc_dir.encode()) > address.IPC_DIR_BYTES:
        raise ConfigError(
            f"[{GROUP}] rpc_zmq_ipc_dir = {read.ipc_dir!r}: has {len(read.ipc_dir.encode())} bytes, a unix socket's path"
            f" leaves room for {address.IPC_DIR_BYTES}; choose a shorter directory"
        )
    if Path(read.ipc_dir).exists() and not Path(read.ipc_dir).is_dir():
        raise ConfigError(f"[{GROUP}] rpc_zmq_ipc_dir = {read.ipc_dir!r}: is not a directory; remove it or choose another")
    if not read.state_dir.startswith("/"):
        raise ConfigError(f"[{GROUP}] zmq_state_dir = {read.state_dir!r}: must be an absolute path")


def _check_store(read: Settings) -> None:
    if read.matchmaker in STORES and read.target_update * 1.5 > read.target_expire:
        raise ConfigError(
            f"[{GROUP}] zmq_target_update = {read.target_update:g}: must be well below zmq_target_expire"
            f" ({read.target_expire:g}); a third of it lets one sign of life be lost"
        )
    if read.matchmaker == "consul" and read.consul.mode == "kv" and read.target_expire < CONSUL_SESSION:
        raise ConfigError(
            f"[{GROUP}] zmq_target_expire = {read.target_expire:g}: must be {CONSUL_SESSION:g} or more with [{CONSUL_GROUP}]"
            " mode = kv, for no session of Consul ends sooner"
        )
    if not _FABRIC.fullmatch(read.fabric):
        raise ConfigError(f"[{GROUP}] zmq_fabric = {read.fabric!r}: must be 1 to 40 letters, digits or any of . _ -")
    if read.matchmaker == "sentinel" and not read.redis.sentinels:
        raise ConfigError(f"[{REDIS_GROUP}] sentinel_hosts: name the Sentinels, for instance s1:26379,s2:26379,s3:26379")
