"""Namespaces made and dropped at run time, on the production code in a simulated world: what each node goes by, and what becomes of
the records."""

from __future__ import annotations

from typing import Any

import pytest

from kvclient import AsyncClient
from kvproto.columns import GroupReply, Kind, OperationGroup, ScanPage, ScanQuery
from kvproto.errors import AvailabilityError, QuorumUnreachable, UnknownNamespace
from kvstore.cluster.view import Place
from kvstore.core.catalog.catalog import CLUSTER_NAMESPACE, RUN_TIME_ID_MIN
from kvstore.simulation.world import World
from kvstore.storage.trees import held_prefixes

PATIENCE_S = 20.0
"""Where a node that proposes is cut off, it takes seconds until somebody else does."""


def play(scenario: Any, **options: Any) -> None:
    World(7, check_every=100, **options).run(scenario)


async def until(world: World, condition: Any, timeout_s: float = 120.0) -> None:
    """Waits in virtual time."""
    end_s = world.now_s + timeout_s
    while not condition():
        assert world.now_s < end_s, "it does not come about"
        await world.sleep(0.05)


async def connected(world: World, name: str, *targets: str) -> AsyncClient:
    client = world.client(name, targets=targets, timeout_s=PATIENCE_S)
    await client.connect()
    return client


def revisions(world: World) -> list[int]:
    return [world.local(name).view.catalog.revision for name in world.running]


def held(world: World, node: str, number: int) -> int:
    """Under how many prefixes of the id a node holds anything."""
    return sum(prefix[2:] == number.to_bytes(4, "big") for prefix in held_prefixes(world.local(node).engine))


def test_a_namespace_is_there_on_every_node_when_it_is_told_to_be_made() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1")
        made = await client.admin.create_namespace("orders", preset="pc-ec")
        assert (made.id, made.mode, made.created) == (RUN_TIME_ID_MIN, "linearizable", True)
        assert revisions(world) == [1, 1, 1]
        await client.namespace("orders").put("k", b"1", if_absent=True)
        assert [space.name for space in await client.admin.namespaces()] == ["default", "orders"]

    play(scenario)


def test_a_node_that_was_cut_off_hears_of_it_when_it_is_asked_for_the_name_or_by_itself() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1")
        world.partition(["n3"], ["n1", "n2"])
        await client.admin.create_namespace("orders", preset="pa-el")
        assert revisions(world) == [1, 1, 0]
        world.heal_all()
        await until(world, lambda: revisions(world) == [1, 1, 1], 10.0)
        world.local("n3").view.space("orders")

    play(scenario)


def test_a_batch_for_a_name_that_a_node_missed_makes_it_look() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1")
        world.cut("n1", "n3")
        world.cut("n2", "n3")  # what they send does not arrive; what n3 asks them is answered to nobody
        await client.admin.create_namespace("orders", preset="pa-el")
        world.heal_all()
        before = world.now_s
        other = await connected(world, "c2", "n3")
        await other.namespace("orders").put("k", b"1")
        assert world.now_s - before < 2.5

    play(scenario)


def test_unknown_names_are_looked_for_no_more_often_than_so_many_times_a_second() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1", "n1")
        spread, began_s = world.local("n1").namespaces.spread, world.now_s
        for number in range(200):
            with pytest.raises(UnknownNamespace):
                await client.namespace(f"nowhere{number % 7}").get("k")
            if world.now_s - began_s > 2.0:
                break
        total = sum(world.local(name).namespaces.spread.looks for name in world.running)
        assert spread.looks >= 1 and total <= 3 * (10 * (world.now_s - began_s) + 2)

    play(scenario)


def test_on_the_side_without_a_majority_nothing_is_made_or_dropped() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1")
        await client.admin.create_namespace("kept", preset="pa-el")
        world.isolate("n1")
        with pytest.raises(AvailabilityError) as refused:
            await world.spawn("n1", world.local("n1").namespaces.drop("kept", 10.0))
        assert isinstance(refused.value, QuorumUnreachable) and not refused.value.may_have_applied
        assert "kept" in world.local("n1").view.spaces

    play(scenario)


def test_a_dropped_namespace_is_refused_erased_everywhere_and_its_name_is_another_namespace_afterwards() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1")
        for preset, other in (("pa-ec", "pc-ec"), ("pc-ec", "pa-ec")):
            made = await client.admin.create_namespace("orders", preset=preset)
            await client.namespace("orders").put_many({f"k{number}": b"old" for number in range(40)})
            assert held(world, "n2", made.id)
            await client.admin.drop_namespace("orders")
            with pytest.raises(UnknownNamespace):
                await client.namespace("orders").get("k1")
            await until(world, lambda: all(world.local(name).namespaces.dropped.is_over for name in world.running))
            assert [held(world, name, made.id) for name in world.running] == [0, 0, 0]
            again = await client.admin.create_namespace("orders", preset=other)
            assert again.id == made.id + 1
            assert not (await client.namespace("orders").get("k1")).found
            await client.admin.drop_namespace("orders")

    play(scenario)


def test_erasing_goes_on_after_a_crash() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1")
        made = await client.admin.create_namespace("orders", preset="pa-ec")
        await client.namespace("orders").put_many({f"k{number}": b"old" for number in range(200)})
        world.disk("n2").slow_ms = 300.0
        await client.admin.drop_namespace("orders")
        await until(world, lambda: 2 in revisions(world))
        world.crash("n2")
        world.disk("n2").slow_ms = 0.0
        await world.restart("n2")
        await until(world, lambda: all(world.local(name).namespaces.dropped.is_over for name in world.running))
        assert held(world, "n2", made.id) == 0

    play(scenario)


