"""The trees tell what is on the disk: after every kind of commit, beside a rebuild, and over every kind of end."""

from __future__ import annotations

from typing import Any

import pytest

from kvstore.core.merkle.forest import PREFIX_BYTES
from kvstore.simulation.world import World
from kvstore.storage.store import Store
from kvstore.storage.trees import SET_KEY, load_forest, store_forest
from tests.repair.simulated import QUIET, agree, fill, within
from tests.support.cluster import LONG, Cluster
from tests.support.waiting import until


def prefixes(world: World, node: str) -> list[bytes]:
    return list(world.local(node).view.space("default").prefixes)


def check(world: World) -> None:
    for node in world.running:
        world.local(node).store.check_trees(prefixes(world, node))


def unknown(world: World, node: str) -> int:
    forest = world.local(node).storage.forest
    assert forest is not None
    return forest.unknown_count


async def test_they_follow_every_kind_of_commit() -> None:
    async with Cluster(5) as cluster:
        for at in range(30):
            await cluster.put(cluster.ids[at % 5], b"key-%d" % (at % 11), b"v%d" % at, **LONG)
        away = cluster.ids[1]
        cluster.isolate(away)
        for at in range(30):
            node = cluster.ids[(0, 2, 3, 4)[at % 4]]
            await cluster.put(node, b"key-%d" % (at % 11), b"w%d" % at, **LONG)
        cluster.rejoin(away)
        for member in cluster.members.values():
            member.local.upkeep.handoff.start()  # copies that were held for others are deleted
        await until(lambda: not any(member.local.hints.targets for member in cluster.members.values()))
        for member in cluster.members.values():
            await until(lambda member=member: not member.local.store.pending)  # type: ignore[misc]
            member.local.store.check_trees(member.local.view.space("default").prefixes)
            assert member.local.storage.forest is not None
            member.local.upkeep.handoff.stop()


def test_a_clean_stop_keeps_them_and_a_crash_rebuilds_them_beside_writes() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(40))
        await world.stop("n2")
        await world.restart("n2")
        assert unknown(world, "n2") == 0
        check(world)
        world.crash("n2")
        world.disk("n2").slow_ms = 20.0
        await world.restart("n2", linked=False)
        assert unknown(world, "n2") == 8
        client = world.client("c1")
        number = 0
        while unknown(world, "n2"):
            await client.put_many({f"k{number % 60}": b"%d" % number, f"k{number % 7}": b"x"})
            number += 1
        assert number > 3
        await within(world, 5.0, lambda: not any(world.local(node).store.pending for node in world.running))
        check(world)
        assert agree(world)

    World(1, limits=QUIET).run(scenario)


def test_trees_of_another_stop_are_not_believed() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(40))
        local = world.local("n1")
        engine = local.engine
        assert local.storage.forest is not None
        store_forest(engine, local.storage.forest, b"a clean state")
        assert load_forest(engine, b"a clean state", prefixes(world, "n1")).unknown_count == 0
        assert load_forest(engine, b"another state", prefixes(world, "n1")).unknown_count == 8
        assert load_forest(engine, None, prefixes(world, "n1")).unknown_count == 8
        name = next(name for name, _ in engine.scan(SET_KEY[:-1] + b"/"))
        engine.write([(name, b"damaged")], sync=True)
        assert load_forest(engine, b"a clean state", prefixes(world, "n1")).unknown_count == 1

    World(2, limits=QUIET).run(scenario)


def test_what_was_unknown_at_a_clean_stop_is_unknown_at_the_next_start() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(40))
        forest = world.local("n1").storage.forest
        assert forest is not None
        forest.mark_unknown(prefixes(world, "n1")[:3])
        store_forest(world.local("n1").engine, forest, b"state")
        assert load_forest(world.local("n1").engine, b"state", prefixes(world, "n1")).unknown == prefixes(world, "n1")[:3]

    World(3, limits=QUIET).run(scenario)


def test_a_damaged_record_makes_its_tree_unknown_and_is_brought_back_by_all_the_others() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(40))
        world.crash("n3")
        key = world.disk("n3").flip_bit()
        assert key is not None
        await world.restart("n3")
        await within(world, 20.0, lambda: unknown(world, "n3") == 0 and world.local("n3").store.quarantined == 0 and agree(world))
        assert world.local("n3").store.durable(key) == world.local("n1").store.durable(key)
        check(world)

    World(4, limits=QUIET).run(scenario)


@pytest.mark.parametrize("end", ["crash", "stop"])
def test_an_end_in_the_middle_of_a_rebuild_begins_it_anew(end: str) -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(80))
        world.crash("n2")
        world.disk("n2").slow_ms = 100.0
        await world.restart("n2", linked=False)
        await within(world, 5.0, lambda: 0 < unknown(world, "n2") < 8)
        if end == "crash":
            world.crash("n2")
        else:
            await world.stop("n2")
        await world.restart("n2")
        assert unknown(world, "n2") > 0
        world.disk("n2").slow_ms = 0.0
        await within(world, 5.0, lambda: unknown(world, "n2") == 0)
        check(world)
        assert agree(world)

    World(5, limits=QUIET).run(scenario)


async def test_a_deletion_under_way_is_not_what_the_next_write_is_built_on() -> None:
    """A copy kept for another is deleted, and the key written again before that is durable: found by review."""
    async with Cluster(3) as cluster:
        member = cluster.members["n1"]
        store: Store = member.local.store
        await cluster.put("n1", b"k", b"v", **LONG)
        partition = member.local.view.ring.partition_of(b"k")
        store_key = member.local.view.space("default").prefixes[partition] + b"k"
        record = store.durable(store_key)
        assert record is not None
        done: list[Any] = []
        store.discard([(store_key, record)], [], done.append)
        store.merge([store_key], [record], lambda error, refused: done.append(error))
        await cluster.put("n1", b"k", b"w", **LONG)
        await until(lambda: len(done) == 2 and not store.pending)
        store.check_trees([store_key[:PREFIX_BYTES]])
