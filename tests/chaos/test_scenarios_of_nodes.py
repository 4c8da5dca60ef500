"""Scenarios F0 to F20 in which nodes fail or nothing does, on real processes: every promise of every setting holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.scenario_runs import hold_every_promise, run_scenario

pytestmark = pytest.mark.timeout(180, func_only=True)


def long(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.long)


@pytest.mark.parametrize(
    "name", [long("F0"), "F8", long("F9"), "F10", long("F11"), "F12", long("F13"), "F15", long("F18"), "F19", "F20"]
)
async def test_promises_hold_while_nodes_fail(name: str, toxiproxy_server: Path, tmp_path: Path) -> None:
    await hold_every_promise(name, tmp_path / "cluster")


async def test_nodes_that_acknowledge_before_the_quorum_are_caught(toxiproxy_server: Path, tmp_path: Path) -> None:
    result = await run_scenario("F10", tmp_path / "cluster", bug="ack-before-quorum")
    words = {told.column: told.verdict.word for told in result.columns}
    assert not result.failure, result.failure
    assert words == {"pa-el": "ok", "pa-ec": "broken", "strict": "broken", "pc-ec": "ok", "pc-el": "ok"}, "of those it is a bug"
