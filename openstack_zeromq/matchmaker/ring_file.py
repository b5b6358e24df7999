"""The ring file: which hosts serve a topic, in the format that Icehouse's readers accept.

A ring is a JSON object of topic -> non-empty list of short host names, sorted, without time stamps, with a
newline at its end. A key `topic:host` is for directed sends. Facts that old readers would choke on (a host's
address, where the ring came from) live beside it in a side-car, `<ring>.meta.json`, which counts only while
it names the sha256 of the ring it was made for.

Pure functions but for `write`, which replaces a file so that a reader sees the old bytes or the new, never half.
"""

import contextlib
import hashlib
import ipaddress
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from openstack_zeromq.errors import RingError

Ring = dict[str, tuple[str, ...]]

MAX_BYTES = 16 * 1024 * 1024
"""Of a ring or side-car: 13 000 hosts in 60 topics. A receiver reads that in 0.3 s, in which it moves no message; 52 MiB, 13 000
hosts in 200 topics, would take it 1.2 s and 600 MiB of memory."""


_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node's receiver listens; `port` None means: the reader's own rpc_zmq_port."""

    address: str
    port: int | None = None


NO_HOSTS: Mapping[str, Endpoint] = MappingProxyType({})


def render(ring: Mapping[str, Iterable[str]]) -> bytes:
    """The canonical bytes of `ring` (topic -> hosts); topics without hosts are left out.

    :raises RingError: for a topic or host that is not a non-empty string, or a ring that readers would refuse as too large.
    """
    lines: dict[str, list[str]] = {}
    for topic, hosts in ring.items():
        if isinstance(hosts, str):
            raise RingError(f"ring topic {topic!r}: hosts must be a list, not the string {hosts!r}")
        names = sorted(set(hosts))
        _check_topic(topic, names)
        if names:
            lines[topic] = names
    data = _dump(lines)
    _check_size("the ring", data)
    return data


def parse(data: bytes) -> Ring:
    """The ring in `data`; unknown topics are simply absent.

    :raises RingError: for anything that is not a whole, valid ring; the message names the first fault.
    """
    _check_size("the ring", data)
    if not data.strip():
        raise RingError("the ring is empty; an empty ring is written as {}")
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise RingError(f"the ring is not JSON: {exc}") from None
    if not isinstance(raw, dict):
        raise RingError(f"the ring must be a JSON object of topic -> hosts, not {type(raw).__name__}")
    ring: Ring = {}
    for topic, hosts in raw.items():
        if not isinstance(hosts, list) or not hosts:
            raise RingError(f"ring topic {topic!r}: hosts must be a non-empty list")
        _check_topic(topic, hosts)
        ring[topic] = tuple(dict.fromkeys(hosts))
    return ring


def render_meta(
    ring_bytes: bytes,
    hosts: Mapping[str, Mapping[str, object]],
    source: str,
    more: Mapping[str, object] | None = None,
) -> bytes:
    """The side-car for `ring_bytes`: `hosts` is host -> {"address": str, "port": int}, `source` says who made it.

    `more` are further facts; in it `replaces` ({"sha256", "hosts"}) names the ring that lies there until this one is written, and
    `servers` (topic -> server -> hosts) has those that the ring itself cannot name.
    """
    document = {
        **(more or {}),
        "hosts": {name: dict(facts) for name, facts in hosts.items()},
        "sha256": sha256(ring_bytes),
        "source": source,
    }
    data = _dump(document)
    parse_meta(data, ring_bytes)
    return data


def parse_meta(data: bytes, ring_bytes: bytes) -> Mapping[str, Endpoint]:
    """Host -> endpoint out of a side-car; empty when it was made for another ring than `ring_bytes`.

    The side-car is written before its ring: in between, and after a crash there, it counts for the ring that it replaces, too.

    :raises RingError: when it is not a side-car at all.
    """
    facts = load_meta(data)
    try:
        digest, replaced = sha256(ring_bytes), facts.get("replaces") or {"sha256": ""}
        if facts["sha256"] == digest:
            return _endpoints(facts)
        if replaced["sha256"] == digest:
            return {**_endpoints(replaced), **_endpoints(facts)}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise RingError(f"the ring's side-car is not usable: {exc!r}") from None
    return NO_HOSTS


def parse_servers(data: bytes, ring_bytes: bytes) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Topic -> server -> hosts out of a side-car, for servers that the ring cannot name; empty when it was made for another ring.

    :raises RingError: when it is not a side-car at all.
    """
    facts = load_meta(data)
    try:
        if facts["sha256"] != sha256(ring_bytes):
            return {}
        return {
            topic: {server: tuple(map(str, hosts)) for server, hosts in servers.items()}
            for topic, servers in facts.get("servers", {}).items()
        }
    except (KeyError, TypeError, AttributeError) as exc:
        raise RingError(f"the ring's side-car is not usable: {exc!r}") from None


def load_meta(data: bytes) -> dict[str, Any]:
    """What a side-car says, not yet looked at.

    :raises RingError: it is no JSON object.
    """
    _check_size("the ring's side-car", data)
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise RingError(f"the ring's side-car is not usable: {exc!r}") from None
    if not isinstance(facts, dict):
        raise RingError(f"the ring's side-car is not usable: it is a JSON {type(facts).__name__}, not an object")
    return facts


