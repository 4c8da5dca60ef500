"""A node that has lost its records says so, counts for nothing until it has them back, and then counts again (safety rule 5)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from kvproto.errors import DeadlineExceeded, QuorumUnreachable
from kvstore.config import ClusterConfig, NamespaceConfig, NodeLimits
from kvstore.repair.rebuilding import ABSENT
from kvstore.simulation.world import World
from tests.repair.simulated import STRICT, agree, fill, held, within

ALL_WRITE = ClusterConfig(id="sim", partitions=8, namespaces={"default": NamespaceConfig(n=3, r=1, w=3)})
FIVE = ClusterConfig(id="sim", partitions=8, replicas=5, namespaces={"default": NamespaceConfig(n=5)})
SLOW = NodeLimits(hints_max=0, repair_interval_s=0.0)


async def wiped(world: World, node: str, *others_away: str) -> None:
    """`node` loses its disk and starts again, while others do not answer."""
    world.crash(node)
    world.wipe(node)
    for other in others_away:
        world.crash(other)
    await world.restart(node, linked=False)


def lost(world: World, node: str) -> bool:
    """Whether a node knows that it has lost what it promised."""
    return world.local(node).linearizable.registers.is_lost


def test_a_wiped_node_is_rebuilt_and_says_so_until_then() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(100))
        await wiped(world, "n3")
        assert world.local("n3").returning.rebuilding.reason == "lost"
        told = {row.node_id: row.rebuilding for row in await world.client("c2").admin.status()}
        assert told == {"n1": "", "n2": "", "n3": "lost"}
        await within(world, 20.0, lambda: not world.local("n3").returning.rebuilding.reason)
        assert held(world, "n3") == 100
        assert agree(world)

    World(1, cluster=STRICT).run(scenario)


def test_not_found_on_a_wiped_node_is_no_vote() -> None:
    """What it and a node that is away had acknowledged would be read as absent by it and a third."""

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1", timeout_s=2.0)
        world.isolate("n2")
        await world.sleep(4.0)
        receipt = (await client.put("k", b"v", w=2)).receipt
        assert sorted(receipt.acknowledged) == ["n1", "n3"]
        world.heal_all()
        world.isolate("n1")
        await wiped(world, "n3")
        await world.sleep(4.0)
        with pytest.raises(QuorumUnreachable):
            await world.client("c2", timeout_s=2.0).get("k", r=2)
        world.heal_all()
        await within(world, 20.0, lambda: not world.local("n3").returning.rebuilding.reason)
        assert (await world.client("c2").get("k", r=2)).value == b"v"

    World(2, cluster=STRICT, limits=NodeLimits(hints_max=0)).run(scenario)


def test_a_preset_shows_what_a_rebuilding_node_that_is_alone_holds_and_nothing_that_it_may_have_lost() -> None:
    """1. n3 loses its disk, and takes a write while the others are away. 2. It shows that one; of another key it cannot say that
    there is nothing. 3. A level that was given is refused for both."""

    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(30))
        await wiped(world, "n3")
        world.partition(["n3", "c2"], ["n1", "n2"])
        await world.sleep(4.0)
        assert world.local("n3").returning.rebuilding.reason == "lost"
        client = world.client("c2", timeout_s=2.0, targets=["n3"])
        await client.put("new", b"v")
        entry = await client.get("new")
        assert entry.value == b"v" and entry.receipt.degraded and entry.receipt.acknowledged == ("n3",)
        for key, level in (("k3", "preset"), ("new", "quorum"), ("new", "one")):
            with pytest.raises(QuorumUnreachable):
                await client.get(key, level=level)

    World(7, limits=SLOW).run(scenario)


def test_a_preset_goes_on_without_its_vote() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(30))
        world.isolate("n1")
        await wiped(world, "n3")
        await world.sleep(4.0)
        entry = await world.client("c2", timeout_s=2.0).get("k3")
        assert entry.value == b"v"
        assert entry.receipt.degraded

    World(3, limits=SLOW).run(scenario)


def test_it_stays_so_over_a_restart() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(30))
        world.isolate("n1")
        await wiped(world, "n3")
        await world.stop("n3")
        await world.restart("n3", linked=False)
        assert world.local("n3").returning.rebuilding.reason == "lost"
        await world.sleep(10.0)
        assert world.local("n3").returning.rebuilding.reason == "lost", "n1 may have what n3 has acknowledged with it alone"
        world.heal_all()
        await within(world, 20.0, lambda: not world.local("n3").returning.rebuilding.reason)
        await world.stop("n3")
        await world.restart("n3", linked=False)
        assert not world.local("n3").returning.rebuilding.reason

    World(4, cluster=STRICT).run(scenario)


def test_peers_that_were_restarted_remember_as_well() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(30))
        world.crash("n3")
        world.wipe("n3")
        for node in ("n1", "n2"):
            await world.stop(node)
            await world.restart(node, linked=False)
        await world.restart("n3", linked=False)
        assert world.local("n3").returning.rebuilding.reason == "lost"

    World(5, cluster=STRICT).run(scenario)


def test_a_wiped_node_that_hears_of_nobody_does_not_count_itself() -> None:
    """Its directory looks like that of a new node; a read of one replica would find nothing."""

    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(30))
        world.crash("n3")
        world.wipe("n3")
        for other in ("n1", "n2"):
            world.crash(other)
        await world.restart("n3", linked=False)
        assert world.local("n3").returning.rebuilding.reason == "unheard"
        client = world.client("c2", targets=["n3"], timeout_s=2.0)
        with pytest.raises(QuorumUnreachable):
            await client.get("k3", r=1)
        await world.stop("n3")
        await world.restart("n3", linked=False)
        assert world.local("n3").returning.rebuilding.reason == "unheard"
        await world.restart("n1", linked=False)
        await within(world, 10.0, lambda: world.local("n3").returning.rebuilding.reason == "lost")

    World(6, cluster=STRICT).run(scenario)


def test_new_nodes_of_a_new_cluster_are_whole() -> None:
    async def scenario(world: World) -> None:
        await world.start("n1", "n2")
        await fill(world, range(10))
        await world.start("n3")
        assert not any(world.local(node).returning.rebuilding.reason for node in world.running)
        for node in ("n1", "n2", "n3"):
            world.crash(node)
            await world.restart(node, linked=False)
        assert not any(world.local(node).returning.rebuilding.reason for node in world.running), (
            "a crash loses nothing that was synced"
        )

    World(7, cluster=STRICT).run(scenario)


def test_what_is_written_through_it_replaces_what_it_has_lost() -> None:
    """It asks the others first what that is: else each such write would be a sibling."""

    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(30))
        world.isolate("n1")
        await wiped(world, "n3")
        await world.sleep(4.0)
        for node in ("n1", "n2"):
            world.cut("c2", node)
        client = world.client("c2", timeout_s=3.0)
        await client.put("k3", b"again")
        world.heal_all()
        await world.sleep(5.0)
        assert list((await world.client("c3").get("k3", level="all")).values) == [b"again"]

    World(8, cluster=STRICT, limits=SLOW).run(scenario)


def test_a_scan_does_not_count_it() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(30))
        await wiped(world, "n3", "n1")
        with pytest.raises(QuorumUnreachable):
            [entry async for entry in world.client("c2", targets=["n2"], timeout_s=2.0).scan(level="quorum")]
        entries = [entry async for entry in world.client("c2", targets=["n2"], timeout_s=2.0).scan()]
        assert len(entries) == 30

    World(9, cluster=STRICT, limits=SLOW).run(scenario)


def test_bug_a_node_that_heard_of_its_loss_again_waited_for_peers_that_were_not_due() -> None:
    """1. A node is rebuilt. 2. A peer that was away remembers the same life of it: that is made good. 3. It remembers another one:
    that takes another exchange with everybody, also where replicas are compared only after a loss."""

    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(30))
        before = world.local("n3").ledger.actor
        await wiped(world, "n3")
        rebuilding = world.local("n3").returning.rebuilding
        await within(world, 20.0, lambda: not rebuilding.reason)
        rebuilding.heard(before, 1)
        assert not world.local("n3").returning.rebuilding.reason, "it knows of that loss"
        await world.sleep(5.0)
        rebuilding.heard(b"another life", 1)
        assert rebuilding.reason == "lost"
        await within(world, 20.0, lambda: not rebuilding.reason)

    World(5, cluster=STRICT, limits=SLOW).run(scenario)


def test_bug_a_node_that_was_away_for_too_long_and_then_lost_its_disk_still_voted_on_registers() -> None:
    """1. What it had is set aside: it is rebuilt, and its promises still stand. 2. Before that has ended a peer remembers more of
    it than its disk does: the promises are lost as well, and that outlives the process."""

    async def scenario(world: World) -> None:
        await world.start()
        rebuilding, registers = world.local("n3").returning.rebuilding, world.local("n3").linearizable.registers
        world.isolate("n3")
        rebuilding.begin(ABSENT)
        await rebuilding.noted()
        assert rebuilding.reason == "absent" and not lost(world, "n3")
        rebuilding.heard(b"\x07" * 12, 1 << 40)
        await rebuilding.noted()
        assert lost(world, "n3") and not registers.votes
        world.crash("n3")
        await world.restart("n3", linked=False)
        assert lost(world, "n3")

    World(9, cluster=STRICT, limits=SLOW).run(scenario)


def test_bug_a_node_that_had_lost_its_disk_counted_another_as_heard_that_had_lost_its_own() -> None:
    """1. n1, n2 and n3 take a write. 2. n1 and n3 lose their disks, n2 is cut off. 3. Each of the two hears n4 and n5, which have
    missed it, and the other one, which has lost it: with those it would find nothing. 4. Once n2 is there both have it again."""

    async def scenario(world: World) -> None:
        await world.start()
        world.partition(["c1", "n1", "n2", "n3"], ["n4", "n5"])
        await world.sleep(4.0)
        receipt = (await world.client("c1", timeout_s=2.0).put("k", b"v", w=3)).receipt
        assert sorted(receipt.acknowledged) == ["n1", "n2", "n3"]
        for node in ("n1", "n3"):
            world.crash(node)
            world.wipe(node)
        world.heal_all()
        world.isolate("n2")
        for node in ("n1", "n3"):
            await world.restart(node, linked=False)
        await world.sleep(10.0)
        for node in ("n1", "n3", "n4"):
            with pytest.raises(QuorumUnreachable):
                await world.client("c2", timeout_s=2.0, targets=[node]).get("k", r=3)
        world.heal_all()
        await within(world, 20.0, lambda: not any(world.local(node).returning.rebuilding.reason for node in ("n1", "n3")))
        assert (await world.client("c3", targets=["n1"]).get("k", r=3)).value == b"v"
        assert held(world, "n1") == held(world, "n3") == 1

    World(21, nodes=5, cluster=FIVE, limits=SLOW).run(scenario)


def test_two_nodes_that_have_lost_their_disks_are_rebuilt_by_the_third() -> None:
    """Each of them waits for the other as well, which counts as heard: nobody is left who could tell more."""

    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(30))
        for node in ("n1", "n3"):
            world.crash(node)
            world.wipe(node)
        for node in ("n1", "n3"):
            await world.restart(node, linked=False)
        assert [world.local(node).returning.rebuilding.reason for node in ("n1", "n3")] == ["lost", "lost"]
        await within(world, 20.0, lambda: not any(world.local(node).returning.rebuilding.reason for node in ("n1", "n3")))
        assert agree(world)

    World(22, cluster=STRICT, limits=SLOW).run(scenario)


def test_bug_a_new_directory_took_itself_for_the_first_one_while_peers_were_still_to_answer() -> None:
    """1. n1 and n3 lose their disks. 2. n3 starts again: n1 remembers nothing, n2 is far away. 3. Before n2 has said that n3 was
    somebody, n1 must not find nothing with it."""

    async def scenario(world: World) -> None:
        await world.start()
        assert len((await world.client("c1", timeout_s=2.0).put("k", b"v")).receipt.acknowledged) == 3
        for node in ("n1", "n3"):
            world.crash(node)
            world.wipe(node)
        await world.restart("n1", linked=False)
        world.partition(["n1"], ["n2"])
        for one, other in (("n2", "n3"), ("n3", "n2")):
            world.set_link(one, other, delay_ms=400.0)
        starting = asyncio.get_running_loop().create_task(world.restart("n3", linked=False))
        await within(world, 1.0, lambda: (node := world.machines["n3"].node) is not None and node.local is not None)
        client = world.client("c2", timeout_s=0.3, targets=["n1"])
        while not starting.done():
            with suppress(QuorumUnreachable, DeadlineExceeded):
                assert (await client.get("k", r=1)).value == b"v"
        await starting

    World(23, cluster=ALL_WRITE, limits=SLOW).run(scenario)
