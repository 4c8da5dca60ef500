"""What little there is goes through few nodes, what much there is through all; and no write overtakes another on another way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kvclient import AsyncClient, gathering
from kvclient.errors import BatchError, ClientClosed
from kvclient.gathering import FULL, LOOK_S, LULL_S, TOLD_S, width_for
from kvproto.columns import Kind
from tests.client.scripted import Scripted, World
from tests.client.waiting import until


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[AsyncClient]:
    """One that asks nobody twice: on a busy machine that would be another node that took part."""
    async with AsyncClient("n1:1,n2:1,n3:1", dial=world.dial, hedge=False) as connected:
        yield connected


def took_part(world: World, kind: Kind) -> list[Scripted]:
    """The nodes that were sent something of `kind` since this was last asked."""
    found = []
    for node in world.transports.values():
        if any(group.kind is kind for batch in node.received for group in batch):
            found.append(node)
        node.received.clear()
    return found


async def put_some(client: AsyncClient, count: int = 12) -> None:
    await asyncio.gather(*(client.put(f"k{number}", b"v") for number in range(count)))


async def settle(client: AsyncClient, world: World, *, alone: bool) -> None:
    """Has the nodes say so, until the client goes by it."""
    world.cluster.store.alone = alone
    router = client.membership.router
    while router.held is not None or (router.write_width == 1) is not alone:
        await put_some(client)
        await asyncio.sleep(LOOK_S)
    took_part(world, Kind.PUT)


async def one_is_out(client: AsyncClient, world: World, key: str) -> tuple[Scripted, asyncio.Task[object]]:
    """The node that writes are gathered at, which has not answered the put of `key`."""
    await settle(client, world, alone=True)
    await client.put("k", b"0")
    (home,) = took_part(world, Kind.PUT)
    home.on_its_own = False
    out: asyncio.Task[object] = asyncio.create_task(client.put(key, b"1"))
    await until(lambda: len(home.open) == 1)
    return home, out


def change_way(client: AsyncClient) -> None:
    """As if another node had just said that somebody else writes."""
    assert client.dispatcher is not None
    client.dispatcher._gathering._change(3)
    assert client.membership.router.held is not None


@pytest.mark.parametrize(
    ("under_way", "owners", "width"),
    [
        (1, 3, 1),
        (FULL, 3, 1),
        (FULL + 1, 3, 2),
        (3 * FULL, 3, 2),
        (3 * FULL + 1, 3, 3),
        (10**6, 3, 3),
        (10**6, 1, 1),
        (1, 1, 1),
        (9 * FULL, 5, 3),
        (0, 3, 1),
    ],
)
def test_each_coordinator_more_has_to_be_worth_its_messages(under_way: float, owners: int, width: int) -> None:
    assert width_for(under_way, owners) == width


async def test_reads_of_few_callers_go_through_one_node_and_those_of_many_through_all(world: World, client: AsyncClient) -> None:
    await client.get("k")
    took_part(world, Kind.GET)
    await asyncio.gather(*(client.get(f"k{number}") for number in range(40)))
    assert len(took_part(world, Kind.GET)) == 1
    while len(took_part(world, Kind.GET)) < 3:
        await asyncio.gather(*(client.get(f"k{number}") for number in range(4 * FULL)))
        await asyncio.sleep(LOOK_S)
    loop = asyncio.get_running_loop()
    until_s = loop.time() + 2 * LULL_S + 3 * LOOK_S
    while loop.time() < until_s:  # as long as the burst may still count
        await client.get("k")
        await asyncio.sleep(LOOK_S)
    took_part(world, Kind.GET)
    await asyncio.gather(*(client.get(f"k{number}") for number in range(40)))
    assert len(took_part(world, Kind.GET)) == 1


async def test_while_a_node_is_away_reads_are_gathered_and_writes_are_not(world: World, client: AsyncClient) -> None:
    await client.get("k")
    took_part(world, Kind.GET)
    away = client.membership.router.links[2]
    away.up = False
    await asyncio.sleep(LOOK_S)
    await client.get("k")
    took_part(world, Kind.GET)
    router = client.membership.router
    assert (router.read_width, router.write_width) == (1, 3)
    await asyncio.gather(*(client.get(f"k{number}") for number in range(40)))
    assert len(took_part(world, Kind.GET)) == 1
    await asyncio.gather(*(client.put(f"k{number}", b"v") for number in range(40)))
    assert len(took_part(world, Kind.PUT)) == 2
    away.up = True
    await asyncio.sleep(LOOK_S)
    await client.get("k")
    took_part(world, Kind.GET)
    await asyncio.gather(*(client.get(f"k{number}") for number in range(40)))
    assert len(took_part(world, Kind.GET)) == 1


async def test_many_keys_in_one_call_spread_at_once_and_few_do_not(world: World, client: AsyncClient) -> None:
    await client.get("k")
    took_part(world, Kind.GET)
    await client.get_many([f"k{number}" for number in range(20)])
    assert len(took_part(world, Kind.GET)) == 1
    await client.get_many([f"k{number}" for number in range(4 * FULL)])
    assert len(took_part(world, Kind.GET)) == 3


async def test_writes_go_through_one_node_only_while_nobody_else_writes(world: World, client: AsyncClient) -> None:
    await put_some(client, 60)
    await asyncio.sleep(LOOK_S)
    took_part(world, Kind.PUT)
    await put_some(client, 60)
    assert len(took_part(world, Kind.PUT)) == 3, "the nodes have said nothing of the kind"
    await settle(client, world, alone=True)
    await put_some(client, 60)
    assert len(took_part(world, Kind.PUT)) == 1
    await settle(client, world, alone=False)
    await put_some(client, 60)
    assert len(took_part(world, Kind.PUT)) == 3


async def test_one_node_that_says_that_somebody_else_writes_is_enough(world: World, client: AsyncClient) -> None:
    await settle(client, world, alone=True)
    links, now_s = client.membership.router.links, asyncio.get_running_loop().time()
    for link in links:
        link.alone, link.alone_s = True, now_s
    assert gathering.is_alone(links, now_s)
    links[1].alone = False
    assert not gathering.is_alone(links, now_s)
    links[1].alone_s = now_s - TOLD_S
    assert gathering.is_alone(links, now_s), "what was said long ago says nothing"
    assert not gathering.is_alone(links, now_s + TOLD_S), "nobody says anything"


async def test_who_has_not_written_for_a_while_begins_by_convention(
    world: World, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "TOLD_S", 0.1)
    await settle(client, world, alone=True)
    for _ in range(8):
        await put_some(client)
        await asyncio.sleep(0.04)
    assert client.membership.router.write_width == 1, "it is told again with each answer"
    await until(lambda: client.membership.router.write_width == 3)
    assert client.dispatcher is not None and client.dispatcher._gathering._lapse is None, "an idle client has no timer"
    took_part(world, Kind.PUT)
    await put_some(client, 60)
    assert len(took_part(world, Kind.PUT)) == 3


async def test_what_one_replica_decides_and_increments_stay_where_they_are(world: World, client: AsyncClient) -> None:
    await settle(client, world, alone=True)
    await asyncio.gather(*(client.put(f"k{number}", b"v", level="one") for number in range(60)))
    assert len(took_part(world, Kind.PUT)) == 3
    await asyncio.gather(*(client.put(f"k{number}", b"v", w=1) for number in range(60)))
    assert len(took_part(world, Kind.PUT)) == 3
    await asyncio.gather(*(client.put(f"k{number}", b"v", w=2) for number in range(60)))
    assert len(took_part(world, Kind.PUT)) == 1


async def test_no_write_takes_another_way_while_one_is_out_on_the_old_one(world: World, client: AsyncClient) -> None:
    """Two writes of a key at the same time through two coordinators would be siblings."""
    await settle(client, world, alone=True)
    await client.put("k", b"0")
    (home,) = took_part(world, Kind.PUT)
    key = next(f"x{number}" for number in range(1000) if world.node(b"x%d" % number) is not home)
    home, first = await one_is_out(client, world, key)
    queued = asyncio.create_task(client.put(key, b"2"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    change_way(client)
    held = asyncio.create_task(client.put(key, b"3"))
    await asyncio.sleep(2 * LOOK_S)
    world.cluster.store.alone = False
    new = world.node(key.encode())
    new.received.clear()
    assert len(home.received) == 1 and not new.received, "nothing of it left while the first was out"
    home.on_its_own = True
    home.answer()
    await asyncio.gather(first, queued, held)
    assert [group.values for batch in new.received for group in batch] == [[b"2", b"3"]], "then it took the new way, in order"


async def test_what_is_out_for_too_long_is_not_waited_for(world: World, client: AsyncClient) -> None:
    home, first = await one_is_out(client, world, "k")
    change_way(client)
    second = asyncio.create_task(client.put("y", b"2"))
    await until(lambda: client.membership.router.held is None)
    assert not first.done()
    home.on_its_own = True
    while home.open:
        home.answer()
    await asyncio.gather(first, second)


async def test_what_is_held_ends_when_the_client_is_closed(world: World) -> None:
    async with AsyncClient("n1:1,n2:1,n3:1", dial=world.dial) as client:
        _, out = await one_is_out(client, world, "k")
        change_way(client)
        held = asyncio.create_task(client.put("y", b"2"))
        many = asyncio.create_task(client.put_many({"a": b"1", "b": b"2"}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for task in (out, held):
        with pytest.raises(ClientClosed):
            await task
    with pytest.raises(BatchError) as raised:
        await many
    assert {type(error) for error in raised.value.errors.values()} == {ClientClosed}


async def test_large_values_count_as_more_than_one(world: World, client: AsyncClient) -> None:
    await settle(client, world, alone=True)
    for _ in range(2):
        await asyncio.gather(*(client.put(f"k{number}", bytes(200_000)) for number in range(8)))
        await asyncio.sleep(LOOK_S)
    assert client.membership.router.write_width == 3
