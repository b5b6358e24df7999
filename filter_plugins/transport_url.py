"""Filter zeromq_transport_url: the URL that names a matchmaker's store, every part of it percent-encoded where it must be.

It runs on the control node, also where the package is not installed, so it stands on the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from ansible.errors import AnsibleFilterError

PLAIN = ("", "ring", "dummy")
"""Matchmakers without a server: the URL says nothing of them."""

PORTS = {"redis": 6379, "sentinel": 26379, "consul": 8500}
PARTS = frozenset({"store", "hosts", "port", "username", "password", "token", "db", "group", "query"})


def transport_url(given: str | Mapping[str, object], **more: object) -> str:
    """`zmq+redis://:secret@192.0.2.1:6379/0` and its like.

    `given` is the store, or a dict of all parts: `store` (ring, dummy, redis, sentinel, consul), `hosts` (names or addresses,
    each also as `{host: x, port: 1}`), `port` of those that name none, `username`, `password`, `db` of Redis, `group` of
    Sentinel, `token` of Consul, `query` (a dict). Parts may also be given as arguments.

    :raises AnsibleFilterError: a part is missing, or has no meaning; the message never shows a secret.
    """
    parts = {**(dict(given) if isinstance(given, Mapping) else {"store": given}), **more}
    unknown = sorted(set(parts) - PARTS)
    if unknown:
        raise AnsibleFilterError(f"zeromq_transport_url: there is no part {unknown[0]}; it has {', '.join(sorted(PARTS))}")
    store = str(parts.get("store") or "")
    query = _query(parts.get("query"))
    if store in PLAIN:
        return f"zmq://{'/' if query else ''}{query}"
    if store not in PORTS:
        raise AnsibleFilterError(f"zeromq_transport_url: store {store!r} is none of ring, dummy, {', '.join(PORTS)}")
    hosts = [_host(host, parts.get("port") or PORTS[store]) for host in _list(parts.get("hosts"))]
    if not hosts:
        raise AnsibleFilterError(f"zeromq_transport_url: {store} needs hosts, for instance hosts=['192.0.2.1']")
    if len(hosts) > 1 and store != "sentinel":
        raise AnsibleFilterError(
            f"zeromq_transport_url: {store} is reached at one address, not at {len(hosts)}; name one, or use sentinel for several"
        )
    place = {"redis": parts.get("db"), "sentinel": parts.get("group")}.get(store)
    path = "" if place in (None, "") else quote(str(place), safe="")
    return f"zmq+{store}://{_login(store, parts)}{','.join(hosts)}/{path}{query}"


def _login(store: str, parts: Mapping[str, object]) -> str:
    if store == "consul":
        token = _quoted(parts.get("token"))
        return f"{token}@" if token else ""
    user, password = _quoted(parts.get("username")), _quoted(parts.get("password"))
    if not user and not password:
        return ""
    return user + (f":{password}" if password else "") + "@"


def _quoted(text: object) -> str:
    """Return a part of a URL; null is an empty one, and 0 is not."""
    return "" if text is None else quote(str(text), safe="")


def _list(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _host(host: object, port: object) -> str:
    name, port = (str(host.get("host", "")), host.get("port", port)) if isinstance(host, Mapping) else (str(host), port)
    if not name or not set(name).isdisjoint(" /?#@,%") or (":" in name) != _is_v6(name):
        raise AnsibleFilterError(
            f"zeromq_transport_url: {name!r} is no host; give its port as {{host: x, port: 1}}, or with port="
        )
    if not str(port).isdigit() or not 0 < int(str(port)) < 65536:
        raise AnsibleFilterError(f"zeromq_transport_url: host {name} has the port {port!r}: must be a number from 1 to 65535")
    return f"{f'[{name}]' if _is_v6(name) else name}:{port}"


def _is_v6(name: str) -> bool:
    return name.count(":") > 1


def _query(query: object) -> str:
    if not query:
        return ""
    if not isinstance(query, Mapping):
        raise AnsibleFilterError("zeromq_transport_url: query must be a dict of option to value")
    return "?" + urlencode(sorted((str(name), str(value)) for name, value in query.items()), quote_via=quote)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        return {"zeromq_transport_url": transport_url}
