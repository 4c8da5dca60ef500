from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench.client_handle import start_client
from tests.bench.client_process import Requests, describe, disturbed
from tests.bench.etcd_client import EtcdClient
from tests.bench.fakes import MemoryTarget, fake_etcd
from tests.bench.processes import BenchError
from tests.bench.workload import MANY_KEYS, VALUE_BYTES, Workload

SMALL = 3_000
LOOP = {"seed": "s", "in_flight": 4, "seconds": 0.05, "warm_up_s": 0.0}


async def loaded(**options: bytes) -> tuple[Requests, MemoryTarget]:
    target = MemoryTarget(**options)
    requests = Requests(target, Workload(keys=SMALL))
    await requests.load()
    return requests, target


async def test_loading_puts_every_key_once_with_a_value_of_the_stated_size() -> None:
    _, target = await loaded()
    assert len(target.items) == SMALL
    assert {len(value) for value in target.items.values()} == {VALUE_BYTES}


async def test_puts_gets_and_bulk_puts_are_counted_in_keys() -> None:
    requests, _ = await loaded()
    for kind, keys_per_call in (("put", 1), ("get", 1), ("mix", 1), ("many", MANY_KEYS)):
        figures = await requests.closed(kind=kind, **LOOP)  # type: ignore[arg-type]
        assert not figures["errors"]
        assert figures["rate_per_s"] == pytest.approx(figures["answered"] * keys_per_call / 0.05)
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["p100_ms"]


async def test_a_miss_or_a_value_of_another_length_is_an_error_never_a_fast_read() -> None:
    requests, target = await loaded()
    target.items = dict.fromkeys(target.items, b"short")
    assert set((await requests.closed(kind="get", **LOOP))["errors"]) == {"AssertionError"}  # type: ignore[arg-type]
    target.items.clear()
    assert set((await requests.closed(kind="get", **LOOP))["errors"]) == {"KeyError"}  # type: ignore[arg-type]


async def test_the_same_seed_gives_both_sides_the_same_operations_and_another_seed_others() -> None:
    assert Workload(keys=SMALL).order("1/put/64") == Workload(keys=SMALL).order("1/put/64")
    assert Workload(keys=SMALL).order("1/put/64") != Workload(keys=SMALL).order("2/put/64")


async def test_slow_keys_are_found_by_asking_and_the_load_beside_them_uses_the_others() -> None:
    requests, _ = await loaded(slow_endings=b"37")
    assert await requests.classify() == {"fine": 800, "slow": 200}
    figures = await requests.paced(seed="s", rate_per_s=1_000, seconds=0.05, beside="slow", callers=2, only_fine=True)
    assert figures["answered"] == 50
    assert figures["beside_calls"] > 0


async def test_large_values_are_put_and_read_back_beside_the_load() -> None:
    requests, target = await loaded()
    figures = await requests.paced(seed="s", rate_per_s=1_000, seconds=0.05, beside="large", callers=1)
    assert figures["beside_calls"] > 0
    assert len(target.items[b"bench/large/0"]) == 1_000_000


async def test_a_disturbance_that_fails_ends_the_measurement_with_its_error() -> None:
    async def operation(_caller: int) -> None:
        raise ConnectionError("refused")

    with pytest.raises(ExceptionGroup) as caught:
        async with disturbed(operation, callers=1):
            await asyncio.Event().wait()
    assert describe(caught.value) == "ConnectionError: refused"


async def test_etcd_operations_take_turns_among_the_members_and_bulk_puts_are_transactions_of_64() -> None:
    async with fake_etcd() as first, fake_etcd() as second:
        client = EtcdClient([first.address, second.address])
        await client.put(b"a", b"1")
        await client.put(b"b", b"2")
        assert (first.items, second.items) == ({b"a": b"1"}, {b"b": b"2"})
        assert await client.get(b"a") == b"1"
        with pytest.raises(KeyError):
            await client.get(b"a")
        await client.put_many({b"%03d" % i: b"v" for i in range(200)})
        assert sorted(first.txn_sizes + second.txn_sizes) == [8, 64, 64, 64]
        assert first.calls == second.calls == 4
        await client.close()


async def test_a_client_process_measures_and_reports_what_it_cannot_do(tmp_path: Path) -> None:
    async with fake_etcd() as member:
        client = await start_client("etcd", [member.address], log=tmp_path / "log")
        try:
            figures = await client.closed(kind="put", **LOOP)
            assert figures.answered > 0
            assert set(member.items) <= set(Workload().keys)
            member.items.clear()
            with pytest.raises(BenchError, match=r"operations of \d+ failed: \{'KeyError'"):
                await client.closed(kind="get", **LOOP)
            with pytest.raises(BenchError, match="KeyError: 'scan'"):
                await client.closed(kind="scan", **LOOP)
        finally:
            await client.stop()
    with pytest.raises(BenchError, match="ended with"):
        await client.load()
