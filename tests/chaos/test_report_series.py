"""What the page shows of a history over time: operations, rates, faults and staleness."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvchaos.history import Recorder
from kvchaos.report.faults_told import Band, bands_of
from kvchaos.report.freshness import freshness_of, wilson
from kvchaos.report.series import Outcome, began_ns, operations_of, rates
from kvchaos.scenarios.figures import Figures
from kvclient.dial.staleness import Legs, fresh_shares, predict
from tests.chaos.kept_runs import LIFT_S, RTT_MS, Clock, apart_history, kept_column


def bands(*calls: tuple[float, str, str]) -> list[Band]:
    clock = Clock()
    recorder = Recorder(clock.now_ns)
    for at_s, f, phase in calls:
        clock.at_s = at_s
        recorder.fault(f, {"phase": phase})
    return bands_of(recorder.history.events, zero_ns=0)


def test_a_fault_is_there_for_certain_from_the_first_look_to_the_beginning_of_its_end() -> None:
    found = bands(
        (1, "partition", "begin"),
        (2, "partition", "active"),
        (3, "verify", "begin"),
        (4, "verify", "active"),
        (5, "verify", "active"),
        (6, "heal", "begin"),
        (7, "heal", "active"),
        (8, "verify", "active"),
        (9, "verify", "active"),
    )
    assert found == [Band(["partition"], 1, 4, 6, 8)]


def test_a_fault_that_comes_and_goes_is_several() -> None:
    once = ((0, "partition", "begin"), (1, "partition", "active"), (2, "heal", "begin"), (3, "heal", "active"))
    found = bands(*once, *((at + 4.0, f, phase) for at, f, phase in once))
    assert found == [Band(["partition"], 0, 1, 2, 3), Band(["partition"], 4, 5, 6, 7)]


def test_nodes_that_are_back_end_a_fault_and_what_is_healed_later_does_not_prolong_it() -> None:
    found = bands(
        (1, "kill", "begin"),
        (2, "kill", "active"),
        (3, "restart", "begin"),
        (4, "restart", "active"),
        (5, "verify", "active"),
        (8, "heal", "begin"),
        (9, "heal", "active"),
    )
    assert found == [Band(["kill"], 1, 2, 3, 5)]


def test_faults_that_add_up_are_one_with_all_their_names() -> None:
    found = bands((1, "delay", "begin"), (2, "delay", "active"), (3, "kill", "begin"), (4, "kill", "active"))
    assert found == [Band(["delay", "kill"], 1, 4)] and "never lifted" in found[0].sentence()


def test_what_was_tried_before_the_first_operation_is_no_fault_of_the_run() -> None:
    told = kept_column("F1", "pa-el")
    (band,) = bands_of(told.history.events, began_ns([told.history]))
    assert (band.words, band.begun_s, band.lifting_s) == (["partition"], 2.0, LIFT_S)


def test_operations_have_the_side_and_outcome_that_the_history_gives_them() -> None:
    history = kept_column("F1", "strict", refuses=True).history
    operations = operations_of(history, began_ns([history]))
    assert {operation.side for operation in operations if operation.outcome is not Outcome.OK} == {"near"}
    counts = {outcome: sum(operation.outcome is outcome for operation in operations) for outcome in Outcome}
    types = dict.fromkeys(Outcome, 0)
    for event in history.events:
        if isinstance(event.process, int) and event.type != "invoke":
            types[{"ok": Outcome.OK, "fail": Outcome.REFUSED, "info": Outcome.UNKNOWN}[event.type]] += 1
    assert counts == types and min(counts.values()) > 0


@pytest.mark.parametrize(
    ("type_", "facts"),
    [
        ("ok", {}),
        ("fail", {"error": "QuorumUnreachable: no"}),
        ("info", {}),
        ("fail", {"mismatch": True, "error": "ConditionFailed"}),
    ],
)
def test_an_operation_is_counted_as_the_results_count_it(type_: str, facts: dict[str, Any]) -> None:
    """The last of them, a condition that did not hold, stood among what was refused."""
    clock = Clock()
    recorder = Recorder(clock.now_ns)
    recorder.note(0, "invoke", "cas", key="k", value=["a", "b"])
    recorder.note(0, type_, "cas", key="k", value=["a", "b"], **facts)
    (operation,) = operations_of(recorder.history, 0)
    figures = Figures()
    figures.add(operation.call)
    assert (operation.kind, getattr(figures, operation.outcome.value), figures.count) == ("writes", 1, 1)


@given(st.integers(1, 60))
def test_rates_times_their_width_are_all_operations(bins: int) -> None:
    history = kept_column("F1", "strict", refuses=True, pace_s=0.2).history
    operations = operations_of(history, began_ns([history]))
    found = rates(operations, 10.0, bins)
    assert sum(sum(row) for row in found.values()) * 10.0 / bins == pytest.approx(len(operations))


@given(st.floats(0, 1), st.integers(1, 10_000))
def test_an_interval_holds_the_share_it_is_about(share: float, count: int) -> None:
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-9 and share - 1e-9 <= high <= 1


def test_reads_that_hear_of_a_write_when_it_arrives_are_as_fresh_as_predicted() -> None:
    found = freshness_of(apart_history(RTT_MS / 2))
    assert found is not None and abs(found.missed_at_median) <= 0.05
    assert len(found.reads) == 300 and found.sync_ms == pytest.approx(1.0, abs=0.01)
    assert found.fresh == pytest.approx(found.constant, abs=0.02)
    assert all(each.low - 1e-9 <= each.predicted <= each.high + 1e-9 for each in found.bins)


def test_reads_that_hear_of_writes_late_are_seen_to_be_older_than_predicted() -> None:
    found = freshness_of(apart_history(RTT_MS * 1.5))
    assert found is not None
    assert found.fresh < found.constant - 0.3 and found.missed_at_median < -0.5
    assert any(each.high < each.predicted for each in found.bins)


def test_what_a_side_wrote_itself_says_nothing_of_distance() -> None:
    history = apart_history(RTT_MS / 2)
    history.header["sites"] = ["near"]
    assert freshness_of(history) is None


AFTER_MS = [0.0, 1.0, 5.0, 20.0, 40.0, 80.0, 1000.0]


@given(st.integers(1, 3), st.integers(1, 3), st.floats(0, 1))
def test_the_longer_ago_the_write_the_more_reads_show_it(r: int, w: int, spread: float) -> None:
    shares = fresh_shares(3, r, w, Legs(20.0, 20.0, 20.0, 20.0, spread), AFTER_MS, trials=200)
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_the_curve_goes_through_what_is_predicted_at_once_and_at_the_end_of_the_window() -> None:
    legs = Legs(10.0, 5.0, 5.0, 5.0)
    found = predict(3, 1, 1, legs)
    at_once, late = fresh_shares(3, 1, 1, legs, [0.0, found.window_ms])
    assert at_once == found.fresh_at_once and late >= 0.999


def test_where_links_always_take_the_same_time_the_curve_is_a_step() -> None:
    assert fresh_shares(3, 1, 1, Legs(40.0, 40.0, 40.0, 40.0, spread=0.0), [0.0, 39.0, 41.0], trials=50) == [0.0, 0.0, 1.0]
    assert predict(3, 1, 1, Legs(40.0, 40.0, 40.0, 40.0, spread=0.0), trials=50).window_ms == 40.0
