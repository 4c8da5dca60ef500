"""Hints find their target when it is back, once, and never leave before it has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from kvproto.errors import StorageError
from kvstore.config import ClusterConfig
from kvstore.repair import hinted_handoff
from kvstore.storage.hints import HintTable
from tests.support.cluster import LONG, Cluster, gets, puts
from tests.support.engines import GatedEngine
from tests.support.waiting import turns, until

FIVE = ClusterConfig(partitions=16)
Deliver = Callable[[str], None]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(5, settings=FIVE) as running:
        yield running


@pytest.fixture
def deliver(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Deliver:
    """Lets a node hand over what it owes."""
    monkeypatch.setattr(hinted_handoff, "LOOK_S", 0.001)
    return lambda node: cluster.members[node].local.upkeep.handoff.start()


def key_and_nodes(cluster: Cluster) -> tuple[bytes, list[str], list[str]]:
    """A key of n1, its home replicas with n1 the first, and the others."""
    key = next(key for key in (b"key-%d" % at for at in range(99)) if cluster.owners(key)[0] == "n1")
    return key, cluster.owners(key), [node for node in cluster.ids if node not in cluster.owners(key)]


def owed(cluster: Cluster) -> dict[str, list[str]]:
    """Who owes whom."""
    return {node: targets for node in cluster.ids if (targets := cluster.members[node].local.hints.targets)}


async def test_a_home_replica_that_comes_back_is_handed_what_it_missed(cluster: Cluster, deliver: Deliver) -> None:
    key, homes, _ = key_and_nodes(cluster)
    cluster.isolate(homes[1])
    for at in range(3):
        await cluster.put("n1", key, b"v%d" % at, **LONG)
    assert cluster.held(homes[1], key) is None
    cluster.rejoin(homes[1])
    for node in cluster.ids:
        deliver(node)
    await until(lambda: cluster.held(homes[1], key) == cluster.held("n1", key))
    await until(lambda: owed(cluster) == {})


async def test_a_stand_in_keeps_nothing_once_its_target_has_it(cluster: Cluster, deliver: Deliver) -> None:
    key, homes, others = key_and_nodes(cluster)
    for home in homes[1:]:
        cluster.isolate(home)
    await cluster.put("n1", key, b"v", **LONG)
    await until(lambda: all(cluster.held(node, key) for node in others))
    for home in homes[1:]:
        cluster.rejoin(home)
    for node in others:
        deliver(node)
    await until(lambda: all(cluster.held(home, key) == cluster.held("n1", key) for home in homes))
    await until(lambda: not any(cluster.held(node, key) for node in others))
    for node in others:
        assert cluster.members[node].local.store.latest(cluster.store_key(key)) is None, "nor in its cache"
        hints = HintTable(cluster.clock)
        hints.load(cluster.members[node].engine)
        assert hints.count == 0, "nor on its disk"


async def test_a_hint_stays_until_the_target_has_acknowledged_it(cluster: Cluster, deliver: Deliver) -> None:
    """safety rule 11. 1. The target is back, its disk fails the record. 2. The hint and the copy stay. 3. It takes it: both go."""
    key, homes, others = key_and_nodes(cluster)
    for home in homes[1:]:
        cluster.isolate(home)
    await cluster.put("n1", key, b"v", **LONG)
    await until(lambda: all(cluster.held(node, key) for node in others))
    for home in homes[1:]:
        cluster.rejoin(home)
        for node in others:
            cluster.wire(node, home).error = StorageError("not now")
    for node in others:
        deliver(node)
    await turns(200)
    assert all(cluster.held(node, key) for node in others) and set(owed(cluster)) == set(others)
    for home in homes[1:]:
        for node in others:
            cluster.wire(node, home).error = None
    await until(lambda: owed(cluster) == {})
    assert all(cluster.held(home, key) for home in homes[1:])
    await until(lambda: cluster.held("n1", key))  # two stand-ins were enough for the answer: its own commit may come last


async def test_what_is_missed_again_while_it_is_handed_over_is_handed_over_again(cluster: Cluster, deliver: Deliver) -> None:
    key, homes, _ = key_and_nodes(cluster)
    cluster.isolate(homes[1])
    await cluster.put("n1", key, b"old", **LONG)
    (holder,) = owed(cluster)
    cluster.rejoin(homes[1])
    cluster.wire(holder, homes[1]).hold()
    deliver(holder)
    await until(lambda: cluster.wire(holder, homes[1]).waiting)
    hints = cluster.members[holder].local.hints
    pointers = hints.owe(homes[1], [cluster.store_key(key)])
    assert pointers == [], "it is known already"
    cluster.wire(holder, homes[1]).release()
    await until(lambda: cluster.held(homes[1], key))
    await until(lambda: cluster.wire(holder, homes[1]).messages >= 2 and owed(cluster) == {})


async def test_a_stand_in_that_minted_goes_on_under_a_new_actor_epoch_once_its_copy_is_gone(
    cluster: Cluster, deliver: Deliver
) -> None:
    """safety rule 2. 1. A stand-in mints X for a home replica, hands it over and deletes it. 2. It stands in again and mints Y,
    without having X. Under the old epoch the vector of Y would cover X's dot, and X would be dropped where they meet."""
    key, homes, others = key_and_nodes(cluster)
    stand_in = others[0]
    for home in homes:
        cluster.isolate(home)
    assert (await cluster.put(stand_in, key, b"X", **LONG)).error is None
    await until(lambda: cluster.held(others[1], key) is not None)
    actor = cluster.members[stand_in].local.ledger.actor
    for home in homes:
        cluster.rejoin(home)
    for node in cluster.ids:
        deliver(node)
    await until(lambda: owed(cluster) == {} and all(cluster.held(home, key) for home in homes))
    # Until the deletion is through, Y would be built on X, which is as good: it overwrites what the stand-in holds.
    await until(lambda: cluster.held(stand_in, key) is None)
    assert cluster.members[stand_in].local.ledger.actor != actor
    await cluster.members[stand_in].local.ledger.leased()
    for home in homes:
        cluster.isolate(home)
    assert (await cluster.put(stand_in, key, b"Y", **LONG)).error is None
    for home in homes:
        cluster.rejoin(home)
    await until(lambda: owed(cluster) == {})
    assert sorted((await cluster.run("n1", gets(key, **LONG)))[0].values) == [b"X", b"Y"]


