"""Links and retries over a transport that answers when the test says so: interleavings that a network gives only by luck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kvclient import AsyncClient, BatchError, KvError, NodeUnreachable, Overloaded
from kvproto.columns import ClusterInfo, GroupReply, Kind
from kvproto.errors import BadRequest, ShuttingDown
from kvproto.link import LinkBounds
from tests.client.scripted import World
from tests.client.waiting import until

SMALL = LinkBounds(batch_count_max=4, batch_bytes_max=10_000, window_bytes=20_000, queue_count_max=8, queue_bytes_max=40_000)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("n1:1,n2:1,n3:1", dial=world.dial, bounds=SMALL) as connected:
        yield connected


async def test_what_was_queued_on_a_broken_link_goes_elsewhere_and_was_never_sent(world: World, client: AsyncClient) -> None:
    """1. One put is in flight, another is queued behind it. 2. The link breaks. 3. Both go to the next replica, one with its id."""
    first, second = world.node(b"k"), world.node(b"k", 1)
    first.on_its_own = False
    one = asyncio.create_task(client.put("k", b"1"))
    await until(lambda: first.open)
    two = asyncio.create_task(client.put("k", b"2"))
    await asyncio.sleep(0)
    first.answers_questions = False
    first.fail(NodeUnreachable("broke", may_have_applied=True))
    await asyncio.gather(one, two)
    assert len(first.received) == 1
    (group,) = [group for batch in second.received for group in batch]
    assert group.values == [b"1", b"2"], "in the order they were asked for"
    assert group.request_ids[:16] == first.received[0][0].request_ids != group.request_ids[16:]


async def test_past_the_bound_of_a_link_single_operations_are_refused(world: World, client: AsyncClient) -> None:
    node = world.node(b"k")
    node.on_its_own = False
    first = asyncio.create_task(client.get("k"))
    await until(lambda: node.open)
    tasks = [asyncio.create_task(client.get("k")) for _ in range(30)]
    await asyncio.sleep(0)
    refused = [task for task in tasks if task.done()]
    assert refused and all(isinstance(task.exception(), Overloaded) for task in refused)
    node.on_its_own = True
    while node.open:
        node.answer()
        await asyncio.sleep(0)
    await asyncio.gather(first, *(task for task in tasks if task not in refused))


async def test_many_keys_wait_for_room_instead_of_failing(world: World, client: AsyncClient) -> None:
    """The link's queue holds 8 keys; a piece of a large call counts as one and waits until it fits."""
    node = world.node(b"k")
    node.on_its_own = False
    keys = world.keys_of(node, 3)
    blocking = asyncio.create_task(client.get("k"))
    await until(lambda: node.open)
    waiting = [asyncio.create_task(client.get(key)) for key in [keys[0]] * 2]
    await asyncio.sleep(0)
    calls = [asyncio.create_task(client.put_many(dict.fromkeys(keys, b"v"))) for _ in range(4)]
    await asyncio.sleep(0)
    node.on_its_own = True
    node.answer()
    results = await asyncio.gather(*calls)
    assert all(set(result) == set(keys) for result in results)
    await asyncio.gather(blocking, *waiting)


async def test_many_keys_that_found_no_room_in_time_say_so(world: World, client: AsyncClient) -> None:
    node = world.node(b"k")
    node.on_its_own = False
    keys = world.keys_of(node, 5)
    tasks = [asyncio.create_task(client.put_many(dict.fromkeys(keys, b"v"), timeout_s=0.04)) for _ in range(4)]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, BatchError) and len(outcome.errors) == 5 for outcome in outcomes)
    errors = [error for outcome in outcomes if isinstance(outcome, BatchError) for error in outcome.errors.values()]
    refused = [error for error in errors if isinstance(error, Overloaded)]
    assert refused and not any(error.may_have_applied for error in refused)


