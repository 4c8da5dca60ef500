"""Tombstones go when nothing can come back any more, and not before (core/reaping.py); what has expired becomes one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kvproto.columns import Level
from kvproto.errors import AvailabilityError, BadRequest
from kvstore.config import ClusterConfig
from kvstore.core.record import decode, digest
from kvstore.storage.tombstones import ReapStamps
from kvstore.telemetry.node import Telemetry
from kvstore.transport.peers import ReapQuestion, ReapStep, StoreChunk
from tests.support.cluster import ALL, Cluster
from tests.support.engines import RottingEngine
from tests.support.waiting import until

GRACE_S = 80.0
SETTINGS = ClusterConfig(partitions=8, tombstone_grace_s=GRACE_S)
TO_FIRST_LOOK_S, TO_SECOND_LOOK_S = 31.0, 51.0


class Swept(Cluster):
    """A cluster whose durations go by its manual clock, and whose sweeps run when they are told to."""

    def __init__(self, nodes: int = 4, settings: ClusterConfig = SETTINGS) -> None:
        super().__init__(
            nodes, settings=settings, engine=RottingEngine, telemetry=lambda: Telemetry(lambda: self.clock.time_ms / 1000)
        )

    async def after(self, seconds: float) -> None:
        """Time passes, and every node sweeps once."""
        self.clock.advance_s(seconds)
        for node in self.ids:
            await self.members[node].local.upkeep.reaper.sweep()

    async def deleted(self, key: bytes) -> None:
        """A key that was written and deleted, and everybody knows."""
        await self.put("n1", key, b"v", **ALL)
        assert (await self.delete("n1", key, **ALL)).error is None

    def holders(self, key: bytes) -> list[str]:
        return [node for node in self.ids if self.held(node, key) is not None]

    def coordinator(self, key: bytes) -> str:
        return self.owners(key)[0]

    def outsider(self, key: bytes) -> str:
        return next(node for node in self.ids if node not in self.owners(key))


@pytest.fixture
async def cluster() -> AsyncIterator[Swept]:
    async with Swept() as running:
        yield running


async def test_a_tombstone_is_reaped_everywhere_after_the_grace(cluster: Swept) -> None:
    await cluster.deleted(b"k")
    await cluster.after(TO_FIRST_LOOK_S)
    await cluster.after(TO_SECOND_LOOK_S)
    assert cluster.holders(b"k") == []
    assert sum(member.local.upkeep.reap_votes.reaped for member in cluster.members.values()) == 3
    assert (await cluster.get("n1", b"k", **ALL)).value is None
    assert (await cluster.put("n1", b"k", b"again", **ALL)).error is None
    assert (await cluster.get("n2", b"k", **ALL)).value == b"again"


async def test_a_tombstone_stays_until_the_grace_has_passed(cluster: Swept) -> None:
    await cluster.deleted(b"k")
    await cluster.after(TO_FIRST_LOOK_S - 2)  # too young for a first look
    await cluster.after(TO_SECOND_LOOK_S)  # the first look
    await cluster.after(TO_SECOND_LOOK_S - 2)
    assert len(cluster.holders(b"k")) == 3
    await cluster.after(2)
    assert cluster.holders(b"k") == []


async def test_values_are_never_reaped(cluster: Swept) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    for _ in range(4):
        await cluster.after(GRACE_S)
    assert (await cluster.get("n1", b"k", **ALL)).value == b"v"


@pytest.mark.parametrize("away", ["owner", "outsider"])
async def test_nothing_is_reaped_while_a_node_cannot_be_asked(cluster: Swept, away: str) -> None:
    """Whoever is away may hold what the tombstone has superseded, or a hint for it."""
    await cluster.deleted(b"k")
    node = cluster.owners(b"k")[1] if away == "owner" else cluster.outsider(b"k")
    await cluster.after(TO_FIRST_LOOK_S)
    cluster.isolate(node)
    await cluster.after(TO_SECOND_LOOK_S)
    assert len(cluster.holders(b"k")) == 3
    cluster.rejoin(node)
    await cluster.after(TO_SECOND_LOOK_S)
    await cluster.after(TO_SECOND_LOOK_S)
    assert cluster.holders(b"k") == []


async def test_an_owner_that_holds_something_else_objects(cluster: Swept) -> None:
    """1. One owner misses the delete and still has the value. 2. No look is passed. 3. It is repaired: two looks and it is over."""
    await cluster.put("n1", b"k", b"v", **ALL)
    behind = cluster.owners(b"k")[2]
    cluster.isolate(behind)
    await cluster.delete(cluster.coordinator(b"k"), b"k", level=Level.EXPLICIT, w=2)
    cluster.rejoin(behind)
    for node in cluster.ids:  # neither hints nor anti-entropy: only the looks
        cluster.members[node].local.hints._targets.clear()
        cluster.members[node].local.hints.count = 0
    await cluster.after(GRACE_S)
    await cluster.after(GRACE_S)
    assert len(cluster.holders(b"k")) == 3
    assert cluster.members[cluster.coordinator(b"k")].local.upkeep.reaper.objections == 2
    assert (await cluster.get("n1", b"k", **ALL)).value is None
    await until(lambda: len({cluster.held(node, b"k") for node in cluster.owners(b"k")}) == 1)
    await cluster.after(TO_FIRST_LOOK_S)
    await cluster.after(TO_SECOND_LOOK_S)
    assert cluster.holders(b"k") == []


async def test_whoever_owes_the_key_to_somebody_objects(cluster: Swept) -> None:
    await cluster.deleted(b"k")
    outsider = cluster.members[cluster.outsider(b"k")].local
    outsider.hints.owe(cluster.owners(b"k")[1], [cluster.store_key(b"k")])
    await cluster.after(GRACE_S)
    await cluster.after(GRACE_S)
    assert len(cluster.holders(b"k")) == 3


async def test_an_owner_whose_record_is_lost_objects(cluster: Swept) -> None:
    await cluster.deleted(b"k")
    member = cluster.members[cluster.owners(b"k")[1]]
    assert isinstance(member.engine, RottingEngine)
    member.engine.damaged.add(cluster.store_key(b"k"))
    member.local.store._cache.clear()
    await cluster.after(GRACE_S)
    await cluster.after(GRACE_S)
    assert len(cluster.holders(b"k")) == 3


async def test_a_record_that_changed_between_the_looks_begins_anew(cluster: Swept) -> None:
    await cluster.deleted(b"k")
    await cluster.after(TO_FIRST_LOOK_S)
    await cluster.deleted(b"k")
    await cluster.after(TO_SECOND_LOOK_S)
    await cluster.after(TO_FIRST_LOOK_S)
    assert len(cluster.holders(b"k")) == 3
    await cluster.after(TO_SECOND_LOOK_S)
    assert cluster.holders(b"k") == []


async def test_an_owner_that_missed_the_end_is_caught_up_with(cluster: Swept) -> None:
    """1. The last message does not reach one owner, and a read gives its tombstone back to another. 2. Two more looks, and all is
    over: to hold nothing is no objection."""
    await cluster.deleted(b"k")
    key, (first, second, third) = cluster.store_key(b"k"), cluster.owners(b"k")
    record = cluster.held(first, b"k")
    assert record is not None
    for node in (first, second):
        await cluster.members[node].local.upkeep.reap_votes.answer(ReapQuestion(ReapStep.REAP, [key], digest(record), 7))
    assert cluster.holders(b"k") == [third]
    cluster.clock.advance_s(1)
    assert (await cluster.get(second, b"k", **ALL)).value is None
    await until(lambda: len(cluster.holders(b"k")) == 3)
    await cluster.members[second].local.upkeep.reap_votes.answer(ReapQuestion(ReapStep.REAP, [key], digest(record), 8))
    await cluster.after(TO_FIRST_LOOK_S)
    await cluster.after(TO_SECOND_LOOK_S)
    assert cluster.holders(b"k") == []


async def test_a_late_message_does_not_bring_back_what_was_reaped(cluster: Swept) -> None:
    """safety rule 9. 1. The record of a put hangs on its way to an owner. 2. The key is deleted everywhere, and the tombstone
    reaped. 3. The message arrives: it is older than half the grace, and refused."""
    first, second, _ = cluster.owners(b"k")
    cluster.wire(first, second).hold()
    await cluster.put(first, b"k", b"v", level=Level.EXPLICIT, w=2)
    hanging, cluster.wire(first, second).waiting = cluster.wire(first, second).waiting, []
    cluster.wire(first, second).release()
    assert len(hanging) == 1
    await cluster.delete(first, b"k", **ALL)
    for node in cluster.ids:
        cluster.members[node].local.hints._targets.clear()
        cluster.members[node].local.hints.count = 0
    await cluster.after(TO_FIRST_LOOK_S)
    await cluster.after(TO_SECOND_LOOK_S)
    assert cluster.holders(b"k") == []
    hanging[0]()
    await until(lambda: cluster.members[second].local.upkeep.freshness.refused == 1)
    assert cluster.holders(b"k") == []


async def test_a_message_is_as_old_as_the_oldest_record_in_it(cluster: Swept) -> None:
    """A record that waited in its sender's memory is late, though the message was made just now."""
    await cluster.put("n1", b"k", b"v", **ALL)
    first, second, _ = cluster.owners(b"k")
    record, key = cluster.held(first, b"k"), cluster.store_key(b"k")
    assert record is not None
    answered: asyncio.Future[StoreChunk] = asyncio.get_running_loop().create_future()
    old_ms = cluster.clock.now_ms() - int(GRACE_S * 500) - 1
    until_s = asyncio.get_running_loop().time() + 10
    chunk = StoreChunk(second, [key], [record], 99, until_s, answered.set_result, since_ms=old_ms)
    cluster.members[first].peers.store(chunk)
    refused = await answered
    assert isinstance(refused.error, AvailabilityError) and refused.error.retryable
    assert refused.error.limit == GRACE_S * 500


