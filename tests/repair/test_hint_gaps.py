"""What is owed though nobody notes it: hints that were dropped (safety rule 12)."""

from __future__ import annotations

import pytest

from kvstore.config import ClusterConfig, NamespaceConfig, NodeLimits
from kvstore.repair.hinted_handoff import EXPIRE_S
from kvstore.simulation.world import World
from kvstore.storage.hint_gaps import HintGaps
from tests.repair.simulated import within

NOTICED_S = 5.0
KEYS = [f"k{number}" for number in range(6)]
READERS = ("there", "too", "also")  # each asks another node
NO_HINTS = NodeLimits(hints_max=0, repair_interval_s=0.0)


async def small_side_writes(world: World) -> None:
    """n1 has taken writes while it was alone, and has no room to note that the others have missed them."""
    await world.start()
    here = world.client("here")
    await here.put_many(dict.fromkeys(KEYS, b"old"), level="all")
    world.partition(["n1", "here"], ["n2", "n3", *READERS])
    await world.sleep(NOTICED_S)
    for key in KEYS:
        assert (await here.put(key, b"small")).receipt.acknowledged == ("n1",)


async def every_read_says_what_it_may_have_missed(world: World) -> None:
    """Until all replicas hold what n1 has taken, a read that has not heard of it says `degraded`; and that ends by itself."""
    readers = [world.client(name) for name in READERS]
    others = [world.local(node).upkeep.owing for node in ("n2", "n3")]
    while not all(owing._peers.reachable("n1") for owing in others):
        await world.sleep(0.001)  # of who is away nothing is known
    seen: set[tuple[bytes | None, bool]] = set()
    while any(world.local(node).upkeep.doubts.any for node in ("n2", "n3")) or (b"small", False) not in seen:
        for key in KEYS:
            for reader in readers:
                entry = await reader.get(key)
                seen.add((entry.value, entry.receipt.degraded))
    assert (b"old", False) not in seen, "it may have missed something, and did not say so"
    for key in KEYS:
        for reader in readers:
            entry = await reader.get(key)
            assert entry.value == b"small" and not entry.receipt.degraded
    for node in world.machines:
        assert world.local(node).hints.gaps.all == [] and not world.local(node).upkeep.doubts.any


@pytest.mark.parametrize("seed", range(3))
def test_bug_a_hint_that_was_dropped_was_not_told_and_reads_right_after_a_split_called_themselves_whole(seed: int) -> None:
    async def scenario(world: World) -> None:
        await small_side_writes(world)
        assert {target for target, _ in world.local("n1").hints.gaps.all} == {"n2", "n3"}
        world.heal_all()
        await every_read_says_what_it_may_have_missed(world)

    World(seed, limits=NO_HINTS).run(scenario)


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_what_was_dropped_is_owed_after_a_restart_as_well(how: str) -> None:
    async def scenario(world: World) -> None:
        await small_side_writes(world)
        if how == "stop":
            await world.stop("n1")
        else:
            world.crash("n1")
        world.heal_all()
        await world.restart("n1", linked=False)
        await every_read_says_what_it_may_have_missed(world)

    World(1, limits=NO_HINTS).run(scenario)


def test_where_nothing_can_be_compared_nothing_is_owed_for_ever() -> None:
    """Records in memory have no trees: a cache may have forgotten them meanwhile anyway."""
    cluster = ClusterConfig(namespaces={"default": NamespaceConfig(n=3, storage="memory", max_bytes=1 << 20)})

    async def scenario(world: World) -> None:
        await small_side_writes(world)
        assert world.local("n1").hints.gaps.has("n2")
        world.heal_all()
        await within(world, 20.0, lambda: not any(world.local(node).hints.partitions for node in world.machines))
        await within(world, 5.0, lambda: not any(world.local(node).upkeep.doubts.any for node in world.machines))

    World(1, cluster=cluster, limits=NO_HINTS).run(scenario)


def test_what_was_owed_for_too_long_is_owed_still_also_after_a_restart() -> None:
    """The notes themselves are gone, and where they were is not."""

    async def scenario(world: World) -> None:
        await small_side_writes(world)
        hints = world.local("n1").hints
        assert hints.count and not hints.gaps.all
        await within(world, 2 * EXPIRE_S, lambda: not hints.count)
        assert {target for target, _ in hints.gaps.all} == {"n2", "n3"}
        await world.stop("n1")
        world.heal_all()
        await world.restart("n1", linked=False)
        assert not world.local("n1").hints.count
        await every_read_says_what_it_may_have_missed(world)

    World(1, limits=NodeLimits(hint_age_s_max=10.0, repair_interval_s=0.0)).run(scenario)


def test_nothing_is_owed_to_whoever_is_no_member_any_more() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        row = HintGaps().note("n9", 3)
        world.local("n1").engine.write(row, sync=True)
        await world.stop("n1")
        await world.restart("n1")
        await within(world, 5.0, lambda: not world.local("n1").hints.gaps.all)
        await within(world, 5.0, lambda: world.local("n1").engine.get(row[0][0]) is None)

    World(1, limits=NO_HINTS).run(scenario)
