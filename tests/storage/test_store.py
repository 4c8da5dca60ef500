"""The store: reads rest on what is durable, merges on what was accepted, and damage is never an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproto.errors import KvError, Overloaded, RecordLost, StorageError
from kvproto.link import LinkBounds
from kvstore.core.merkle.forest import Forest
from kvstore.core.record import (
    NO_DIGEST,
    decode,
    digest,
    encode,
)
from kvstore.core.record_writes import (
    first_record,
    merge_records,
    overwrite,
)
from kvstore.core.versions import Record, Sibling, make_dot
from kvstore.runtime import SystemClock
from kvstore.storage.commit import Committer
from kvstore.storage.hints import HintTable
from kvstore.storage.layout import quarantine_key, store_key_prefix
from kvstore.storage.record_cache import RECORD_OVERHEAD_BYTES
from kvstore.storage.registers import Registers
from kvstore.storage.replica import Replica
from kvstore.storage.store import Store
from tests.support.engines import GatedEngine, RottingEngine, rotten
from tests.support.waiting import turns, until

PREFIX = store_key_prefix(0, 1)
MIB = 1024 * 1024
K, J = PREFIX + b"k", PREFIX + b"j"


def record_of(actor: int, counter: int, value: bytes = b"v") -> bytes:
    """A record with one write."""
    return first_record(make_dot(b"%012d" % actor, counter), b"%016d" % (actor * 1000 + counter), counter, 0, value)


def values_of(record: bytes | None) -> list[bytes]:
    return [] if record is None else sorted(sibling.value for sibling in decode(record).siblings)


class Rig:
    """A store over an engine, and what its callers were told."""

    def __init__(self, engine: Any, *, cache_bytes_max: int = 1 << 20, bounds: LinkBounds | None = None) -> None:
        self.engine = engine
        self.quarantined: list[bytes] = []
        self.told: list[tuple[KvError | None, list[int]]] = []
        self.committer = Committer(engine, sync=True, on_failure=lambda error: None, bounds=bounds)
        self.store = Store(engine, self.committer, cache_bytes_max=cache_bytes_max, on_quarantine=self.quarantined.append)
        registers = Registers(engine, self.committer, cache_bytes_max=cache_bytes_max)
        self.replica = Replica(
            self.store, engine, 1, HintTable(SystemClock()), clock=SystemClock(), registers=registers, linearizable=frozenset()
        )

    def merge(self, *pairs: tuple[bytes, bytes]) -> None:
        self.store.merge(
            [key for key, _ in pairs], [record for _, record in pairs], lambda error, refused: self.told.append((error, refused))
        )

    async def merged(self, *pairs: tuple[bytes, bytes]) -> tuple[KvError | None, list[int]]:
        count = len(self.told)
        self.merge(*pairs)
        await until(lambda: len(self.told) > count)
        return self.told[-1]

    def forget(self) -> None:
        """Empties the cache."""
        self.store._cache.clear()

    async def close(self) -> None:
        if isinstance(self.engine, GatedEngine):
            self.engine.release()
        self.store.check()
        await self.committer.close()
        self.replica.close()


@pytest.fixture
async def gated() -> AsyncIterator[Rig]:
    rig = Rig(GatedEngine())
    yield rig
    await rig.close()


@pytest.fixture
async def rotting() -> AsyncIterator[Rig]:
    rig = Rig(RottingEngine())
    yield rig
    await rig.close()


async def test_reads_see_a_record_only_once_it_is_durable(gated: Rig) -> None:
    gated.engine.hold()
    gated.merge((K, record_of(1, 1)))
    assert gated.store.durable(K) is None
    assert gated.store.latest(K) == record_of(1, 1) and gated.store.is_pending(K)
    await turns(20)
    assert gated.told == []
    gated.engine.release()
    await until(lambda: gated.told)
    assert gated.store.durable(K) == record_of(1, 1) and not gated.store.is_pending(K)


async def test_comparisons_see_only_what_is_durable(gated: Rig) -> None:
    await gated.merged((K, record_of(1, 1)))
    gated.engine.hold()
    gated.merge((K, record_of(2, 1)))
    found = gated.replica.compare([K, J], digest(record_of(1, 1)) + NO_DIGEST, MIB, MIB)
    assert found.differing == [] and found.lost == []
    gated.engine.release()
    await until(lambda: len(gated.told) == 2)
    found = gated.replica.compare([J, K], digest(record_of(1, 1)) + NO_DIGEST, MIB, MIB)
    assert found.differing == [0, 1] and found.records == [b"", merge_records(record_of(1, 1), record_of(2, 1))]


async def test_a_comparison_stops_where_its_bytes_end_and_says_where(gated: Rig) -> None:
    keys = [b"%06d" % at for at in range(5)]
    records = [record_of(1, at + 1) for at in range(5)]
    size_bytes = len(records[0])
    assert {len(record) for record in records} == {size_bytes}
    await gated.merged(*zip(keys[1:], records[1:], strict=True))
    digests = [NO_DIGEST, NO_DIGEST, digest(records[2]), NO_DIGEST, NO_DIGEST]

    def compare(bytes_max: int, first: int = 0) -> tuple[list[int], int]:
        found = gated.replica.compare(keys[first:], b"".join(digests[first:]), bytes_max, MIB)
        assert [records[first + position] for position in found.differing] == list(found.records)
        return found.differing, found.rest_from

    assert compare(3 * size_bytes) == ([1, 3, 4], 0), "all that differ fit"
    assert compare(3 * size_bytes - 1) == ([1, 3], 4)
    assert compare(1) == ([1], 3), "one always does"
    assert compare(1, first=3) == ([0], 1), "what is asked for again goes on from there"
    assert compare(1, first=4) == ([0], 0)


async def test_a_record_that_fits_into_no_message_counts_as_lost(gated: Rig) -> None:
    await gated.merged((K, record_of(1, 1)), (J, record_of(1, 2)))
    found = gated.replica.compare([K, J], NO_DIGEST + NO_DIGEST, MIB, len(record_of(1, 1)) - 1)
    assert (found.lost, found.differing, found.rest_from) == ([0, 1], [], 0)


async def test_a_merge_builds_on_what_is_still_on_its_way_to_the_disk(gated: Rig) -> None:
    gated.engine.hold()
    gated.merge((K, record_of(1, 1, b"x")))
    gated.merge((K, record_of(2, 1, b"y")))
    gated.merge((K, record_of(3, 1, b"z")))
    assert values_of(gated.store.latest(K)) == [b"x", b"y", b"z"]
    gated.engine.release()
    await until(lambda: len(gated.told) == 3)
    assert values_of(gated.store.durable(K)) == values_of(gated.engine.get(K)) == [b"x", b"y", b"z"]


async def test_what_adds_nothing_waits_for_what_it_equals(gated: Rig) -> None:
    gated.engine.hold()
    gated.merge((K, record_of(1, 1)))
    gated.merge((K, record_of(1, 1)))
    await turns(20)
    assert gated.told == []
    gated.engine.release()
    await until(lambda: len(gated.told) == 2)
    writes = len(gated.engine.batches)
    gated.merge((K, record_of(1, 1)))
    assert gated.told[2] == (None, []) and len(gated.engine.batches) == writes, "durable already: answered at once, nothing written"


async def test_one_key_twice_in_a_batch_is_merged_in_order(gated: Rig) -> None:
    assert await gated.merged((K, record_of(1, 1, b"x")), (J, record_of(1, 2)), (K, record_of(2, 1, b"y"))) == (None, [])
    assert values_of(gated.engine.get(K)) == [b"x", b"y"]


async def test_a_failed_commit_leaves_the_durable_record_in_sight(gated: Rig) -> None:
    await gated.merged((K, record_of(1, 1, b"old")))
    gated.engine.fail_next()
    error, _ = await gated.merged((K, record_of(2, 1, b"new")))
    assert isinstance(error, StorageError) and error.may_have_applied
    assert values_of(gated.store.durable(K)) == [b"old"]
    with pytest.raises(StorageError):
        gated.store.admit(1, 1)


async def test_damaged_records_are_refused_and_the_others_taken(gated: Rig) -> None:
    structure = b"\x01" + record_of(1, 1)[1:5] + b"\xff" * 40
    assert await gated.merged((K, rotten(record_of(1, 1))), (J, record_of(1, 2)), (K, b""), (K, structure)) == (None, [0, 2, 3])
    assert gated.store.latest(K) is None and gated.store.durable(J) == record_of(1, 2)


async def test_columns_of_different_lengths_are_refused_and_nothing_is_staged(gated: Rig) -> None:
    told: list[KvError | None] = []
    gated.replica.merge([K, J], [record_of(1, 1)], lambda error, refused: told.append(error))
    assert told[0] is not None and gated.store.latest(K) is None


async def test_more_than_may_wait_is_refused_before_it_is_staged() -> None:
    rig = Rig(GatedEngine(), bounds=LinkBounds(queue_count_max=1))
    rig.engine.hold()
    rig.merge((K, record_of(1, 1)))
    await until(lambda: rig.engine.batches)
    rig.merge((K, record_of(2, 1)))
    told: list[KvError | None] = []
    rig.replica.merge([J], [record_of(1, 1)], lambda error, refused: told.append(error))
    assert isinstance(told[0], Overloaded) and rig.store.latest(J) is None
    await rig.close()


# --- the cache


@settings(max_examples=60)
@given(data=st.data(), cache_bytes_max=st.sampled_from([0, 1, 700, 1500, 100_000]))
def test_eviction_never_loses_a_record_and_the_accounts_are_right(data: st.DataObject, cache_bytes_max: int) -> None:
    engine = RottingEngine()
    store = Store(engine, _Immediate(engine), cache_bytes_max=cache_bytes_max)  # type: ignore[arg-type]
    model: dict[bytes, bytes] = {}
    for counter in range(1, data.draw(st.integers(1, 25)) + 1):
        key = PREFIX + data.draw(st.sampled_from([b"a", b"b", b"c", b"d"]))
        if data.draw(st.booleans()):
            record = record_of(data.draw(st.integers(1, 3)), counter, bytes(data.draw(st.integers(0, 300))))
            model[key] = record if key not in model else merge_records(model[key], record)
            store.merge([key], [record], lambda error, refused: None)
        assert store.durable(key) == model.get(key) == store.latest(key)
        store.check()


@settings(max_examples=80)
@given(data=st.data())
def test_a_message_with_keys_that_come_again_comes_to_what_its_records_come_to_one_by_one(data: st.DataObject) -> None:
    """Records of a few keys, most of them minted on the one before, in one message; some messages come before it."""
    latest: dict[tuple[bytes, int], bytes] = {}
    rows: list[tuple[bytes, bytes]] = []
    for counter in range(1, data.draw(st.integers(2, 20)) + 1):
        key, actor = PREFIX + data.draw(st.sampled_from([b"a", b"b", b"c"])), data.draw(st.sampled_from([1, 1, 1, 2]))
        base = latest.get((key, actor))
        dot, request_id = make_dot(b"%012d" % actor, counter), counter.to_bytes(6, "big") + bytes([actor]) * 10
        record = (
            first_record(dot, request_id, counter, 0, b"v")
            if base is None
            else overwrite(base, dot, request_id, counter, 0, b"w", bytes(6), 8)
        )
        assert record is not None
        latest[key, actor] = record
        rows.append((key, record))
    cut = data.draw(st.integers(0, len(rows) - 1))

    def run(messages: list[list[tuple[bytes, bytes]]], *, intact: bool) -> dict[bytes, bytes]:
        engine, forest, told = RottingEngine(), Forest(), list[list[int]]()
        store = Store(engine, _Immediate(engine), cache_bytes_max=1000, forest=forest)  # type: ignore[arg-type]
        for message in messages:
            keys, records = [key for key, _ in message], [record for _, record in message]
            store.merge(keys, records, lambda error, refused: told.append(refused), intact=intact)
        store.check()
        held = dict(engine.scan(b""))
        forest.check(PREFIX, held.items())
        assert told == [[]] * len(messages) and not store.pending
        return held

    assert run([rows[:cut], rows[cut:]], intact=True) == run([[row] for row in rows], intact=False)


class _Immediate:
    """A committer whose disk takes no time."""

    failure = None

    def __init__(self, engine: RottingEngine) -> None:
        self._engine = engine

    def submit(self, commit: Any) -> None:
        self._engine.write(commit.pairs, sync=True)
        commit.done(None)


async def test_a_record_that_is_read_often_is_read_from_the_disk_once(rotting: Rig) -> None:
    await rotting.merged((K, record_of(1, 1)))
    rotting.forget()
    reads = rotting.engine.reads
    for _ in range(10):
        assert rotting.store.durable(K) == record_of(1, 1)
    assert rotting.engine.reads == reads + 1


async def test_the_cache_keeps_within_its_bound() -> None:
    rig = Rig(RottingEngine(), cache_bytes_max=10 * (RECORD_OVERHEAD_BYTES + 110))
    for at in range(100):
        await rig.merged((PREFIX + b"%03d" % at, record_of(1, at + 1)))
    rig.store.check()
    assert 2 <= len(rig.store._cache.records) <= 11
    assert all(rig.store.durable(PREFIX + b"%03d" % at) == record_of(1, at + 1) for at in range(100))
    await rig.close()


# --- quarantine


def lost(call: Callable[[], object]) -> None:
    with pytest.raises(RecordLost) as caught:
        call()
    assert caught.value.retryable


async def test_a_damaged_record_is_set_aside_once_and_never_served(rotting: Rig) -> None:
    await rotting.merged((K, record_of(1, 1)), (J, record_of(1, 2)))
    rotting.forget()
    rotting.engine.damaged.add(K)
    for _ in range(3):
        lost(lambda: rotting.store.durable(K))
        lost(lambda: rotting.store.latest(K))
    assert rotting.store.quarantined == 1 and rotting.quarantined == [K]
    found = rotting.replica.compare([K, J], NO_DIGEST + digest(record_of(1, 2)), MIB, MIB)
    assert found.lost == [0] and found.differing == []
    await until(lambda: rotting.engine.get(quarantine_key(K)))
    assert rotting.engine.get(quarantine_key(K)) == rotten(record_of(1, 1))
    assert sum(key.startswith(quarantine_key(b"")) for key, _ in rotting.engine.scan(b"")) == 1


async def test_a_record_that_cannot_be_read_at_all_is_lost_too(rotting: Rig) -> None:
    await rotting.merged((K, record_of(1, 1)))
    rotting.forget()
    rotting.engine.unreadable.add(K)
    lost(lambda: rotting.store.durable(K))
    assert rotting.store.quarantined == 1 and rotting.quarantined == [K]


async def test_merging_into_a_lost_key_is_refused(rotting: Rig) -> None:
    await rotting.merged((K, record_of(1, 1)))
    rotting.forget()
    rotting.engine.damaged.add(K)
    assert await rotting.merged((K, record_of(2, 1)), (J, record_of(1, 1))) == (None, [0])
    lost(lambda: rotting.store.durable(K))


async def test_damage_shows_in_pages_as_lost_keys(rotting: Rig) -> None:
    await rotting.merged((K, record_of(1, 1)), (J, record_of(1, 2)))
    rotting.engine.damaged.add(K)
    page = await rotting.replica.page(1, b"", b"", 10, 1 << 20)
    assert (page.keys, page.lost, page.more) == ([b"j"], [b"k"], False)


async def test_a_lost_record_is_answered_again_once_its_repair_is_durable(rotting: Rig) -> None:
    await rotting.merged((K, record_of(1, 1, b"old")))
    rotting.forget()
    rotting.engine.damaged.add(K)
    lost(lambda: rotting.store.durable(K))
    told: list[KvError | None] = []
    rotting.store.repair_lost(K, record_of(2, 1, b"repaired"), told.append)
    await until(lambda: told)
    assert told == [None] and rotting.store.quarantined == 0
    assert values_of(rotting.store.durable(K)) == [b"repaired"]


async def test_bug_a_read_while_a_repair_was_written_counted_the_key_as_lost_for_ever() -> None:
    """1. A lost record is being repaired, its commit waits for the disk. 2. A read finds the old bytes and sets them aside
    again. 3. The repair is durable, and the key stayed quarantined; the second find also began another actor epoch."""
    engine = GatedEngine()
    rig = Rig(engine)
    engine.write([(K, rotten(record_of(1, 1)))], sync=True)
    lost(lambda: rig.store.durable(K))
    await until(lambda: engine.get(quarantine_key(K)))
    engine.hold()
    told: list[KvError | None] = []
    rig.store.repair_lost(K, record_of(1, 1), told.append)
    lost(lambda: rig.store.durable(K))
    assert rig.quarantined == [K]
    engine.release()
    await until(lambda: told)
    assert rig.store.quarantined == 0 and rig.store.durable(K) == record_of(1, 1)
    await rig.close()


async def test_bug_a_repair_took_back_a_write_accepted_before_the_loss_was_noticed() -> None:
    """1. A write is merged into a good record and waits for the disk. 2. The record, no longer cached, turns out to be damaged
    and is repaired from the others, who have not got the write. 3. The repair replaced what this replica was about to vouch
    for."""
    engine = GatedEngine()
    rig = Rig(engine, cache_bytes_max=0)
    await rig.merged((K, record_of(1, 1, b"old")))
    engine.hold()
    rig.merge((K, record_of(2, 1, b"accepted")))
    rig.forget()
    told: list[KvError | None] = []
    rig.store.repair_lost(K, record_of(1, 1, b"old"), told.append)
    engine.release()
    await until(lambda: told)
    assert values_of(rig.store.durable(K)) == values_of(engine.get(K)) == [b"accepted", b"old"]
    await rig.close()


async def test_bug_a_late_repair_took_back_what_was_written_since_the_first() -> None:
    """1. Two reads find a record damaged and ask the others. 2. The first repairs it; a write is minted on the repaired record,
    made durable and acknowledged. 3. The second read's repair, of what the others held before, replaced it: the next write here
    was minted over a record without it, under a vector that covers it, and the acknowledged write was gone everywhere."""
    engine = RottingEngine()
    rig = Rig(engine, cache_bytes_max=0)
    await rig.merged((K, record_of(1, 1, b"old")))
    engine.damaged.add(K)
    rig.forget()
    told: list[KvError | None] = []
    rig.store.repair_lost(K, record_of(1, 1, b"old"), told.append)
    await until(lambda: len(told) == 1)
    await rig.merged((K, record_of(2, 1, b"acknowledged")))
    rig.store.repair_lost(K, record_of(1, 1, b"old"), told.append)
    await until(lambda: len(told) == 2)
    assert values_of(rig.store.durable(K)) == values_of(engine.get(K)) == [b"acknowledged", b"old"]
    await rig.close()


# --- pages


async def test_pages_are_cut_by_count_and_by_bytes_and_say_that_there_is_more(rotting: Rig) -> None:
    for at in range(10):
        await rotting.merged(
            (PREFIX + b"%d" % at, encode(Record({b"a" * 12: 1}, (Sibling(make_dot(b"a" * 12, 1), value=bytes(100)),))))
        )
    page = await rotting.replica.page(1, b"2", b"8", 3, 1 << 20)
    assert (page.keys, page.more) == ([b"2", b"3", b"4"], True)
    page = await rotting.replica.page(1, b"2", b"8", 100, 1)
    assert (page.keys, page.more) == ([b"2"], True)
    page = await rotting.replica.page(1, b"2", b"8", 6, 1 << 20)
    assert len(page.keys) == 6
    assert await rotting.replica.count_keys() == 10
    assert (await rotting.replica.page(2, b"", b"", 10, 1 << 20)).keys == []


async def test_bug_a_node_with_a_block_that_cannot_be_read_could_not_say_how_it_is(
    rotting: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. A block of a table fails its checksum. 2. `kv status` counts the keys, reads that block, and the node answered nothing: it
    looked as if it were down while it served. Found by F18."""
    await rotting.merged(*((PREFIX + b"%d" % at, record_of(1, 1)) for at in range(3)))
    scan = rotting.engine.scan

    def damaged(start: bytes, end: bytes | None = None) -> Any:
        for count, pair in enumerate(scan(start, end)):
            if count == 2:
                raise StorageError("block checksum mismatch")
            yield pair

    monkeypatch.setattr(rotting.engine, "scan", damaged)
    assert await rotting.replica.count_keys() == 2


async def test_a_page_that_cannot_be_read_is_an_error_not_a_short_page(rotting: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(start: bytes, end: bytes | None = None) -> Any:
        yield PREFIX + b"a", record_of(1, 1)
        raise StorageError("block checksum mismatch")

    monkeypatch.setattr(rotting.engine, "scan", broken)
    with pytest.raises(StorageError, match="could not be read"):
        await rotting.replica.page(1, b"", b"", 10, 1 << 20)
