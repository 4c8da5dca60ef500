"""Shrinking keeps what matters, drops what does not, asks for nothing unfair, and ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvchaos.simulation.generate import generate, is_fair
from kvchaos.simulation.schedule import Fault, Schedule
from kvchaos.simulation.shrink import Shrinker


def needs(*names: str, kind: str | None = None, nodes: int = 1) -> object:
    def breaks(schedule: Schedule) -> bool:
        there = {operation.name for operation in schedule.operations}
        kinds = {fault.kind for fault in schedule.faults}
        return set(names) <= there and (kind is None or kind in kinds) and schedule.nodes >= nodes

    return breaks


def with_faults(*kinds: str) -> Schedule:
    schedule = next(one for one in map(generate, range(1000)) if {fault.kind for fault in one.faults} >= set(kinds))
    assert len(schedule.operations) > 20
    return schedule


def test_only_what_matters_is_left() -> None:
    schedule = with_faults("crash", "cut", "pause")
    shrinker = Shrinker(needs("w3", "w17", kind="crash"))  # type: ignore[arg-type]
    small = shrinker.shrink(schedule)
    assert [operation.name for operation in small.operations] == ["w3", "w17"]
    assert [fault.kind for fault in small.faults] == ["crash"]
    assert (small.nodes, small.clients, small.loss, small.delay_ms) == (1, 1, 0.0, 0.2)
    assert len(small.faults[0].args["nodes"]) == 1
    assert shrinker.runs <= 400


def test_as_many_nodes_are_left_as_it_takes_and_faults_of_the_others_go() -> None:
    schedule = replace(with_faults("partition"), nodes=7, n=3)
    small = Shrinker(needs(nodes=3)).shrink(schedule)  # type: ignore[arg-type]
    assert (small.nodes, small.operations, small.faults) == (3, (), ())


def test_nothing_is_lost_where_everything_matters() -> None:
    schedule = generate(5)
    assert Shrinker(lambda candidate: False).shrink(schedule) == schedule


def test_it_ends_after_so_many_runs() -> None:
    runs = 0

    def breaks(schedule: Schedule) -> bool:
        nonlocal runs
        runs += 1
        return runs % 7 == 0

    Shrinker(breaks, runs_max=40).shrink(with_faults("crash"))
    assert runs == 40


def test_what_would_be_unfair_is_not_tried() -> None:
    wiped = Schedule(
        seed=1,
        promises=("siblings",),
        faults=(Fault(10, "wipe", {"node": "n1"}, 10), Fault(20, "cut", {"source": "n1", "target": "n2"})),
    )
    tried: list[Schedule] = []

    def breaks(schedule: Schedule) -> bool:
        tried.append(schedule)
        return any(fault.kind == "wipe" for fault in schedule.faults)

    small = Shrinker(breaks).shrink(wiped)
    assert small.nodes == 2, "with one node a wipe may lose everything, and nobody promised otherwise"
    assert all(map(is_fair, tried))


@pytest.mark.parametrize(
    ("change", "fair"),
    [
        ({}, True),
        ({"w": 1}, False),
        ({"promises": ("siblings", "strict")}, True),
        ({"faults": (Fault(1, "wipe", {"node": "n1"}), Fault(2, "flip", {"node": "n2"}))}, False),
        ({"faults": (), "w": 1, "promises": ("strict",)}, True),
    ],
)
def test_what_is_fair(change: dict[str, object], fair: bool) -> None:
    base = Schedule(seed=1, promises=("siblings",), faults=(Fault(1, "wipe", {"node": "n1"}),))
    assert is_fair(replace(base, **change)) is fair  # type: ignore[arg-type]
