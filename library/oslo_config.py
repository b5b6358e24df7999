"""Set options in a service's oslo.config file, and later put back exactly what was there.

Read (file and record) -> plan (pure: `plan`) -> apply. The file is somebody else's: every byte that is not one of our options
stays, comments and odd line ends among it. What we change we write down in a record of our own, so that each run begins by
taking our edits back (`undo`) and makes them anew (`redo`): a changed input, a file that its owner rendered again and
`state=absent` are all the same two steps. A line of ours that somebody has changed since is theirs, and left.
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: oslo_config
short_description: Set options in an oslo.config file, and put back what was there
description:
  - Sets and removes options in the configuration file of a service; all other bytes of the file stay as they are.
  - Of an option that stands there several times the last one counts, as for oslo.config, and is the one that is changed.
  - Keeps a record of what was there, so that O(state=absent) restores it exactly. An option that somebody else has changed
    since is left to them.
  - Owner, mode and SELinux context of the file stay. Passwords in URLs are masked in the diff.
author: openstack-zeromq maintainers
options:
  path:
    description: The configuration file. It must be there, except with O(state=absent).
    type: path
    required: true
  record:
    description: Where to remember what was there; one file for all files of a service. It holds old passwords, mode 0600.
    type: path
    required: true
  options:
    description:
      - Section to option to value. A value is literal, C($) included; a list becomes one value with commas.
      - An option whose value is null is taken out.
    type: dict
    default: {}
  state:
    description:
      - V(present) sets O(options), and takes back what was set before and is no longer asked for.
      - V(absent) takes all back.
    type: str
    choices: [present, absent]
    default: present
  backup:
    description: Keep a copy of the file, with a time stamp in its name, before it changes.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Let nova use the bus
  oslo_config:
    path: /etc/nova/nova.conf
    record: /var/lib/openstack-zeromq/services/nova.json
    options:
      DEFAULT: {transport_url: "zmq://"}
"""

RETURN = r"""
path:
  description: The configuration file.
  returned: success
  type: str
edits:
  description: What is ours in the file, a word and section.option for each.
  returned: success
  type: list
  elements: str
left:
  description: What was ours and has been changed by somebody else, so that it was not put back.
  returned: success
  type: list
  elements: str
backup_file:
  description: The copy; empty for none.
  returned: success
  type: str
"""

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "record": {"type": "path", "required": True},
    "options": {"type": "dict", "default": {}},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "backup": {"type": "bool", "default": False},
}

URL_PASSWORD = re.compile(r"(?<=:)[^:@/\s]+(?=@)")
SECRET_OPTION = re.compile(r"^([#;\s]*\w*(?:password|secret|token)\w*\s*[:=]\s*)\S.*$", re.IGNORECASE | re.MULTILINE)
MASK = "********"


class FileError(Exception):
    """oslo.config would refuse the file, or the record is none; the message says where."""


@dataclass(frozen=True)
class Line:
    """A line and how it ends: LF, CRLF, CR, or nothing at the end of the file."""

    text: str
    end: str


@dataclass(frozen=True)
class Assignment:
    """An option in a file: lines `start` to before `stop`, continuation lines among them."""

    section: str
    option: str
    value: str
    start: int
    stop: int


@dataclass(frozen=True)
class Edit:
    """One thing that we did, with what is needed to take it back.

    `replace`: lines `old` became `new`; `insert`: `new` was added; `remove`: `old` became the comment `new`; `section`: the
    header `new` was added at the end, after an empty line if `blank`. `glued`: the line before got a line end.
    """

    do: str
    section: str
    option: str
    new: str
    old: str | None = None
    blank: bool = False
    glued: bool = False

    def __str__(self) -> str:
        return f"{self.do} {self.section}.{self.option}" if self.option else f"{self.do} {self.section}"


