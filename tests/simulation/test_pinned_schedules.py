"""Schedules that once found something, pinned to the last operation: they must hold today, and fail where the bug is put back.

`regressions/` holds what the simulation found in the store, `planted/` one schedule for each planted bug; each file names its bug.
Written by `kv sim run --bug NAME --save FILE`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvchaos.simulation.bugs import BUGS
from kvchaos.simulation.report import explain
from kvchaos.simulation.run import run
from kvchaos.simulation.scenarios import SCENARIOS
from kvchaos.simulation.schedule import from_json
from kvchaos.simulation.timeline import LINES_MAX

HERE = Path(__file__).parent
FILES = sorted([*HERE.glob("regressions/*.json"), *HERE.glob("planted/*.json")])
SEEDS_MAX = 500


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_pinned_schedule_holds_and_finds_its_bug_when_that_is_put_back(file: Path) -> None:
    schedule = from_json(file.read_text())
    bug = json.loads(file.read_text())["bug"]
    outcome = run(schedule)
    assert outcome.is_ok, [found.sentence() for found in outcome.violations]
    found = run(schedule, bug=bug)
    assert not found.is_ok
    report = explain(schedule, found.violations[0].promise, bug=bug, runs_max=0)
    assert len(report.lines) <= LINES_MAX


def test_every_bug_has_its_schedule() -> None:
    assert {json.loads(file.read_text())["bug"] for file in FILES} == BUGS.keys()
    assert all(json.loads(file.read_text())["bug"] == file.stem for file in FILES)


@pytest.mark.long
@pytest.mark.parametrize("bug", sorted(file.stem for file in FILES if file.parent.name == "planted"))
def test_a_planted_bug_is_found_by_ordinary_seeds_and_shrunk_to_a_short_timeline(bug: str) -> None:
    for seed in range(SEEDS_MAX):
        schedule = SCENARIOS[BUGS[bug].scenario](seed)
        found = run(schedule, bug=bug)
        if not found.is_ok:
            report = explain(schedule, found.violations[0].promise, bug=bug)
            assert len(report.lines) <= LINES_MAX
            assert len(report.schedule.operations) <= len(schedule.operations)
            return
    pytest.fail(f"{bug} was not found in {SEEDS_MAX} seeds")
