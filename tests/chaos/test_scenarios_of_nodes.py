"""Scenarios F0 to F20 in which nodes fail or nothing does, on real processes: every promise of every setting holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.scenario_runs import hold_every_promise

pytestmark = pytest.mark.timeout(180, func_only=True)


@pytest.mark.parametrize("name", ["F0", "F8", "F10", "F12", "F13", "F19", "F20"])
async def test_promises_hold_while_nodes_fail(name: str, toxiproxy_server: Path, tmp_path: Path) -> None:
    await hold_every_promise(name, tmp_path / "cluster")
