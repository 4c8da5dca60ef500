"""Replicas that have parted come together without anybody reading, and say whether they have."""

from __future__ import annotations

import pytest

from kvstore.config import NodeLimits
from kvstore.repair import exchange_round
from kvstore.simulation.world import World
from tests.repair.simulated import LIMITS, QUIET, agree, compared, fill, held, within


def test_what_a_replica_missed_reaches_it_without_a_read() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(20))
        world.crash("n3")
        await fill(world, range(10, 60), value=b"new")
        await world.restart("n3")
        assert held(world, "n3") == 20
        await within(world, 15.0, lambda: agree(world))
        assert [held(world, node) for node in world.running] == [60, 60, 60]
        assert sum(compared(world, node).repaired for node in world.running) >= 50

    World(1, limits=LIMITS).run(scenario)


def test_both_sides_of_a_cut_get_what_the_other_has() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        world.partition(["n1", "c1"], ["n2", "n3", "c2"])
        await world.sleep(4.0)
        await fill(world, range(30), client="c1", value=b"one")
        await fill(world, range(15, 45), client="c2", value=b"two")
        world.heal_all()
        await within(world, 15.0, lambda: agree(world))
        entry = await world.client("c3").get("k20", level="all")
        assert sorted(entry.values) == [b"one", b"two"], "both sides wrote, and neither knew the other"
        assert held(world, "n1") == held(world, "n2") == held(world, "n3") == 45

    World(2, limits=LIMITS).run(scenario)


def test_a_difference_that_does_not_last_is_no_difference() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        for number in range(300):
            await client.put(f"k{number % 7}", b"%d" % number)
            await world.sleep(0.02)
        assert agree(world)
        found = [compared(world, node) for node in world.running]
        assert sum(one.rounds for one in found) > 4
        assert sum(one.differences for one in found) == 0, "writes under way were taken for entropy"

    World(3, limits=NodeLimits(repair_interval_s=0.5)).run(scenario)


def test_asked_to_a_node_compares_and_repairs_at_once() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        world.crash("n3")
        await fill(world, range(40))
        await world.restart("n3")
        await world.sleep(2.0)
        assert not agree(world), "nothing repairs by itself here"
        told = [row.divergent_partitions for row in await world.client("c2").admin.status()]
        assert told == [8, 8, 8]
        rows = await world.client("c2").admin.repair("default")
        assert [row.node_id for row in rows] == ["n1", "n2", "n3"]
        assert [row.compared for row in rows] == [row.partitions for row in rows] == [16, 16, 16]
        assert [row.repaired for row in rows] == [row.differences for row in rows] == [40, 0, 0]
        assert agree(world)
        assert [row.divergent_partitions for row in await world.client("c2").admin.status()] == [0, 0, 0]
        assert all(row.rounds for row in await world.client("c2").admin.status())

    World(4, limits=QUIET).run(scenario)


def test_a_peer_that_cannot_be_reached_is_named() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        world.crash("n3")
        await world.sleep(5.0)
        rows = {row.node_id: row for row in await world.client("c1").admin.repair("default")}
        assert rows["n1"].unreachable == ("n3",)
        assert rows["n1"].over

    World(5, limits=QUIET).run(scenario)


def test_more_differences_than_may_be_in_memory_take_several_exchanges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_round, "ROWS_MAX", 20)
    monkeypatch.setattr(exchange_round, "BATCH_COUNT_MAX", 7)

    async def scenario(world: World) -> None:
        await world.start()
        world.crash("n3")
        await fill(world, range(200))
        await world.restart("n3")
        await within(world, 60.0, lambda: agree(world))
        assert held(world, "n3") == 200

    World(6, limits=LIMITS).run(scenario)


def test_a_crash_in_the_middle_of_an_exchange_costs_only_time() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        world.crash("n3")
        await fill(world, range(200))
        await world.restart("n3")
        await within(world, 15.0, lambda: held(world, "n3") > 0)
        world.crash("n3")
        await world.restart("n3", linked=False)
        world.crash("n1")
        await world.restart("n1", linked=False)
        await within(world, 30.0, lambda: agree(world))
        assert held(world, "n3") == 200

    World(7, limits=LIMITS).run(scenario)
