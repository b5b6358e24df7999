"""Filters: systemd units out of data, and the list of what a daemon of ours may not do.

A unit is section -> option -> value; a list gives the option several lines, in its order (`SystemCallFilter=` needs that), and
an empty list none. Values are systemd's own words: `%` begins a specifier. What `systemd_command` and `systemd_words` are given
arrives as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ansible.errors import AnsibleFilterError

FIRST = ("Unit", "Service", "Socket", "Install")
OPTION = re.compile(r"[A-Z][A-Za-z0-9]*")

# What none of our daemons needs. Read with `systemd-analyze security`; docs/operate.md says what each daemon adds.
# libzmq sets its threads' scheduling and aborts when it may not; what is forbidden answers EPERM and does not kill.
# PrivateUsers is missing on purpose: with it every local peer would look like nobody.
HARDENING: dict[str, str | list[str]] = {
    "AmbientCapabilities": "",
    "CapabilityBoundingSet": "",
    "DevicePolicy": "closed",
    "KeyringMode": "private",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateMounts": "yes",
    "PrivateTmp": "yes",
    "ProcSubset": "pid",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RemoveIPC": "yes",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "SystemCallFilter": ["@system-service", "~@privileged @resources", "sched_setscheduler"],
}


def hardened(service: Mapping[str, object]) -> dict[str, object]:
    """The lines of a [Service] with all that is forbidden to it; what `service` says itself wins."""
    return {**HARDENING, **service}


def command(words: Iterable[object]) -> str:
    """The words of a command as ExecStart= wants them, so that each arrives as it is."""
    first, *rest = map(str, words)
    # The program's own path knows specifiers, but no variables (systemd.service(5), "Command lines").
    return " ".join([_quoted(first), *(_quoted(word).replace("$", "$$") for word in rest)])


def words(values: Iterable[object]) -> str:
    """Return several words, paths for instance, for an option that takes a list of them, so that each arrives as it is."""
    return " ".join(_quoted(str(value)) for value in values)


def systemd_unit(sections: Mapping[str, Mapping[str, object]]) -> str:
    """systemd's text of section -> option -> value or values; sections in the usual order, options sorted."""
    known = [name for name in FIRST if name in sections]
    blocks = []
    for section in [*known, *sorted(set(sections) - set(known))]:
        lines = [
            f"{name}={word}"
            for name, value in sorted(sections[section].items())
            for word in _words(name, value if isinstance(value, list) else [value])
        ]
        blocks.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(blocks)


def _words(name: str, values: Iterable[object]) -> list[str]:
    words = [("yes" if value else "no") if isinstance(value, bool) else str(value) for value in values]
    if not OPTION.fullmatch(name) or any("\n" in word for word in words):
        raise AnsibleFilterError(f"{name}={words} is no option of a unit: one word, and values of one line each")
    return words


def _quoted(word: str) -> str:
    if not word or "\n" in word:
        raise AnsibleFilterError(f"a command's word cannot be empty or have more than one line: {word!r}")
    plain = word.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./$-]+", plain):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        return {"systemd_command": command, "systemd_hardened": hardened, "systemd_unit": systemd_unit, "systemd_words": words}
