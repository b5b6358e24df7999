"""Every expression of roles, playbooks and scenarios is one that Jinja can read: the linters look at few of them."""

from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
CONDITIONS = ("when", "that", "changed_when", "failed_when", "until")
FILES = sorted(
    path
    for folder in ("roles", "playbooks", "molecule", "inventories")
    for path in (CHECKOUT / folder).rglob("*.yml")
    if not path.name.startswith(".")
)


class _Loader(yaml.SafeLoader):
    """Reads Ansible's own tags as plain strings."""


_Loader.add_constructor("!unsafe", lambda loader, node: "")
_Loader.add_constructor("!vault", lambda loader, node: "")


def _expressions(found: object, condition: bool = False) -> Iterator[str]:
    """Return the templates in `found`; what stands under a word of `CONDITIONS` is an expression without braces."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from _expressions(value, name in CONDITIONS)
    elif isinstance(found, list):
        for value in found:
            yield from _expressions(value, condition)
    elif isinstance(found, str):
        yield "{{ " + found + " }}" if condition and "{{" not in found else found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_jinja_can_read_every_expression(path: Path) -> None:
    environment = jinja2.Environment(autoescape=True, extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])
    for expression in _expressions(yaml.load(path.read_text(), Loader=_Loader)):  # noqa: S506 - a safe loader with two tags
        try:
            environment.parse(expression)
        except jinja2.TemplateSyntaxError as fault:
            pytest.fail(f"{path.name}: {fault}: {expression}")
