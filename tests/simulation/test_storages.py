"""Namespaces that are not synced, or only in memory, on the production code in a simulated world: what is on which disk, what
counts after a power cut, and that nothing comes back that was deleted."""

from __future__ import annotations

from typing import Any

import pytest

from kvclient import AsyncClient
from kvproto.errors import BadRequest, QuorumUnreachable, TooLarge
from kvstore.config import ClusterConfig, NamespaceConfig, NodeLimits
from kvstore.repair.leftovers import Leftovers
from kvstore.simulation.world import World
from kvstore.storage.layout import NAMESPACE_AT, SYSTEM_PREFIX

MIB = 1 << 20
NAMESPACES = {
    "default": NamespaceConfig(n=3),
    "unsynced": NamespaceConfig(id=2, name="unsynced", n=3, durability="os"),
    "cache": NamespaceConfig(id=3, name="cache", n=3, storage="memory", durability="none", max_bytes=MIB),
}
CLUSTER = ClusterConfig(id="sim", partitions=8, namespaces=NAMESPACES)
QUIET = NodeLimits(repair_interval_s=0.0)


def play(scenario: Any, seed: int = 3, **options: Any) -> None:
    World(seed, check_every=100, **{"cluster": CLUSTER, "limits": QUIET, **options}).run(scenario)


async def until(world: World, condition: Any, timeout_s: float = 30.0) -> None:
    """Waits in virtual time."""
    end_s = world.now_s + timeout_s
    while not condition():
        assert world.now_s < end_s, "it does not come about"
        await world.sleep(0.05)


async def started(world: World, name: str = "c1", *targets: str) -> AsyncClient:
    if not world.running:
        await world.start()
    client = world.client(name, targets=targets, timeout_s=3.0)
    await client.connect()
    return client


def on_disk(world: World, node: str, number: int) -> list[bytes]:
    """Store keys of the namespace with this id."""
    wanted = number.to_bytes(4, "big")
    return [key for key in world.disk(node)._memory._map if key < SYSTEM_PREFIX and key[NAMESPACE_AT] == wanted]


def in_memory(world: World, node: str) -> dict[bytes, bytes]:
    """What the node has of the cache, without using it."""
    spaces = world.local(node).memory.spaces.values()
    return {key[6:]: record for space in spaces for key, record in space.map.scan(b"", None)}


def test_receipts_say_what_is_durable() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        for name, durable in (("default", True), ("unsynced", False), ("cache", False)):
            space = client.namespace(name)
            assert (await space.put("k", b"v")).receipt.durable is durable
            found = await space.get("k")
            assert (found.value, found.receipt.durable) == (b"v", durable)

    play(scenario)


def test_what_is_not_synced_waits_for_no_sync_and_is_synced_with_what_is() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        await client.put("warm", b"v")
        await world.sleep(1.0)
        before = {name: world.disk(name).syncs for name in world.running}
        for number in range(20):
            await client.namespace("unsynced").put(f"k{number}", b"v")
        await world.sleep(1.0)
        assert {name: world.disk(name).syncs for name in world.running} == before
        assert all(world.disk(name).unsynced_batches for name in world.running)
        await client.put("warm", b"w", w=3)
        await until(world, lambda: not any(world.disk(name).unsynced_batches for name in world.running))

    play(scenario)


def test_nothing_of_a_namespace_in_memory_is_ever_on_a_disk_and_its_writes_wait_for_none() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        await client.put("warm", b"v")
        await world.sleep(1.0)
        before = {name: world.local(name).committer.commits for name in world.running}
        for number in range(20):
            await client.namespace("cache").put(f"k{number}", b"v")
        await world.sleep(1.0)
        assert all(not on_disk(world, name, 3) for name in world.running)
        assert all(len(in_memory(world, name)) == 20 for name in world.running)
        assert {name: world.local(name).committer.commits for name in world.running} == before

    play(scenario)


def test_after_a_restart_a_node_is_empty_and_the_others_answer() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        await client.namespace("cache").put("k", b"v", w=3)
        world.crash("n1")
        await world.restart("n1")
        assert not in_memory(world, "n1")
        assert (await client.namespace("cache").get("k", r=3)).value == b"v"
        # It was written before the start: it could have been deleted since, for all that n1 knows.
        await world.sleep(1.0)
        assert not in_memory(world, "n1")
        await client.namespace("cache").put("k", b"w", w=3)
        assert list(in_memory(world, "n1")) == [b"k"]

    play(scenario)