async def all_have_swept(cluster: Swept, before: bytes | None) -> None:
    """Each sweeps in its own time, and what it makes is durable a moment after it was counted."""

    def held() -> set[bytes | None]:
        return {cluster.held(node, b"k") for node in cluster.owners(b"k")}

    await until(lambda: len(held()) == 1 and before not in held())


async def test_what_has_expired_becomes_the_same_tombstone_everywhere(cluster: Swept) -> None:
    await cluster.put("n1", b"k", b"v", ttls_ms=[5000], **ALL)
    before = cluster.held(cluster.coordinator(b"k"), b"k")
    await cluster.after(4.9)
    assert cluster.held(cluster.coordinator(b"k"), b"k") == before
    await cluster.after(0.1)

    await all_have_swept(cluster, before)
    assert all(cluster.members[node].local.upkeep.reaper.expired == (node in cluster.owners(b"k")) for node in cluster.ids)
    record = cluster.held(cluster.coordinator(b"k"), b"k")
    assert record is not None and before is not None
    (sibling,) = decode(record).siblings
    assert sibling.tombstone and not sibling.value
    assert decode(record).vector == decode(before).vector


async def test_what_has_expired_is_reaped_as_any_tombstone(cluster: Swept) -> None:
    await cluster.put("n1", b"k", b"v", ttls_ms=[5000], **ALL)
    before = cluster.held(cluster.coordinator(b"k"), b"k")
    await cluster.after(5)
    await all_have_swept(cluster, before)
    await cluster.after(TO_FIRST_LOOK_S)
    await cluster.after(TO_SECOND_LOOK_S)
    assert cluster.holders(b"k") == []


