"""Replicas that have parted come together without anybody reading, and say whether they have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvstore.config import ClusterConfig, NodeLimits
from kvstore.core.merkle.questions import Question, Records, Reply
from kvstore.repair import exchange_round
from kvstore.simulation.world import World
from kvstore.transport.peers import StoreChunk
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
        await world.stop("n3")  # cleanly: after a crash it compares by itself
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


class Delayed:
    """A node's peers, of which some answers come `late_s` later than they could, and what is stored there is noted."""

    def __init__(self, peers: Any, late_s: float, count: int) -> None:
        self.peers = peers
        self.late_s = late_s
        self.count = count
        self.asked = 0
        self.sent: list[StoreChunk] = []

    async def compare(self, node: str, question: Question, timeout_s: float, *, urgent: bool = False) -> Reply:
        reply: Reply = await self.peers.compare(node, question, timeout_s, urgent=urgent)
        if isinstance(question, Records):
            self.asked += 1
            if self.asked <= self.count:
                await asyncio.sleep(self.late_s)
        return reply

    def store(self, chunk: StoreChunk) -> None:
        self.sent.append(chunk)
        self.peers.store(chunk)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.peers, name)


@pytest.mark.parametrize(("late", "asked", "differing"), [(1, 2, 0), (3, 3, 5)], ids=["once", "always"])
def test_an_answer_older_than_half_the_grace_is_not_taken_but_asked_for_again(late: int, asked: int, differing: int) -> None:
    """safety rule 9. What it tells of may have been deleted since, and the tombstone reaped."""

    async def scenario(world: World) -> None:
        await world.start()
        await world.stop("n3")
        await fill(world, range(5))
        await world.restart("n3")
        peers = compared(world, "n3")._peers = Delayed(compared(world, "n3")._peers, 3.0, late)
        world.cut("n3", "n2")
        await world.sleep(4.0)
        compared(world, "n3").repair("", 0)
        await within(world, 20.0, lambda: compared(world, "n3").repair("", 1).over)
        assert peers.asked == asked
        assert world.local("n3").upkeep.freshness.refused == 5 * late
        assert held(world, "n3") == 5 - differing

    World(11, cluster=ClusterConfig(id="sim", partitions=1, tombstone_grace_s=4.0, retry_window_s=2.0), limits=QUIET).run(scenario)


def test_what_an_exchange_sends_is_as_old_as_its_reading() -> None:
    """safety rule 9. Not as young as the message: that may wait for its turn on the link."""

    async def scenario(world: World) -> None:
        await world.start()
        world.crash("n3")
        await fill(world, range(5))
        await world.restart("n3")
        peers = compared(world, "n1")._peers = Delayed(compared(world, "n1")._peers, 0.0, 0)
        asked_ms = world.local("n1").clock.now_ms()
        compared(world, "n1").repair("", 0)
        await within(world, 20.0, lambda: held(world, "n3") == 5)
        assert peers.sent
        assert all(asked_ms < chunk.since_ms <= world.local("n1").clock.now_ms() for chunk in peers.sent)

    World(12, limits=QUIET).run(scenario)
