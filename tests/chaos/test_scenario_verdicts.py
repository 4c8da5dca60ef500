"""Verdicts of scenarios can be negative: each promise of a cell is broken by the operations that break it, and by no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvchaos.history import NEMESIS, Call, Event, Recorder, calls_of
from kvchaos.scenarios.catalogue import SCENARIOS
from kvchaos.scenarios.cells import DEGRADED, HANG, MAY, REFUSE, SERVE, Cell
from kvchaos.scenarios.columns import COLUMNS
from kvchaos.scenarios.figures import Figures, doubted_reads, figures_of, one_way, percentile, stale_share
from kvchaos.scenarios.results import summary, write_results
from kvchaos.scenarios.scenario import FAR, NEAR, Scenario, nothing
from kvchaos.scenarios.stage import ColumnResult, Result, merged
from kvchaos.scenarios.verdict import Verdict, Word, judge_sides

SITES = {0: NEAR, 1: FAR}


def figures(*, ok: int = 0, refused: int = 0, unknown: int = 0, degraded: int = 0) -> Figures:
    return Figures(ok=ok, refused=refused, unknown=unknown, degraded=degraded)


def judged(cell: Cell, reads: Figures, writes: Figures) -> Verdict:
    scenario = Scenario("X", "a test", nothing, nothing, {"pa-ec": {NEAR: cell}}, during_min=20)
    verdict = Verdict("pa-ec")
    judge_sides(scenario, "pa-ec", {NEAR: {"reads": reads, "writes": writes}}, verdict)
    return verdict


GOOD = figures(ok=100)


@pytest.mark.parametrize(
    ("cell", "writes", "word"),
    [
        (SERVE, figures(ok=100), Word.OK),
        (SERVE, figures(ok=97, refused=3), Word.BROKEN),
        (SERVE, figures(ok=97, unknown=3), Word.BROKEN),
        (SERVE, figures(ok=100, degraded=1), Word.BROKEN),
        (SERVE, figures(ok=19), Word.INCONCLUSIVE),
        (DEGRADED, figures(ok=100, degraded=100), Word.OK),
        (DEGRADED, figures(ok=90, refused=10), Word.BROKEN),
        (MAY, figures(refused=30), Word.OK),
        (HANG, figures(unknown=20, refused=5), Word.OK),
        (HANG, figures(unknown=24, ok=1), Word.BROKEN),
        (HANG, figures(refused=25), Word.INCONCLUSIVE),
    ],
)
def test_what_is_promised_to_be_served_is_served(cell: Cell, writes: Figures, word: Word) -> None:
    reads = figures(refused=100) if cell is HANG else GOOD
    assert judged(cell, reads, writes).word is word


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (figures(refused=30), Word.OK),
        (figures(refused=30, ok=1), Word.BROKEN),
        (figures(refused=18, unknown=12), Word.OK),
        (figures(refused=10, unknown=20), Word.BROKEN),
        (figures(refused=3), Word.INCONCLUSIVE),
    ],
)
def test_what_is_promised_to_be_refused_is_refused_for_certain(found: Figures, word: Word) -> None:
    assert judged(REFUSE, found, figures(refused=30)).word is word


@pytest.mark.parametrize(("degraded", "word"), [(20, Word.OK), (21, Word.BROKEN)])
def test_nodes_that_lost_each_other_may_say_so_for_a_moment(degraded: int, word: Word) -> None:
    scenario, verdict = Scenario("X", "a test", nothing, nothing), Verdict("pa-ec")
    found = {NEAR: {"reads": figures(ok=100, degraded=degraded), "writes": GOOD}}
    judge_sides(scenario, "pa-ec", found, verdict, ["n2 lost n3: is unreachable"])
    assert verdict.word is word


@pytest.mark.parametrize(("answered", "doubted"), [(["n3", "n4"], 1), (["n3", "n2"], 0)])
def test_a_read_that_is_answered_without_the_node_that_noted_hints_is_degraded_by_right(answered: list[str], doubted: int) -> None:
    facts = {"needed": 2, "acknowledged": answered, "degraded": True}
    times = iter(range(100))
    recorder = Recorder(lambda: next(times))
    recorder.note(0, "invoke", "write", key="k", write="w1")
    recorder.note(0, "ok", "write", key="k", node="n2", version="01")
    recorder.note(1, "invoke", "read", key="k")
    recorder.note(1, "ok", "read", key="k", node="n3", **facts)
    calls = calls_of(recorder.history.events)
    assert len(doubted_reads(calls, 0)) == doubted
    assert doubted_reads(calls, 1) == frozenset(), "written before anybody was away"
    found = figures_of(calls, SITES, (NEAR, FAR), doubted_reads(calls, 0))[FAR]["reads"]
    assert (found.degraded, found.doubted) == (1, doubted)


@pytest.mark.parametrize(
    ("coordinator", "answered", "doubted"),
    [("n2", ["n2", "n3"], 1), ("n2", ["n2", "n1"], 0), ("n1", ["n1", "n3"], 0), ("n3", ["n3", "n2"], 0)],
)
def test_who_does_not_hear_the_coordinator_is_in_doubt_by_right(coordinator: str, answered: list[str], doubted: int) -> None:
    """n1 does not hear n2, which hears it: it dials again and again, and cannot say that it has taken nothing meanwhile."""
    times = iter(range(100))
    looked, recorder = Recorder(lambda: next(times)), Recorder(lambda: next(times))
    looked.note(NEMESIS, "info", "verify", value={"links": {"n1->n2": "responses lost", "n1->n3": "refused", "n3->n1": "refused"}})
    strangers = one_way(looked.history.events)
    assert strangers == {("n1", "n2")}
    recorder.note(1, "invoke", "read", key="k")
    recorder.note(1, "ok", "read", key="k", node=coordinator, needed=2, acknowledged=answered, degraded=True)
    assert len(doubted_reads(calls_of(recorder.history.events), 0, strangers=strangers)) == doubted


@pytest.mark.parametrize(("written", "doubted"), [("el/1", 1), ("el/2", 0)])
def test_bug_a_read_degraded_by_a_hint_of_another_key_of_its_partition_was_held_against_the_node(
    written: str, doubted: int
) -> None:
    """1. A node is away. 2. A write of one key, in whatever namespace, is coordinated by another node than usual, which notes a
    hint. 3. A read of another key of the same partition says `degraded`, as it must: hints are told by partition."""
    times = iter(range(100))
    reading, writing = Recorder(lambda: next(times)), Recorder(lambda: next(times))
    writing.note(0, "invoke", "write", key=written, write="w1")
    writing.note(0, "ok", "write", key=written, node="n2", version="01")
    reading.note(1, "invoke", "read", key="ec/1")
    reading.note(1, "ok", "read", key="ec/1", node="n3", needed=2, acknowledged=["n3", "n4"], degraded=True)
    reads, writes = calls_of(reading.history.events), calls_of(writing.history.events)
    assert len(doubted_reads(reads, 0, writes, lambda key: key.rpartition("/")[2])) == doubted
    assert doubted_reads(reads, 0) == frozenset()


def test_a_broken_promise_outweighs_what_is_lacking() -> None:
    assert judged(SERVE, figures(ok=3), figures(refused=30)).word is Word.BROKEN


Row = tuple[int, str, str, str, dict[str, Any]]


def history_of(*rows: Row) -> list[Call]:
    """(process, type, f, write or "", facts), a millisecond apart."""
    times = iter(range(0, 10**12, 10**6))
    recorder = Recorder(lambda: next(times))
    for process, type_, f, write, facts in rows:
        recorder.note(process, type_, f, key="k", **({"write": write} if write and type_ == "invoke" else {}), **facts)
    return calls_of(recorder.history.events)


ACTOR = "aa" * 12
COVERS_1 = "010001" + ACTOR + f"{1:016x}"
"""A context that has seen the actor's first dot."""