async def test_a_value_that_expired_covers_what_it_superseded_at_a_replica_that_missed_it(cluster: Swept) -> None:
    """safety rule 10. Y with a time to live overwrites X, expires and is swept; a replica that missed Y must not bring X back."""
    await cluster.put("n1", b"k", b"x", **ALL)
    behind = cluster.owners(b"k")[2]
    cluster.isolate(behind)
    await cluster.put(cluster.coordinator(b"k"), b"k", b"y", ttls_ms=[1000], level=Level.EXPLICIT, w=2)
    await cluster.after(1)
    cluster.rejoin(behind)
    assert (await cluster.get(behind, b"k", **ALL)).value is None
    assert (await cluster.get(behind, b"k", **ALL)).value is None


async def test_a_clock_that_is_ahead_ends_nothing_for_good(cluster: Swept) -> None:
    """The clock of one node is an hour ahead. 1. Its own reads take the value for absent. 2. Its sweep asks the others for the time
    and leaves the record alone. 3. Its clock is put right, and the value is there."""
    await cluster.put("n1", b"k", b"v", ttls_ms=[60_000], **ALL)
    ahead = cluster.members[cluster.coordinator(b"k")].local
    right_ms = ahead.clock.now_ms
    ahead.upkeep.reaper._clock = type(cluster.clock)(right_ms() + 3_600_000)
    await cluster.after(0)
    assert ahead.upkeep.reaper.expired == 0
    assert (await cluster.get("n1", b"k", **ALL)).value == b"v"


