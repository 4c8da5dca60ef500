"""Stale and lost records: what a read notices, what it brings up to date, and what it may never take for an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kvproto.errors import QuorumUnreachable, RecordLost, StorageError
from kvstore.storage.layout import quarantine_key
from tests.support.cluster import ALL, LONG, ONE, Cluster, gets, puts
from tests.support.engines import RottingEngine, rotten
from tests.support.waiting import until


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(engine=RottingEngine) as running:
        yield running


def damage(cluster: Cluster, node: str, key: bytes) -> None:
    """The medium of `node` now gives other bytes for `key`; nothing of it is cached any more."""
    member = cluster.members[node]
    assert isinstance(member.engine, RottingEngine)
    member.engine.damaged.add(cluster.store_key(key))
    member.local.store._cache.clear()


def quarantined(cluster: Cluster, node: str) -> int:
    return cluster.members[node].local.store.quarantined


def same_everywhere(cluster: Cluster, key: bytes) -> bool:
    return len({cluster.held(node, key) for node in cluster.ids}) == 1


async def test_a_read_brings_a_stale_replica_up_to_date_after_its_reply(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"old", **ALL)
    cluster.isolate("n3")
    await cluster.put("n1", b"k", b"new")
    cluster.rejoin("n3")
    assert not same_everywhere(cluster, b"k")
    cluster.clock.advance_s(1)
    assert (await cluster.get("n1", b"k", **ALL)).value == b"new"
    await until(lambda: same_everywhere(cluster, b"k"))
    repair = cluster.members["n1"].local.serving.read_repair
    await until(lambda: repair.repaired == 1)
    assert repair.dropped == 0


@pytest.mark.parametrize("off_s", [0.0, 0.4, -0.4])
async def test_what_is_on_its_way_is_neither_asked_for_further_nor_sent_again(cluster: Cluster, off_s: float) -> None:
    await cluster.put("n1", b"k", b"old", **ALL)
    cluster.isolate("n3")
    await cluster.put("n1", b"k", b"new")
    cluster.rejoin("n3")
    cluster.clock.advance_s(off_s)
    member = cluster.members["n1"]
    assert (await cluster.get("n1", b"k", **ALL)).value == b"new"
    assert not member.local.serving.read_repair._jobs and cluster.held("n3", b"k") != cluster.held("n1", b"k")
    assert (await cluster.get("n3", b"k", **ALL)).value == b"new", "it is shown all the same, also by who has not got it yet"
    assert cluster.held("n3", b"k") != cluster.held("n1", b"k")


@pytest.mark.parametrize("off_s", [1.0, -1.0])
async def test_what_should_have_come_is_sent_also_where_the_writers_clock_was_wrong(cluster: Cluster, off_s: float) -> None:
    cluster.isolate("n3")
    await cluster.put("n1", b"k", b"new")
    cluster.rejoin("n3")
    cluster.clock.advance_s(off_s)
    assert (await cluster.get("n1", b"k", **ALL)).value == b"new"
    await until(lambda: same_everywhere(cluster, b"k"))


async def test_a_lost_record_is_repaired_however_young_it_is(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    damage(cluster, "n1", b"k")
    assert (await cluster.get("n1", b"k", **LONG)).value == b"v"
    await until(lambda: quarantined(cluster, "n1") == 0)


async def test_a_stale_coordinator_answers_what_the_others_know_and_repairs_itself(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"old", **ALL)
    cluster.isolate("n3")
    await cluster.put("n1", b"k", b"new")
    await cluster.put("n1", b"only there", b"v")
    cluster.rejoin("n3")
    cluster.clock.advance_s(1)
    answer = await cluster.run("n3", gets(b"k", b"only there", b"nowhere"))
    assert [answer[at].value for at in range(3)] == [b"new", b"v", None]
    await until(lambda: same_everywhere(cluster, b"k") and same_everywhere(cluster, b"only there"))


async def test_both_sides_of_a_cut_are_brought_together_by_one_read(cluster: Cluster) -> None:
    cluster.isolate("n3")
    await cluster.put("n3", b"k", b"left", **ONE)
    await cluster.put("n1", b"k", b"right")
    cluster.rejoin("n3")
    cluster.clock.advance_s(1)
    assert sorted((await cluster.get("n2", b"k", **ALL)).values) == [b"left", b"right"]
    await until(lambda: same_everywhere(cluster, b"k"))


async def test_a_replica_that_agrees_is_sent_nothing(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    await cluster.get("n1", b"k", **ALL)
    assert cluster.members["n1"].local.serving.read_repair.repaired == 0


async def test_past_its_bound_repairs_are_dropped_and_counted(cluster: Cluster) -> None:
    cluster.isolate("n3")
    await cluster.run("n1", puts({b"a": b"1", b"b": b"2"}))
    cluster.rejoin("n3")
    cluster.clock.advance_s(1)
    cluster.members["n1"].local.serving.read_repair._in_flight_max = 1
    await cluster.run("n1", gets(b"a", b"b", **ALL))
    await until(lambda: cluster.members["n1"].local.serving.read_repair.dropped == 2)


async def test_a_lost_record_is_no_answer_and_the_others_give_one(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    damage(cluster, "n1", b"k")
    assert (await cluster.get("n1", b"k", **LONG)).value == b"v"
    damage(cluster, "n2", b"k")
    told = await cluster.get("n1", b"k", **ALL, **LONG)
    assert isinstance(told.error, QuorumUnreachable) and told.error.received <= 2


async def test_a_lost_record_is_not_a_not_found(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    damage(cluster, "n1", b"k")
    cluster.isolate("n1")
    told = await cluster.get("n1", b"k", **ONE, **LONG)
    assert isinstance(told.error, QuorumUnreachable) and told.error.received == 0


async def test_a_lost_record_is_repaired_by_the_merge_of_all_others(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    expected = cluster.held("n2", b"k")
    damage(cluster, "n1", b"k")
    epoch = cluster.members["n1"].local.ledger.actor
    assert (await cluster.get("n1", b"k", **LONG)).value == b"v"
    await until(lambda: quarantined(cluster, "n1") == 0)
    assert cluster.held("n1", b"k") == expected
    assert cluster.members["n1"].engine.get(quarantine_key(cluster.store_key(b"k"))) == rotten(expected or b"")
    assert cluster.members["n1"].local.ledger.actor != epoch, "safety rule 2: dots of the lost record may not be minted again"
    await cluster.members["n1"].local.ledger.leased()
    assert (await cluster.put("n1", b"k", b"new", **ALL)).count == 1


async def test_a_lost_record_is_not_repaired_while_one_of_the_others_is_away(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    cluster.isolate("n3")
    damage(cluster, "n1", b"k")
    assert (await cluster.get("n2", b"k", **ONE)).value == b"v"
    told = await cluster.get("n1", b"k", **LONG)
    assert isinstance(told.error, QuorumUnreachable)
    assert quarantined(cluster, "n1") == 1
    cluster.rejoin("n3")
    assert (await cluster.get("n1", b"k", **LONG)).value == b"v"
    await until(lambda: quarantined(cluster, "n1") == 0)


async def test_bug_a_lost_record_was_repaired_although_another_replica_had_lost_it_too(cluster: Cluster) -> None:
    """1. A write is acknowledged by n1 and n2; n3 missed it. 2. Both lose the record. 3. A read at n1 hears n2 ("lost") and n3
    (an older record), took the two for all others, and made the older record n1's vote: the acknowledged write was gone."""
    await cluster.put("n1", b"k", b"old", **ALL)
    cluster.isolate("n3")
    await cluster.put("n1", b"k", b"acknowledged")
    cluster.rejoin("n3")
    damage(cluster, "n1", b"k")
    damage(cluster, "n2", b"k")
    told = await cluster.get("n1", b"k", **LONG)
    assert isinstance(told.error, QuorumUnreachable) and told.error.received <= 1
    await until(lambda: cluster.members["n1"].local.coordinator.in_flight == 0)
    assert quarantined(cluster, "n1") == quarantined(cluster, "n2") == 1
    assert isinstance((await cluster.get("n2", b"k", **LONG)).error, QuorumUnreachable)


