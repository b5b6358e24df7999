"""The matrix: what a person reads after a rollout."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from openstack_zeromq.cli import matrix
from openstack_zeromq.cli.report import Outcome, Report, ReportError

NODES = ("node1", "node2", "node3")


def report(node, **changes):
    good = {
        "calls": {peer: Outcome(ok=True, ms=1.25, by=peer) for peer in NODES},
        "bare": Outcome(ok=True, ms=2.5, by="node2"),
        "fanout": {peer: Outcome(ok=True) for peer in NODES},
        "notification": Outcome(ok=True, by="node3"),
    }
    return Report(node, **{**good, **changes})


GREEN = [report(node) for node in NODES]
LOST = report("node2", calls={**GREEN[0].calls, "node3": Outcome.failed("no answer within 10 s (MessagingTimeout)")})


def test_green_matrix_without_colours_reads_like_this():
    assert matrix.text(GREEN, colour=False).splitlines() == [
        "calls from row to column, median round trip                            ",
        "┏━━━━━━━┳━━━━━━━━┳━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━━━━━┓",
        "┃ from  ┃  node1 ┃  node2 ┃  node3 ┃ any node ┃ fanout ┃ notification ┃",
        "┡━━━━━━━╇━━━━━━━━╇━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━━━┩",
        "│ node1 │ 1.2 ms │ 1.2 ms │ 1.2 ms │   2.5 ms │ 3 of 3 │     to node3 │",
        "│ node2 │ 1.2 ms │ 1.2 ms │ 1.2 ms │   2.5 ms │ 3 of 3 │     to node3 │",
        "│ node3 │ 1.2 ms │ 1.2 ms │ 1.2 ms │   2.5 ms │ 3 of 3 │     to node3 │",
        "└───────┴────────┴────────┴────────┴──────────┴────────┴──────────────┘",
        "9 of 9 calls, 3 of 3 bare calls, 3 of 3 fanouts, 3 of 3 notifications",
    ]


def test_where_the_columns_do_not_fit_a_row_counts_whom_it_reached():
    calls = {f"node{number}": Outcome(ok=True, ms=float(number), by=f"node{number}") for number in range(1, 6)}
    green, lost = report("node1", calls=calls), report("node2", calls={**calls, "node5": Outcome.failed("no answer")})
    assert matrix.text([green, lost], colour=False, width=80).splitlines()[2:6] == [
        "┃ from  ┃ reached ┃ median ┃      slowest ┃ any node ┃ fanout ┃ notification ┃",
        "┡━━━━━━━╇━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━━━━━┩",
        "│ node1 │  5 of 5 │ 3.0 ms │ 5.0 ms node5 │   2.5 ms │ 3 of 3 │     to node3 │",
        "│ node2 │  4 of 5 │ 2.5 ms │ 4.0 ms node4 │   2.5 ms │ 3 of 3 │     to node3 │",
    ]


def test_long_names_lose_their_middle_and_stay_distinct_at_80_columns():
    names = [f"compute-of-rack-{rack}{slot}-in-hall-seven" for rack in (1, 2) for slot in (1, 2)]
    calls = {name: Outcome(ok=True, ms=1.0, by=name) for name in names}
    text = matrix.text(
        [report(name, calls=calls, notification=Outcome(ok=True, by=names[1])) for name in names], colour=False, width=80
    )
    rows = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert len(set(rows)) == 4
    assert all("…" in row for row in rows)
    assert max(map(len, text.splitlines())) <= 80


@given(st.sets(st.text("ab1-", min_size=1, max_size=30), min_size=1, max_size=12), st.integers(3, 30))
def test_short_names_are_distinct(names, length):
    short = matrix.shortened(names, length)
    assert set(short) == names
    assert len(set(short.values())) == len(names)
    assert max(map(len, short.values())) <= max(length, *map(len, names))


def test_of_hundreds_of_rows_the_failed_and_the_slowest_are_drawn():
    many = [report(f"n{number:03}", calls={"node1": Outcome(ok=True, ms=float(number), by="node1")}) for number in range(300)]
    many[7] = report("n007", calls={"node1": Outcome.failed("no answer")})
    text = matrix.text(many, colour=False, width=100)
    assert "│ n007 " in text
    assert "│ n299 " in text
    assert "│ n100 " not in text
    assert "of 300 rows those that failed, and the slowest" in text


def test_failure_is_readable_without_colours():
    text = matrix.text([GREEN[0], LOST], colour=False)
    assert "FAILED │" in text
    assert "FAILED  call node2 -> node3: no answer within 10 s (MessagingTimeout)" in text
    assert text.endswith("5 of 6 calls, 2 of 2 bare calls, 2 of 2 fanouts, 2 of 2 notifications")


def test_colours_say_the_same():
    assert "\x1b[" not in matrix.text(GREEN, colour=False)
    assert "\x1b[32m9 of 9 calls" in matrix.text(GREEN, colour=True)
    assert "\x1b[1;31mFAILED" in matrix.text([LOST], colour=True)


def test_report_with_a_lost_fanout_and_notification_names_both():
    lost = report(
        "node1",
        bare=Outcome.failed("nobody"),
        fanout={**GREEN[0].fanout, "node2": Outcome.failed("arrived 2 times, not once")},
        notification=Outcome.failed("no listener had it within 10 s"),
    )
    assert not lost.ok
    assert list(lost.failures()) == [
        "bare call from node1: nobody",
        "fanout node1 -> node2: arrived 2 times, not once",
        "notification from node1: no listener had it within 10 s",
    ]
    assert "2 of 3" in matrix.text([lost], colour=False)


def test_report_survives_json():
    reports = [*GREEN, LOST]
    assert [Report.from_json(json.loads(json.dumps(each.to_json()))) for each in reports] == reports


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({}, "expected a list of reports"),
        ([1], "a report must be an object"),
        ([{"node": "n"}], "a report lacks 'calls'"),
        ([{**GREEN[0].to_json(), "bare": {"okay": 1}}], "bare: not an outcome"),
        ([{**GREEN[0].to_json(), "fanout": 1}], "fanout must be an object"),
    ],
)
def test_data_that_is_no_report_is_refused_with_the_part_that_is_wrong(data, fault):
    with pytest.raises(ReportError, match=fault):
        matrix.load(data)


def test_command_draws_a_file_and_its_exit_status_tells(tmp_path):
    file = tmp_path / "verify.json"
    for reports, status in ((GREEN, 0), ([LOST], 1)):
        file.write_text(json.dumps([each.to_json() for each in reports]))
        done = CliRunner().invoke(matrix.matrix, [str(file)])
        assert done.exit_code == status
        assert "notifications" in done.output


@pytest.mark.parametrize("content", ["", "{", "{}", "[{}]"])
def test_command_refuses_a_broken_file_in_one_line(tmp_path, content):
    file = tmp_path / "verify.json"
    file.write_text(content)
    done = CliRunner().invoke(matrix.matrix, [str(file)])
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {file}: ")
    assert done.output.count("\n") == 1