async def test_nothing_ends_for_good_where_no_majority_tells_the_time(cluster: Swept) -> None:
    await cluster.put("n1", b"k", b"v", ttls_ms=[1000], **ALL)
    node = cluster.coordinator(b"k")
    cluster.isolate(node)
    cluster.clock.advance_s(2)
    await cluster.members[node].local.upkeep.reaper.sweep()
    assert cluster.members[node].local.upkeep.reaper.expired == 0


async def test_the_stamps_of_a_reaping_are_durable(cluster: Swept) -> None:
    """Every owner has agreed durably before any has reaped, and remembers that it did."""
    await cluster.deleted(b"k")
    partition = int.from_bytes(cluster.store_key(b"k")[:2], "big")
    await cluster.after(TO_FIRST_LOOK_S)
    assert all(ReapStamps(member.engine).all() == {} for member in cluster.members.values())
    await cluster.after(TO_SECOND_LOOK_S)
    stamps = [ReapStamps(cluster.members[node].engine).all()[partition] for node in cluster.owners(b"k")]
    assert len(set(stamps)) == 1 and stamps[0][0] == stamps[0][1] > 0


async def test_a_reaper_whose_stamps_are_from_an_older_disk_reaps_nothing_with_them(cluster: Swept) -> None:
    await cluster.deleted(b"k")
    partition = int.from_bytes(cluster.store_key(b"k")[:2], "big")
    later = cluster.clock.now_ms() + 10_000_000
    cluster.members[cluster.owners(b"k")[1]].local.upkeep.stamps.note([partition], later, reaped=True)
    await cluster.after(TO_FIRST_LOOK_S)
    await cluster.after(TO_SECOND_LOOK_S)
    assert len(cluster.holders(b"k")) == 3


async def test_keys_and_digests_that_do_not_fit_are_refused(cluster: Swept) -> None:
    with pytest.raises(BadRequest):
        await cluster.members["n1"].peers.reap("n2", ReapQuestion(ReapStep.REAP, [cluster.store_key(b"k")], b"short"), 1.0)
    with pytest.raises(BadRequest):
        await cluster.members["n1"].peers.reap("n2", ReapQuestion(ReapStep.CONFIRM, [b"\xff" * 9], bytes(8)), 1.0)


async def test_a_cluster_of_one_node_reaps_by_itself() -> None:
    async with Swept(1) as alone:
        await alone.put("n1", b"k", b"v")
        await alone.delete("n1", b"k")
        await alone.after(TO_FIRST_LOOK_S)
        await alone.after(TO_SECOND_LOOK_S)
        assert alone.holders(b"k") == []
