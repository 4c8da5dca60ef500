"""A batch about many large records is read, compared and overwritten a few of them at a time, whoever holds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kvproto.columns import GroupReply
from kvproto.errors import Overloaded, TooLarge
from kvstore.coordinator import minting
from kvstore.coordinator.get import LARGE_RECORD_BYTES
from kvstore.coordinator.minting import GROWN_BYTES_MAX
from kvstore.coordinator.read_round import ReadRound
from kvstore.storage.store import Store
from kvstore.transport import parts
from kvstore.transport.peers import FetchChunk
from tests.support.cluster import ALL, LONG, Answer, Cluster, gets, puts
from tests.support.engines import GatedEngine
from tests.support.waiting import turns, until

KIB = 1024
KEYS = [b"%03d" % at for at in range(100)]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as cluster:
        yield cluster


class Gate:
    """An allowance that is counted, and closed on demand."""

    def __init__(self) -> None:
        self.held_bytes = self.most_bytes = 0
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    @property
    def has_room(self) -> bool:
        return self.open.is_set()

    def charge(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self.most_bytes = max(self.most_bytes, self.held_bytes)

    def release(self, size_bytes: int) -> None:
        self.held_bytes -= size_bytes

    async def turn(self, operations: int) -> None:
        await asyncio.sleep(0)

    async def room(self) -> None:
        if self.error is not None:
            raise self.error
        await self.open.wait()


async def fill(cluster: Cluster, value_bytes: int) -> None:
    answer = await cluster.run("n1", puts({key: key * (value_bytes // len(key)) for key in KEYS}, **ALL, **LONG))
    assert all(answer[at].error is None for at in range(len(KEYS)))


def small_turns(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.members["n1"].local.coordinator._gets, "_turn_bytes_max", 64 * KIB)


async def test_large_values_are_read_in_turns_and_each_is_answered_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(cluster, 16 * KIB)
    small_turns(cluster, monkeypatch)
    gate, group = Gate(), gets(*KEYS, **LONG)
    answer = Answer([group])
    await cluster.members["n1"].local.coordinator.execute([group], answer.take, allowance=gate)
    told = await answer.complete()
    assert [told[at].value for at in range(100)] == [key * (16 * KIB // 3) for key in KEYS]
    assert gate.held_bytes == 0
    assert 64 * KIB <= gate.most_bytes <= 64 * KIB + 8 * 17 * KIB, "and not all 1,600 KiB at once"


async def test_nothing_more_is_read_while_the_client_has_not_taken_what_was(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cluster, 16 * KIB)
    small_turns(cluster, monkeypatch)
    gate, told = Gate(), 0

    def take(replies: list[GroupReply], last: bool) -> None:
        nonlocal told
        told += sum(len(reply.values) for reply in replies)
        gate.open.clear()

    work = asyncio.ensure_future(cluster.members["n1"].local.coordinator.execute([gets(*KEYS, **LONG)], take, allowance=gate))
    await until(lambda: told)
    await turns(20)
    assert told < 20 and not work.done()
    while not work.done():
        gate.open.set()
        await turns(20)
    assert told == 100


async def test_what_may_not_be_read_any_more_is_answered_with_why(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(cluster, 16 * KIB)
    small_turns(cluster, monkeypatch)
    gate, group = Gate(), gets(*KEYS, **LONG)
    gate.error = TooLarge("enough", subject="reply")
    answer = Answer([group])
    await cluster.members["n1"].local.coordinator.execute([group], answer.take, allowance=gate)
    told = await answer.complete()
    outcomes = [type(told[at].error) for at in range(100)]
    assert outcomes.count(TooLarge) > 80 and outcomes[0] is type(None)
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome is TooLarge)


async def test_what_only_the_others_hold_is_fetched_a_part_at_a_time(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """n1 lacks all of it, so that it cannot know how large the answers of the others are: they end where they are too much."""
    monkeypatch.setattr(parts, "GATHERED_BYTES_MAX", 100 * KIB)
    monkeypatch.setattr("kvstore.api.exchange.PART_BYTES_MAX", 50 * KIB)
    cluster.isolate("n1")
    answer = await cluster.run("n2", puts({key: key * (16 * KIB // 3) for key in KEYS}, **LONG))
    assert answer[0].error is None
    cluster.rejoin("n1")
    gate, group = Gate(), gets(*KEYS, **ALL, **LONG)
    answer = Answer([group])
    await cluster.members["n1"].local.coordinator.execute([group], answer.take, allowance=gate)
    told = await answer.complete()
    assert [told[at].error for at in range(100)] == [None] * 100
    assert [told[at].value for at in range(100)] == [key * (16 * KIB // 3) for key in KEYS]
    assert gate.held_bytes == 0
    assert gate.most_bytes <= 2 * (150 + 20) * KIB, "what two nodes may gather, and not twice 1,600 KiB"


async def test_a_batch_that_replaces_large_records_does_not_hold_all_of_them(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cluster, 4 * KIB)
    most = 0
    read = Store.durable_all

    def counted(store: Store, store_keys: list[bytes]) -> tuple[list[bytes | None], list[int]]:
        nonlocal most
        most = max(most, len(store_keys))
        return read(store, store_keys)

    monkeypatch.setattr(Store, "durable_all", counted)
    answer = await cluster.run("n1", puts(dict.fromkeys(KEYS, b"small"), **ALL, **LONG))
    assert all(answer[at].error is None for at in range(100))
    assert 0 < most <= 64
    again = await cluster.run("n2", gets(*KEYS, **ALL, **LONG))
    assert {again[at].value for at in range(100)} == {b"small"}
    assert most <= 64


async def test_small_writes_beside_large_siblings_are_minted_up_to_a_bound(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that knows nothing becomes a sibling: ten bytes then make a record of as much as the siblings have."""
    assert GROWN_BYTES_MAX >= 1024 * KIB
    monkeypatch.setattr(minting, "GROWN_BYTES_MAX", 40 * KIB)
    await fill(cluster, 16 * KIB)
    nothing = [b"\x01\0\0"] * 10
    answer = await cluster.run("n1", puts(dict.fromkeys(KEYS[:10], b"sibling"), contexts=nothing, **LONG))
    outcomes = [type(answer[at].error) for at in range(10)]
    assert outcomes == [type(None)] * 3 + [Overloaded] * 7
    told = await cluster.run("n1", gets(*KEYS[:10], **LONG))
    assert [told[at].count for at in range(10)] == [2] * 3 + [1] * 7, "what was refused was not applied"