@dataclass(frozen=True)
class Plan:
    """The file as it should be, our edits in it, and those that could not be taken back."""

    text: str
    edits: list[Edit]
    left: list[Edit]


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    asked = module.params
    path, record = Path(os.path.realpath(asked["path"])), Path(asked["record"])
    if asked["state"] == "present" and not path.is_file():
        module.fail_json(msg=f"{asked['path']}: is not there; install the service first, or correct the name")
    try:
        wanted = as_text(asked["options"]) if asked["state"] == "present" else {}
        for value in _values(wanted):  # as it stands in the file, and as it was given
            module.no_log_values.update(URL_PASSWORD.findall(value), URL_PASSWORD.findall(value.replace(r"\$", "$")))
        before = read(path)
        kept = read_record(record)
        planned = plan(before, kept.get(str(path), {}), wanted) if before is not None else Plan("", [], [])
        changed = before is not None and planned.text != before
        backup = ""
        if not module.check_mode:
            if changed:
                backup = module.backup_local(str(path)) if asked["backup"] else ""
                pending = {**kept.get(str(path), {}), "next": [asdict(edit) for edit in planned.edits]}
                write_record(record, {**kept, str(path): pending})
                replace(module, path, planned.text)
            write_record(record, {**kept, str(path): {"edits": [asdict(edit) for edit in planned.edits]}})
    except FileError as fault:
        module.fail_json(msg=f"{asked['path']}: {fault}")
    except OSError as fault:
        module.fail_json(msg=f"{asked['path']}: cannot be edited: {fault}")
    for edit in planned.left:
        module.warn(f"{path}: {edit.section}.{edit.option} was changed by somebody else since; it is left as it is")
    module.exit_json(
        changed=changed,
        path=str(path),
        edits=[str(edit) for edit in planned.edits],
        left=[str(edit) for edit in planned.left],
        backup_file=backup,
        diff={
            "before_header": str(path),
            "after_header": str(path),
            "before": masked(before or ""),
            "after": masked(planned.text),
        },
    )


# --- planning: pure ------------------------------------------------------------------------------------------


def plan(text: str, known: Mapping[str, list[dict]], wanted: Mapping[str, Mapping[str, str | None]]) -> Plan:
    """From the file as it is, and the record of what is ours in it, to the file with `wanted` options.

    `known` may tell of a run that ended between writing the record and the file: then that one of its two lists counts that
    the file agrees with.
    """
    lines = split(text)
    parse(lines)
    base, left = _undo_known(lines, known)
    result, edits = redo(base, wanted)
    return Plan(join(result), edits, left)


def _undo_known(lines: list[Line], known: Mapping[str, list[dict]]) -> tuple[list[Line], list[Edit]]:
    edits = [Edit(**fields) for fields in known.get("edits", [])]
    if "next" in known:
        base, left = undo(lines, [Edit(**fields) for fields in known["next"]])
        if not left:
            return base, left
    return undo(lines, edits)


def redo(lines: list[Line], wanted: Mapping[str, Mapping[str, str | None]]) -> tuple[list[Line], list[Edit]]:
    """Make the options so; returns the lines and what was done, in order."""
    edits: list[Edit] = []
    for section in sorted(wanted):
        for option, value in sorted(wanted[section].items()):
            done = _take_out(lines, section, option) if value is None else _set(lines, section, option, value)
            lines = done[0]
            edits += done[1]
    return lines, edits


def _set(lines: list[Line], section: str, option: str, value: str) -> tuple[list[Line], list[Edit]]:
    there = [found for found in parse(lines) if _is(found, section, option)]
    new = assignment(option, value)
    if there:
        last = there[-1]
        if last.value == value:
            return lines, []
        edit = Edit("replace", section, option, new, body(lines[last.start : last.stop]))
        return _swap(lines, last.start, last.stop, new), [edit]
    edits = []
    if not any(_same(name, section) for _, name in headers(lines)):
        lines, edits = _add_section(lines, section)
    at = _place(lines, section, option)
    glued = lines[at - 1].end == ""
    return _insert(lines, at, [new]), [*edits, Edit("insert", section, option, new, glued=glued)]


def _take_out(lines: list[Line], section: str, option: str) -> tuple[list[Line], list[Edit]]:
    """Each occurrence becomes a comment, which tells a reader, and us where to put it back."""
    edits = []
    new = f"# {option}: taken out by openstack-zeromq"
    while there := [found for found in parse(lines) if _is(found, section, option)]:
        first = there[0]
        edits.append(Edit("remove", section, option, new, body(lines[first.start : first.stop])))
        lines = _swap(lines, first.start, first.stop, new)
    return lines, edits


def _add_section(lines: list[Line], section: str) -> tuple[list[Line], list[Edit]]:
    blank = bool(lines) and bool(lines[-1].text.strip())
    glued = bool(lines) and lines[-1].end == ""
    new = f"[{section}]"
    return _insert(lines, len(lines), [""] * blank + [new]), [Edit("section", section, "", new, blank=blank, glued=glued)]


def _place(lines: list[Line], section: str, option: str) -> int:
    """Where a new option goes: below its commented-out self, else below the section's last option, else below the header."""
    sample = re.compile(rf"[#;]\s*{re.escape(option)}\s*[:=]")
    comments = [number for number in _comments(lines, section) if sample.match(lines[number].text)]
    if comments:
        return comments[-1] + 1
    options = [found.stop for found in parse(lines) if _same(found.section, section)]
    if options:
        return options[-1]
    return [number for number, name in headers(lines) if _same(name, section)][-1] + 1