async def test_bug_a_lost_record_that_no_other_replica_had_stayed_lost_for_ever(cluster: Cluster) -> None:
    """1. A write that was never acknowledged is on n1 only. 2. n1 loses it. 3. The others vouch for holding nothing; n1 waited for
    more, refused every write of the key, and no read at level `all` could be answered again."""
    cluster.isolate("n1")
    await cluster.put("n1", b"k", b"never acknowledged", **ONE)
    damage(cluster, "n1", b"k")
    cluster.rejoin("n1")
    assert isinstance((await cluster.get("n1", b"k", **ALL, **LONG)).error, QuorumUnreachable)
    await until(lambda: quarantined(cluster, "n1") == 0)
    told = await cluster.get("n2", b"k", **ALL, **LONG)
    assert told.error is None and told.values == []
    await until(lambda: same_everywhere(cluster, b"k"))
    await cluster.members["n1"].local.ledger.leased()
    assert (await cluster.put("n1", b"k", b"new", **ALL)).count == 1
    for node in cluster.ids:
        assert (await cluster.get(node, b"k", **ALL)).value == b"new"


async def test_a_lost_record_of_which_there_is_no_other_replica_is_never_absent() -> None:
    async with Cluster(1, engine=RottingEngine) as cluster:
        await cluster.put("n1", b"k", b"v", **ONE)
        damage(cluster, "n1", b"k")
        for _ in range(2):
            told = await cluster.get("n1", b"k", **ONE, **LONG)
            assert isinstance(told.error, QuorumUnreachable)
            await until(lambda: cluster.members["n1"].local.coordinator.in_flight == 0)
        assert quarantined(cluster, "n1") == 1


