"""Nodes that die, break off, stall or come back."""

from __future__ import annotations

import asyncio

import pytest

from kvclient import AsyncClient, AvailabilityError, NodeUnreachable
from tests.client.fake_server import FakeCluster
from tests.client.waiting import until


async def test_a_dead_node_s_keys_are_served_by_the_next_replica(cluster: FakeCluster, client: AsyncClient) -> None:
    keys = [f"k{number}" for number in range(100)]
    await client.put_many(dict.fromkeys(keys, b"v"))
    dead = cluster.nodes[0]
    await dead.stop()
    entries = await asyncio.gather(*(client.get(key) for key in keys))
    assert all(entry.value == b"v" for entry in entries)
    assert {entry.value for entry in (await client.get_many(keys)).values()} == {b"v"}
    await asyncio.gather(*(client.put(key, b"w") for key in keys))
    moved = next(key.encode() for key in keys if cluster.first_owner(key.encode()) is dead)
    second = cluster.owners(moved)[1]
    assert any(moved in group.keys for group in second.groups), "the second owner in preference order, not just any node"


@pytest.mark.usefixtures("by_convention")
async def test_a_node_that_comes_back_is_used_again(cluster: FakeCluster, client: AsyncClient) -> None:
    node = cluster.first_owner(b"k")
    await client.put("k", b"v")
    await node.stop()
    assert (await client.get("k")).value == b"v"
    await node.start()
    node.batches.clear()
    link = next(link for link in client.membership.all_links() if link.node_id == node.node_id)
    await until(lambda: link.up)
    assert (await client.get("k")).value == b"v"
    assert len(node.batches) == 1


async def test_a_write_whose_stream_breaks_is_retried_as_the_same_write(cluster: FakeCluster, client: AsyncClient) -> None:
    """1. The node executes the put and breaks off instead of answering. 2. The client cannot know, and repeats it elsewhere."""
    first, second = cluster.owners(b"k")[:2]
    first.hold = asyncio.Event()
    first.break_after = 1

    async def let_it_execute() -> None:
        await until(lambda: first.batches)
        cluster.store.write(first.groups[0], 0)
        await first.stop()

    done, _ = await asyncio.gather(client.put("k", b"v"), let_it_execute())
    assert cluster.store.executions == 1, "executed once, through two coordinators"
    assert first.groups[0].request_ids == second.groups[0].request_ids
    assert (first.groups[0].attempt, second.groups[0].attempt) == (0, 1)
    assert (await client.get("k")).version == done.version


async def test_many_writes_whose_stream_breaks_keep_their_ids(cluster: FakeCluster, client: AsyncClient) -> None:
    first = cluster.nodes[0]
    first.hold = asyncio.Event()
    items = {f"k{number}": b"v" for number in range(60)}

    async def break_off() -> None:
        await until(lambda: first.batches)
        for at in range(len(first.groups[0].keys)):
            cluster.store.write(first.groups[0], at)
        await first.stop()

    done, _ = await asyncio.gather(client.put_many(items), break_off())
    assert set(done) == set(items)
    assert cluster.store.executions == len(items), "no write was executed twice"


async def test_a_stalled_node_is_asked_whether_it_lives_and_then_left(cluster: FakeCluster, client: AsyncClient) -> None:
    """A process that is stopped answers neither data nor questions; its connection stays open."""
    await client.put("k", b"v")
    stalled = cluster.first_owner(b"k")
    stalled.hold_everything = asyncio.Event()
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    entries = await asyncio.gather(*(client.get("k") for _ in range(10)))
    assert all(entry.value == b"v" for entry in entries)
    assert loop.time() - started_s < 3.0, "well before the deadline of 5 s"
    started_s = loop.time()
    await client.get("k")
    assert loop.time() - started_s < 0.4, "known by now: nobody waits for it again"
    stalled.hold_everything.set()


async def test_a_slow_key_alone_does_not_make_a_node_suspect(cluster: FakeCluster, client: AsyncClient) -> None:
    node = cluster.first_owner(b"k")
    node.hold = asyncio.Event()  # data is held, questions are answered
    slow = asyncio.create_task(client.get("k"))
    await until(lambda: node.describes >= 2, timeout_s=5.0)
    assert not slow.done() and len(node.batches) == 1
    assert sum(len(other.batches) for other in cluster.nodes) == 1, "nothing was repeated elsewhere"
    node.hold.set()
    assert not (await slow).found


async def test_when_every_node_is_down_the_error_says_so_and_writes_were_not_applied(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.seeds, timeout_s=0.6) as client:
        await client.put("k", b"v")
        for node in cluster.nodes:
            await node.stop()
        with pytest.raises(AvailabilityError):
            await client.get("k")
        with pytest.raises(AvailabilityError) as raised:
            await client.put("fresh", b"v")
        assert raised.value.retryable


async def test_connecting_needs_only_one_seed_that_answers(cluster: FakeCluster) -> None:
    async with AsyncClient(f"127.0.0.1:1,{cluster.nodes[2].address}", timeout_s=5) as client:
        await client.put("k", b"v")
        assert {link.address for link in client.membership.all_links()} == {node.address for node in cluster.nodes}


async def test_connecting_to_nobody_names_every_address() -> None:
    with pytest.raises(NodeUnreachable, match=r"127\.0\.0\.1:1, 127\.0\.0\.1:2"):
        async with AsyncClient("127.0.0.1:1,127.0.0.1:2", timeout_s=0.3):
            raise AssertionError("connected to nobody")


async def test_an_address_map_overrides_what_nodes_advertise(cluster: FakeCluster) -> None:
    other = FakeCluster(1)
    async with other:
        there = {"n1": other.nodes[0].address}
        async with AsyncClient(cluster.nodes[1].address, address_map=there) as client:
            addresses = {link.node_id: link.address for link in client.membership.all_links()}
            assert addresses["n1"] == other.nodes[0].address and addresses["n2"] == cluster.nodes[1].address
