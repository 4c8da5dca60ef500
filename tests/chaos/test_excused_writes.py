"""Acknowledged writes that no checker asks for are counted and told: a run must not hide what its faults were allowed to take."""

from __future__ import annotations

from kvchaos.history import Event, calls_of
from kvchaos.simulation.command import Tally
from kvchaos.simulation.fleet import SeedResult, excused_of


def write(index: int, name: str, acknowledged: list[str], *, degraded: bool) -> list[Event]:
    facts = {"version": f"{index:040x}", "acknowledged": acknowledged, "needed": 2, **({"degraded": True} if degraded else {})}
    return [
        Event(index, index, index, "invoke", "write", "k", name, None, {"write": name}),
        Event(index + 1, index + 1, index, "ok", "write", "k", name, "n1", facts),
    ]


def test_writes_whose_every_copy_was_wiped_are_counted() -> None:
    events = [
        *write(0, "w1", ["n1"], degraded=True),
        *write(2, "w2", ["n2"], degraded=True),
        *write(4, "w3", ["n1", "n2"], degraded=False),
    ]
    calls = calls_of(events)
    assert excused_of(calls, frozenset({"n1"})) == 1
    assert excused_of(calls, frozenset({"n1", "n2"})) == 2
    assert excused_of(calls, frozenset()) == 0


def test_a_run_tells_how_many_there_were() -> None:
    tally = Tally()
    tally.add(SeedResult(1, (), "", 1.0, 100, 90))
    assert "lost" not in tally.sentence()
    tally.add(SeedResult(2, (), "", 1.0, 100, 90, 3))
    assert "(3 writes may be lost: wiped with every copy)" in tally.sentence()
