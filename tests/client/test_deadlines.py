"""The deadline covers everything, and says whether a write may have been applied."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kvclient import AsyncClient, BatchError, DeadlineExceeded
from kvclient.errors import ClientClosed
from kvproto.errors import AvailabilityError, Overloaded
from tests.client.fake_server import FakeCluster
from tests.client.waiting import until


@pytest.fixture
def held(cluster: FakeCluster) -> FakeCluster:
    """Every node takes batches and answers questions, but decides nothing."""
    for node in cluster.nodes:
        node.hold = asyncio.Event()
    return cluster


async def test_a_write_that_was_sent_is_unknown_when_the_deadline_passes(held: FakeCluster, client: AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    with pytest.raises(DeadlineExceeded) as raised:
        await client.put("k", b"v", timeout_s=0.1)
    assert 0.1 <= loop.time() - started_s < 1.0
    assert raised.value.may_have_applied and raised.value.retryable


async def test_a_read_is_not_unknown_when_the_deadline_passes(held: FakeCluster, client: AsyncClient) -> None:
    with pytest.raises(DeadlineExceeded) as raised:
        await client.get("k", timeout_s=0.1)
    assert not raised.value.may_have_applied


async def test_a_write_that_was_never_sent_was_certainly_not_applied(held: FakeCluster, client: AsyncClient) -> None:
    """The first write takes the link's place; the second one's time is over before that is free again."""
    node = held.first_owner(b"k")
    first = asyncio.create_task(client.put("k", b"1", timeout_s=0.5))
    await until(lambda: node.batches)
    with pytest.raises(DeadlineExceeded) as raised:
        await client.put("k", b"2", timeout_s=0.001)
    assert not raised.value.may_have_applied
    assert [group.values for group in node.groups] == [[b"1"]]
    first.cancel()


async def test_each_operation_of_a_batch_has_a_deadline_of_its_own(held: FakeCluster, client: AsyncClient) -> None:
    node = held.first_owner(b"k")
    short = asyncio.create_task(client.get("k", timeout_s=0.1))
    long = asyncio.create_task(client.get("k", timeout_s=5.0))
    with pytest.raises(DeadlineExceeded):
        await short
    assert not long.done() and len(node.groups) == 1
    left_ms = node.groups[0].timeouts_ms
    assert len(left_ms) == 2 and 50 <= left_ms[0] <= 101 and 4_900 <= left_ms[1] <= 5_001
    assert node.hold is not None
    node.hold.set()
    assert not (await long).found


async def test_equal_deadlines_travel_as_one_number(cluster: FakeCluster, client: AsyncClient) -> None:
    await asyncio.gather(*(client.get("k") for _ in range(50)))
    assert all(len(group.timeouts_ms) == 1 for group in cluster.first_owner(b"k").groups)


async def test_many_keys_that_run_out_of_time_are_each_in_the_error(held: FakeCluster, client: AsyncClient) -> None:
    for node in held.nodes[1:]:
        assert node.hold is not None
        node.hold.set()
    keys = [f"k{number}" for number in range(50)]
    with pytest.raises(BatchError) as raised:
        await client.put_many(dict.fromkeys(keys, b"v"), timeout_s=0.2)
    lost = {key for key in keys if held.first_owner(key.encode()) is held.nodes[0]}
    assert set(raised.value.errors) == lost and set(raised.value.results) == set(keys) - lost
    assert all(isinstance(error, DeadlineExceeded) and error.may_have_applied for error in raised.value.errors.values())


async def test_pieces_that_never_left_run_out_of_time_with_the_call(held: FakeCluster, client: AsyncClient) -> None:
    with pytest.raises(BatchError) as raised:
        await client.put_many({f"k{number}": b"v" for number in range(30_000)}, timeout_s=1.5)
    outcomes = {error.may_have_applied for error in raised.value.errors.values()}
    assert len(raised.value.errors) == 30_000 and outcomes == {True, False}


async def test_retrying_ends_with_the_deadline(cluster: FakeCluster, client: AsyncClient) -> None:
    for node in cluster.nodes:
        node.errors = [Overloaded("busy", retry_after_s=0.03)] * 100
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    # The last refusal may arrive on either side of the deadline when the machine is busy.
    with pytest.raises((Overloaded, DeadlineExceeded)):
        await client.get("k", timeout_s=0.2)
    assert loop.time() - started_s < 2


async def test_an_idle_client_has_no_timer(cluster: FakeCluster, client: AsyncClient) -> None:
    await client.put("k", b"v")
    dispatcher = client.dispatcher
    assert dispatcher is not None
    await until(lambda: not dispatcher.is_sweeping)
    await client.get("k")


async def test_closing_ends_what_is_under_way(held: FakeCluster) -> None:
    client = AsyncClient(held.seeds)
    await client.connect()
    put = asyncio.create_task(client.put("k", b"v"))
    many = asyncio.create_task(client.get_many([f"k{number}" for number in range(20_000)]))
    await until(lambda: held.first_owner(b"k").batches)
    await client.close()
    with pytest.raises(ClientClosed) as raised:
        await put
    assert raised.value.may_have_applied
    with pytest.raises(BatchError):
        await many
    with pytest.raises(ClientClosed):
        await client.get("k")
    await client.close()


@pytest.mark.parametrize("operation", ["put", "get", "delete", "put_many", "get_many", "scan"])
async def test_bug_the_first_operation_of_a_client_waited_for_a_node_beyond_its_deadline(operation: str) -> None:
    """It connects first, and that took the client's timeout whatever the operation's own was, and then the operation's as well."""
    client = AsyncClient("127.0.0.1:1", timeout_s=60)
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "put": lambda: client.put("k", b"v", timeout_s=0.3),
        "get": lambda: client.get("k", timeout_s=0.3),
        "delete": lambda: client.delete("k", timeout_s=0.3),
        "put_many": lambda: client.put_many({"k": b"v"}, timeout_s=0.3),
        "get_many": lambda: client.get_many(["k"], timeout_s=0.3),
        "scan": lambda: anext(client.scan(timeout_s=0.3)),
    }
    with pytest.raises(AvailabilityError):
        await calls[operation]()
    assert loop.time() - started_s < 5
    await client.close()


async def test_an_operation_that_waits_for_another_to_connect_gives_up_by_its_own_deadline() -> None:
    client = AsyncClient("127.0.0.1:1", timeout_s=60)
    patient = asyncio.ensure_future(client.get("k"))
    await asyncio.sleep(0)
    with pytest.raises(AvailabilityError):
        await client.get("k", timeout_s=0.2)
    assert not patient.done()
    patient.cancel()
    await client.close()
