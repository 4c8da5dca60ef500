"""SIGKILL under load, again and again: every node starts again without help and nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from kvchaos.checkers.lost_writes import check_lost_writes
from kvchaos.kill_rounds import run_kill_rounds
from kvchaos.processes import ProcessPlane
from kvchaos.workloads import UniqueWrites
from kvclient import AsyncClient

ROUNDS = {"quick": 3, "long": 20}[os.environ.get("KV_TIER", "quick")]
LARGE_ROUNDS = {"quick": 2, "long": 10}[os.environ.get("KV_TIER", "quick")]
SEED = 2007


@pytest.fixture(autouse=True)
def packages_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


@pytest.mark.timeout(60 + 40 * ROUNDS)
async def test_no_acknowledged_write_is_lost_when_random_nodes_are_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await run_kill_rounds(rounds=ROUNDS, seed=SEED, root=tmp_path / "cluster")
    with capsys.disabled():
        print(f"\n{report.sentence()}")
    assert report.is_conclusive, report.sentence()
    assert report.verdict.is_ok, report.verdict
    assert {len(victims) for victims in report.kills} == {1, 2, 3}, "some rounds kill one node, some two, some all at once"


@pytest.mark.timeout(60 + 40 * LARGE_ROUNDS)
async def test_no_large_value_is_lost_either_while_their_files_are_filled_moved_and_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await run_kill_rounds(rounds=LARGE_ROUNDS, seed=SEED, root=tmp_path / "cluster", value_bytes=200_000)
    with capsys.disabled():
        print(f"\nvalues of 200 kB: {report.sentence()}")
    assert report.is_conclusive, report.sentence()
    assert report.verdict.is_ok, report.verdict


async def test_the_same_run_accuses_a_cluster_that_did_lose_its_disks(tmp_path: Path) -> None:
    """The control: without it a checker that sees nothing would pass for a store that loses nothing."""
    async with ProcessPlane(tmp_path / "cluster") as plane, AsyncClient(plane.addresses) as client:
        load = UniqueWrites(client.namespace("default"), writers=4, own_keys=5, shared_keys=2, rng=random.Random(SEED))
        load.start()
        await load.acknowledge_more(50, timeout_s=30)
        await load.stop()
        assert check_lost_writes(load.writes, await load.read_all(timeout_s=30)).is_ok
        for node in plane.node_ids:
            await plane.wipe(node)
        await plane.restart(*plane.node_ids)
        verdict = check_lost_writes(load.writes, await load.read_all(timeout_s=30))
    assert len(verdict.lost) == verdict.acknowledged >= 50