async def test_repairs_that_are_under_way_are_bounded_in_bytes(cluster: Cluster) -> None:
    cluster.isolate("n3")
    await fill_at(cluster, "n1")
    cluster.rejoin("n3")
    cluster.clock.advance_s(1)
    repair = cluster.members["n1"].local.serving.read_repair
    repair._in_flight_bytes_max = 40 * KIB
    cluster.wire("n1", "n3").hold()
    reads = [asyncio.ensure_future(cluster.run("n1", gets(key, **ALL, **LONG))) for key in KEYS[:10]]
    await turns(20)
    cluster.wire("n1", "n3").release()
    await asyncio.gather(*reads)
    await until(lambda: repair._in_flight == 0)
    assert repair.dropped > 0 and repair.repaired > 0 and repair.dropped + repair.repaired == 10
    assert repair._in_flight_bytes == 0


async def fill_at(cluster: Cluster, node: str) -> None:
    answer = await cluster.run(node, puts({key: key * (16 * KIB // 3) for key in KEYS}, **LONG))
    assert all(answer[at].error is None for at in range(len(KEYS)))


async def put_where_the_own_disk_is_slow(cluster: Cluster, value: bytes) -> GatedEngine:
    """A put at n1 that n2 and n3 have acknowledged, and that n1's disk, which is returned, holds up."""
    engine = cluster.members["n1"].engine
    assert isinstance(engine, GatedEngine)
    engine.hold()
    assert (await cluster.put("n1", b"k", value)).error is None
    return engine


def fetched(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes how many records each answer to n1 brings from now on."""
    records: list[int] = []
    honest = ReadRound.take

    def take(round_: ReadRound, answer: FetchChunk, elapsed_s: float) -> None:
        records.append(len(answer.records))
        honest(round_, answer, elapsed_s)

    monkeypatch.setattr(ReadRound, "take", take)
    return records


async def test_a_large_value_that_is_on_its_way_to_the_own_disk_is_waited_for_and_not_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Cluster(engine=GatedEngine) as cluster:
        value = b"large" * (LARGE_RECORD_BYTES // 5 + 1)
        engine = await put_where_the_own_disk_is_slow(cluster, value)
        records = fetched(cluster, monkeypatch)
        answer = cluster.start("n1", gets(b"k", **LONG))
        await turns()
        assert not records, "nobody was asked"
        engine.release()
        assert (await answer.complete())[0].value == value
        assert records == [0]


@pytest.mark.parametrize(("size", "asked_first"), [(LARGE_RECORD_BYTES, "after a moment"), (100, "at once")])
async def test_a_disk_that_hangs_holds_up_no_read(size: int, asked_first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Cluster(engine=GatedEngine) as cluster:
        engine = await put_where_the_own_disk_is_slow(cluster, b"v" * size)
        records = fetched(cluster, monkeypatch)
        assert (await cluster.get("n1", b"k", **LONG)).value == b"v" * size
        assert records == [1], f"{asked_first} another one"
        engine.release()
