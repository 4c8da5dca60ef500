"""Nodes die, hang or lose their disks under load: nothing acknowledged is lost, and by themselves all replicas agree again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kvchaos.recovery import FAULTS, recover

SEED = 2007
CASES = {"quick": [("kill", 2), ("wipe", 2), ("pause", 1)], "long": [(fault, victims) for fault in FAULTS for victims in (1, 2)]}


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("fault", "victims"), CASES[os.environ.get("KV_TIER", "quick")])
async def test_replicas_agree_again_and_nothing_acknowledged_is_lost(
    fault: str, victims: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    report = await recover(fault, victims, seed=SEED, root=tmp_path / "cluster")
    with capsys.disabled():
        print(f"\n{report.sentence()}")
    assert report.is_conclusive, report.sentence()
    assert report.is_ok, (report.sentence(), report.verdict.violations())
