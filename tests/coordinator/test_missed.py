"""Who has missed a write that is answered though fewer have it than it needs (safety rule 12)."""

from __future__ import annotations

import pytest

from kvchaos.simulation.bugs import planted
from kvchaos.simulation.crash_points import CrashPoints
from kvchaos.simulation.patch import Patch
from kvclient import AsyncClient, Receipt
from kvproto.errors import KvError
from kvstore.simulation.world import World
from tests.support.cluster import Cluster
from tests.support.engines import GatedEngine
from tests.support.waiting import until

POINT = "lesser-write.unnoted"


class Run:
    """n1 coordinates a write while n2 and n3 are killed under it, before it is on their disks; then n1 is killed, when `at_point`
    or once the client has the answer. All start again, and a client that n1 does not hear reads."""

    def __init__(self, *, at_point: bool) -> None:
        self._at_point = at_point
        self.receipt: Receipt | None = None
        self.error: KvError | None = None
        self.seen: set[tuple[bytes | None, bool]] = set()

    def __call__(self, seed: int) -> None:
        patch = Patch()
        world = World(seed)
        try:
            self._points = CrashPoints(world, patch)
            world.run(self._scenario)
        finally:
            patch.undo()

    async def _scenario(self, world: World) -> None:
        await world.start()
        here, there = world.client("here", timeout_s=20.0), world.client("there", timeout_s=5.0)
        await here.put("k", b"old", level="all")
        world.partition(["n1"], ["there"])
        world.partition(["n2", "n3"], ["here"])
        world.disk("n1").slow_ms = 100.0
        for node in ("n2", "n3"):
            world.disk(node).slow_ms = 5000.0
        killed: list[str] = []

        def kill(node: str) -> None:
            killed.append(node)
            world.crash(node)

        if self._at_point:
            self._points.arm(POINT, passing=2, fire=kill)
        task = world.spawn("here", self._put(here))
        await world.sleep(0.3)
        for node in ("n2", "n3"):
            world.crash(node)
        if self._at_point:
            while not killed:
                await world.sleep(0.001)
        else:
            await task
            kill("n1")
        for node in world.machines:
            world.disk(node).slow_ms = 0.0
        for node in ("n2", "n3", "n1"):
            await world.restart(node, linked=False)
        await world.wait_linked()
        while (b"new", False) not in self.seen:
            entry = await there.get("k")
            self.seen.add((entry.value, entry.receipt.degraded))

    async def _put(self, client: AsyncClient) -> None:
        try:
            self.receipt = (await client.put("k", b"new")).receipt
        except KvError as error:
            self.error = error


def test_bug_a_write_that_fewer_had_was_answered_before_it_was_durable_who_had_missed_it() -> None:
    """1. n1 alone has a write, and answers it. 2. It is killed before it has noted that n2 and n3 have missed it. 3. All are back,
    and n1 says that it owes nothing: what the two others then answered called itself whole, and did not show the write."""
    for seed in range(3):
        run = Run(at_point=False)
        run(seed)
        assert run.receipt is not None and run.receipt.degraded and run.receipt.acknowledged == ("n1",)
        assert (b"old", False) not in run.seen


@pytest.mark.parametrize("seed", range(3))
def test_killed_before_that_is_durable_it_has_not_answered(seed: int) -> None:
    run = Run(at_point=True)
    run(seed)
    assert run.receipt is None and run.error is not None and run.error.may_have_applied


def test_a_read_after_it_could_be_wrong() -> None:
    """The first test can fail."""
    run = Run(at_point=False)
    with planted("answered-before-noted"):
        run(0)
    assert (b"old", False) in run.seen


def test_with_a_broken_disk_nothing_is_answered_for_less() -> None:
    """n1 has the write, and what it would have to note it cannot: nobody is told that the write is done."""

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("here", targets=["n1"], timeout_s=5.0)
        await client.put("k", b"old", level="all")
        world.disk("n1").slow_ms = 100.0
        for node in ("n2", "n3"):
            world.disk(node).slow_ms = 5000.0
        told: list[KvError] = []

        async def put() -> None:
            with pytest.raises(KvError) as raised:
                await client.put("k", b"new")
            told.append(raised.value)

        task = world.spawn("here", put())
        await world.sleep(0.15)  # by now it is on n1's disk
        world.disk("n1").fail_next_write(applied=False)
        for node in ("n2", "n3"):
            world.crash(node)
        await task
        assert told[0].may_have_applied

    World(1).run(scenario)


async def test_what_its_own_disk_refused_is_not_answered_for_less() -> None:
    """n3 is away, and n1 has noted that in the batch that its disk refuses: n2 alone has the write, and nobody would tell n3."""
    async with Cluster(engine=GatedEngine) as on:
        on.isolate("n3")
        engine = on.members["n1"].engine
        assert isinstance(engine, GatedEngine)
        engine.fail_next()
        told = await on.put("n1", b"k", b"v")
        assert told.error is not None and told.error.may_have_applied
        await until(lambda: on.held("n2", b"k") is not None)
