"""Replicas that are written to all the time differ at every moment: what is only on its way is not looked for record by record,
and what lasts is found all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from kvstore.config import ClusterConfig, NodeLimits
from kvstore.core.merkle.questions import Leaves, Nodes, Question, Reply
from kvstore.repair.exchange_round import SETTLE_S
from kvstore.simulation.world import World
from tests.repair.simulated import QUIET, compared, fill, held, within

ONE_PARTITION = ClusterConfig(id="sim", partitions=1)


class Counting:
    """A node's peers; counts the questions by their kind."""

    def __init__(self, peers: Any) -> None:
        self.peers = peers
        self.asked: Counter[type[Question]] = Counter()

    async def compare(self, node: str, question: Question, timeout_s: float, *, urgent: bool = False) -> Reply:
        self.asked[type(question)] += 1
        reply: Reply = await self.peers.compare(node, question, timeout_s, urgent=urgent)
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self.peers, name)


def is_roomy(world: World, node: str) -> bool:
    """Whether its tree has the leaves that its keys need."""
    forest = world.local(node).store.forest
    return forest is not None and forest.crowded() == []


DELAY_MS = 40.0
WRITERS = 12
KEYS = 600


async def write_on(world: World, writer: int) -> None:
    """Until it is cancelled."""
    number = writer * KEYS // WRITERS
    while True:
        number += 1
        await world.client("c1").put(f"k{number * 7 % KEYS}", b"%d" % number)


def begin_writing(world: World) -> list[asyncio.Future[None]]:
    """Enough, on slow enough links, that something is on its way at every moment."""
    for source in world.running:
        for target in world.running:
            if source != target:
                world.set_link(source, target, delay_ms=DELAY_MS)
    return [asyncio.ensure_future(write_on(world, writer)) for writer in range(WRITERS)]


def test_bug_writes_under_way_were_listed_key_by_key_at_every_exchange() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(KEYS))
        await within(world, 10.0, lambda: all(is_roomy(world, node) for node in world.running))
        counted = []
        for node in world.running:
            peers = compared(world, node)._peers = Counting(compared(world, node)._peers)
            counted.append(peers.asked)
        writers = begin_writing(world)
        await world.sleep(10.0)
        for writer in writers:
            writer.cancel()
        asked = sum(counted, Counter[type[Question]]())
        assert sum(compared(world, node).rounds for node in world.running) >= 6
        assert asked[Nodes] > 6, "roots differed each time"
        assert asked[Leaves] <= 1, "two for each exchange, once"

    World(3, cluster=ONE_PARTITION, limits=NodeLimits(hints_max=0, repair_interval_s=0.5)).run(scenario)


def test_where_more_differs_than_can_be_on_its_way_nothing_is_listed_twice() -> None:
    """An absence: no second look at each key, and no pause before it."""

    async def scenario(world: World) -> None:
        await world.start()
        await within(world, 10.0, lambda: world.local("n3").returning.rebuilding.reason == "")
        world.crash("n3")
        await fill(world, range(KEYS))
        await world.restart("n3")
        await within(world, 10.0, lambda: compared(world, "n1")._peers.reachable("n3") and is_roomy(world, "n1"))
        peers = compared(world, "n1")._peers = Counting(compared(world, "n1")._peers)
        progress = compared(world, "n1").repair("", 0)
        elapsed_s = await within(world, 30.0, lambda: compared(world, "n1").repair("", progress.number).over)
        assert held(world, "n3") == held(world, "n1")
        assert peers.asked[Leaves] == 1 and elapsed_s < SETTLE_S, (peers.asked, elapsed_s)

    World(3, cluster=ONE_PARTITION, limits=QUIET).run(scenario)


def test_what_lasts_is_found_where_writes_never_pause() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(KEYS))
        world.crash("n3")
        await fill(world, range(KEYS, KEYS + 30))
        await world.restart("n3")
        await within(world, 10.0, lambda: world.local("n3").returning.rebuilding.reason == "")
        writers = begin_writing(world)
        await world.sleep(0.5)
        assert held(world, "n3") <= KEYS, "nothing repairs by itself here"
        progress = compared(world, "n1").repair("", 0)
        await within(world, 30.0, lambda: compared(world, "n1").repair("", progress.number).over)
        assert held(world, "n3") == KEYS + 30
        for writer in writers:
            writer.cancel()

    World(4, cluster=ONE_PARTITION, limits=QUIET).run(scenario)
