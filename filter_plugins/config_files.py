"""Filters: the text of configuration files of oslo.config and of supervisord, so that what is written is what is read.

Data is section -> option -> value. A value that cannot stand in such a file is refused, never changed. The rules of oslo.config's
files are those of module oslo_config, which edits them on nodes: they are written down there, once.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType

from ansible.errors import AnsibleFilterError

COMMENT = re.compile(r"(^|\s)([;#])")
"""What supervisord takes for the beginning of a comment, also in the middle of a value; there is no escape."""


def oslo_ini(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Return oslo.config's text of section -> option -> value. An option whose value is null is left out."""
    rules = _rules()
    try:
        words = rules.as_text(sections)
    except rules.FileError as fault:
        raise AnsibleFilterError(f"oslo_ini: {fault}") from None
    return _ini(words, rules.assignment)


def supervisor_ini(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Return supervisord's text of section -> option -> value; `%` would be an expansion there, so it is doubled."""
    return _ini(sections, lambda name, value: f"{name} = {_supervised(name, value)}".rstrip())


def supervisor_command(words: Iterable[object]) -> str:
    """Return a command for `supervisor_ini`, so that each word arrives as it is.

    Empty quotes part a blank from the `;` or `#` behind it.
    """
    return " ".join(COMMENT.sub(r"\1''\2", shlex.quote(str(word))) for word in words)


def _ini(sections: Mapping[str, Mapping[str, object]], line: Callable[[str, object], str]) -> str:
    blocks = []
    for section in sorted(sections):
        lines = [line(name, value) for name, value in sorted(sections[section].items()) if value is not None]
        blocks.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(blocks)


def _supervised(name: str, value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.isprintable() or text != text.strip() or COMMENT.search(text):
        raise AnsibleFilterError(
            f"supervisor_ini: supervisord cannot read {name} = {text!r}: a value has one line, no blanks at its ends, and no ; "
            "or # behind a blank; choose another path"
        )
    return text.replace("%", "%%")


def _rules() -> ModuleType:
    """Return module oslo_config, which lies beside the filters."""
    name = "zeromq_rules_of_oslo_config"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "library" / "oslo_config.py")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, object]:
        return {"oslo_ini": oslo_ini, "supervisor_command": supervisor_command, "supervisor_ini": supervisor_ini}
