"""Look whether this node reaches its matchmaker's store, and whether the store lets it in. Every complaint names its remedy.

Runs before the package is there, so it stands on the standard library alone: Redis's protocol is a few lines, Consul's is HTTP.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: store_precheck
short_description: Look whether this node reaches its matchmaker's store, and is let in
description:
  - Logs in with the password or token that the receiver will use, and fails with one line for each thing that cannot work.
  - Of several Sentinels one that answers is enough; it is asked for the master, which must be reached, too.
  - Changes nothing.
author: openstack-zeromq maintainers
options:
  store:
    description: What is asked.
    type: str
    choices: [redis, sentinel, consul]
    required: true
  servers:
    description: Where it listens, each C(host:port) or C([v6]:port).
    type: list
    elements: str
    required: true
  username:
    description: User of Redis's ACL; empty for the default user.
    type: str
    default: ""
  password:
    description: Password of Redis.
    type: str
    default: ""
  sentinel_name:
    description: The master group that the Sentinels watch.
    type: str
    default: ""
  sentinel_password:
    description: Password of the Sentinels themselves.
    type: str
    default: ""
  token:
    description: ACL token of Consul.
    type: str
    default: ""
  tls:
    description: Whether to speak TLS.
    type: bool
    default: false
  ca_file:
    description: Certificates to trust; empty for those of the system.
    type: path
  cert_file:
    description: Certificate of this client.
    type: path
  key_file:
    description: Key of that certificate.
    type: path
  timeout:
    description: Seconds in which each server must answer.
    type: float
    default: 5
"""

EXAMPLES = r"""
- name: The store lets this node in
  store_precheck:
    store: redis
    servers: ["192.0.2.5:6379"]
    password: "{{ zeromq_redis_password }}"
"""

RETURN = r"""
msg:
  description: What cannot work, a line each, with its remedy.
  returned: failure
  type: str
"""

ARGUMENT_SPEC = {
    "store": {"type": "str", "choices": ["redis", "sentinel", "consul"], "required": True},
    "servers": {"type": "list", "elements": "str", "required": True},
    "username": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "sentinel_name": {"type": "str", "default": ""},
    "sentinel_password": {"type": "str", "default": "", "no_log": True},
    "token": {"type": "str", "default": "", "no_log": True},
    "tls": {"type": "bool", "default": False},
    "ca_file": {"type": "path"},
    "cert_file": {"type": "path"},
    "key_file": {"type": "path"},
    "timeout": {"type": "float", "default": 5},
}

PLACES = {
    "redis": "zeromq_matchmaker_redis_host and zeromq_matchmaker_redis_port",
    "sentinel": "zeromq_matchmaker_sentinel_hosts",
    "consul": "zeromq_matchmaker_consul_url",
}
REDIS_LOGIN = "zeromq_matchmaker_redis_username and zeromq_matchmaker_redis_password"


class RefusedError(Exception):
    """What the server says instead of an answer."""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    asked = module.params
    look = {"redis": look_at_redis, "sentinel": look_at_sentinels, "consul": look_at_consul}[asked["store"]]
    try:
        problems = list(look(asked, context(asked)))
    except (ssl.SSLError, OSError) as fault:  # of the files of TLS: those of connections are dealt with where they are made
        problems = [f"the files of TLS cannot be used: {fault}; correct zeromq_matchmaker_{family(asked)}_ca_file and its like"]
    if problems:
        module.fail_json(msg="\n".join(problems))
    module.exit_json(changed=False)


def family(asked: dict) -> str:
    return "consul" if asked["store"] == "consul" else "redis"


def context(asked: dict) -> ssl.SSLContext | None:
    """Return how TLS is spoken; None: it is not."""
    if not asked["tls"]:
        return None
    made = ssl.create_default_context(cafile=asked["ca_file"] or None)
    if asked["cert_file"]:
        made.load_cert_chain(asked["cert_file"], asked["key_file"] or None)
    return made


def look_at_redis(asked: dict, tls: ssl.SSLContext | None) -> Iterator[str]:
    for server in asked["servers"]:
        yield from check_redis(asked, tls, *parted(server, 6379), PLACES["redis"])


def check_redis(asked: dict, tls: ssl.SSLContext | None, host: str, port: int, place: str) -> Iterator[str]:
    try:
        with Redis(host, port, tls, asked["timeout"]) as redis:
            redis.login(asked["username"], asked["password"])
            redis.ask("PING")
    except RefusedError as refused:
        yield f"Redis at {host}:{port} refuses this node: {refused}; correct {REDIS_LOGIN}"
    except (OSError, ValueError) as fault:
        yield unreached("redis", f"{host}:{port}", fault, asked["timeout"], place)