def sha256(ring_bytes: bytes) -> str:
    """How a side-car names its ring."""
    return hashlib.sha256(ring_bytes).hexdigest()


def meta_path(ringfile: str | os.PathLike[str]) -> Path:
    """Where the side-car of `ringfile` lies: matchmaker_ring.json -> matchmaker_ring.meta.json."""
    path = Path(ringfile)
    return path.with_name(f"{path.stem}.meta{path.suffix}")


def write(
    path: str | os.PathLike[str], data: bytes, mode: int | None = 0o644, owner: int | None = None, group: int | None = None
) -> bool:
    """Make `path` hold `data`; True when it did not before. Crash-safe: temporary file, fsync, rename, fsync.

    `mode` None: as it is, 0644 for a new file. `owner` and `group` None: as they are, as far as this process may.

    :raises OSError: as the file system says.
    """
    target = Path(path)
    there = target.stat() if target.is_file() else None
    if mode is None:
        mode = 0o644 if there is None else stat.S_IMODE(there.st_mode)
    if there is not None and _is_so(there, mode, owner, group) and target.read_bytes() == data:
        return False
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            _own(file.fileno(), there, owner, group)
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return True


def _is_so(there: os.stat_result, mode: int, owner: int | None, group: int | None) -> bool:
    return stat.S_IMODE(there.st_mode) == mode and owner in {None, there.st_uid} and group in {None, there.st_gid}


def _own(handle: int, there: os.stat_result | None, owner: int | None, group: int | None) -> None:
    """Give a new file the owner and group that are asked for, else those of the one that it replaces."""
    if there is not None:
        for uid, gid in ((there.st_uid, -1), (-1, there.st_gid)):
            with contextlib.suppress(PermissionError):  # who is not root may only give it to his own groups
                os.fchown(handle, uid, gid)
    if owner is not None or group is not None:
        os.fchown(handle, -1 if owner is None else owner, -1 if group is None else group)


def strict_endpoints(hosts: Mapping[str, object]) -> dict[str, Endpoint]:
    """Where hosts listen, as an operator wrote it: host -> {"address": str, "port": int}. A port may be text, out of a template.

    A receiver takes what it can of a side-car, so that a wrong address harms one host; an operator wants to know of it.

    :raises RingError: nobody can reach one of them; the message names the host and the remedy.
    """
    found: dict[str, Endpoint] = {}
    for host, facts in hosts.items():
        if not isinstance(facts, Mapping) or not isinstance(address := facts.get("address"), str) or not address:
            raise RingError(f"hosts: {host} has no address; write {host}: {{address: 192.0.2.1, port: 9501}}")
        port = facts.get("port")
        if port is not None and not (str(port).isdecimal() and 0 < int(str(port)) < 65536):
            raise RingError(f"hosts: {host} has the port {port!r}: must be a number from 1 to 65535")
        if not _is_possible(address):
            raise RingError(
                f"hosts: {host} has the impossible address {address!r}: must be an IP address of that host, or a host name that"
                " all nodes resolve, without a port"
            )
        found[str(host)] = Endpoint(address, None if port is None else int(str(port)))
    return found


def check_meta(data: bytes) -> None:
    """:raises RingError: a host of a side-car cannot be reached where it says."""
    strict_endpoints(load_meta(data).get("hosts", {}))


def is_meta(data: bytes) -> bool:
    """Whether these are the bytes of a side-car, and not of a ring."""
    try:
        facts = load_meta(data)
    except RingError:
        return False
    return isinstance(facts.get("hosts"), dict) and isinstance(facts.get("sha256"), str)


def _is_possible(address: str) -> bool:
    """Whether that is an IP address or a host name. One that ends in a number was meant to be an IP address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        labels = address.split(".")
        return len(address) <= _LONGEST_NAME and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
    return "%" not in address and not found.is_unspecified and not found.is_multicast


def _dump(document: object) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _check_size(what: str, data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise RingError(
            f"{what} has more than {MAX_BYTES // 2**20} MiB: leave out topics that are only called with a host's name as the"
            " server, which needs no ring; or follow a store, which is asked for single topics (rpc_zmq_matchmaker = redis,"
            " sentinel or consul)"
        )


def _check_topic(topic: object, hosts: list[object] | list[str]) -> None:
    if not isinstance(topic, str) or not topic:
        raise RingError(f"ring topic {topic!r}: a topic must be a non-empty string")
    for host in hosts:
        if not isinstance(host, str) or not host or host != host.strip():
            raise RingError(f"ring topic {topic!r}: {host!r} is no host name")


def _endpoints(facts: dict[str, Any]) -> dict[str, Endpoint]:
    return {name: _endpoint(name, said) for name, said in facts["hosts"].items()}


def _endpoint(name: str, facts: dict[str, object]) -> Endpoint:
    address, port = facts["address"], facts.get("port")
    if not isinstance(address, str) or not address:
        raise ValueError(f"host {name!r} has no address")
    if port is not None and (not isinstance(port, int) or not 0 < port < 65536):
        raise ValueError(f"host {name!r} has the port {port!r}")
    return Endpoint(address, port)
