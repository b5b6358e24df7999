"""ACL: which users of this node may consume, or send to, which topics. Without a rule about a topic, every service may that can
open the sockets: who is in the directory's group.

A rule is `verb exchange/topic who who …`: the verb `consume`, `send` or `any`; a pattern of exchange and topic (`nova/*`); and
who may, users by name or number, groups with @ in front. The first rule whose verb and pattern fit decides. root always may.

A name that does not fit the wire is its beginning and a digest there. So a topic is named in full, or by a pattern whose * comes
early enough for that beginning.
"""

import grp
import os
import pwd
import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple

from openstack_zeromq.address import KEPT_BYTES, compact
from openstack_zeromq.errors import ConfigError

REMEMBERED = 60.0
"""Seconds for which it is remembered which groups a user is in."""

_ROOT = 0
_WILD = re.compile(r"[*?\[]")


class Verb(StrEnum):
    """What is asked for."""

    CONSUME = "consume"
    SEND = "send"


class Rule(NamedTuple):
    """`users` and `groups` by name or number, as they were written."""

    verbs: frozenset[Verb]
    pattern: str
    users: frozenset[str]
    groups: frozenset[str]


class Who(NamedTuple):
    """A user as the machine knows it: all names and numbers, with those of its groups."""

    shown: str
    users: frozenset[str]
    groups: frozenset[str]


def parse(rules: Iterable[str]) -> tuple[Rule, ...]:
    """:raises ConfigError: a rule is none; the message quotes it."""
    return tuple(map(_parsed, rules))


def refused(rules: Iterable[Rule], verb: Verb, name: str, who: Who) -> str:
    """Why `who` may not do that to `name`, exchange/topic; empty: it may. Pure."""
    rule = next((rule for rule in rules if verb in rule.verbs and fnmatchcase(name, rule.pattern)), None)
    if rule is None or str(_ROOT) in who.users or not rule.users.isdisjoint(who.users) or not rule.groups.isdisjoint(who.groups):
        return ""
    may = ", ".join([*sorted(rule.users), *sorted(f"@{group}" for group in rule.groups)]) or "nobody"
    act = "consume from" if verb is Verb.CONSUME else "send to"
    return f"user {who.shown} may not {act} {name}: zmq_channel_acl lets only {may}"


class Acl:
    """Rules and who people are. `now` is in seconds of a clock that never goes back."""

    def __init__(self, rules: tuple[Rule, ...], look_up: Callable[[int, int], Who] | None = None) -> None:
        self._rules = rules
        self._look_up = look_up or look_up_user
        self._known: dict[tuple[int, int], tuple[float, Who]] = {}

    def refused(self, verb: Verb, name: str, owner: tuple[int, int], now: float) -> str:
        """Why a process of `owner`, user and group, may not do that to `name`, exchange/topic; empty: it may."""
        when, who = self._known.get(owner, (-REMEMBERED, None))
        if who is None or now - when >= REMEMBERED:
            who = self._look_up(*owner)
            self._known[owner] = now, who
        return refused(self._rules, verb, name, who)


def look_up_user(uid: int, gid: int) -> Who:
    """Ask the machine; a number that it does not know is only that number."""
    users, groups, shown = {str(uid)}, {gid}, str(uid)
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        pass
    else:
        shown = found.pw_name
        users.add(found.pw_name)
        groups.update(os.getgrouplist(found.pw_name, found.pw_gid))
    return Who(shown, frozenset(users), frozenset(name for group in groups for name in _names_of(group)))


def _names_of(gid: int) -> tuple[str, ...]:
    try:
        return str(gid), grp.getgrgid(gid).gr_name
    except KeyError:
        return (str(gid),)


def _parsed(text: str) -> Rule:
    verb, pattern, *who = text.split() if len(text.split()) > 1 else ("", "")
    verbs = frozenset(Verb) if verb == "any" else frozenset(one for one in Verb if one == verb)
    if not verbs or pattern.count("/") != 1 or not all(who) or "@" in who:
        raise ConfigError(
            f"zmq_channel_acl: {text!r} is no rule; a rule is `consume|send|any exchange/topic user @group …`, for instance"
            " `consume nova/* nova @operators`"
        )
    parts = pattern.split("/")
    if any(_WILD.search(part) and len(_WILD.split(part)[0]) > KEPT_BYTES for part in parts):
        raise ConfigError(
            f"zmq_channel_acl: {text!r}: *, ? or [ must come within {KEPT_BYTES} characters of a name, for longer ones are cut"
        )
    pattern = "/".join(part if _WILD.search(part) else compact(part) for part in parts)
    users = frozenset(one for one in who if not one.startswith("@"))
    return Rule(verbs, pattern, users, frozenset(one[1:] for one in who if one.startswith("@")))