def look_at_sentinels(asked: dict, tls: ssl.SSLContext | None) -> Iterator[str]:
    """Of several Sentinels some may be down; a wrong password is wrong for all."""
    name, faults = asked["sentinel_name"], []
    for server in asked["servers"]:
        host, port = parted(server, 26379)
        try:
            with Redis(host, port, tls, asked["timeout"]) as sentinel:
                sentinel.login("", asked["sentinel_password"])
                master = sentinel.ask("SENTINEL", "get-master-addr-by-name", name)
        except RefusedError as refused:
            yield f"the Sentinel at {host}:{port} refuses this node: {refused}; correct zeromq_matchmaker_sentinel_password"
            return
        except (OSError, ValueError) as fault:
            faults.append(unreached("sentinel", f"{host}:{port}", fault, asked["timeout"], PLACES["sentinel"]))
            continue
        if not isinstance(master, list):
            yield f"the Sentinel at {host}:{port} knows no master {name}; correct zeromq_matchmaker_sentinel_name"
            return
        yield from check_redis(asked, tls, master[0], int(master[1]), "what the Sentinels watch")
        return
    yield from faults


def look_at_consul(asked: dict, tls: ssl.SSLContext | None) -> Iterator[str]:
    """Without rights Consul answers with nothing at all; each cluster has its own service, and at least one node."""
    for server in asked["servers"]:
        where = f"{'https' if tls else 'http'}://{server}"
        try:
            nodes, services = (
                ask_consul(asked, tls, f"{where}/v1/{path}") for path in ("catalog/nodes", "catalog/service/consul")
            )
        except RefusedError as refused:
            yield f"Consul at {where} refuses this node: {refused}; correct zeromq_matchmaker_consul_token"
            return
        except (OSError, ValueError) as fault:
            yield unreached("consul", where, fault, asked["timeout"], PLACES["consul"])
            return
        hidden = [what for what, seen in (("nodes", nodes), ("services", services)) if not seen]
        if hidden:
            yield (
                f"Consul at {where} shows this node no {' and no '.join(hidden)}: the token lacks read on them; give it, "
                "or correct zeromq_matchmaker_consul_token"
            )


def ask_consul(asked: dict, tls: ssl.SSLContext | None, url: str) -> list:
    request = urllib.request.Request(url, headers={"X-Consul-Token": asked["token"]} if asked["token"] else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=asked["timeout"], context=tls) as answer:  # noqa: S310  # nosec B310
            return list(json.load(answer))
    except urllib.error.HTTPError as fault:
        said = fault.read(200).decode(errors="replace").strip()
        if fault.code in {401, 403}:
            raise RefusedError(said) from None
        raise ValueError(f"{fault.code} {said}") from None


def unreached(store: str, where: str, fault: Exception, timeout: float, place: str) -> str:
    reason = getattr(fault, "reason", None) or getattr(fault, "strerror", None) or fault
    if isinstance(fault, TimeoutError) or isinstance(reason, TimeoutError):
        reason = "no answer"
    return f"{store} at {where} does not answer within {timeout:g} s ({reason}): start it, open its port, or correct {place}"


def parted(server: str, port: int) -> tuple[str, int]:
    """Return host and port of `host`, `host:port` or `[v6]:port`."""
    host, colon, number = server.rpartition(":")
    if not colon or server.endswith("]") or not number.isdigit():
        return server.strip("[]"), port
    return host.strip("[]"), int(number)


class Redis:
    """A connection to a Redis or Sentinel, of the three commands that are needed here."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, timeout: float) -> None:
        connection = socket.create_connection((host, port), timeout)
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            self._socket = tls.wrap_socket(connection, server_hostname=host) if tls else connection
            self._file = self._socket.makefile("rb")
            undo.pop_all()

    def __enter__(self) -> Redis:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def login(self, username: str, password: str) -> None:
        """Give the password, if there is one.

        :raises RefusedError: it is wrong.
        """
        if password:
            self.ask("AUTH", *([username] if username else []), password)

    def ask(self, *words: str) -> str | int | list | None:
        """Return the answer to a command.

        :raises RefusedError: the server refuses it.
        """
        self._socket.sendall(encoded(words))
        return self._answer()

    def _answer(self) -> str | int | list | None:
        kind, rest = self._line()
        if kind == "-":
            raise RefusedError(rest)
        if kind == "+":
            return rest
        if kind == ":":
            return int(rest)
        if kind not in {"$", "*"}:
            raise ValueError(f"no Redis answers there, but something that says {kind + rest!r:.60}")
        if int(rest) < 0:
            return None
        if kind == "*":
            return [self._answer() for _ in range(int(rest))]
        return self._file.read(int(rest) + 2)[:-2].decode(errors="replace")

    def _line(self) -> tuple[str, str]:
        line = self._file.readline(4096).decode(errors="replace")
        if not line.endswith("\r\n"):
            raise ValueError("the connection was closed, or no Redis answers there")
        return line[0], line[1:-2]


def encoded(words: Sequence[str]) -> bytes:
    parts = [word.encode() for word in words]
    return b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)])


if __name__ == "__main__":
    main()
