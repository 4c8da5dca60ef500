"""Registers are linearizable on any schedule, and each rule that makes them so is found missing when it is left out."""

from __future__ import annotations

import os
from contextlib import nullcontext

import pytest

from tests.laws.register_world import RULES, broken, few_remembered

SEEDS = 1000 if os.environ.get("KV_TIER") == "long" else 40
SEARCH_MAX = 3000
"""Seeds in which a rule that was left out must have shown."""
OF_MEMORY = {"first-attempts-trusted", "memory-forgets-silently", "issued-before-the-read"}
"""Rules about what is remembered, which only a schedule that forgets can show."""
FIRST = {
    "answer-before-commit": 440,
    "ballot-reused": 140,
    "no-write-back": 60,
    "no-confirmation": 60,
    "readmitted-unread": 255,
    "readmitted-by-one": 95,
    "timeline-of-accepted": 130,
    "timeline-confirmed-by-nobody": 130,
    "failed-condition-uncommitted": 35,
    "repair-copies-accepted": 30,
    "reap-at-majority": 30,
}
"""Where to begin with what shows rarely."""


def test_every_history_is_linearizable() -> None:
    found, answered, total = broken(range(SEEDS))
    assert not found, f"seeds {found}"
    assert answered > 0.3 * total, "nothing was tried"


def test_bug_a_first_attempt_that_came_late_was_executed_after_more_writes_than_are_remembered() -> None:
    """Its client had asked another node meanwhile, which executed it, and then the register forgot its id."""
    with few_remembered():
        found, answered, total = broken(range(SEEDS // 2), "hanging")
    assert not found, f"seeds {found}"
    assert answered > 0.3 * total, "nothing was tried"


@pytest.mark.parametrize("plant", RULES)
def test_a_rule_that_is_left_out_is_found(plant: str) -> None:
    first = FIRST.get(plant, 0)
    with few_remembered() if plant in OF_MEMORY else nullcontext():
        found, _, _ = broken(range(first, first + SEARCH_MAX), plant, enough=1)
    assert found
