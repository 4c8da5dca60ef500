"""Clients that gather what they write, over real nodes on virtual time: as long as all is well, no key has siblings by it."""

from __future__ import annotations

import pytest

from kvclient import AsyncClient
from kvstore.core.writers import ALONE_AFTER_S, Writers
from kvstore.simulation.loop import SimTask
from kvstore.simulation.world import World

KEYS = ["one", "two"]
REST_S = 0.03
LONG_REST_S = 0.1


async def _write_on(world: World, client: AsyncClient, name: str, until_s: float, rest_s: float) -> None:
    """One caller that puts keys without a context, with a rest after each."""
    draw = world.random(name)
    while world.now_s < until_s:
        await client.put(draw.choice(KEYS), name.encode(), level="quorum")
        await world.sleep(rest_s * draw.random())


def _callers(world: World, client: AsyncClient, name: str, until_s: float, count: int = 4, rest_s: float = REST_S) -> list[SimTask]:
    return [world.spawn(name, _write_on(world, client, f"{name}/{number}", until_s, rest_s)) for number in range(count)]


async def _siblings(client: AsyncClient) -> int:
    """The most that a key has."""
    entries = await client.get_many(KEYS, level="all")
    return max(len(entry.values) for entry in entries.values())


def _coordinators(client: AsyncClient) -> int:
    return client.membership.router.write_width


@pytest.mark.parametrize("seed", range(2))
def test_a_client_that_writes_alone_gathers_until_another_one_comes_and_no_key_has_siblings(seed: int) -> None:
    seen: list[int] = []

    async def scenario(world: World) -> None:
        await world.start()
        one, two = world.client("c1"), world.client("c2")
        until_s = world.now_s + 4 * ALONE_AFTER_S
        first = _callers(world, one, "c1", until_s, rest_s=LONG_REST_S)
        await world.sleep(2 * ALONE_AFTER_S)
        assert _coordinators(one) == 1, "it has been alone for long enough"
        second = _callers(world, two, "c2", until_s, rest_s=LONG_REST_S)
        await world.sleep(0.5)
        assert (_coordinators(one), _coordinators(two)) == (3, 3)
        for caller in (*first, *second):
            await caller
        seen.append(await _siblings(one))
        again = _callers(world, two, "c2", world.now_s + 2 * ALONE_AFTER_S, rest_s=LONG_REST_S)
        for caller in again:
            await caller
        assert _coordinators(two) == 1, "the other one has gone"
        seen.append(await _siblings(two))

    World(seed).run(scenario)
    assert seen == [1, 1]


def test_without_what_the_nodes_say_two_clients_make_siblings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The positive control: each takes itself to be alone."""
    monkeypatch.setattr(Writers, "is_alone", lambda *_: True)
    most: list[int] = []

    async def scenario(world: World) -> None:
        await world.start()
        clients = [world.client(name) for name in ("c1", "c2", "c3", "c4")]
        until_s = world.now_s + 2.0
        callers = [caller for number, client in enumerate(clients, 1) for caller in _callers(world, client, f"c{number}", until_s)]
        for caller in callers:
            await caller
        most.append(await _siblings(clients[0]))

    for seed in range(4):
        World(seed).run(scenario)
        if most[-1] > 1:
            break
    assert max(most) > 1


@pytest.mark.parametrize("seed", range(2))
def test_a_client_whose_load_changes_all_the_time_makes_no_siblings(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes from one way to the other again and again, while all its callers write the same few keys."""
    monkeypatch.setattr("kvclient.gathering.FULL", 2)
    ways: set[int] = set()

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        settling = _callers(world, client, "c1", world.now_s + 2 * ALONE_AFTER_S, count=1)
        for caller in settling:
            await caller
        for round_ in range(6):
            callers = _callers(world, client, "c1", world.now_s + 0.4, count=(1, 12)[round_ % 2])
            for _ in range(4):
                await world.sleep(0.1)
                ways.add(_coordinators(client))
            for caller in callers:
                await caller
            assert await _siblings(client) == 1

    World(seed).run(scenario)
    assert len(ways) > 1
