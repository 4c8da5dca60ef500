"""Operations travel together by themselves, and slow ones do not hold up the others."""

from __future__ import annotations

import asyncio

import pytest

from kvclient import AsyncClient
from kvclient.bulk import PIECE_KEYS_MAX
from tests.client.fake_server import FakeCluster
from tests.client.waiting import until


async def test_a_thousand_concurrent_gets_need_few_messages(cluster: FakeCluster, client: AsyncClient) -> None:
    keys = [f"k{number}" for number in range(1000)]
    await client.put_many({key: key.encode() for key in keys})
    before = cluster.batches
    entries = await asyncio.gather(*(client.get(key) for key in keys))
    assert [entry.value for entry in entries] == [key.encode() for key in keys]
    assert cluster.batches - before <= 6, "one message a node, or two when the first left alone"


@pytest.mark.usefixtures("by_convention")
async def test_different_operations_share_a_message_in_groups_of_their_own(cluster: FakeCluster, client: AsyncClient) -> None:
    keys = [f"k{number}" for number in range(200)]
    await asyncio.gather(*(client.put(key, b"1") for key in keys))
    before = [len(node.batches) for node in cluster.nodes]
    users = client.namespace("users")
    gets = [client.get(key) for key in keys]
    puts = [users.put(key, b"2") for key in keys]
    deletes = [client.delete(key, level="one") for key in keys]
    found, _, _ = await asyncio.gather(asyncio.gather(*gets), asyncio.gather(*puts), asyncio.gather(*deletes))
    assert all(entry.value == b"1" for entry in found)
    for node, count in zip(cluster.nodes, before, strict=True):
        assert len(node.batches) == count + 1
        assert len(node.batches[-1]) == 3


@pytest.mark.usefixtures("by_convention")
async def test_an_operation_goes_straight_to_the_first_owner(cluster: FakeCluster, client: AsyncClient) -> None:
    await asyncio.gather(*(client.put(f"k{number}", b"v") for number in range(100)))
    for node in cluster.nodes:
        keys = [key for group in node.groups for key in group.keys]
        assert keys and all(cluster.first_owner(key) is node for key in keys)


async def test_replies_in_parts_reach_those_they_are_for(cluster: FakeCluster, client: AsyncClient) -> None:
    for node in cluster.nodes:
        node.answer_in_parts = True
    keys = [f"k{number}" for number in range(101)]
    await asyncio.gather(*(client.put(key, key.encode()) for key in keys))
    entries = await asyncio.gather(*(client.get(key) for key in keys))
    assert [entry.value for entry in entries] == [key.encode() for key in keys]
    many = await client.get_many(keys)
    assert {key: entry.value for key, entry in many.items()} == {key: key.encode() for key in keys}
    done = await client.put_many(dict.fromkeys(keys, b"2"))
    assert len({result.version for result in done.values()}) == len(keys)


async def test_a_batch_that_takes_long_holds_up_the_next_only_for_a_moment(cluster: FakeCluster, client: AsyncClient) -> None:
    node = cluster.first_owner(b"k")
    node.hold = asyncio.Event()
    slow = asyncio.create_task(client.get("k"))
    await until(lambda: node.batches)
    fast = asyncio.create_task(client.get("k", level="one"))
    await until(lambda: len(node.batches) == 2, timeout_s=1.0)
    assert not slow.done(), "the second left although the first was not answered"
    node.hold.set()
    await asyncio.gather(slow, fast)


async def test_many_keys_are_cut_into_pieces(cluster: FakeCluster, client: AsyncClient) -> None:
    items = {f"k{number}": b"v" for number in range(9000)}
    await client.put_many(items)
    for node in cluster.nodes:
        assert all(len(batch[0].keys) <= 2 * PIECE_KEYS_MAX for batch in node.batches), "a batch is at most two pieces"
    assert sum(len(group.keys) for node in cluster.nodes for group in node.groups) == len(items)
    assert len(await client.get_many(items)) == len(items)


async def test_large_values_are_cut_by_bytes(cluster: FakeCluster, client: AsyncClient) -> None:
    value = bytes(100 * 1024)
    await client.put_many({f"k{number}": value for number in range(60)})
    sizes = [sum(len(value) for group in batch for value in group.values) for node in cluster.nodes for batch in node.batches]
    assert max(sizes) <= 300 * 1024 and len(sizes) >= 20


async def test_small_calls_of_many_share_a_group(cluster: FakeCluster, client: AsyncClient) -> None:
    calls = [client.get_many([f"a{number}", f"b{number}", f"c{number}"]) for number in range(100)]
    results = await asyncio.gather(*calls)
    assert all(list(result) == [f"a{number}", f"b{number}", f"c{number}"] for number, result in enumerate(results))
    assert all(len(batch) == 1 for node in cluster.nodes for batch in node.batches)
    assert cluster.batches <= 6


async def test_a_caller_that_gave_up_costs_no_message(cluster: FakeCluster, client: AsyncClient) -> None:
    task = asyncio.create_task(client.get("k"))
    await asyncio.sleep(0)  # it has queued its operation
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.get("other")
    assert [key for node in cluster.nodes for group in node.groups for key in group.keys] == [b"other"]
