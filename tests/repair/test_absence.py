"""A node that was away for so long that tombstones may have gone without it: what it had is out of reach, and only what nobody else
has is left to the operator (consistency, section 5)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kvproto.errors import KvError
from kvstore.config import ClusterConfig, NamespaceConfig, NodeLimits
from kvstore.core.reaping import Grace, is_absent
from kvstore.simulation.world import World
from kvstore.storage.alive import ALIVE_KEY
from tests.repair.simulated import agree, fill, held, within

GRACE_S = 16.0
AWAY_S = 12.0
SOON = ClusterConfig(
    id="sim",
    partitions=4,
    tombstone_grace_s=GRACE_S,
    retry_window_s=5.0,
    namespaces={"default": NamespaceConfig(n=3, r=2, w=1)},
)
LIMITS = NodeLimits(hints_max=0, repair_interval_s=1.0)


def rows(world: World, node: str) -> list[dict[str, str]]:
    """What `node` has set aside for the operator."""
    return [json.loads(line) for data in world.disk(node).files.values() for line in data.decode().splitlines()]


def aside(world: World, node: str) -> int:
    """How many records `node` has not judged yet."""
    start = b"\xff" * 6 + b"naside/"
    return sum(1 for key in world.disk(node).held() if key.startswith(start))


async def only_at(world: World, node: str, key: str, value: bytes) -> None:
    """Writes a key that nobody but `node` learns of, and has the node end."""
    others = [other for other in world.machines if other != node]
    for other in others:
        world.crash(other)
    await world.sleep(1.0)
    await world.client("c9", targets=[node], timeout_s=2.0).put(key, value, w=1)
    await world.stop(node)
    for other in others:
        await world.restart(other, linked=False)


@pytest.mark.parametrize("ends", ["stop", "crash"])
def test_a_node_that_was_away_for_long_gets_everything_from_the_others(ends: str) -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(40))
        await world.sleep(2.0)
        if ends == "stop":
            await world.stop("n3")
        else:
            world.crash("n3")
        await fill(world, range(20, 60), value=b"new")
        await world.sleep(AWAY_S)
        await world.restart("n3", linked=False)
        assert world.local("n3").returning.rebuilding.reason == "absent"
        assert held(world, "n3") == 0 and aside(world, "n3") == 40
        await within(world, 20.0, lambda: not world.local("n3").returning.rebuilding.reason)
        await within(world, 10.0, lambda: aside(world, "n3") == 0)
        assert held(world, "n3") == 60
        assert agree(world)
        assert rows(world, "n3") == [], "the others had it all, or newer"
        assert (await world.client("c3").get("k30", level="all")).value == b"new"

    World(1, cluster=SOON, limits=LIMITS).run(scenario)


def test_a_node_that_was_away_for_less_keeps_what_it_has() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(40))
        await world.sleep(2.0)
        await world.stop("n3")
        await world.sleep(5.0)
        await world.restart("n3", linked=False)
        assert not world.local("n3").returning.rebuilding.reason
        assert held(world, "n3") == 40

    World(2, cluster=SOON, limits=LIMITS).run(scenario)


def test_a_cluster_that_was_stopped_as_a_whole_has_missed_nothing() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(40))
        for node in list(world.running):
            await world.stop(node)
        await world.sleep(10 * GRACE_S)
        starting = [world.spawn("c1", world.restart(node, linked=False)) for node in world.machines]
        for one in starting:
            await one
        assert not any(world.local(node).returning.rebuilding.reason for node in world.running)
        assert [held(world, node) for node in world.running] == [40, 40, 40]

    World(3, cluster=SOON, limits=LIMITS).run(scenario)


def test_what_only_it_holds_is_left_to_the_operator() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(10))
        await only_at(world, "n3", "mine", b"alone")
        await world.sleep(AWAY_S)
        await world.restart("n3", linked=False)
        await within(world, 20.0, lambda: not world.local("n3").returning.rebuilding.reason)
        await within(world, 10.0, lambda: aside(world, "n3") == 0)
        (row,) = rows(world, "n3")
        assert (row["namespace"], row["key"], bytes.fromhex(row["key_hex"])) == ("default", "mine", b"mine")
        assert b"alone" in bytes.fromhex(row["record"])
        told = {status.node_id: status.set_aside for status in await world.client("c2").admin.status()}
        assert told == {"n1": 0, "n2": 0, "n3": 1}
        assert not (await world.client("c3").get("mine", level="all")).values
        await world.stop("n3")
        await world.restart("n3", linked=False)
        assert world.local("n3").returning.aside.kept == 1, "over restarts"
        assert not world.local("n3").returning.rebuilding.reason

    World(4, cluster=SOON, limits=LIMITS).run(scenario)


def test_what_was_deleted_meanwhile_is_not_told_to_anybody() -> None:
    """Its disk is an older copy. The tombstone has been reaped, with its agreement, so that nothing holds its old value down."""

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1", timeout_s=3.0)
        await client.put("k", b"v", level="all")
        await world.sleep(2.0)
        copy = world.backup("n3")
        await client.delete("k", level="all")
        await within(world, 3 * GRACE_S, lambda: all(held(world, node) == 0 for node in world.running))
        await world.stop("n3")
        world.restore("n3", copy)
        await world.restart("n3", linked=False)
        assert world.local("n3").returning.rebuilding.reason
        await within(world, 20.0, lambda: not world.local("n3").returning.rebuilding.reason)
        await within(world, 10.0, lambda: aside(world, "n3") == 0)
        await world.sleep(5.0)
        assert [held(world, node) for node in world.running] == [0, 0, 0]
        assert [row["key"] for row in rows(world, "n3")] == ["k"]

    World(5, cluster=SOON, limits=LIMITS).run(scenario)


@pytest.mark.parametrize("after", [5, 6, 7, 8])
def test_a_crash_while_it_sets_aside_loses_nothing(after: int) -> None:
    """1. It is killed after some commits of its start. 2. It starts again, and again. 3. What only it had is in the file."""

    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(600), value=b"x" * 2000)
        await only_at(world, "n3", "mine", b"alone")
        await world.sleep(AWAY_S)
        left: set[int] = set()
        for more in (0, 1):
            syncs = world.disk("n3").syncs
            start = world.spawn("c1", restarted(world, "n3"))
            while world.disk("n3").syncs < syncs + after + more:
                await world.sleep(0.0002)
            left.add(aside(world, "n3"))
            world.crash("n3")
            await start
        await world.restart("n3", linked=False)
        await within(world, 60.0, lambda: not world.local("n3").returning.rebuilding.reason)
        await within(world, 20.0, lambda: aside(world, "n3") == 0)
        assert {row["key"] for row in rows(world, "n3")} == {"mine"}
        assert held(world, "n3") == 600
        assert left - {0, 601}, "it was killed in the middle of it"

    World(6, cluster=SOON, limits=LIMITS).run(scenario)


async def restarted(world: World, node: str) -> None:
    """Starts it, however that ends."""
    try:
        await world.restart(node, linked=False)
    except Exception as error:  # noqa: BLE001 - it is killed meanwhile
        world.event("not started", error=str(error))


def test_it_waits_for_a_peer_and_answers_nobody_until_then() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(10))
        await world.stop("n3")
        await world.sleep(AWAY_S)
        for node in ("n1", "n2"):
            await world.stop(node)
        start = world.spawn("c1", world.restart("n3", linked=False))
        await world.sleep(5.0)
        assert not start.done()
        with pytest.raises(KvError):
            await world.client("c2", targets=["n3"], timeout_s=1.0).get("k3", r=1)
        await world.restart("n1", linked=False)
        await start
        assert world.local("n3").returning.rebuilding.reason == "absent"

    World(7, cluster=SOON, limits=LIMITS).run(scenario)


def test_bug_the_first_node_after_a_long_stop_of_all_set_aside_what_only_it_may_have_had() -> None:
    """Nobody has reaped anything meanwhile, and nobody can say so. It waits for a while and serves what it has."""

    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(10))
        for node in list(world.running):
            await world.stop(node)
        await world.sleep(AWAY_S)
        for node in ("n3", "n1", "n2"):
            await world.restart(node, linked=False)
        assert [world.local(node).returning.rebuilding.reason for node in ("n1", "n2", "n3")] == ["", "", ""]
        assert [held(world, node) for node in ("n1", "n2", "n3")] == [10, 10, 10]
        assert rows(world, "n3") == []

    World(10, cluster=SOON, limits=LIMITS).run(scenario)


def test_what_nobody_else_is_to_keep_stays_where_it_is() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(40))
        before = held(world, "n3")
        assert 0 < before < 40
        await world.stop("n3")
        await world.sleep(AWAY_S)
        await world.restart("n3", linked=False)
        await within(world, 20.0, lambda: not world.local("n3").returning.rebuilding.reason)
        assert held(world, "n3") == before
        assert rows(world, "n3") == []

    alone = replace(SOON, namespaces={"default": NamespaceConfig(n=1, r=1, w=1)})
    World(11, cluster=alone, limits=LIMITS).run(scenario)


def test_writes_while_it_is_rebuilt_are_not_set_aside() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(10))
        await world.stop("n3")
        await world.sleep(AWAY_S)
        world.isolate("n1")
        await world.restart("n3", linked=False)
        await fill(world, range(5, 15), value=b"meanwhile", client="c2")
        world.heal_all()
        await within(world, 30.0, lambda: not world.local("n3").returning.rebuilding.reason and aside(world, "n3") == 0)
        assert rows(world, "n3") == []
        assert (await world.client("c3").get("k7", level="all")).value == b"meanwhile"

    World(8, cluster=SOON, limits=LIMITS).run(scenario)


def test_a_directory_of_before_is_believed() -> None:
    """It does not say when it was alive."""

    async def scenario(world: World) -> None:
        await world.start()
        await fill(world, range(10))
        await world.stop("n3")
        copy = world.backup("n3")
        copy.pairs.pop(ALIVE_KEY)
        world.restore("n3", copy)
        await world.sleep(AWAY_S)
        await world.restart("n3", linked=False)
        assert not world.local("n3").returning.rebuilding.reason
        assert held(world, "n3") == 10

    World(9, cluster=SOON, limits=LIMITS).run(scenario)


HOUR = 3_600_000
DAY = Grace(86_400.0)


@pytest.mark.parametrize(
    ("told", "absent"),
    [
        ([], False),
        ([(20 * HOUR, 20 * HOUR)], True),
        ([(20 * HOUR, HOUR)], False),
        ([(20 * HOUR, HOUR), (20 * HOUR, 20 * HOUR)], True),
        ([(2 * HOUR, 2 * HOUR), (20 * HOUR, 20 * HOUR)], False),
        ([(20 * HOUR, 0)], False),
    ],
    ids=["nobody", "a peer lived on", "stopped together", "one lived on", "one clock is ahead", "nothing said"],
)
def test_absence_is_what_peers_have_lived_through_without_us(told: list[tuple[int, int]], absent: bool) -> None:
    assert is_absent(HOUR, told, DAY) is absent


def test_whoever_missed_a_reaping_is_absent_whatever_its_clock() -> None:
    """The last look that a copy of the disk may have missed is `wait_s` before the end; clocks differ, and notes are not made all
    the time."""
    assert DAY.wait_s - DAY.clocks_s - DAY.grace_s / 16 >= DAY.absent_s
    assert all(Grace(grace_s).marks_s <= grace_s / 16 for grace_s in (2.0, 60.0, 86_400.0, 3e7))
