"""Reads that are late are asked once more elsewhere; what that may cost, and when it must not happen.

The first tests script each answer; the last ones run real nodes and the real client on virtual time, so that a time is exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from kvclient import AsyncClient, node_link
from kvclient.errors import NodeUnreachable, Overloaded
from kvproto.columns import Kind
from kvproto.errors import BadRequest
from kvstore.simulation.world import World as SimulatedWorld
from tests.client.scripted import Scripted, World
from tests.client.waiting import until

pytestmark = pytest.mark.usefixtures("by_convention")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("n1:1,n2:1,n3:1", dial=world.dial) as connected:
        yield connected


def is_usual(client: AsyncClient, seconds: float = 0.002, *, reads: int = 20_000) -> None:
    """Lets the client believe that reads take so long, single and many, and that it has sent so many."""
    dispatcher = client.dispatcher
    assert dispatcher is not None
    hedging, now_s = dispatcher.hedging, asyncio.get_running_loop().time()
    for shape in (client._get, client._get.for_bulk()):
        recent = hedging._latency(shape)
        recent.record(seconds, 1000, now_s)
        recent._age(now_s)
    hedging._budget.pay_in(reads)


def hedged(node: Scripted) -> int:
    """How many keys `node` was asked for."""
    return sum(len(group.keys) for batch in node.received for group in batch)


async def test_a_late_read_is_answered_by_the_next_owner_and_the_first_answer_is_ignored(world: World, client: AsyncClient) -> None:
    first, second = world.node(b"k"), world.node(b"k", 1)
    await client.put("k", b"v")
    is_usual(client)
    first.on_its_own = False
    assert (await client.get("k")).value == b"v"
    assert hedged(second) == 1
    assert (client.stats.hedges, client.stats.hedges_won) == (1, 1)
    first.answer()
    first.on_its_own = True
    assert (await client.get("k")).value == b"v"
    assert client.stats.hedges_won == 1


async def test_many_keys_that_are_late_are_asked_for_elsewhere_and_each_is_settled_once(world: World, client: AsyncClient) -> None:
    items = {f"k{number}": b"%d" % number for number in range(60)}
    await client.put_many(items)
    is_usual(client)
    first = world.node(b"k0")
    first.on_its_own = False
    entries = await client.get_many(items)
    assert {key: entry.value for key, entry in entries.items()} == items
    late = sum(world.node(key.encode()) is first for key in items)
    assert client.stats.hedges == client.stats.hedges_won == late
    first.answer()
    await asyncio.sleep(0)
    for link in client.membership.all_links():
        link.check()


async def test_an_answer_to_many_keys_that_comes_before_the_second_one_wins(world: World, client: AsyncClient) -> None:
    key = "k"
    await client.put(key, b"v")
    is_usual(client)
    first, second = world.node(b"k"), world.node(b"k", 1)
    first.on_its_own = second.on_its_own = False
    call = asyncio.create_task(client.get_many([key]))
    await until(lambda: second.open)
    first.answer()
    assert (await call)[key].value == b"v"
    second.answer()
    await asyncio.sleep(0)
    assert (client.stats.hedges, client.stats.hedges_won) == (1, 0)


async def test_new_reads_pass_a_silent_node_over_until_it_answers(world: World, client: AsyncClient) -> None:
    await client.put("k", b"v")
    is_usual(client)
    first = world.node(b"k")
    first.on_its_own = False
    await client.get("k")
    await until(lambda: any(link.silent for link in client.membership.all_links()))
    asked = len(first.received)
    for key in world.keys_of(first, 20):
        await client.get(key)
    assert len(first.received) == asked
    assert client.stats.hedges == 1, "they cost no second question"
    first.answer()
    first.on_its_own = True
    await asyncio.sleep(0)
    await client.get("k")
    assert len(first.received) == asked + 1


async def test_reads_queued_behind_a_silent_batch_leave_through_another_owner(
    world: World, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_link, "SLOT_HOLD_S", 10.0)  # the late batch keeps its place
    is_usual(client, 0.1)
    first = world.node(b"k")
    keys = world.keys_of(first, 8)
    first.on_its_own = False
    one = asyncio.create_task(client.get("k"))
    await until(lambda: first.open)
    queued = [asyncio.create_task(client.get(key)) for key in keys]
    many = asyncio.create_task(client.get_many(keys))
    write = asyncio.create_task(client.put(keys[0], b"w"))
    await asyncio.gather(one, *queued, many)
    assert not write.done() and len(first.open) <= 2
    assert client.stats.reads_moved == 16 and client.stats.hedges == 1
    first.on_its_own = True
    while first.open:
        first.answer()
    await write
    assert all(group.kind is not Kind.GET for batch in first.received[1:] for group in batch), "only the write was left"


async def test_a_write_is_never_asked_twice(world: World, client: AsyncClient) -> None:
    is_usual(client)
    first = world.node(b"k")
    first.on_its_own = False
    write = asyncio.create_task(client.put("k", b"v"))
    await asyncio.sleep(0.03)  # for what must not happen
    assert not write.done() and client.stats.hedges == 0
    first.answer()
    await write


async def test_without_enough_observations_or_reads_sent_nothing_is_asked_twice(world: World, client: AsyncClient) -> None:
    first = world.node(b"k")
    first.on_its_own = False
    read = asyncio.create_task(client.get("k"))
    await asyncio.sleep(0.03)  # for what must not happen
    is_usual(client, reads=0)
    other = asyncio.create_task(client.get(world.keys_of(world.node(b"k", 1), 1)[0]))
    await other
    assert not read.done() and client.stats.hedges == 0
    first.answer()
    await read


async def test_nothing_is_asked_twice_while_a_node_says_that_it_is_overloaded(world: World, client: AsyncClient) -> None:
    is_usual(client)
    first, second = world.node(b"k"), world.node(b"k", 1)
    second.on_its_own = False
    busy = asyncio.create_task(client.get(world.keys_of(second, 1)[0]))
    await until(lambda: second.open)
    second.on_its_own = True
    second.fail(Overloaded("busy", retry_after_s=0.01))
    await busy
    before = client.stats.hedges
    first.on_its_own = False
    read = asyncio.create_task(client.get("k"))
    await asyncio.sleep(0.03)  # for what must not happen
    assert not read.done() and client.stats.hedges == before
    first.answer()
    await read


async def test_when_every_owner_is_late_none_is_asked_twice(world: World, client: AsyncClient) -> None:
    """All three become late at once: in one look of the timer, which is taken here by hand."""
    is_usual(client, 10.0)
    assert client.dispatcher is not None
    hedging, links = client.dispatcher.hedging, client.membership.all_links()
    nodes = [world.node(b"k", rank) for rank in range(3)]
    for node in nodes:
        node.on_its_own = False
    keys = [world.keys_of(node, 1)[0] for node in nodes]
    reads = [asyncio.create_task(client.get(key)) for key in keys]
    await until(lambda: all(link.flights for link in links))
    now_s = asyncio.get_running_loop().time()
    for link in links:
        for flight in link.flights:
            flight.late_s = now_s
    hedging._due_s = now_s + 1.0  # not a timer that fires late
    hedging._look()
    assert all(link.late for link in links)
    assert client.stats.hedges == 0
    for node in nodes:
        node.answer()
    await asyncio.gather(*reads)
    assert not any(link.late for link in links)


async def test_a_client_that_does_not_want_it_asks_once(world: World) -> None:
    async with AsyncClient("n1:1,n2:1,n3:1", dial=world.dial, hedge=False) as client:
        is_usual(client)
        first = world.node(b"k")
        first.on_its_own = False
        read = asyncio.create_task(client.get("k"))
        await asyncio.sleep(0.03)  # for what must not happen
        assert not read.done() and client.stats.hedges == 0
        first.answer()
        await read


async def test_a_second_question_that_fails_leaves_the_first_open(world: World, client: AsyncClient) -> None:
    await client.put("k", b"v")
    is_usual(client)
    first, second = world.node(b"k"), world.node(b"k", 1)
    first.on_its_own = second.on_its_own = False
    read = asyncio.create_task(client.get("k"))
    many = asyncio.create_task(client.get_many(["k"]))
    await until(lambda: second.open)
    while second.open:
        second.fail(BadRequest("no"))
        await asyncio.sleep(0.005)
    assert not read.done() and not many.done()
    while first.open:
        first.answer()
    assert (await read).value == (await many)["k"].value == b"v"
    assert client.stats.retries == 0


async def test_a_first_question_that_fails_while_the_second_is_open_is_retried_as_ever(world: World, client: AsyncClient) -> None:
    await client.put("k", b"v")
    is_usual(client)
    first, second = world.node(b"k"), world.node(b"k", 1)
    first.on_its_own = second.on_its_own = False
    both = asyncio.gather(client.get("k"), client.get_many(["k"]))
    await until(lambda: second.open)
    while first.open:
        first.fail(NodeUnreachable("broke", may_have_applied=True))
    second.on_its_own = True
    while second.open:
        second.answer()
    one, many = await both
    assert one.value == many["k"].value == b"v"


async def test_where_second_answers_seldom_come_first_the_next_questions_have_more_patience(
    world: World, client: AsyncClient
) -> None:
    await client.put("k", b"v")
    is_usual(client)
    assert client.dispatcher is not None
    hedging = client.dispatcher.hedging
    first, second = world.node(b"k"), world.node(b"k", 1)

    async def late_read(*, second_wins: bool) -> None:
        first.on_its_own, second.on_its_own = False, second_wins
        read = asyncio.create_task(client.get("k"))
        if not second_wins:
            await until(lambda: second.open)
            first.answer()
        await read
        for node in (first, second):
            while node.open:
                node.answer()

    for _ in range(40):
        await late_read(second_wins=False)
    assert hedging._patience > 3
    # On a busy machine some are late because this process was, and ask nobody: they say nothing.
    reads = iter(range(200))
    while hedging._patience > 1 and next(reads, None) is not None:
        await late_read(second_wins=True)
    assert hedging._patience == 1, "a node that does stand still is not waited for longer"


def test_timers_of_uvloop_that_are_due_at_once_are_timers_all_the_same(world: World) -> None:
    """They have no `when()`: asked for it, every batch that followed was lost with its operations."""

    async def scenario() -> None:
        async with AsyncClient("n1:1,n2:1,n3:1", dial=world.dial) as client:
            await client.put("k", b"v")
            is_usual(client)
            first = world.node(b"k")
            first.on_its_own = False
            assert client.dispatcher is not None
            client.dispatcher.hedging._arm(asyncio.get_running_loop().time())
            assert (await client.get("k")).value == b"v"
            assert client.stats.hedges_won == 1

    uvloop.run(scenario())


# On virtual time, with real nodes.


async def _read_on(world: SimulatedWorld, client: AsyncClient, until_s: float, waits_s: list[float]) -> None:
    draw = world.random("keys")
    while world.now_s < until_s:
        started_s = world.now_s
        await client.get(f"k{draw.randrange(50)}", level="quorum")
        waits_s.append(world.now_s - started_s)


def _stalled(*, hedge: bool) -> tuple[list[float], AsyncClient]:
    """How long reads took while one of three nodes stood still for half a second, which no probe notices."""
    waits_s: list[float] = []
    made: list[AsyncClient] = []

    async def scenario(world: SimulatedWorld) -> None:
        await world.start()
        client = world.client("c1", hedge=hedge)
        made.append(client)
        await client.put_many({f"k{number}": b"v" for number in range(50)})
        await _read_on(world, client, world.now_s + 2.0, [])
        world.pause("n2")
        readers = [world.spawn("c1", _read_on(world, client, world.now_s + 0.45, waits_s)) for _ in range(4)]
        await world.sleep(0.5)
        world.resume("n2")
        for reader in readers:
            await reader

    SimulatedWorld(7).run(scenario)
    return waits_s, made[0]


def test_a_node_that_stands_still_for_half_a_second_is_hardly_noticed_by_readers() -> None:
    waits_s, client = _stalled(hedge=True)
    assert max(waits_s) < 0.05
    stats = client.stats
    assert stats.hedges_won >= 1
    assert stats.hedges <= 0.05 * stats.reads


def test_without_it_readers_wait_for_the_node() -> None:
    """The control: without the option the same half second is seen in full."""
    waits_s, client = _stalled(hedge=False)
    assert max(waits_s) > 0.3
    assert client.stats.hedges == 0 and client.stats.reads > 0