def test_over_the_bound_the_least_useful_goes_and_reads_as_not_found() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        cache = client.namespace("cache")
        await cache.put("hot", b"v")
        for number in range(40):
            await cache.put_many({f"k{number}/{at}": bytes(1000) for at in range(50)})
            assert (await cache.get("hot", r=3)).found
        uses = {row.node_id: row.memory for row in await client.admin.status()}
        for (use,) in uses.values():
            assert use.namespace == "cache"
            assert use.bytes <= use.max_bytes == MIB
            assert use.evictions > 300
        assert not (await cache.get("k0/0", r=3)).found

    play(scenario)


def test_what_was_deleted_does_not_come_back_from_a_replica_that_missed_it_though_all_who_knew_have_forgotten() -> None:
    """1. All have the value. 2. n3 is away, and the others take the delete. 3. They lose their memory. 4. n3 is back."""

    async def scenario(world: World) -> None:
        client = await started(world)
        await client.namespace("cache").put("k", b"v", w=3)
        world.isolate("n3")
        near = await started(world, "c2", "n1", "n2")
        await near.namespace("cache").delete("k")
        for node in ("n1", "n2"):
            world.crash(node)
            await world.restart(node, linked=False)
        assert not in_memory(world, "n1")
        assert not in_memory(world, "n2")
        world.heal_all()
        await until(world, lambda: not any(world.local(name).hints.count for name in world.running))
        assert not (await client.namespace("cache").get("k", r=3)).found
        assert not (await client.namespace("cache").get("k", r=1)).found

    play(scenario)


def test_a_write_in_memory_is_answered_when_who_has_missed_it_is_noted_durably() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        await client.namespace("cache").put("k", b"v", w=3)
        world.pause("n3")  # nobody knows yet: it just does not answer
        near = await started(world, "c2", "n1", "n2")
        done = await near.namespace("cache").delete("k")
        (coordinator,) = [name for name in ("n1", "n2") if name == done.receipt.coordinator]
        assert world.local(coordinator).hints.pending("n3") == 1
        world.crash(coordinator)
        world.resume("n3")
        await world.restart(coordinator, linked=False)
        await until(world, lambda: not any(world.local(name).hints.count for name in world.running))
        assert not (await client.namespace("cache").get("k", r=3)).found

    play(scenario)


def test_after_a_power_cut_what_is_left_of_an_unsynced_namespace_is_no_vote_until_the_others_were_heard() -> None:
    """1. n1 and n2 take a write, n3 does not. 2. n1 loses it. 3. n1 and n3 alone must not say that there is nothing."""

    async def scenario(world: World) -> None:
        client = await started(world)
        world.isolate("n3")
        near = await started(world, "c2", "n1", "n2")
        await until(world, lambda: "n3" in world.local("n1").opinions.dead and "n3" in world.local("n2").opinions.dead)
        for name in ("default", "unsynced"):
            await near.namespace(name).put("other", b"v")
        await world.sleep(1.0)
        world.local("n1").hints.forget(lambda key: True)  # so that no hint, which is synced, takes it along
        await near.namespace("unsynced").put("other", b"w")
        world.disk("n1").crash(0)
        world.crash("n1", silent=True)
        world.isolate("n2")
        world.heal("n1", "n3")
        world.heal("n3", "n1")
        for one in ("n1", "n3"):
            world.heal(one, "c1")
            world.heal("c1", one)
        await world.restart("n1", linked=False)
        assert world.local("n1").store.unsure
        with pytest.raises(QuorumUnreachable):
            await client.namespace("unsynced").get("other", r=2)
        assert (await client.namespace("default").get("other", r=2)).value == b"v"
        world.heal_all()
        await until(world, lambda: not world.local("n1").store.unsure)
        assert (await client.namespace("unsynced").get("other", r=2)).value == b"w"

    play(scenario)


def test_an_unclean_start_draws_another_actor_where_nothing_is_synced_as_anywhere() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        await client.namespace("unsynced").put("k", b"v", w=3)
        before = world.local("n1").ledger.actor
        world.crash("n1", silent=True)
        await world.restart("n1")
        assert world.local("n1").ledger.actor != before
        assert world.local("n1").store.unsure
        await until(world, lambda: not world.local("n1").store.unsure)
        assert (await client.namespace("unsynced").get("k", r=3)).value == b"v"

    play(scenario)


