"""Filters: configuration of the stores. Pure functions.

Redis, Valkey and Sentinel write into their own configuration: who is master, whom they know. So theirs is written anew only
when our inputs change, which a digest in it tells, and then what they have written about the present master is kept.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence

from ansible.errors import AnsibleFilterError

MARK = "# written for inputs "
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@%+=,*~&{}|>")


def redis_digest(directives: Iterable[Sequence[object]]) -> str:
    """What tells one set of inputs from another."""
    return hashlib.sha256(_text(directives).encode()).hexdigest()


def redis_config(directives: Sequence[Sequence[object]], existing: str, keep: Sequence[str] = ()) -> str:
    """A configuration of Redis or Sentinel, without the comment above it and the last line end: `existing` when it was made
    for these directives, else a new one.

    `keep`: beginnings of directives that the server itself has written; of those the new one has what `existing` has, and its
    own only where there is no `existing`. Of `sentinel monitor` it is the master's address that is kept.
    """
    mark = f"{MARK}{redis_digest(directives)}"
    lines = existing.splitlines()
    if mark in lines:
        return existing[existing.index(mark) :].removesuffix("\n")
    kept = [words for words in map(_words, lines) if _begins(words, keep)]
    if not existing:
        wanted = [list(map(str, directive)) for directive in directives]
    else:
        monitors = {words[2]: words for words in kept if words[:2] == ["sentinel", "monitor"]}
        wanted = [_merged(list(map(str, one)), monitors) for one in directives if not _begins(list(map(str, one)), keep)]
        known = {tuple(words) for words in wanted}
        wanted += [words for words in kept if words[:2] != ["sentinel", "monitor"] and tuple(words) not in known]
    return f"{mark}\n{_text(wanted)}".removesuffix("\n")


def _merged(words: list[str], monitors: dict[str, list[str]]) -> list[str]:
    """`sentinel monitor NAME HOST PORT QUORUM`: where the master is, is known to the Sentinel; the quorum is ours."""
    if words[:2] == ["sentinel", "monitor"] and words[2] in monitors:
        return [*monitors[words[2]][:5], *words[5:]]
    return words


def _begins(words: list[str], keep: Sequence[str]) -> bool:
    return any(words[: len(one.split())] == one.split() for one in keep)


def _text(directives: Iterable[Sequence[object]]) -> str:
    return "".join(" ".join(_quoted(str(word)) for word in directive) + "\n" for directive in directives)


def _words(line: str) -> list[str]:
    if not line.strip() or line.lstrip().startswith("#"):
        return []
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _quoted(word: str) -> str:
    """A word as Redis reads it back."""
    if any(ord(letter) < 32 for letter in word):
        raise AnsibleFilterError(f"a word of Redis's configuration has a control character: {word!r}")
    if word and set(word) <= PLAIN:
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        return {
            "zeromq_redis_config": redis_config,
            "zeromq_redis_digest": redis_digest,
        }
