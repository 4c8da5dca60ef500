"""A node is killed at each named step of its background work, and what every job promises holds (kvstore/crash_points.py).

A job in the background that waits for something durable, or sends records, has steps between which a process may end. Each such
module defines its points, each point is passed somewhere and belongs to a scenario, and each scenario really gets to each of its
points.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvstore
from kvchaos.simulation.crash_points import points_of
from kvchaos.simulation.crash_scenarios import JOBS, PASSINGS_MAX
from kvchaos.simulation.run import Outcome, run
from kvchaos.simulation.scenarios import SCENARIOS
from kvstore.crash_points import POINTS

ROOT = Path(kvstore.__file__).parent
IN_THE_BACKGROUND = [*sorted((ROOT / "repair").glob("*.py")), *sorted((ROOT / "cluster").glob("*.py"))]
STEPS = frozenset(
    {"commit", "submit", "discard", "erase", "merge", "repair_lost", "store", "take_in", "end_loss", "pages", "note", "move"}
)
"""What a job calls that is durable, or on its way to another node, when it comes back."""
WITHOUT = {
    "forgetting": "what it sends is sent again with the hint that it is for, whose steps are handoff's",
    "horizons": "it asks, and what it is told is in memory",
    "absence": "what it begins are steps of set_aside and rebuilding; its notes of being alive stand alone",
    "owing": "what it tells is in memory on both sides",
    "anti_entropy": "its steps are those of exchange_round and unnoted; that a gap is closed may be forgotten, and is found again",
}
"""Modules of which that holds, and why they need no points of their own."""

TRIES = 12


def _crashes(outcome: Outcome) -> list[str]:
    return [event.value["point"] for event in outcome.history.events if event.f == "crash" and "point" in (event.value or {})]


def _seeds(name: str, at: int) -> Iterator[int]:
    """Those whose crash is at the point number `at` of the scenario, by the passing."""
    count = len(points_of(*JOBS[name]))
    return (at + count * times for times in range(TRIES))


CASES = [(name, at) for name in JOBS for at in range(len(points_of(*JOBS[name])))]


@pytest.mark.parametrize(("name", "at"), CASES, ids=[f"{name}:{points_of(*JOBS[name])[at]}" for name, at in CASES])
def test_a_node_that_is_killed_at_a_step_of_a_job_loses_nothing(name: str, at: int) -> None:
    """The first seed that gets to the point; every one before it holds as well."""
    point = points_of(*JOBS[name])[at]
    for seed in _seeds(name, at):
        outcome = run(SCENARIOS[name](seed))
        assert outcome.is_ok, (f"kv sim run --scenario {name} --seed {seed}", [one.sentence() for one in outcome.violations])
        if point in _crashes(outcome):
            return
    pytest.fail(f"{name} never got to {point}")


@pytest.mark.long
@pytest.mark.parametrize("name", JOBS)
def test_many_more_crashes_at_steps_of_a_job_lose_nothing(name: str) -> None:
    for seed in range(len(points_of(*JOBS[name])) * PASSINGS_MAX * 4):
        outcome = run(SCENARIOS[name](seed))
        assert outcome.is_ok, (f"kv sim run --scenario {name} --seed {seed}", [one.sentence() for one in outcome.violations])


def test_every_point_is_of_a_job_with_a_scenario() -> None:
    assert {point.job for point in POINTS.values()} == {job for jobs in JOBS.values() for job in jobs if "." not in job}


def _calls(tree: ast.AST) -> set[str]:
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return {node.func.attr for node in nodes if isinstance(node.func, ast.Attribute)}


def _made(tree: ast.Module) -> set[str]:
    """Names of the points that a module makes."""
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "crash_point"
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _passed(tree: ast.Module) -> set[str]:
    return {
        node.value.func.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Await)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr == "passed"
        and isinstance(node.value.func.value, ast.Name)
    }


@pytest.mark.parametrize("file", IN_THE_BACKGROUND, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_job_in_the_background_has_crash_points(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    has_steps = bool(_calls(tree) & STEPS) and any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree))
    if file.stem in WITHOUT:
        assert has_steps and not _made(tree), "it need not be excused any more"
    elif has_steps:
        assert _made(tree), f"{file.name} makes things durable in steps, and has no point at which it may be killed"


def test_every_point_is_passed_where_it_is_made_or_by_who_imports_it() -> None:
    made: set[str] = set()
    passed: set[str] = set()
    for file in ROOT.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        own = _made(tree)
        imported = {
            alias.name: node.module
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        module = ".".join(("kvstore", *file.relative_to(ROOT).with_suffix("").parts))
        made |= {f"{module}.{name}" for name in own}
        passed |= {f"{module if name in own else imported.get(name, '?')}.{name}" for name in _passed(tree)}
    assert made and made == passed
