"""Names of variables: what a task registers or sets as a fact outlives the task and wins over every other kind of variable.

A skipped task registers, too. So a name that is registered in one place and a variable of a block, a task, a role or an
inventory in another works for the first service of a host and fails for the second (Ansible, "Understanding variable
precedence": set_fact and registered variables come after block and task variables).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .conftest import CHECKOUT

BLOCKS = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
SET_FACT = ("ansible.builtin.set_fact", "set_fact")


class Loader(yaml.SafeLoader):
    """YAML with tags that only Ansible knows (`!vault`)."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def documents(*patterns: str) -> Iterator[tuple[Path, object]]:
    for pattern in patterns:
        for path in sorted(CHECKOUT.glob(pattern)):
            yield path.relative_to(CHECKOUT), yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader


def tasks(items: list) -> Iterator[dict]:
    """Yield each task, block and play of `items`, and what lies inside them."""
    for item in items or ():
        yield item
        for key in BLOCKS:
            yield from tasks(item.get(key))


def lasting(item: dict) -> set[str]:
    """Return the names that `item` leaves behind on its host: registered variables and facts."""
    facts = {name for key in SET_FACT for name in item.get(key) or () if name != "cacheable"}
    return facts | {item[key] for key in ("register",) if key in item}


def passing(item: dict) -> set[str]:
    """Return the names that hold for `item` alone: its variables and the variable of its loop."""
    return set(item.get("vars") or ()) | {item.get("loop_control", {}).get("loop_var")} - {None}


TASKS = ("site.yml", "playbooks/**/*.yml", "roles/*/tasks/*.yml")
VARIABLES = (
    "roles/*/defaults/*.yml",
    "roles/*/vars/*.yml",
    "inventories/**/group_vars/*.yml",
    "molecule/*/inventory/**/*_vars/*.yml",
)


def found() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return where each lasting name is set, and where each passing one."""
    lasts: dict[str, set[str]] = {}
    passes: dict[str, set[str]] = {}
    for path, content in documents(*TASKS):
        for item in tasks(content):
            where = f"{path}: {item.get('name', item)}"
            for names, kept in ((lasting(item), lasts), (passing(item), passes)):
                for name in names:
                    kept.setdefault(name, set()).add(where)
    for path, content in documents(*VARIABLES):
        for name in content or ():
            passes.setdefault(name, set()).add(str(path))
    return lasts, passes


def test_no_registered_name_or_fact_hides_another_variable():
    lasts, passes = found()
    assert {"__zeromq_service_pythons", "zeromq_probe_report"} <= lasts.keys()
    assert {"__zeromq_one", "__zeromq_service_record", "zeromq_service_python"} <= passes.keys()
    hidden = {name: sorted(lasts[name] | passes[name]) for name in lasts.keys() & passes.keys()}
    assert not hidden


@pytest.mark.parametrize(
    ("item", "names"),
    [
        ({"register": "a", "ansible.builtin.command": "true"}, {"a"}),
        ({"ansible.builtin.set_fact": {"b": 1, "c": 2, "cacheable": True}}, {"b", "c"}),
        ({"ansible.builtin.command": "true"}, set()),
    ],
)
def test_lasting_names_are_those_that_ansible_keeps(item, names):
    assert lasting(item) == names
