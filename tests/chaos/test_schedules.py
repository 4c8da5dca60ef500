"""Schedules are drawn from seeds, alike in every process, and are plain data that can be written down and read again."""

from __future__ import annotations

from collections import Counter

import pytest

from kvchaos.checkers.judge import PROMISES
from kvchaos.simulation.generate import generate, is_fair
from kvchaos.simulation.schedule import FAULTS, LOSES_COPIES, Schedule, check, from_json, to_json

SEEDS = range(300)


def test_a_seed_gives_one_schedule_and_its_text_gives_it_back() -> None:
    for seed in SEEDS:
        schedule = generate(seed)
        assert generate(seed) == schedule
        assert from_json(to_json(schedule, found="by accident")) == schedule


def test_every_schedule_can_be_run_and_asks_only_for_what_is_promised() -> None:
    for schedule in map(generate, SEEDS):
        check(schedule)
        assert is_fair(schedule)
        if not any(fault.kind in LOSES_COPIES for fault in schedule.faults):
            assert set(schedule.promises) == PROMISES.keys()


def test_each_kind_of_fault_exists_in_some_schedules_and_is_absent_from_others() -> None:
    having = Counter(kind for schedule in map(generate, SEEDS) for kind in {fault.kind for fault in schedule.faults})
    assert having.keys() == FAULTS.keys()
    assert all(20 < count < 150 for count in having.values()), having


def test_clusters_are_of_one_to_seven_nodes_and_mostly_of_three() -> None:
    sizes = Counter(generate(seed).nodes for seed in SEEDS)
    assert set(sizes) == set(range(1, 8))
    assert sizes.most_common(1)[0][0] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"seed": 1, "r": 4}', "r=4"),
        ('{"seed": 1, "faults": [[1, "meteor", {}, 0]]}', "no such fault: meteor"),
        ('{"seed": 1, "operations": [[1, 2, "get"]]}', "not a schedule"),
        ('{"seed": 1, "operations": [[1, 2, "get", "k", "w1"], [1, 2, "get", "k", "w1"]]}', "two operations of one name"),
    ],
)
def test_a_text_that_is_no_schedule_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_json(text)


def test_a_handwritten_schedule_needs_only_what_is_not_usual() -> None:
    assert from_json('{"seed": 7}') == Schedule(seed=7)
