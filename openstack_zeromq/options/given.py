"""Given: settings out of configuration files and of values that somebody names, for whoever has no command line of his own.

The same options, limits and messages as everywhere; a value wins over the files.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from oslo_config import cfg

from openstack_zeromq.errors import ConfigError
from openstack_zeromq.options import store_url
from openstack_zeromq.options.declared import GROUP, REDIS_GROUP, list_opts
from openstack_zeromq.options.reading import settings
from openstack_zeromq.options.values import Settings

DEFAULT = "DEFAULT"
"""The group of `transport_url`."""


def given(files: Iterable[str] = (), values: Mapping[str, Mapping[str, object]] | None = None) -> Settings:
    """The settings in `files`, the last of which wins, and in `values` (group -> option -> value); None is no value.

    :raises ConfigError: a file cannot be read, or an option has a value that cannot work.
    """
    conf = cfg.ConfigOpts()
    for group, opts in list_opts():
        conf.register_opts(opts, group=group)
    store_url.register(conf)
    try:
        arguments = [argument for file in files for argument in ("--config-file", file)]
        conf(arguments, project="openstack-zeromq", default_config_files=[], default_config_dirs=[])
        for group, options in (values or {}).items():
            for name, value in options.items():
                if value is not None:
                    _set(conf, group, name, value)
    except cfg.Error as exc:
        raise ConfigError(" ".join(str(exc).split())) from None
    return settings(conf)


def consul_at(url: str) -> dict[str, object]:
    """`http://host:port` or `https://…` as options of [matchmaker_consul].

    :raises ConfigError: it is none of these.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in {"http", "https"} or not host or parts.username or parts.path.strip("/"):
        raise ConfigError("the URL of Consul cannot be read; write http://host:port or https://host:port, and the token apart")
    return {"scheme": scheme, "host": host, "port": port or (8501 if scheme == "https" else 8500)}


def redis_at(asked: Mapping[str, Any]) -> Settings:
    """The settings of a matchmaker in Redis: `url` (zmq+redis:// or zmq+sentinel://), `fabric`, `config_files`, and the options
    of [matchmaker_redis] by their names; None is no value.

    :raises ConfigError: they name no Redis, or one of them cannot work.
    """
    group = {opt.name: asked[opt.name] for opt in dict(list_opts())[REDIS_GROUP] if asked.get(opt.name) is not None}
    named = "sentinel" if "sentinel_hosts" in group else "redis" if "host" in group or not asked["config_files"] else None
    node = {"rpc_zmq_matchmaker": named, "zmq_fabric": asked.get("fabric")}
    url = asked.get("url") or ("zmq://" if named else None)  # else that of the files would win
    read = given(asked["config_files"], {REDIS_GROUP: group, GROUP: node, DEFAULT: {"transport_url": url}})
    if read.matchmaker not in {"redis", "sentinel"}:
        raise ConfigError(f"the matchmaker is {read.matchmaker}, not Redis; give url=zmq+redis://host:6379, or host and port")
    return read


def _literal(value: object) -> object:
    """Return a value in which oslo.config sees no reference to another option: it looks for `$` in what is set, too."""
    if isinstance(value, str):
        return value.replace("$", r"\$")
    return [_literal(item) for item in value] if isinstance(value, list) else value


def _set(conf: cfg.ConfigOpts, group: str, name: str, value: object) -> None:
    """:raises ConfigError: the option cannot have that value."""
    try:
        conf.set_override(name, _literal(value), group=None if group == DEFAULT else group)
    except ValueError as exc:  # without the value: it may be a secret
        secret = "password" in name or "token" in name
        raise ConfigError(f"[{group}] {name}: cannot be what is given" + ("" if secret else f": {exc}")) from None
