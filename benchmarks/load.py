"""Load: what one store of a matchmaker bears, as a table with what ten times as many nodes would ask for."""

import dataclasses
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table


@dataclasses.dataclass(frozen=True)
class Figure:
    """`unit` of what was measured; `grows`: by what factor with ten times as many nodes."""

    what: str
    value: float
    unit: str
    grows: float


def show(title: str, nodes: int, figures: Iterable[Figure], advice: str) -> None:
    """Print measured beside extrapolated: linear in what grows with the nodes, the same in what does not."""
    table = Table(title=title, header_style="dim")
    for column in ("", f"{nodes} nodes", f"{nodes * 10} nodes"):
        table.add_column(column, justify="left" if not column else "right")
    for figure in figures:
        table.add_row(figure.what, f"{figure.value:.4g} {figure.unit}", f"{figure.value * figure.grows:.4g} {figure.unit}")
    Console().print(table)
    Console().print(advice, style="dim")
