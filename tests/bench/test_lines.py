from __future__ import annotations

import json
import math

import pytest

from tests.bench.lines import Line, Pair, Sense, Verdict, decide_exit_code, decide_row
from tests.bench.table import HEADINGS, render_table, report_json, row_cells

FASTER = Line("puts", "puts, 256 in flight", "/s", "etcd puts", Sense.AT_LEAST, 4.0)
QUICKER = Line("p50", "a put, p50", "ms", "etcd put", Sense.AT_MOST, 1.2)
MET = decide_row(FASTER, [Pair(50.0, 10.0)])
MISSED = decide_row(FASTER, [Pair(30.0, 10.0)])
UNMEASURED = decide_row(FASTER, [])


def test_the_ratio_is_the_median_of_the_rounds_not_the_ratio_of_the_medians() -> None:
    row = decide_row(FASTER, [Pair(100.0, 20.0), Pair(300.0, 100.0), Pair(90.0, 10.0)])
    assert (row.ours, row.other) == (100.0, 20.0)
    assert (row.ratio, row.ratio_min, row.ratio_max) == (5.0, 3.0, 9.0)


@pytest.mark.parametrize(
    ("line", "ours", "verdict"),
    [
        (FASTER, 40.0, Verdict.MET),
        (FASTER, 39.9, Verdict.MISSED),
        (QUICKER, 12.0, Verdict.MET),
        (QUICKER, 12.1, Verdict.MISSED),
    ],
)
def test_a_ratio_exactly_on_the_bar_is_met_and_just_beyond_it_missed(line: Line, ours: float, verdict: Verdict) -> None:
    assert decide_row(line, [Pair(ours, 10.0)]).verdict is verdict


def test_a_round_without_the_other_side_shows_our_figure_but_decides_nothing() -> None:
    row = decide_row(FASTER, [Pair(100.0, math.nan), Pair(120.0, math.nan)])
    assert row.ours == 110.0
    assert row.verdict is Verdict.NOT_MEASURED


def test_a_round_that_failed_does_not_dilute_those_that_did_not() -> None:
    assert decide_row(FASTER, [Pair(100.0, math.nan), Pair(50.0, 10.0)]).ratio == 5.0


def test_operations_that_fail_beside_a_disturbance_miss_the_bar() -> None:
    assert decide_row(QUICKER, [Pair(math.inf, 2.0)]).verdict is Verdict.MISSED


def test_the_gate_ends_with_8_for_a_missed_bar_9_for_an_unmeasured_line_and_0_otherwise() -> None:
    assert decide_exit_code([MET, MISSED, UNMEASURED], gate=True) == 8
    assert decide_exit_code([MET, UNMEASURED], gate=True) == 9
    assert decide_exit_code([MET], gate=True) == 0
    assert decide_exit_code([MISSED, UNMEASURED], gate=False) == 0


def test_the_table_shows_ours_theirs_ratio_spread_bar_and_verdict_in_one_row() -> None:
    row = decide_row(FASTER, [Pair(32_000.0, 6_400.0), Pair(30_000.0, 7_500.0), Pair(33_000.0, 6_000.0)])
    table = render_table([row, UNMEASURED], facts={"etcd": "3.6.16"}, notes=["one thing"]).splitlines()
    cells = ["puts, 256 in flight", "32,000/s", "etcd puts: 6,400/s", "5.00", "[4.00 to 5.50]", ">= 4", "yes"]
    assert table[2].split() == " ".join(cells).split()
    assert [table[0].index(heading) for heading in HEADINGS[:-1]] == [table[2].index(cell) for cell in cells]
    assert table[3].split() == ["puts,", "256", "in", "flight", "-", "etcd", "puts:", "-", "-", "-", ">=", "4", "-"]
    assert table[-2:] == ["etcd: 3.6.16", "note: one thing"]


def test_the_report_is_plain_json_whatever_was_not_measured_or_failed() -> None:
    failed = decide_row(QUICKER, [Pair(math.inf, 2.0), Pair(math.nan, 2.0)])
    text = json.dumps(report_json([failed, UNMEASURED], facts={}, notes=[]), allow_nan=False)
    line = json.loads(text)["lines"][0]
    assert line["ours"] == ["failed", None]
    assert line["ratio"] == {"median": "failed", "min": "failed", "max": "failed"}
    assert line["verdict"] == "missed"


def test_a_line_without_a_bar_is_shown_and_not_judged() -> None:
    row = decide_row(Line("x", "puts", "/s", "others"), [Pair(1.0, 10.0)], [Pair(5_000.0, 20_000.0), Pair(math.nan, 30_000.0)])
    assert row.verdict is Verdict.SHOWN
    assert decide_exit_code([row, MET], gate=True) == 0
    cells = row_cells(row)
    assert cells[HEADINGS.index("bar")] == "-"
    assert cells[-1] == "25,000/s | 5,000/s"
    native = report_json([row], facts={}, notes=[])["lines"][0]["native"]
    assert native == {"ours": 5_000.0, "theirs": 25_000.0}