def test_a_stop_before_the_others_were_heard_is_no_clean_one() -> None:
    async def scenario(world: World) -> None:
        await started(world)
        world.crash("n1", silent=True)
        world.crash("n2")
        world.crash("n3")
        await world.restart("n1", linked=False)
        assert world.local("n1").store.unsure
        await world.stop("n1")
        await world.restart("n1", linked=False)
        assert world.local("n1").store.unsure, "it asks again"

    play(scenario)


def test_a_clean_stop_leaves_nothing_to_ask_for() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        await client.namespace("unsynced").put("k", b"v", w=3)
        await world.stop("n1")
        assert not world.disk("n1").unsynced_batches
        await world.restart("n1")
        assert not world.local("n1").store.unsure

    play(scenario)


def test_namespaces_made_at_run_time_are_as_they_were_asked_for() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        made = await client.admin.create_namespace("pages", storage="memory", max_bytes=2 * MIB, value_bytes_max=100)
        assert (made.storage, made.durability, made.max_bytes, made.value_bytes_max) == ("memory", "none", 2 * MIB, 100)
        pages = client.namespace("pages")
        assert not (await pages.put("k", b"v", w=3)).receipt.durable
        with pytest.raises(TooLarge, match="at most 100 are allowed in namespace 'pages'"):
            await pages.put("k", bytes(101))
        assert all(not on_disk(world, name, made.id) and in_memory(world, name) for name in world.running)
        await client.admin.drop_namespace("pages")
        assert not any(in_memory(world, name) for name in world.running)
        with pytest.raises(BadRequest, match="the cluster's is 1048576"):
            await client.admin.create_namespace("long", value_bytes_max=MIB + 1)

    play(scenario)


def test_what_a_node_had_stored_before_it_heard_that_a_namespace_is_in_memory_is_removed_from_its_disk() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        world.isolate("n3")
        near = await started(world, "c2", "n1", "n2")
        made = await near.admin.create_namespace("pages", storage="memory", max_bytes=MIB)
        local = world.local("n3")
        record = b"whatever a peer sent"
        local.store.stage(b"\x00\x01" + made.id.to_bytes(4, "big") + b"k", record)
        local.store.commit([(b"\x00\x01" + made.id.to_bytes(4, "big") + b"k", record)], lambda error: None, before=[0])
        await until(world, lambda: bool(on_disk(world, "n3", made.id)))
        world.heal_all()
        await until(world, lambda: not on_disk(world, "n3", made.id), 120.0)
        leftovers: Leftovers = local.namespaces._leftovers
        assert leftovers.removed == 1
        assert not (await client.namespace("pages").get("k", r=3)).found

    play(scenario)


def test_times_to_live_hold_in_memory_as_elsewhere() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        cache = client.namespace("cache")
        await cache.put("k", b"v", ttl_s=2.0)
        assert (await cache.touch("k", 4.0)).found
        await world.sleep(3.0)
        assert (await cache.get("k")).found
        await world.sleep(2.0)
        assert not (await cache.get("k")).found

    play(scenario)


def test_scans_show_what_is_in_memory() -> None:
    async def scenario(world: World) -> None:
        client = await started(world)
        await client.namespace("cache").put_many({f"k{number:02}": b"v" for number in range(30)})
        assert [entry.key async for entry in client.namespace("cache").scan()] == [b"k%02d" % number for number in range(30)]

    play(scenario)


def test_tombstones_that_are_not_synced_are_written_with_the_stamp_of_their_reaping() -> None:
    """Else a power cut would show the value that lies before them on this disk, when they are forgotten elsewhere."""

    async def scenario(world: World) -> None:
        client = await started(world)
        unsynced = client.namespace("unsynced")
        await unsynced.put("k", b"v", w=3)
        await unsynced.delete("k", w=3)
        votes = world.local("n1").upkeep.reap_votes
        (key,) = on_disk(world, "n1", 2)
        ((found, record),) = votes._unsynced([key])
        assert (found, record) == (key, world.local("n1").store.durable(key))
        await client.put("k", b"v", w=3)
        (synced,) = on_disk(world, "n1", 1)
        assert votes._unsynced([synced]) == []

    play(scenario)