def test_a_read_is_stale_that_has_not_heard_of_a_write_acknowledged_before() -> None:
    write: list[Row] = [(0, "invoke", "write", "w1", {}), (0, "ok", "write", "", {"version": ACTOR + f"{1:016x}"})]
    old: list[Row] = [(1, "invoke", "read", "", {}), (1, "ok", "read", "", {"context": "", "siblings": []})]
    new: list[Row] = [(1, "invoke", "read", "", {}), (1, "ok", "read", "", {"context": COVERS_1, "siblings": ["w1"]})]
    for reads, share in (([old], 1.0), ([new], 0.0), ([old, new], 0.5)):
        calls = history_of(*write, *(row for read in reads for row in read))
        assert stale_share(calls, calls) == share
    assert stale_share(history_of(*old), history_of(*old)) is None, "there was nothing to miss"


def test_figures_are_by_side_kind_and_outcome_and_know_how_long_it_took() -> None:
    rows: list[Row] = [
        (0, "invoke", "read", "", {}),
        (0, "ok", "read", "", {"degraded": True}),
        (1, "invoke", "write", "w1", {}),
        (1, "fail", "write", "", {"error": "QuorumUnreachable: nobody"}),
        (3, "invoke", "write", "w2", {}),
        (3, "info", "write", "", {"error": "DeadlineExceeded: late"}),
    ]
    calls = history_of(*rows)
    found = figures_of(calls, SITES, (NEAR, FAR))
    assert (found[NEAR]["reads"].ok, found[NEAR]["reads"].degraded, found[NEAR]["reads"].ok_ms) == (1, 1, [1.0])
    assert (found[FAR]["writes"].refused, found[FAR]["writes"].unknown) == (1, 1)
    assert found[FAR]["writes"].errors == {"QuorumUnreachable": 1, "DeadlineExceeded": 1}
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0 and percentile([], 0.5) is None


def test_histories_that_share_a_clock_become_one_in_the_order_of_time() -> None:
    def event(index: int, time_ns: int, f: str) -> Event:
        return Event(index, time_ns, 0, "info", f)

    whole = merged({"seed": 1}, [event(0, 5, "b"), event(1, 9, "d")], [event(0, 1, "a"), event(1, 7, "c")])
    assert [(each.index, each.f) for each in whole.events] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]


def test_results_and_histories_are_written(tmp_path: Path) -> None:
    told = ColumnResult("pa-ec", {NEAR: {"reads": GOOD, "writes": GOOD}}, 0.25, Verdict("pa-ec"), merged({"seed": 7}))
    result = Result("F1", 7, [told], converged_s=0.5)
    write_results(tmp_path / "out", [result])
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["F1-pa-ec.jsonl", "results.json"]
    row = summary(result)
    assert row["columns"]["pa-ec"]["verdict"] == "ok" and row["replay"] == "kv chaos run F1 --seed 7"


def test_every_scenario_promises_something_of_every_column_and_names_columns_that_there_are() -> None:
    names = {column.name for column in COLUMNS}
    for scenario in SCENARIOS.values():
        assert set(scenario.promised) <= names and set(scenario.controls) <= names
        assert all(set(sides) <= {NEAR, FAR} for sides in scenario.promised.values())
