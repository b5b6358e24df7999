"""Filters: configuration of the stores. Pure functions.

Redis, Valkey and Sentinel write into their own configuration: who is master, whom they know. So theirs is written anew only
when our inputs change, which a mark in it tells, and then what they have learned is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

MARK = "# written for inputs "
WORD = re.compile(r"""(?:[^\s"']+(?:"(?:\\.|[^"\\])*"|'(?:\\'|[^'])*')?|"(?:\\.|[^"\\])*"|'(?:\\'|[^'])*')(?=\s|$)""")
LINE = re.compile(rf"\s*(?:{WORD.pattern}\s*)*")
PARTS = re.compile(r"""([^\s"']*)(?:"((?:\\.|[^"\\])*)"|'((?:\\'|[^'])*)')?""")
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@%+=,*~&{}|>")


def redis_mark(directives: Iterable[Sequence[object]]) -> str:
    """The line that tells for which inputs a configuration was written."""
    return f"{MARK}{hashlib.sha256(_text(directives).encode()).hexdigest()}"


def redis_config(directives: Sequence[Sequence[object]], existing: str = "", keep: Sequence[str] = ()) -> str:
    """A configuration of Redis or Sentinel, in place of `existing`, without the last line end.

    `keep`: beginnings of directives that the server itself has learned; of those it has what `existing` has, and its own only
    where nothing exists. Of `sentinel monitor` it is the master's address that is kept.
    """
    wanted = [list(map(str, directive)) for directive in directives]
    if existing:
        kept = [words for words in map(_words, existing.splitlines()) if _begins(words, keep)]
        monitors = {words[2]: words for words in kept if _is_monitor(words)}
        ours = [_merged(words, monitors) for words in wanted if _is_monitor(words) or not _begins(words, keep)]
        wanted = [*ours, *(words for words in kept if not _is_monitor(words))]
    return f"{redis_mark(directives)}\n{_text(wanted)}".removesuffix("\n")


def consul_services(topics: Iterable[str], endpoint: Mapping[str, object]) -> list[dict[str, object]]:
    """A service for each topic that this node serves, alive while its receiver accepts connections."""
    check = {"name": "the receiver accepts connections", "tcp": f"{endpoint['address']}:{endpoint['port']}", "interval": "1s"}
    return [{"name": topic, "checks": [{**check, "timeout": "1s"}]} for topic in topics]


def consul_files(
    services: Iterable[Mapping[str, object]], node: str, endpoint: Mapping[str, object]
) -> dict[str, dict[str, object]]:
    """File name -> what Consul reads there, for each service of a node whose receiver is at `endpoint`."""
    files = {}
    for service in services:
        name = str(service.get("id") or service["name"])
        whole = {
            "id": name,
            "address": endpoint["address"],
            "port": endpoint["port"],
            **{key: value for key, value in service.items() if value is not None},
            "meta": {"zmq_host": node, **{key: str(value) for key, value in (service.get("meta") or {}).items()}},
        }
        file = f"service-{re.sub('[^A-Za-z0-9._-]', '_', name)}.json"
        if file in files:
            raise AnsibleFilterError(f"zeromq_consul_services: two have the id {name}; give each its own")
        files[file] = {"service": whole}
    return files


def _merged(words: list[str], monitors: dict[str, list[str]]) -> list[str]:
    """`sentinel monitor NAME HOST PORT QUORUM`: where the master is, is known to the Sentinel; the quorum is ours."""
    if _is_monitor(words) and words[2] in monitors:
        return [*monitors[words[2]][:5], *words[5:]]
    return words


def _is_monitor(words: list[str]) -> bool:
    return words[:2] == ["sentinel", "monitor"]


def _begins(words: list[str], keep: Sequence[str]) -> bool:
    return any(words[: len(one.split())] == one.split() for one in keep)


def _text(directives: Iterable[Sequence[object]]) -> str:
    return "".join(" ".join(_quoted(str(word)) for word in directive) + "\n" for directive in directives)


def _words(line: str) -> list[str]:
    """Return the words of a line as Redis reads it (sdssplitargs); of a comment, and of what it would refuse, none."""
    if line.lstrip().startswith("#") or not LINE.fullmatch(line):
        return []
    return [_unquoted(word) for word in WORD.findall(line)]


def _unquoted(word: str) -> str:
    plain, double, single = PARTS.fullmatch(word).groups()
    if single is not None:
        return plain + single.replace("\\'", "'")
    raw = re.sub(rb"\\(x[0-9A-Fa-f]{2}|.)", _unescaped, (double or "").encode())
    return plain + raw.decode(errors="surrogateescape")


def _unescaped(found: re.Match[bytes]) -> bytes:
    escape = found[1]
    return bytes.fromhex(escape[1:].decode()) if len(escape) == 3 else ESCAPES.get(escape, escape)


def _quoted(word: str) -> str:
    """Return a word as Redis reads it back."""
    if any(ord(letter) < 32 for letter in word):
        raise AnsibleFilterError(f"a word of Redis's configuration has a control character: {word!r}")
    if word and set(word) <= PLAIN:
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        return {
            "zeromq_consul_files": consul_files,
            "zeromq_consul_services": consul_services,
            "zeromq_redis_config": redis_config,
            "zeromq_redis_mark": redis_mark,
        }