async def test_many_keys_queued_on_a_broken_link_go_elsewhere(world: World, client: AsyncClient) -> None:
    node = world.node(b"k")
    node.on_its_own = False
    keys = world.keys_of(node, 3)
    blocking = asyncio.create_task(client.get("k"))
    await until(lambda: node.open)
    call = asyncio.create_task(client.put_many(dict.fromkeys(keys, b"v")))
    await asyncio.sleep(0)
    node.answers_questions = False
    node.fail(NodeUnreachable("broke", may_have_applied=True))
    assert set(await call) == set(keys)
    assert not (await blocking).found
    assert len(node.received) == 1 and world.cluster.store.executions == 3


async def test_a_batch_that_ends_without_all_its_answers_fails_the_rest_as_unknown(world: World, client: AsyncClient) -> None:
    node = world.node(b"k")
    node.on_its_own = False
    put = asyncio.create_task(client.put("k", b"v"))
    get = asyncio.create_task(client.get("k"))
    await until(lambda: node.open)
    _, on_reply = node.open.pop()
    on_reply([], True)
    with pytest.raises(KvError) as raised:
        await put
    assert raised.value.may_have_applied
    with pytest.raises(KvError) as raised:
        await get
    assert not raised.value.may_have_applied


async def test_a_reply_that_makes_no_sense_fails_its_group_and_no_other(world: World, client: AsyncClient) -> None:
    node = world.node(b"k")
    node.on_its_own = False
    put = asyncio.create_task(client.put("k", b"v"))
    get = asyncio.create_task(client.get("k"))
    await until(lambda: node.open)
    groups, on_reply = node.open.pop()
    at = {group.kind: index for index, group in enumerate(groups)}
    on_reply([GroupReply(group=7), GroupReply(group=at[Kind.PUT], versions=b"short")], False)
    on_reply([GroupReply(group=at[Kind.GET], counts=[0], contexts=[b""])], True)
    on_reply([GroupReply(group=at[Kind.GET], error=BadRequest("too late"))], True)
    with pytest.raises(KvError, match="do not fit") as raised:
        await put
    assert raised.value.may_have_applied
    assert not (await get).found


async def test_a_silent_node_s_late_answer_is_not_taken(world: World, client: AsyncClient) -> None:
    """1. The node falls silent with a put in flight. 2. It is repeated elsewhere and answered. 3. The late answer is ignored."""
    node = world.node(b"k")
    node.on_its_own = node.answers_questions = False
    done = await client.put("k", b"v")
    assert len(node.open) == 1
    _, on_reply = node.open[0]
    on_reply([GroupReply(group=0, error=BadRequest("too late"))], True)
    assert (await client.get("k")).version == done.version


async def test_a_node_that_shuts_down_is_left_for_another_at_once(world: World, client: AsyncClient) -> None:
    first, second = world.node(b"k"), world.node(b"k", 1)
    first.on_its_own = False
    put = asyncio.create_task(client.put("k", b"v"))
    await until(lambda: first.open)
    first.fail(ShuttingDown("going away"))
    await put
    assert len(second.received) == 1


async def test_the_ring_is_fetched_from_whoever_knows_the_newer_one(world: World, client: AsyncClient) -> None:
    behind = {"n1", "n2"}
    newest = world.cluster.describe

    def describe(asked: object) -> ClusterInfo:
        world.cluster.epoch = 1 if getattr(asked, "node_id", "") in behind else 2
        return newest(asked)  # type: ignore[arg-type]

    world.cluster.describe = describe  # type: ignore[method-assign]
    client.membership.refresh()
    await until(lambda: client.info.ring_epoch == 2)


async def test_another_cluster_at_a_known_address_is_not_believed(world: World, client: AsyncClient) -> None:
    described = await client.admin.describe()
    stranger = ClusterInfo(
        **{name: getattr(described, name) for name in described.__slots__} | {"cluster_id": "other", "ring_epoch": 9}
    )
    client.membership.learn(stranger, 0.0, 0.0)
    assert client.info.cluster_id == "fake" and client.info.ring_epoch == 1
