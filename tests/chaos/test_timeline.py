"""A timeline: what broke comes first, who sent what to whom can be read, and where room is short the most telling stays."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from kvchaos.operations import Operation
from kvchaos.simulation.generate import generate
from kvchaos.simulation.run import Outcome, run
from kvchaos.simulation.schedule import Fault, Schedule
from kvchaos.simulation.timeline import LINES_MAX, WIDTH_MAX, Line, Weight, _choose, render_timeline

SMALL = Schedule(
    seed=1,
    promises=("siblings", "receipts"),
    faults=(Fault(60, "slow", {"source": "n1", "target": "n2", "ms": 50}, 40),),
    operations=(
        Operation(0, 10, "put", "k", "w1"),
        Operation(0, 20, "put", "other", "w2"),
        Operation(0, 90, "get", "k", "w3"),
    ),
)


@cache
def outcome_of(bug: str | None) -> Outcome:
    return run(SMALL, bug=bug, keep_events=True)


def lines_of(outcome: Outcome, *, full: bool = False, command: str = "") -> list[str]:
    return [text for _, text in render_timeline(outcome, full=full, command=command)]


def test_the_broken_promise_stands_on_top_and_the_command_that_replays_it_at_the_end() -> None:
    outcome = outcome_of("ack-before-quorum")
    violation = outcome.violations[0]
    lines = lines_of(outcome, command="kv sim run --seed 1")
    assert lines[0].startswith(f"BROKEN  {violation.promise} ({violation.key}): ")
    assert lines[-1] == "again   kv sim run --seed 1"
    accusing = [line for line in lines if line.startswith(">")]
    assert len(accusing) == 2, "the put, and what its client was told"


def test_it_tells_who_sent_what_to_whom_and_who_decided_what() -> None:
    page = "\n".join(lines_of(outcome_of("ack-before-quorum")))
    for said in ("c1 → n", "put k w1", "store k = w1 n", "stored k", "executes w1 of k as n", "← w1: acknowledged by n"):
        assert said in page, f"{said} is not told:\n{page}"
    assert "slow n1 → n2, ms=50" in page and "end of slow" in page


def test_only_what_concerns_the_accused_key_is_told_unless_everything_is_asked_for() -> None:
    outcome = outcome_of("ack-before-quorum")
    assert outcome.violations[0].key == "k"
    assert not any("other" in line for line in lines_of(outcome))
    assert any("other" in line for line in lines_of(outcome, full=True))


def test_events_stand_in_the_order_of_virtual_time() -> None:
    body = [line for line in lines_of(outcome_of("ack-before-quorum"))[5:] if line[1:11].strip()]
    times = [float(line[1:11]) for line in body]
    assert len(times) > 10 and times == sorted(times)


def test_a_run_that_held_shows_faults_and_how_the_calls_went() -> None:
    page = "\n".join(lines_of(outcome_of(None)))
    assert page.startswith("HELD")
    assert "2 calls: 2 answered" in page and "slow n1 → n2" in page


@pytest.mark.parametrize("seed", [2, 14, 38])
def test_a_large_run_is_told_in_forty_lines_that_fit_a_screen_and_says_what_is_left_out(seed: int) -> None:
    outcome = run(generate(seed), bug="ack-before-quorum", keep_events=True)
    lines = lines_of(outcome, command="again")
    assert outcome.violations, "a seed in which the bug does not show tests nothing here"
    assert len(lines) <= LINES_MAX
    assert all(len(line) <= (2 * WIDTH_MAX if line.startswith("BROKEN") else WIDTH_MAX) for line in lines)
    assert sum(line.startswith(">") for line in lines) >= 2
    assert any(line.endswith("left out") for line in lines)


def test_where_room_is_short_the_most_telling_stays_and_then_the_nearest_to_what_accuses() -> None:
    def line(time_ms: int, weight: Weight) -> Line:
        return Line(time_ms * 1e6, weight, "n1", f"{weight.name} {time_ms}")

    lines = [
        line(1, Weight.OWN),
        line(2, Weight.MESSAGE),
        line(50, Weight.OWN),
        line(51, Weight.ACCUSING),
        line(52, Weight.ANSWER),
        line(900, Weight.FAULT),
    ]
    assert [kept.text for kept in _choose(lines, 3)] == ["OWN 50", "ACCUSING 51", "FAULT 900"]
    assert _choose(lines, 6) == lines


def test_records_that_are_compared_and_errors_that_are_answered_can_be_read() -> None:
    failing = replace(SMALL, faults=(Fault(0, "failing_disk", {"node": "n2", "error": "EIO", "applied": False}, 10),))
    page = "\n".join(lines_of(run(failing, keep_events=True), full=True))
    assert "compare k" in page and "k is the same here" in page
    assert "error STORAGE_FAILED" in page and "storage_failed: reason=" in page