def test_what_comes_late_for_a_dropped_namespace_is_not_taken_in() -> None:
    """1. n3 is away, and is owed writes; 2. the namespace is dropped; 3. n3 comes back with its copies, and hints go to it."""

    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1", "n1", "n2")
        made = await client.admin.create_namespace("orders", preset="pa-el")
        await client.namespace("orders").put_many({f"k{number}": b"old" for number in range(30)})
        world.partition(["n3"], ["n1", "n2"])
        await client.namespace("orders").put_many({f"k{number}": b"newer" for number in range(30)})
        await client.admin.drop_namespace("orders")
        await until(world, lambda: all(world.local(name).namespaces.dropped.is_over for name in ("n1", "n2")))
        world.heal_all()
        await until(world, lambda: revisions(world) == [2, 2, 2])
        await until(world, lambda: all(world.local(name).namespaces.dropped.is_over for name in world.running))
        await world.sleep(15.0)  # hints and comparisons have had their turns
        assert [held(world, name, made.id) for name in world.running] == [0, 0, 0]
        assert [world.local(name).hints.count for name in world.running] == [0, 0, 0]

    play(scenario)


def test_a_record_of_a_namespace_that_a_node_does_not_know_yet_stays_where_it_is() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1", "n1")
        world.cut("n1", "n3")
        world.cut("n2", "n3")
        made = await client.admin.create_namespace("orders", preset="pa-el")
        view = world.local("n3").view
        key = view.space("default").prefixes[0][:2] + made.id.to_bytes(4, "big") + b"k"
        assert view.place_of(key, "n3") is Place.NOT_YET_KNOWN and not view.is_home(key, "n3")
        world.heal_all()
        await until(world, lambda: revisions(world) == [1, 1, 1])
        assert world.local("n3").view.place_of(key, "n3") is Place.HOME
        await client.admin.drop_namespace("orders")
        assert world.local("n3").view.place_of(key, "n3") is Place.DROPPED

    play(scenario)


def test_a_node_goes_by_what_it_has_heard_of_after_every_start_and_catches_up_on_the_rest() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1", "n1", "n2")
        await client.admin.create_namespace("first", preset="pa-ec")
        world.crash("n3")
        await client.admin.create_namespace("second", preset="pc-ec")
        await client.admin.drop_namespace("first")
        await world.restart("n3", linked=False)
        assert sorted(world.local("n3").view.spaces) == ["default", "second"]

    play(scenario)


def test_a_wiped_node_learns_the_namespaces_before_it_says_that_it_is_whole() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1", "n1", "n2")
        await client.admin.create_namespace("orders", preset="pa-ec")
        await client.namespace("orders").put_many({f"k{number}": b"v" for number in range(20)})
        world.crash("n3")
        world.wipe("n3")
        await world.restart("n3")
        local = world.local("n3")
        assert local.store.is_rebuilding and "orders" in local.view.spaces
        await until(world, lambda: not local.store.is_rebuilding)
        assert held(world, "n3", RUN_TIME_ID_MIN)

    play(scenario)


def test_clients_are_refused_the_nodes_own_namespace_by_name() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1")
        await client.admin.create_namespace("orders")
        assert CLUSTER_NAMESPACE not in [space.name for space in await client.admin.namespaces()]
        coordinator, told = world.local("n1").coordinator, list[GroupReply]()
        group = OperationGroup(Kind.GET, CLUSTER_NAMESPACE, [b"namespaces"])
        for hops in (0, 1):
            asking = coordinator.execute([group], lambda replies, last: told.extend(replies), hops=hops)
            await world.spawn("n1", asking)
        assert [type(reply.error) for reply in told] == [UnknownNamespace, UnknownNamespace]

        async def scan() -> list[ScanPage]:
            return [page async for page in coordinator.scan(ScanQuery(CLUSTER_NAMESPACE))]

        assert [type(page.error) for page in await world.spawn("n1", scan())] == [UnknownNamespace]

    play(scenario)


def test_other_clients_learn_a_new_namespace_without_being_told() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        first, second = await connected(world, "c1"), await connected(world, "c2")
        await second.put("k", b"1")
        await first.admin.create_namespace("orders", preset="pc-ec")
        assert second.info.catalog_revision == 0
        await second.put("k", b"2")
        await until(world, lambda: second.info.catalog_revision == 1, 5.0)
        assert [space.name for space in second.info.namespaces] == ["default", "orders"]

    play(scenario)


def test_a_name_that_came_back_in_another_mode_takes_conditions_from_clients_that_knew_the_old_one() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        first, second = await connected(world, "c1"), await connected(world, "c2")
        await first.admin.create_namespace("orders", preset="pa-ec")
        await second.admin.describe()
        await first.admin.drop_namespace("orders")
        await first.admin.create_namespace("orders", preset="pc-ec")
        await second.namespace("orders").put("k", b"1", if_absent=True)

    play(scenario)


def test_a_quota_is_that_of_the_namespace_that_has_the_name_now() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = await connected(world, "c1")
        await client.admin.create_namespace("orders", quota_operations_per_s=3000)
        assert all("orders" in world.local(name).serving.quotas.of for name in world.running)
        await client.admin.drop_namespace("orders")
        assert not any("orders" in world.local(name).serving.quotas.of for name in world.running)

    play(scenario)
