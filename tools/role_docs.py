#!/usr/bin/env python3
"""Write the table of inputs in each role's README.md, out of meta/argument_specs.yml and defaults/main.yml.

The table stands between two markers; all else in a README is written by hand. `--check` writes nothing and ends with 1
when a README is out of date (tests/rollout/test_role_docs.py runs it).
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "roles"
BEGIN = "<!-- inputs: written by tools/role_docs.py -->"
END = "<!-- end of inputs -->"
HEADING = "## Inputs"


class DocsError(Exception):
    """A README that cannot hold a table; the message says what it lacks."""


def table(options: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any]) -> str:
    """The inputs as a Markdown table, in the order of the specs; parts of an input below it."""
    rows = ["| input | type | default | meaning |", "|---|---|---|---|"]
    for name, facts in options.items():
        default = _code(defaults[name]) if name in defaults else "required" if facts.get("required") else ""
        rows.append(_row(f"`{name}`", _type(facts), default, _meaning(facts)))
        rows += _parts(facts)
    return "\n".join(rows)


def _parts(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, part in facts.get("options", {}).items():
        default = "required" if part.get("required") else _code(part["default"]) if "default" in part else ""
        yield _row(f"&nbsp;&nbsp;`.{name}`", _type(part), default, _meaning(part))
        yield from _parts(part)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(facts: Mapping[str, Any]) -> str:
    kind = str(facts.get("type", "str"))
    return f"{kind} of {facts['elements']}" if "elements" in facts else kind


def _meaning(facts: Mapping[str, Any]) -> str:
    said = facts["description"]
    text = " ".join(" ".join(said if isinstance(said, list) else [said]).split())
    choices = ", ".join(f"`{choice}`" for choice in facts.get("choices", []))
    return f"{text} One of {choices}." if choices else text


def _code(value: object) -> str:
    if value in ("", None):
        return "empty"
    if isinstance(value, str):
        return f"`{value}`"
    flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()
    return f"`{flow}`"


def readme(text: str, rows: str) -> str:
    """`text` with the table in its place.

    :raises DocsError: neither the markers nor a heading for the inputs is there.
    """
    block = f"{BEGIN}\n\n{rows}\n\n{END}"
    before, found, rest = text.partition(BEGIN)
    if found:
        _, closed, after = rest.partition(END)
        if not closed:
            raise DocsError(f"the line {END!r} is missing")
        return f"{before}{block}{after}"
    before, found, rest = text.partition(f"{HEADING}\n")
    if not found:
        raise DocsError(f"neither the line {BEGIN!r} nor a heading {HEADING!r} is there")
    lines = rest.splitlines(keepends=True)
    start = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith("|")), len(lines))
    return f"{before}{HEADING}\n\n{block}\n" + "".join(["\n", *lines[start:]] if start < len(lines) else [])


def wanted(role: Path) -> str:
    """The README of `role` as it should be."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
    rows = table(specs["argument_specs"]["main"]["options"], defaults)
    return readme((role / "README.md").read_text(encoding="utf-8"), rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 when a README is out of date")
    parser.add_argument("--roles", type=Path, default=ROLES, help="the directory of roles (default: that of this checkout)")
    given = parser.parse_args()
    stale = []
    for role in sorted(path.parent.parent for path in given.roles.glob("*/meta/argument_specs.yml")):
        try:
            text = wanted(role)
        except (DocsError, OSError, KeyError) as fault:
            print(f"{role / 'README.md'}: {fault}", file=sys.stderr)
            return 1
        if text != (role / "README.md").read_text(encoding="utf-8"):
            stale.append(role)
            if not given.check:
                (role / "README.md").write_text(text, encoding="utf-8")
    for role in stale:
        print(f"{role.name}/README.md: {'out of date; run tools/role_docs.py' if given.check else 'written'}")
    return 1 if stale and given.check else 0


if __name__ == "__main__":
    sys.exit(main())
