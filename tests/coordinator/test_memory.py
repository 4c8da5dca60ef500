"""What a coordinator keeps of operations that are over: nothing but of the last one, and without the help of the cycle collector,
which a node rarely runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from kvproto.columns import Level
from kvstore.transport.peers import FetchChunk, StoreChunk
from tests.support.cluster import Cluster, gets, puts
from tests.support.waiting import until

OF_ONE_OPERATION = 2
"""Chunks of the last one: the commit thread holds on to its last callback until the next."""


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def kept() -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, StoreChunk | FetchChunk)]


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM, Level.ALL])
async def test_bug_the_records_of_a_write_stayed_in_memory(level: Level) -> None:
    async with Cluster() as cluster:
        for at in range(10):
            answer = await cluster.run("n1", puts({b"a%d" % at: b"1", b"b%d" % at: b"2"}, level=level))
            assert all(told.error is None for told in answer.told.values())
        await until(lambda: len(kept()) <= OF_ONE_OPERATION)


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("level", [Level.QUORUM, Level.ALL])
async def test_bug_what_a_read_had_asked_stayed_in_memory(level: Level) -> None:
    async with Cluster() as cluster:
        await cluster.run("n1", puts({b"a": b"1", b"b": b"2"}))
        for _ in range(10):
            await cluster.run("n2", gets(b"a", b"b", level=level))
        await until(lambda: len(kept()) <= OF_ONE_OPERATION)
