"""Ordinary seeds keep every promise, and something happens in them: an empty run would keep them too."""

from __future__ import annotations

from collections import Counter

import pytest

from kvchaos.simulation.fleet import run_seed
from kvchaos.simulation.generate import generate
from kvchaos.simulation.run import run
from kvchaos.simulation.scenarios import SCENARIOS
from kvchaos.simulation.schedule import FAULTS

SEEDS_PER_TEST = 20


@pytest.mark.parametrize("first", range(0, 60, SEEDS_PER_TEST))
def test_seeds_keep_every_promise(first: int) -> None:
    acknowledged = 0
    for seed in range(first, first + SEEDS_PER_TEST):
        result = run_seed("swarm", None, seed)
        assert not result.violations, f"kv sim run --seed {seed}: {[found.sentence() for found in result.violations]}"
        acknowledged += result.acknowledged
    assert acknowledged > 30 * SEEDS_PER_TEST


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - {"swarm"}))
def test_scenarios_keep_every_promise(name: str) -> None:
    acknowledged = 0
    for seed in range(2):
        result = run_seed(name, None, seed)
        assert not result.violations, f"kv sim run --scenario {name} --seed {seed}: {[one.sentence() for one in result.violations]}"
        acknowledged += result.acknowledged
    assert acknowledged


@pytest.mark.parametrize("seed", [920_048, 920_142])
def test_bug_the_earlier_of_two_writes_at_once_was_said_to_have_ended(seed: int) -> None:
    """Where the last writer wins it did end. What must not is judged by name ("latest")."""
    result = run_seed("last-writer", None, seed)
    assert not result.violations
    assert "latest" in SCENARIOS["last-writer"](seed).promises and "ended" not in SCENARIOS["last-writer"](seed).promises


@pytest.mark.parametrize("seed", [920_019, 920_053])
def test_bug_what_is_deleted_in_memory_was_judged_without_the_notes_that_keep_it_so(seed: int) -> None:
    """A schedule whose nodes may note nothing of what others miss (`hints_max` 0): that deletes last is promised up to the cap."""
    assert SCENARIOS["forgetful"](seed).hints_max == SCENARIOS["storages"](seed).hints_max == 200_000
    assert not run_seed("forgetful", None, seed).violations


def test_bug_replicas_were_to_agree_by_themselves_on_what_nobody_had_noted() -> None:
    """1. No exchanges, and room for one hint. 2. Two nodes miss a write. 3. One of them is handed it; nothing finds the other, as
    is to be expected, and the schedule was said to have broken a promise (`crash-in-handoff`, seed 970036)."""
    for name, draw in SCENARIOS.items():
        for seed in range(970_000, 970_060):
            schedule = draw(seed)
            if schedule.by_itself and not schedule.repair_interval_s:
                assert schedule.hints_max >= len(schedule.operations) * schedule.nodes, (name, seed)
    assert not run_seed("crash-in-handoff", None, 970_036).violations


def test_bug_what_only_a_node_had_that_was_away_for_too_long_was_said_to_be_lost() -> None:
    """1. With w=1 one node has a write. 2. Its power fails, and it is not started again before the grace is over. 3. It sets aside
    what it has, as it must, and tells its operator (`reaping`, seed 980188)."""
    assert not run_seed("reaping", None, 980_188).violations


def test_bug_a_read_was_not_to_be_degraded_though_nobody_knew_who_had_missed_a_write() -> None:
    """1. A disk is slower than a write's deadline: its outcome is unknown, and the other replicas are owed it. 2. A read of these
    says `degraded`, as it must, and no fault had been injected (`flood`, seed 980194)."""
    assert not run_seed("flood", None, 980_194).violations


def test_every_kind_of_fault_takes() -> None:
    """A fault that is only ever skipped would test nothing."""
    took: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for seed in range(1000, 1018):
        history = run(generate(seed)).history
        took.update(event.f for event in history.events if event.process == "nemesis" and event.f in FAULTS)
        outcomes.update(f"{event.f} {event.type}" for event in history.events if isinstance(event.process, int))
    assert took.keys() == FAULTS.keys()
    for outcome in ("read ok", "read fail", "write ok", "write info", "delete ok", "add ok", "increment ok"):
        assert outcomes[outcome] > 20, (outcome, outcomes)


@pytest.mark.long
@pytest.mark.parametrize("first", range(1_000, 6_000, 500))
def test_many_more_seeds_keep_every_promise(first: int) -> None:
    for seed in range(first, first + 500):
        result = run_seed("swarm", None, seed)
        assert not result.violations, f"kv sim run --seed {seed}: {[found.sentence() for found in result.violations]}"