def undo(lines: list[Line], edits: list[Edit]) -> tuple[list[Line], list[Edit]]:
    """Take edits back, the last one first; also those that are not to be found any more."""
    left = []
    for edit in reversed(edits):
        found = _find(lines, edit)
        if found is None:
            left.append(edit)
            continue
        start, stop = found
        if edit.old is not None:
            lines = _swap(lines, start, stop, edit.old)
            continue
        if edit.blank and start > 0 and not lines[start - 1].text.strip():
            start -= 1
        lines = lines[:start] + lines[stop:]
        if edit.glued and start == len(lines) > 0:
            lines = [*lines[:-1], Line(lines[-1].text, "")]
    return lines, left[::-1]


def _find(lines: list[Line], edit: Edit) -> tuple[int, int] | None:
    """Where the lines of an edit are now."""
    if edit.do == "section":
        places = [(number, number + 1) for number, name in headers(lines) if name == edit.section and _is_empty(lines, number)]
    elif edit.do == "remove":
        places = [(number, number + 1) for number in _comments(lines, edit.section)]
    else:
        places = [(found.start, found.stop) for found in parse(lines) if _is(found, edit.section, edit.option)]
    same = [(start, stop) for start, stop in places if body(lines[start:stop]) == edit.new]
    return same[-1] if same else None


def _is_empty(lines: list[Line], header: int) -> bool:
    """Whether nothing but empty lines stands between a header and the next one."""
    for line in lines[header + 1 :]:
        if line.text.strip():
            return line.text.startswith("[")
    return True


def _swap(lines: list[Line], start: int, stop: int, text: str) -> list[Line]:
    """Other lines in place of some; the last one ends as the last one did."""
    return [*lines[:start], *split(text + lines[stop - 1].end), *lines[stop:]]


def _insert(lines: list[Line], at: int, texts: list[str]) -> list[Line]:
    before = lines[:at]
    end = before[-1].end or newline(lines) if before else newline(lines)
    if before:
        before[-1] = Line(before[-1].text, end)
    return [*before, *(Line(text, end) for text in texts), *lines[at:]]


# --- an oslo.config file ----------------------------------------------------------------------------------------


def split(text: str) -> list[Line]:
    """Lines as universal newlines part them, with their own ends."""
    lines = []
    for raw in io.StringIO(text, newline=""):
        shown = raw.rstrip("\r\n")
        lines.append(Line(shown, raw[len(shown) :]))
    return lines


def join(lines: list[Line]) -> str:
    return "".join(line.text + line.end for line in lines)


def body(lines: list[Line]) -> str:
    """Lines as one text, without the end of the last one."""
    return join(lines).removesuffix(lines[-1].end)


def newline(lines: list[Line]) -> str:
    """How lines of this file end: as the first one does."""
    return lines[0].end or "\n" if lines else "\n"


def headers(lines: list[Line]) -> list[tuple[int, str]]:
    """Line number (from 0) and name of each section."""
    return [(number, line.text.rstrip()[1:-1]) for number, line in enumerate(lines) if line.text.startswith("[")]


def parse(lines: list[Line]) -> list[Assignment]:
    """The options, in order, read as oslo.config reads them.

    :raises FileError: oslo.config would refuse the file.
    """
    found: list[Assignment] = []
    section = ""
    continues = False
    for number, line in enumerate(lines):
        text = line.text.rstrip()
        if not text or text.startswith(("#", ";")):
            continues = False
        elif text.startswith((" ", "\t")):
            if not continues:
                raise FileError(f"line {number + 1} continues no option; oslo.config refuses it: {masked(text)!r}")
            last = found[-1]
            found[-1] = Assignment(section, last.option, f"{last.value}\n{text.lstrip()}", last.start, number + 1)
        elif text.startswith("["):
            if not text.endswith("]") or len(text) <= 2:
                raise FileError(f"line {number + 1} is no section, though it begins like one; oslo.config refuses it: {text!r}")
            section, continues = text[1:-1], False
        else:
            option, value = _parted(text, number)
            if not section:
                raise FileError(f"line {number + 1} sets {option} before any section; oslo.config refuses that")
            found.append(Assignment(section, option, value, number, number + 1))
            continues = True
    return found


