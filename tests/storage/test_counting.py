"""How many keys a node holds: told by the hash trees, and read only where those do not know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest

from tests.support.cluster import ALL, LONG, Cluster, puts

KEYS = [b"%03d" % at for at in range(100)]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as cluster:
        answer = await cluster.run("n1", puts(dict.fromkeys(KEYS, b"v"), **ALL, **LONG))
        assert all(answer[at].error is None for at in range(len(KEYS)))
        yield cluster


async def test_a_count_is_shared_by_those_who_ask_meanwhile(cluster: Cluster) -> None:
    replica = cluster.members["n1"].local.replica
    counted, count = 0, replica._count_keys

    def slow_count(known: Mapping[bytes, int], is_all: bool) -> int:
        nonlocal counted
        counted += 1
        return count(known, is_all)

    replica._count_keys = slow_count  # type: ignore[method-assign]
    assert await asyncio.gather(*(replica.count_keys() for _ in range(50))) == [100] * 50
    assert counted == 1
    assert await replica.count_keys() == 100 and counted == 2


@pytest.mark.parametrize("unknown", [False, True])
async def test_bug_a_look_at_the_status_read_every_record(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, unknown: bool
) -> None:
    """`kv status` scanned all that each node held to count it: with 100,000 keys every look took a node a tenth of a second of its
    processor. Only what is under a tree that nobody knows is read now."""
    local = cluster.members["n1"].local
    prefix = local.view.space("default").prefixes[local.view.ring.partition_of(KEYS[0])]
    forest, scan, keys = local.storage.forest, local.engine.scan, local.engine.keys
    read: list[bytes] = []
    assert forest is not None
    if unknown:
        forest.mark_unknown([prefix])

    def recording(start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for pair in scan(start, end):
            read.append(pair[0])
            yield pair

    def recording_keys(start: bytes, end: bytes | None = None) -> Iterator[bytes]:
        for key in keys(start, end):
            read.append(key)
            yield key

    monkeypatch.setattr(local.engine, "scan", recording)
    monkeypatch.setattr(local.engine, "keys", recording_keys)
    assert await local.replica.count_keys() == 100
    if unknown:
        assert any(key.startswith(prefix) for key in read) and len(read) < 50, "one look at the first key of each tree"
    else:
        assert read == []
