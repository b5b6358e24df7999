"""Every option, once, with its default, its limits, what breaks when it is wrong, and the names of old configurations."""

import socket
from typing import Any

from oslo_config import cfg

from openstack_zeromq.address import short_name

GROUP = "oslo_messaging_zmq"
RING_GROUP = "matchmaker_ring"
REDIS_GROUP = "matchmaker_redis"
CONSUL_GROUP = "matchmaker_consul"


def _old(option: type[cfg.Opt], name: str, **settings: Any) -> cfg.Opt:
    """An option that oslo.messaging once had in [DEFAULT]."""
    return option(name, deprecated_group="DEFAULT", **settings)


_NODE = [
    _old(
        cfg.StrOpt,
        "rpc_zmq_host",
        default=short_name(socket.gethostname()),
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
        choices=["ring", "redis", "sentinel", "consul", "dummy"],
        help="Where the receiver learns which hosts serve a topic. dummy: everything is on this node. A transport_url of"
        " zmq+redis://, zmq+sentinel:// or zmq+consul:// in [DEFAULT] wins over it.",
    ),
    _old(
        cfg.IntOpt,
        "rpc_zmq_topic_backlog",
        default=10_000,
        min=1,
        help="Most messages that wait in one channel of this node; a sender beyond that is told to back off. Of notifications"
        " that no listener consumes the oldest is dropped instead.",
    ),
    cfg.StrOpt(
        "zmq_security",
        default="curve",
        choices=["curve", "none"],
        help="Encryption and authentication between receivers. none is for trials on one machine, never for production.",
    ),
    cfg.StrOpt(
        "zmq_key_file",
        default="/etc/oslo/zeromq/node.key",
        help="File with the secret key of this node, readable by the receiver's user alone; `zmqctl keys new` makes it. It is"
        " read when the receiver starts.",
    ),
    cfg.StrOpt(
        "zmq_authorized_keys",
        default="/etc/oslo/zeromq/authorized",
        help="Directory with the public keys of all nodes, one file <host>.pub each. Who has no key there gets in nowhere and"
        " is not spoken to; what is taken out of it is cut off within a second.",
    ),
    cfg.IntOpt(
        "zmq_connections_per_peer",
        default=64,
        min=2,
        help="Most connections from one address at a time; a node needs one, and for a moment two. Further ones are closed at"
        " once, so that one stranger cannot use up all descriptors.",
    ),
    cfg.FloatOpt(
        "zmq_handshake_timeout",
        default=3.0,
        min=0.1,
        max=60.0,
        help="Seconds within which whoever connects must have proved who it is.",
    ),
    cfg.FloatOpt(
        "zmq_heartbeat",
        default=1.0,
        min=0.1,
        max=10.0,
        help="Seconds between two signs of life on a link; a node that gave none for three times that is down. The same on all"
        " nodes. Longer finds a dead node later, and bears a network that stalls for longer.",
    ),
    cfg.FloatOpt(
        "zmq_redial",
        default=2.0,
        min=0.5,
        max=300.0,
        help="Seconds between two fresh attempts to reach a node that is down. In between the connection is tried again after"
        " 20 ms, and then twice as long each time, up to half of this.",
    ),
    cfg.ListOpt(
        "zmq_channel_acl",
        default=[],
        help="Which users of this node may do what, a list of rules: `consume|send|any exchange/topic user @group ...`, for"
        " instance `consume nova/* nova, send nova/* nova neutron cinder`. The first one that fits decides; where none fits,"
        " every member of the directory's group may. root always may.",
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
    cfg.StrOpt(
        "zmq_address",
        default="",
        help="Address under which other nodes reach this receiver. Empty: the one it binds; when that is *, the one from which"
        " it talks to its matchmaker's store.",
    ),
    cfg.StrOpt(
        "zmq_fabric",
        default="openstack",
        help="Name of the fabric: all nodes that talk to each other. Several can share one Redis or Consul.",
    ),
    cfg.StrOpt(
        "zmq_state_dir",
        default="/var/lib/openstack-zeromq",
        help="Directory of what must outlive a reboot: what the matchmaker knew last, for a start without its store.",
    ),
    _old(
        cfg.FloatOpt,
        "zmq_target_expire",
        default=60.0,
        min=3.0,
        max=86_400.0,
        help="Seconds without a sign of life after which a node is out of the matchmaker's store (redis, sentinel, consul).",
    ),
    _old(
        cfg.FloatOpt,
        "zmq_target_update",
        default=15.0,
        min=0.5,
        help="Seconds between two signs of life; a third of zmq_target_expire or less lets one be lost.",
    ),
    cfg.ListOpt(
        "zmq_allow_empty",
        default=[],
        help="Topics that may lose their last host, * for all; for others the last known hosts are held.",
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
    ),
    cfg.ListOpt(
        "topics", default=[], help="Topics that `zmqctl ring sync` writes into the ring; it leaves all others as they are."
    ),
]


_TLS_FILES = [
    cfg.StrOpt("ca_file", default="", help="Certificates to trust, PEM; empty: those of the system."),
    cfg.StrOpt("cert_file", default="", help="Certificate of this client, PEM; empty: none is shown."),
    cfg.StrOpt("key_file", default="", help="Key of this client's certificate, PEM."),
]

_REDIS = [
    cfg.HostAddressOpt("host", default="127.0.0.1", help="Where Redis or Valkey listens."),
    cfg.PortOpt("port", default=6379, help="Its port, with or without TLS."),
    cfg.IntOpt("db", default=0, min=0, help="Number of the database."),
    cfg.StrOpt("username", default="", help="User of Redis's ACL; empty: the default user."),
    cfg.StrOpt("password", default="", secret=True, help="Its password; empty: none is sent."),
    cfg.ListOpt("sentinel_hosts", default=[], help="Sentinels, host or host:port (26379), for rpc_zmq_matchmaker = sentinel."),
    cfg.StrOpt("sentinel_group_name", default="oslo-messaging-zeromq", help="The master group that the Sentinels watch."),
    cfg.StrOpt("sentinel_username", default="", help="User of the Sentinels' own ACL."),
    cfg.StrOpt("sentinel_password", default="", secret=True, help="Password of the Sentinels themselves."),
    cfg.BoolOpt("ssl", default=False, help="Speak TLS, also with the Sentinels."),
    *_TLS_FILES,
    cfg.FloatOpt("socket_timeout", default=3.0, min=0.1, help="Seconds after which a silent store counts as away."),
]

_CONSUL = [
    cfg.HostAddressOpt("host", default="127.0.0.1", help="Where the Consul agent listens; one per node is best."),
    cfg.PortOpt("port", default=8500, help="Its HTTP or HTTPS port."),
    cfg.StrOpt("token", default="", secret=True, help="ACL token: write on our services, read on services and nodes."),
    cfg.StrOpt("scheme", default="http", choices=["http", "https"], help="https for TLS."),
    *_TLS_FILES,
    cfg.StrOpt("datacenter", default="", help="Datacenter to ask; empty: the agent's own."),
    cfg.StrOpt("mode", default="catalog", choices=["catalog", "kv"], help="catalog: services with health; kv: keys of sessions."),
    cfg.DictOpt("services", default={}, help="Catalog mode: service -> topic (nova-compute:compute); others keep their name."),
    cfg.StrOpt("prefix", default="", help="Put before service names and keys, for catalogs that are shared."),
    cfg.BoolOpt("accept_warning", default=True, help="Whether a service whose checks warn still gets messages."),
    cfg.BoolOpt("register", default=True, help="Whether the receiver registers what its node serves; else somebody else must."),
    cfg.FloatOpt(
        "deregister_after",
        default=86_400.0,
        min=60.0,
        help="Seconds in a critical state after which Consul removes what the receiver registered.",
    ),
    cfg.FloatOpt("wait", default=60.0, min=1.0, max=600.0, help="Longest wait of one blocking query in seconds."),
    cfg.FloatOpt("socket_timeout", default=5.0, min=0.1, help="Seconds beyond that after which a silent store counts as away."),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """What `oslo-config-generator` prints (entry point oslo.config.opts)."""
    return [(GROUP, list(_NODE)), (RING_GROUP, list(_RING)), (REDIS_GROUP, list(_REDIS)), (CONSUL_GROUP, list(_CONSUL))]
