"""The judges of the soak runs: they see what was broken, and nothing else."""

from pathlib import Path

import growth
import pytest
import records
from records import Line, Record, What

SENT = [Line(What.SENDING, "1.1", 0.0), Line(What.SENT, "1.1", 0.1)]
CALLED = [Line(What.SENDING, "1.1", 0.0), Line(What.GOT, "1.1", 0.5), Line(What.REPLIED, "1.1", 1.0)]


def test_a_cast_that_ran_once_is_kept_and_one_that_raised_may_have_run_or_not() -> None:
    raised = [Line(What.SENDING, "1.2", 0.0), Line(What.RAISED, "1.2", 0.1), Line(What.SENDING, "1.3", 0.0)]
    kept = [*SENT, *raised, Line(What.GOT, "1.1", 0.2)]
    assert records.judge_casts(kept).broken == []
    assert records.judge_casts([*kept, Line(What.GOT, "1.2", 0.3)]).broken == []


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "nothing was sent"),
        ([*SENT, Line(What.GOT, "1.2", 0.2), Line(What.SENDING, "1.2", 0.0)], "1 lost: 1.1"),
        ([*SENT, Line(What.GOT, "1.1", 0.2), Line(What.GOT, "1.1", 0.3)], "1 ran more than once: 1.1"),
        ([*SENT, Line(What.GOT, "1.1", 0.2), Line(What.GOT, "2.1", 0.3)], "1 that nobody sent: 2.1"),
    ],
)
def test_a_lost_a_doubled_and_an_invented_cast_are_each_seen(lines: list[Line], sentence: str) -> None:
    assert sentence in records.judge_casts(lines).broken


def test_a_gap_is_that_of_one_sender_even_when_others_are_served() -> None:
    lines = [Line(What.GOT, f"1.{number}", float(number)) for number in (1, 2, 6, 7)]
    lines += [Line(What.GOT, f"2.{number}", float(number)) for number in range(1, 8)]
    lines += [Line(what, line.id, 0.0) for line in lines for what in (What.SENDING, What.SENT)]
    assert records.judge_casts(lines).figures["longest gap s"] == 4.0
    assert records.judge_casts(lines, longest_gap=4.0).broken == []
    assert records.judge_casts(lines, longest_gap=3.9).broken == ["no delivery for 4.00 s from 2.00 on"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (CALLED[:2], "nobody called"),
        ([*CALLED, Line(What.SENDING, "1.2", 0.0)], "1 without outcome: 1.2"),
        ([*CALLED, Line(What.RAISED, "1.1", 2.0)], "1 with several outcomes: 1.1"),
        ([*CALLED, Line(What.GOT, "1.1", 3.0)], "1 ran more than once: 1.1"),
        ([CALLED[0], CALLED[2]], "1 have a result and never ran: 1.1"),
        ([*CALLED[:2], Line(What.RAISED, "1.1", 6.1)], "1 later than 6 s: 1.1"),
    ],
)
def test_every_way_in_which_a_call_can_break_its_promise_is_seen(lines: list[Line], sentence: str) -> None:
    assert records.judge_calls(CALLED, timeout=5).broken == []
    assert sentence in records.judge_calls(lines, timeout=5).broken


def test_a_record_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    record = Record(tmp_path / "one")
    record.write(What.GOT, "1.1")
    record.write(What.RAISED, "1.2", "MessagingTimeout")
    with (tmp_path / "one").open("a") as torn:
        torn.write("got 1.3")
    assert [(line.what, line.id, line.more) for line in records.read([tmp_path / "one"])] == [
        (What.GOT, "1.1", ""),
        (What.RAISED, "1.2", "MessagingTimeout"),
    ]


def test_the_slope_is_that_of_the_second_half_and_a_chart_has_a_bar_for_each_value() -> None:
    heights = [0, 500, 900, 1000, 1000, 1001, 1002, 1003]
    watched = growth.Watched("x", 1, [growth.Sample(float(time), height, 1, 0) for time, height in enumerate(heights)])
    assert [entry.descriptors for entry in watched.second_half()] == [1000, 1001, 1002, 1003]
    hourly, bar, kept = watched.row(growth.LIMITS[0])
    assert (round(hourly), round(bar), kept) == (3600, 501, False)
    assert growth.chart([0, 7, 3]) == "▁█▄"
    assert growth.chart([5, 5]) == "▁▁"
