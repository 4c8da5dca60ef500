"""A crash between a write's answer and the note of who missed it: the replicas come to agree all the same, without an interval."""

from __future__ import annotations

from contextlib import suppress

import pytest

from kvchaos.simulation.bugs import planted
from kvchaos.simulation.crash_points import CrashPoints
from kvchaos.simulation.patch import Patch
from kvproto.errors import KvError
from kvstore.config import NodeLimits
from kvstore.repair.unnoted import OPEN_KEY
from kvstore.simulation.world import World
from tests.repair.simulated import STRICT, agree, within

NO_INTERVAL = NodeLimits(repair_interval_s=0.0)


async def _miss(world: World, points: CrashPoints) -> str:
    """n3 goes away in the middle of a write that the two others acknowledge; who coordinated it is killed before it has noted that.
    Returns who that was."""
    killed: list[str] = []

    def fire(name: str) -> None:
        killed.append(name)
        world.crash(name)

    await world.start()
    for node in ("n1", "n2"):
        world.disk(node).slow_ms = 200.0
    world.disk("n3").slow_ms = 3000.0
    points.arm("missed-write.answered", passing=1, fire=fire)
    client = world.client("c1", timeout_s=2.0)

    async def put(number: int) -> None:
        with suppress(KvError):  # by who is gone
            await client.put(f"k{number}", b"v", level="quorum")

    tasks = [world.spawn("c1", put(number)) for number in range(8)]
    await world.sleep(0.1)
    world.crash("n3")
    for task in tasks:
        await task
    await within(world, 10.0, lambda: bool(killed))
    for node in world.machines:
        world.disk(node).slow_ms = 0.0
    return killed[0]


def _run(seed: int, *, stops: bool = False) -> None:
    patch = Patch()
    world = World(seed, cluster=STRICT, limits=NO_INTERVAL)
    points = CrashPoints(world, patch)

    async def scenario(running: World) -> None:
        killed = await _miss(running, points)
        await running.restart(killed, linked=False)
        if stops:  # cleanly, and before it could compare with who is away
            await running.sleep(3.0)
            await running.stop(killed)
            await running.restart(killed, linked=False)
        await running.restart("n3")
        await within(running, 60.0, lambda: agree(running) and not any(running.local(name).hints.count for name in running.running))
        await within(running, 30.0, lambda: not any(running.local(name).engine.get(OPEN_KEY) for name in running.running))

    try:
        world.run(scenario)
    finally:
        patch.undo()


def test_bug_hints_noted_after_the_reply_were_lost_in_a_crash() -> None:
    """1. n1 and n2 have the write, n3 has not. 2. n1 answers, and is killed before it notes that. 3. Nobody reads, nothing compares
    at intervals: n1 compares with both when it is back, because its life did not end cleanly."""
    _run(1)


def test_a_clean_stop_before_everybody_was_compared_forgets_nothing() -> None:
    _run(2, stops=True)


def test_without_it_the_replicas_stay_apart() -> None:
    """The tests above can fail."""
    with planted("crash-takes-hints"), pytest.raises(AssertionError, match="not within 60"):
        _run(1)