async def test_many_records_go_in_batches(cluster: Cluster, deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hinted_handoff, "BATCH_BYTES_MAX", 2000)
    keys = [key for key in (b"key-%d" % at for at in range(400)) if "n1" in cluster.owners(key)]
    cluster.isolate("n1")
    for node in cluster.ids[1:]:
        await cluster.run(node, puts({key: b"v" * 100 for key in keys if cluster.owners(key)[1] == node}, **LONG))
    missed = sum(cluster.owners(key)[1] != "n1" for key in keys)
    # A write is answered when two have it; whoever takes the place of the third notes it when it comes.
    await until(lambda: sum(cluster.members[node].local.hints.pending("n1") for node in cluster.ids) == missed)
    cluster.rejoin("n1")
    for node in cluster.ids:
        deliver(node)
    await until(lambda: owed(cluster) == {})
    assert sum(cluster.members[node].local.upkeep.handoff.replayed for node in cluster.ids) == missed > 50
    for key in keys:
        assert cluster.held("n1", key) == cluster.held(cluster.owners(key)[1], key)


async def test_nothing_is_handed_over_while_the_target_is_away(cluster: Cluster, deliver: Deliver) -> None:
    key, homes, _ = key_and_nodes(cluster)
    cluster.isolate(homes[1])
    await cluster.put("n1", key, b"v", **LONG)
    (holder,) = owed(cluster)
    deliver(holder)
    await turns(100)
    assert cluster.wire(holder, homes[1]).messages == 0


async def test_bug_a_hint_was_handed_over_before_its_record_was_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """1. A stand-in takes a write; its disk is slow. 2. Its target comes back. 3. The handoff looked for the durable record, found
    none, took the hint for delivered and deleted it: the copy that counted stayed behind, and nobody was told of it."""
    monkeypatch.setattr(hinted_handoff, "LOOK_S", 0.001)
    async with Cluster(5, settings=FIVE, engine=GatedEngine) as cluster:
        key, homes, others = key_and_nodes(cluster)
        engines = [cluster.members[node].engine for node in others]
        for home in homes[1:]:
            cluster.isolate(home)
        for engine in engines:
            assert isinstance(engine, GatedEngine)
            engine.hold()
        cluster.start("n1", puts({key: b"v"}, **LONG))
        await until(lambda: set(owed(cluster)) == set(others))
        for home in homes[1:]:
            cluster.rejoin(home)
        for node in others:
            cluster.members[node].local.upkeep.handoff.start()
        await turns(200)
        assert set(owed(cluster)) == set(others)
        for engine in engines:
            engine.release()  # type: ignore[attr-defined]
        await until(lambda: owed(cluster) == {} and all(cluster.held(home, key) for home in homes))
