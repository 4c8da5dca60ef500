"""Scenarios F0 to F20 in which links fail, on real nodes through real Toxiproxy: every promise of every setting holds.

F1 is half of test_pacelc.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.scenario_runs import hold_every_promise

pytestmark = pytest.mark.timeout(180, func_only=True)


def long(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.long)


@pytest.mark.parametrize("name", ["F2", "F3", "F4", "F5", "F6", long("F7"), long("F14")])
async def test_promises_hold_while_links_fail(name: str, toxiproxy_server: Path, tmp_path: Path) -> None:
    await hold_every_promise(name, tmp_path / "cluster")


@pytest.mark.long
async def test_what_was_deleted_stays_deleted_after_a_split_longer_than_the_grace(toxiproxy_server: Path, tmp_path: Path) -> None:
    await hold_every_promise("F16", tmp_path / "cluster")
