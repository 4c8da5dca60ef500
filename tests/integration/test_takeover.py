"""SIGKILL to the node that proposes for partitions, under load: others propose for them, and no partition waits for long."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from kvchaos.processes import ProcessPlane
from kvclient import AsyncClient
from kvproto.errors import KvError
from kvstore.core.membership.suspicion import Timing

WRITERS = 48
"""Keys, each with a writer that never stops: of most of a cluster's partitions that a third of the nodes proposes for."""
PERIODS_MAX = 10
"""Of the failure detector. A killed process says so by its closed connections: a bound that only a broken takeover misses."""


class Writers:
    """One writer a key; `acknowledged[key]` is when its writes were, and `leader[key]` who proposed the last of them."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.acknowledged: dict[str, list[float]] = {f"key-{at}": [] for at in range(WRITERS)}
        self.leader: dict[str, str] = {}
        self.refused = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins."""
        self._tasks = [asyncio.create_task(self._write(key), name=key) for key in self.acknowledged]

    async def _write(self, key: str) -> None:
        number = 0
        while True:
            number += 1
            try:
                done = await self._client.put(key, b"%d" % number, timeout_s=2.0)
            except KvError:
                self.refused += 1
                await asyncio.sleep(0.005)
                continue
            self.acknowledged[key].append(time.monotonic())
            self.leader[key] = done.receipt.coordinator

    async def until_all_have(self, count: int) -> None:
        """Every key was written so often."""
        while any(len(times) < count for times in self.acknowledged.values()):
            assert all(not task.done() for task in self._tasks)
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Ends them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.mark.timeout(120)
async def test_partitions_whose_proposer_was_killed_are_written_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    async with ProcessPlane(tmp_path / "cluster", preset="pc-ec") as plane, AsyncClient(plane.addresses) as client:
        writers = Writers(client)
        writers.start()
        try:
            await asyncio.wait_for(writers.until_all_have(5), 60)
            leaders = dict(writers.leader)
            victim = max(plane.node_ids, key=list(leaders.values()).count)
            orphans = [key for key, leader in leaders.items() if leader == victim]
            killed_s = time.monotonic()
            await plane.kill(victim)
            await asyncio.wait_for(until_each_is_written(writers, orphans), 60)
        finally:
            await writers.stop()
    gaps_s = sorted(longest_s(writers.acknowledged[key], killed_s) for key in orphans)
    period_s = Timing().probe_interval_ms / 1000
    with capsys.disabled():
        print(
            f"\n{victim} proposed for {len(orphans)} of {WRITERS} keys and was killed: not written for {gaps_s[0]:.3f} s at least, "
            f"half of them for {gaps_s[len(gaps_s) // 2]:.3f} s, none for more than {gaps_s[-1]:.3f} s; {writers.refused} refused"
        )
    assert orphans, "nobody proposed for anything"
    assert {writers.leader[key] for key in orphans} <= set(plane.node_ids) - {victim}
    assert gaps_s[-1] < PERIODS_MAX * period_s


async def until_each_is_written(writers: Writers, keys: list[str]) -> None:
    """Each key is acknowledged twice from now on: what a dead node had answered may still be read once."""
    before = {key: len(writers.acknowledged[key]) for key in keys}
    while any(len(writers.acknowledged[key]) < before[key] + 2 for key in keys):
        await asyncio.sleep(0.01)


def longest_s(acknowledged_s: list[float], killed_s: float) -> float:
    """The longest time without an acknowledgement that ended after the kill."""
    pairs = pairwise(acknowledged_s)
    return max(later - max(earlier, killed_s) for earlier, later in pairs if later > killed_s)