def _parted(text: str, number: int) -> tuple[str, str]:
    option, sign, value = re.match(r"([^:=]*)([:=]?)(.*)", text, re.DOTALL).groups()
    if not sign or not option.strip():
        raise FileError(f"line {number + 1} sets no option; oslo.config refuses it: {masked(text)!r}")
    value = value.strip()
    if value and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return option.strip(), value


def encode(value: str) -> str:
    """Return a value as oslo.config reads it back: in quotes when it would lose blanks or quotes of its own."""
    quoted = bool(value) and value[0] == value[-1] and value[0] in "\"'"
    return f'"{value}"' if quoted or value != value.strip() else value


def assignment(option: str, value: str) -> str:
    """Return the line that sets an option."""
    return f"{option} = {encode(value)}".rstrip()


def _comments(lines: list[Line], section: str) -> Iterator[int]:
    inside = False
    for number, line in enumerate(lines):
        if line.text.startswith("["):
            inside = _same(line.text.rstrip()[1:-1], section)
        elif inside and line.text.startswith(("#", ";")):
            yield number


def _is(found: Assignment, section: str, option: str) -> bool:
    return found.option == option and _same(found.section, section)


def _same(one: str, other: str) -> bool:
    """oslo.config tells sections apart without regard to case, except DEFAULT."""
    return one == other or ("DEFAULT" not in (one, other) and one.lower() == other.lower())


def as_text(options: Mapping[str, object]) -> dict[str, dict[str, str | None]]:
    """Values as they stand in a file, before quotes.

    :raises FileError: they cannot stand in one.
    """
    for section, settings in options.items():
        if not isinstance(settings, Mapping):
            raise FileError(f"options: {section} must hold option: value, not {settings!r}")
        if not re.fullmatch(r"[^\[\]\s][^\[\]\r\n]*", section) or section != section.strip():
            raise FileError(f"options: {section!r} cannot be the name of a section")
        for option in settings:
            if not re.fullmatch(r"\w[\w.-]*", option):
                raise FileError(f"options: {option!r} cannot be the name of an option")
    return {section: {option: _word(option, value) for option, value in found.items()} for section, found in options.items()}


def _word(option: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, list):
        return ",".join(_item(option, one) for one in value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if re.search(r"[\r\n]", text):
        raise FileError(f"options: the value of {option} must be one line")
    return literal(text)


def _item(option: str, value: object) -> str:
    """Return an item of a list: oslo.config parts the list at each comma and strips the parts."""
    text = _word(option, value) or ""
    if "," in text or text != text.strip():
        raise FileError(f"options: an item of the list {option} cannot have a comma, or a blank at one of its ends")
    return text


def literal(text: str) -> str:
    """Return a text in which oslo.config sees no reference to another option.

    It reads both $$ and \\$ as a dollar sign. Only the latter also works behind a backslash: oslo.config replaces \\$ first.
    """
    return text.replace("$", r"\$")


def _values(wanted: Mapping[str, Mapping[str, str | None]]) -> Iterator[str]:
    for settings in wanted.values():
        yield from (value for value in settings.values() if value)


def masked(text: str) -> str:
    """Without the passwords of URLs, and the values of options that are named for a secret."""
    return SECRET_OPTION.sub(rf"\1{MASK}", URL_PASSWORD.sub(MASK, text))


# --- files -------------------------------------------------------------------------------------------------------


def read(path: Path) -> str | None:
    """The file's text, line ends and stray bytes kept; None when there is none."""
    try:
        return path.read_bytes().decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None


def read_record(path: Path) -> dict[str, dict[str, list[dict]]]:
    text = read(path)
    try:
        known = json.loads(text) if text else {}
        for lists in known.values():
            for edits in lists.values():
                [Edit(**fields) for fields in edits]
    except (ValueError, TypeError, AttributeError):
        raise FileError(f"the record {path} is damaged; take it away, and what was there before is forgotten") from None
    return known


def write_record(path: Path, known: Mapping[str, Mapping[str, list[dict]]]) -> None:
    """Write the record if it differs; files with nothing of ours are left out, and an empty record is removed."""
    worth = {name: lists for name, lists in sorted(known.items()) if any(lists.values())}
    if not worth:
        path.unlink(missing_ok=True)
        return
    text = json.dumps(worth, indent=2, sort_keys=True) + "\n"
    if text == read(path):
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def replace(module: AnsibleModule, path: Path, text: str) -> None:
    """The file whole, in one step; owner, mode and context stay."""
    handle, temporary = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode("utf-8", errors="surrogateescape"))
    module.atomic_move(temporary, str(path))


if __name__ == "__main__":
    main()
