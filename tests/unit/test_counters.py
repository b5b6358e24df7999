"""Every counter is explained to operators."""

import re
from pathlib import Path

from openstack_zeromq.delivery.counters import Counter

PAGE = Path(__file__).parents[2] / "docs" / "operate.md"


def _explained(page: str) -> set[str]:
    """The counters in the first column of the table of counters."""
    table = page.partition("| counter | goes up when |")[2].partition("\n\n")[0]
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_table_of_counters_is_complete_and_names_no_others() -> None:
    assert _explained(PAGE.read_text()) == {counter.value for counter in Counter}


def test_a_counter_that_is_missing_would_be_noticed() -> None:
    assert _explained("| counter | goes up when |\n|---|---|\n| `busy`, `sent` | full `x` |\n\n| `y` |") == {"busy", "sent"}
