"""Registers are linearizable on any schedule, and each rule that makes them so is found missing when it is left out."""

from __future__ import annotations

import os

import pytest

from tests.laws.register_world import PLANTS, broken

SEEDS = 1000 if os.environ.get("KV_TIER") == "long" else 40
SEARCH_MAX = 3000
"""Seeds in which a rule that was left out must have shown."""
FIRST = {
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


@pytest.mark.parametrize("plant", sorted(PLANTS))
def test_a_rule_that_is_left_out_is_found(plant: str) -> None:
    first = FIRST.get(plant, 0)
    found, _, _ = broken(range(first, first + SEARCH_MAX), plant, enough=1)
    assert found