async def test_a_write_of_a_lost_record_is_refused_here_and_taken_elsewhere(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    damage(cluster, "n1", b"k")
    answer = await cluster.run("n1", puts({b"j": b"1", b"k": b"2"}))
    assert answer[0].error is None
    assert isinstance(answer[1].error, RecordLost) and answer[1].error.retryable
    told = await cluster.put("n2", b"k", b"2")
    assert told.error is None and told.receipt is not None
    assert (await cluster.get("n3", b"k")).value == b"2"


async def test_bug_a_receipt_named_a_replica_that_had_refused_the_key(cluster: Cluster) -> None:
    """1. n2 has lost one of two keys of a batch. 2. It acknowledges the other and refuses the lost one. 3. The receipt of the
    refused one listed it among those who hold the write; a read's listed a replica that could not vouch for the key."""
    answer = await cluster.run("n1", puts({b"lost": b"1", b"well": b"1"}, **ALL))
    damage(cluster, "n2", b"lost")
    cluster.wire("n1", "n3").hold()
    cluster.wire("n3", "n1").hold()
    work = cluster.start("n1", puts({b"lost": b"2", b"well": b"2"}, **LONG))
    await until(lambda: work.told)
    assert list(work.told) == [(0, 1)]
    cluster.wire("n1", "n3").release()
    cluster.wire("n3", "n1").release()
    answer = await work.complete()
    well, lost = answer[1].receipt, answer[0].receipt
    assert well is not None and sorted(well.acknowledged) == ["n1", "n2"]
    assert lost is not None and sorted(lost.acknowledged) == ["n1", "n3"]
    read = await cluster.run("n2", gets(b"lost", b"well", **LONG))
    well, lost = read[1].receipt, read[0].receipt
    assert well is not None and well.acknowledged[0] == "n2"
    assert lost is not None and sorted(lost.acknowledged) == ["n1", "n3"]


async def test_a_damaged_record_from_a_peer_is_no_answer(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"old", **ALL)
    cluster.isolate("n1")
    await cluster.put("n2", b"k", b"new")
    cluster.rejoin("n1")
    for node in ("n2", "n3"):
        member = cluster.members[node]
        member.local.store._cache.records[cluster.store_key(b"k")] = rotten(cluster.held(node, b"k") or b"")
    told = await cluster.get("n1", b"k", **LONG)
    assert isinstance(told.error, QuorumUnreachable) and told.error.received <= 1
    for node in ("n2", "n3"):
        cluster.members[node].local.store._cache.records[cluster.store_key(b"k")] = cluster.held(node, b"k") or b""


async def test_a_failed_repair_is_counted_and_harms_nobody(cluster: Cluster) -> None:
    cluster.isolate("n3")
    await cluster.put("n1", b"k", b"v")
    cluster.rejoin("n3")
    cluster.clock.advance_s(1)
    answer = cluster.start("n1", gets(b"k", **ALL))
    wire = cluster.wire("n1", "n3")
    await until(lambda: answer.done)
    wire.error = StorageError("full")
    await until(
        lambda: (
            cluster.members["n1"].local.serving.read_repair.dropped + cluster.members["n1"].local.serving.read_repair.repaired == 1
        )
    )
    wire.error = None
    assert (await cluster.get("n3", b"k")).value == b"v"
