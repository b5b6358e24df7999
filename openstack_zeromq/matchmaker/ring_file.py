"""The ring file: which hosts serve a topic, in the format that Icehouse's readers accept.

A ring is a JSON object of topic -> non-empty list of short host names, sorted, without time stamps, with a
newline at its end. A key `topic:host` is for directed sends. Facts that old readers would choke on (a host's
address, where the ring came from) live beside it in a side-car, `<ring>.meta.json`, which counts only while
it names the sha256 of the ring it was made for.

Pure functions but for `write`, which replaces a file so that a reader sees the old bytes or the new, never half.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from openstack_zeromq.errors import RingError

Ring = dict[str, tuple[str, ...]]

MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node's receiver listens; `port` None means: the reader's own rpc_zmq_port."""

    address: str
    port: int | None = None


NO_HOSTS: Mapping[str, Endpoint] = MappingProxyType({})


def render(ring: Mapping[str, Iterable[str]]) -> bytes:
    """The canonical bytes of `ring` (topic -> hosts); topics without hosts are left out.

    :raises RingError: for a topic or host that is not a non-empty string.
    """
    lines: dict[str, list[str]] = {}
    for topic, hosts in ring.items():
        if isinstance(hosts, str):
            raise RingError(f"ring topic {topic!r}: hosts must be a list, not the string {hosts!r}")
        names = sorted(set(hosts))
        _check_topic(topic, names)
        if names:
            lines[topic] = names
    return _dump(lines)


def parse(data: bytes) -> Ring:
    """The ring in `data`; unknown topics are simply absent.

    :raises RingError: for anything that is not a whole, valid ring; the message names the first fault.
    """
    if len(data) > MAX_BYTES:
        raise RingError(f"the ring has {len(data)} bytes, more than {MAX_BYTES}")
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


def render_meta(ring_bytes: bytes, hosts: Mapping[str, Mapping[str, object]], source: str) -> bytes:
    """The side-car for `ring_bytes`: `hosts` is host -> {"address": str, "port": int}, `source` says who made it."""
    document = {
        "hosts": {name: dict(facts) for name, facts in hosts.items()},
        "sha256": hashlib.sha256(ring_bytes).hexdigest(),
        "source": source,
    }
    data = _dump(document)
    parse_meta(data, ring_bytes)
    return data


def parse_meta(data: bytes, ring_bytes: bytes) -> Mapping[str, Endpoint]:
    """Host -> endpoint out of a side-car; empty when it was made for another ring than `ring_bytes`.

    :raises RingError: when it is not a side-car at all.
    """
    try:
        raw = json.loads(data)
        if raw["sha256"] != hashlib.sha256(ring_bytes).hexdigest():
            return NO_HOSTS
        return {name: _endpoint(name, facts) for name, facts in raw["hosts"].items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as exc:
        raise RingError(f"the ring's side-car is not usable: {exc!r}") from None


def meta_path(ringfile: str | os.PathLike[str]) -> Path:
    """Where the side-car of `ringfile` lies: matchmaker_ring.json -> matchmaker_ring.meta.json."""
    path = Path(ringfile)
    return path.with_name(f"{path.stem}.meta{path.suffix}")


def write(path: str | os.PathLike[str], data: bytes, mode: int = 0o644) -> bool:
    """Make `path` hold `data`; True when it did not before. Crash-safe: temporary file, fsync, rename, fsync.

    :raises OSError: as the file system says.
    """
    target = Path(path)
    if target.is_file() and target.read_bytes() == data and (target.stat().st_mode & 0o7777) == mode:
        return False
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
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


def _dump(document: object) -> bytes:
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _check_topic(topic: object, hosts: list[object] | list[str]) -> None:
    if not isinstance(topic, str) or not topic:
        raise RingError(f"ring topic {topic!r}: a topic must be a non-empty string")
    for host in hosts:
        if not isinstance(host, str) or not host or host != host.strip():
            raise RingError(f"ring topic {topic!r}: {host!r} is no host name")


def _endpoint(name: str, facts: dict[str, object]) -> Endpoint:
    address, port = facts["address"], facts.get("port")
    if not isinstance(address, str) or not address:
        raise ValueError(f"host {name!r} has no address")
    if port is not None and (not isinstance(port, int) or not 0 < port < 65536):
        raise ValueError(f"host {name!r} has the port {port!r}")
    return Endpoint(address, port)
