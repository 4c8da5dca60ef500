"""SIGKILL under load, again and again: every node starts again without help and nothing acknowledged is lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kvchaos.kill_rounds import run_kill_rounds

ROUNDS = {"quick": 3, "long": 20}[os.environ.get("KV_TIER", "quick")]
SEED = 20_071_014


@pytest.mark.timeout(60 + 40 * ROUNDS)
async def test_no_acknowledged_write_is_lost_when_random_nodes_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    report = await run_kill_rounds(rounds=ROUNDS, seed=SEED, root=tmp_path / "cluster")
    with capsys.disabled():
        print(f"\n{report.sentence()}")
    assert report.is_conclusive, report.sentence()
    assert report.verdict.is_ok, report.verdict
    assert any(len(victims) == 3 for victims in report.kills), "no round killed all nodes at once"
