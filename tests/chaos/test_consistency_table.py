"""The table of docs/consistency.md, produced: each row's fault is done to a simulated cluster, and the page says what came of it.

A cell is "writes / reads" in four words: *yes*, *degraded*, *refused* (certainly not applied), *unknown* (may have been applied).
Nodes and clients are the real ones, on virtual time. What only real sockets show, cuts of one direction, is done through Toxiproxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from kvchaos.faults.link_state import Direction, Link
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvclient import AsyncClient, Entry, KvError, PutResult
from kvstore.config import ClusterConfig, NamespaceConfig
from kvstore.simulation.world import World
from tests.chaos.proxied import client_of, proxied, tidy
from tests.house.repository import ROOT

Call = Callable[[str], Awaitable[PutResult | Entry]]
Fault = Callable[[World], Awaitable[None]]

SPACES = {"default": NamespaceConfig(), "quick": NamespaceConfig(id=2, name="quick", preset="pa-el")}
CLUSTER = ClusterConfig(id="sim", partitions=8, namespaces=SPACES)
GRACE_S = 20.0
SHORT_GRACE = ClusterConfig(id="sim", partitions=8, namespaces=SPACES, tombstone_grace_s=GRACE_S, retry_window_s=2.0)

NOTICED_S = 5.0
"""Longer than a link needs to be given up: a ping after 2 s of silence, which may take 1.5 s."""
MINUTES_MS = 10 * 60_000
WORDS = ("yes", "degraded", "refused", "unknown")
COLUMNS = ("pa-ec", "pa-el", "quorum")
KEYS_PER_CELL = 12
"""Enough that every node is the first home replica of some of them."""


def table() -> dict[str, dict[str, str]]:
    """The cells of the page's rows, by the name of the row in its node id."""
    page = (ROOT / "docs" / "consistency.md").read_text(encoding="utf-8")
    rows = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = cells[-1].partition("::test_a_row_says_what_happens[")[2].partition("]")[0]
        if name and len(cells) == len(COLUMNS) + 2:  # what was promised names rows as well
            rows[name] = dict(zip(COLUMNS, cells[1:4], strict=True))
    return rows


# --- what is done


def alone_with(world: World, node: str) -> None:
    """The client reaches this node only."""
    world.partition(["here"], [other for other in world.machines if other != node])


async def one_down(world: World) -> None:
    world.crash("n3")


async def two_down(world: World) -> None:
    world.crash("n2")
    world.crash("n3")
    await world.sleep(NOTICED_S)


async def split_large_side(world: World) -> None:
    world.partition(["n1", "n2", "here"], ["n3"])
    await world.sleep(NOTICED_S)


async def split_small_side_at_once(world: World) -> None:
    world.partition(["n1", "here"], ["n2", "n3"])


async def split_small_side(world: World) -> None:
    await split_small_side_at_once(world)
    await world.sleep(NOTICED_S)


async def one_way_between_two(world: World) -> None:
    world.cut("n1", "n3")
    await world.sleep(NOTICED_S)


async def one_way_hears_nobody(world: World) -> None:
    world.cut("n2", "n1")
    world.cut("n3", "n1")
    alone_with(world, "n1")
    await world.sleep(NOTICED_S)


async def one_way_heard_by_nobody(world: World) -> None:
    world.cut("n1", "n2")
    world.cut("n1", "n3")
    alone_with(world, "n1")
    await world.sleep(NOTICED_S)


async def hangs(world: World) -> None:
    world.pause("n3")


async def two_hang(world: World) -> None:
    world.pause("n2")
    world.pause("n3")


async def slow(world: World) -> None:
    for other in ("n1", "n2", "here"):
        world.set_link("n3", other, delay_ms=200)
        world.set_link(other, "n3", delay_ms=200)


async def back_after_a_while(world: World) -> None:
    world.crash("n3")
    await world.sleep(GRACE_S / 4)
    await world.restart("n3")


async def back_after_the_grace(world: World) -> None:
    world.crash("n3")
    await world.sleep(GRACE_S * 3)
    await world.restart("n3")


async def disk_lost(world: World) -> None:
    world.crash("n3")
    world.wipe("n3")
    await world.restart("n3")


async def two_disks_lost(world: World) -> None:
    for node in ("n2", "n3"):
        world.crash(node)
        world.wipe(node)
    await world.restart("n2", linked=False)
    await world.restart("n3")


async def clock_ahead(world: World) -> None:
    world.skew("n3", MINUTES_MS)


async def clock_behind(world: World) -> None:
    world.skew("n3", -MINUTES_MS)


FAULTS: dict[str, Fault] = {
    "one-down": one_down,
    "two-down": two_down,
    "split-large-side": split_large_side,
    "split-small-side-at-once": split_small_side_at_once,
    "split-small-side": split_small_side,
    "one-way-between-two": one_way_between_two,
    "one-way-hears-nobody": one_way_hears_nobody,
    "one-way-heard-by-nobody": one_way_heard_by_nobody,
    "hangs": hangs,
    "two-hang": two_hang,
    "slow": slow,
    "back-after-a-while": back_after_a_while,
    "back-after-the-grace": back_after_the_grace,
    "disk-lost": disk_lost,
    "two-disks-lost": two_disks_lost,
    "clock-ahead": clock_ahead,
    "clock-behind": clock_behind,
}


NOTICED = {
    "two-down": ["n1"],
    "split-large-side": ["n1", "n2"],
    "split-small-side": ["n1"],
    "one-way-hears-nobody": ["n1"],
    "one-way-heard-by-nobody": ["n1"],
}
"""Rows in which the client, too, has noticed whom it does not reach any more."""


# --- what comes of it


async def word_for(call: Awaitable[PutResult | Entry]) -> str:
    """What an operation was told, in a word; what its receipt says has to be true of it."""
    try:
        result = await call
    except KvError as error:
        return "unknown" if error.may_have_applied else "refused"
    receipt = result.receipt
    assert receipt.durable and receipt.degraded == (len(receipt.acknowledged) < receipt.needed), receipt
    if isinstance(result, Entry):
        assert result.value == b"old", "acknowledged by every replica before anything went wrong"
    return "degraded" if receipt.degraded else "yes"


async def cell(write: Call, read: Call, column: str) -> str:
    async def words(call: Call, kind: str) -> str:
        keys = [f"{column}/{kind}/{number}" for number in range(KEYS_PER_CELL)]
        told = set(await asyncio.gather(*(word_for(call(key)) for key in keys)))
        return " or ".join(sorted(told, key=WORDS.index))

    return " / ".join(await asyncio.gather(words(write, "write"), words(read, "read")))


async def prepare(client: AsyncClient) -> None:
    """Every key that is written or read later holds "old" on every replica."""
    for space, columns in (("default", ("pa-ec", "quorum")), ("quick", ("pa-el",))):
        keys = [f"{column}/{kind}/{at}" for column in columns for kind in ("write", "read") for at in range(KEYS_PER_CELL)]
        await client.namespace(space).put_many(dict.fromkeys(keys, b"old"), level="all")


async def row_told(client: AsyncClient) -> dict[str, str]:
    """The cells, all asked for at one moment, so that none profits from what another has found out."""
    quick = client.namespace("quick")
    cells = await asyncio.gather(
        cell(lambda key: client.put(key, b"new"), client.get, "pa-ec"),
        cell(lambda key: quick.put(key, b"new"), quick.get, "pa-el"),
        cell(lambda key: client.put(key, b"new", level="quorum"), lambda key: client.get(key, level="quorum"), "quorum"),
    )
    return dict(zip(COLUMNS, cells, strict=True))


async def notice(client: AsyncClient, *reached: str) -> None:
    """Reads until the client knows that it reaches these nodes only: an idle one finds out by asking."""
    async with asyncio.timeout(20):
        while {link.node_id for link in client.membership.all_links() if link.up} != set(reached):
            await client.get_many([f"pa-ec/read/{at}" for at in range(KEYS_PER_CELL)], level="one")
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", FAULTS)
def test_a_row_says_what_happens(name: str) -> None:
    async def scenario(world: World) -> dict[str, str]:
        await world.start()
        client = world.client("here")
        await prepare(client)
        await FAULTS[name](world)
        if name in NOTICED:
            await notice(client, *NOTICED[name])
        return await row_told(client)

    world = World(1, cluster=SHORT_GRACE if name.startswith("back-") else CLUSTER)
    assert world.run(scenario) == table().get(name)


def test_the_table_has_all_rows_and_no_others() -> None:
    assert sorted(table()) == sorted(FAULTS)


# --- what the words leave open


async def both_sides_write(world: World) -> tuple[AsyncClient, AsyncClient]:
    """n1 and `here` on one side, the others on the other; each side has taken a write of "k", knowing nothing of the other's."""
    await world.start()
    here, there = world.client("here"), world.client("there")
    await here.put("k", b"old", level="all")
    await there.get("k")
    world.partition(["n1", "here"], ["n2", "n3", "there"])
    await world.sleep(NOTICED_S)
    small, large = await here.put("k", b"small"), await there.put("k", b"large")
    assert small.receipt.degraded and small.receipt.acknowledged == ("n1",)
    assert not large.receipt.degraded and set(large.receipt.acknowledged) == {"n2", "n3"}
    return here, there


def test_each_side_of_a_split_reads_its_own_and_what_both_wrote_are_siblings_afterwards() -> None:
    async def scenario(world: World) -> None:
        here, there = await both_sides_write(world)
        mine, theirs = await here.get("k"), await there.get("k")
        assert mine.value == b"small" and mine.receipt.degraded
        assert theirs.value == b"large" and not theirs.receipt.degraded
        world.heal_all()
        await converged(world, there)
        for client in (here, there):
            assert sorted((await client.get("k", level="one")).values) == [b"large", b"small"]

    World(1).run(scenario)


def test_bug_right_after_a_split_a_read_missed_what_the_small_side_took_and_did_not_say_so() -> None:
    """Until n1 has handed over what it owes two of three have not seen it: the preset's reads ask n1, or say that this may be so. A
    strict read does not: the write was degraded, so it was promised to no quorum."""

    async def scenario(world: World) -> None:
        _, there = await both_sides_write(world)
        assert not (await there.get("k")).receipt.degraded, "of who is away nothing is known"
        world.disk("n2").slow_ms = world.disk("n3").slow_ms = 1000.0  # so that handing over takes a while
        world.heal_all()
        while not all(world.local("n1").upkeep.owing._peers.reachable(node) for node in ("n2", "n3")):
            await world.sleep(0.01)
        seen: list[tuple[int, bool]] = []
        for _ in range(40):
            entry = await there.get("k")
            seen.append((len(entry.values), entry.receipt.degraded))
            assert not (await there.get("k", level="quorum")).receipt.degraded
            await world.sleep(0.1)
        assert (1, False) not in seen, "what is missing may be missing"
        assert seen[-1] == (2, False), "n1 is asked first, because it may know more"
        await converged(world, there)
        entry = await there.get("k")
        assert len(entry.values) == 2 and not entry.receipt.degraded

    World(1).run(scenario)


def test_every_node_that_was_away_is_heard_before_reads_are_whole_again() -> None:
    """n1 was cut off and has nothing to hand over: reads say `degraded` for as long as it takes to say so."""

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("here")
        await client.put("k", b"v", level="all")
        world.partition(["n1"], ["n2", "n3", "here"])
        await world.sleep(NOTICED_S)
        assert not (await client.get("k")).receipt.degraded
        world.heal_all()
        await world.sleep(2.0)
        for node in world.machines:
            assert not world.local(node).upkeep.doubts.any
        assert not (await client.get("k")).receipt.degraded

    World(1).run(scenario)


def test_a_read_of_one_replica_can_be_old() -> None:
    """n3 comes back; what it has missed is still on its way when it is asked."""

    async def scenario(world: World) -> None:
        await world.start()
        near = world.client("near")
        await near.namespace("quick").put("k", b"old", level="all")
        world.partition(["n3", "near"], ["n1", "n2", "far"])
        await world.sleep(NOTICED_S)
        await world.client("far").namespace("quick").put("k", b"new")
        entry = await near.namespace("quick").get("k")
        assert entry.value == b"old" and not entry.receipt.degraded, "one answer is all that pa-el asks for"
        world.heal_all()
        await converged(world, near)
        assert (await near.namespace("quick").get("k")).value == b"new"

    World(1, cluster=CLUSTER).run(scenario)


def test_bug_r_and_w_of_a_namespace_degraded_as_its_preset_does() -> None:
    """What is given is met or refused, in the namespace's table as in a call; what is not given degrades."""

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("here")
        await prepare(client)
        await client.namespace("reads").put("k", b"old", level="all")
        await two_down(world)
        await notice(client, "n1")
        assert await word_for(client.put("k", b"new")) == await word_for(client.get("pa-ec/read/1")) == "refused"
        assert await word_for(client.put("k", b"newer", w=2)) == "refused"
        reads = client.namespace("reads")
        assert await word_for(reads.get("k")) == "refused", "r was given"
        assert await word_for(reads.put("k", b"new")) == "degraded", "w was not"

    spaces = {
        "default": NamespaceConfig(r=2, w=2),
        "quick": SPACES["quick"],
        "reads": NamespaceConfig(id=3, name="reads", r=2),
    }
    World(1, cluster=ClusterConfig(id="sim", partitions=8, namespaces=spaces)).run(scenario)


def test_nodes_that_hang_cost_a_read_or_write_the_time_until_their_links_break_and_no_more() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("here")
        await client.put("k", b"old", level="all")
        await two_hang(world)
        began_s = world.now_s
        assert {await word_for(client.put(f"k{number}", b"new")) for number in range(KEYS_PER_CELL)} == {"degraded"}
        assert 1.0 < world.now_s - began_s < NOTICED_S, "all of them together: only the first had to find out"

    World(1).run(scenario)


@pytest.mark.parametrize("away_s", [GRACE_S / 4, GRACE_S * 3], ids=["shorter-than-the-grace", "longer-than-the-grace"])
def test_a_value_that_was_deleted_while_a_node_was_away_stays_deleted(away_s: float) -> None:
    """n3 still holds it. A quorum never shows it, n3 itself not for long; and while n3 was away the tombstone was kept for it."""

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("here")
        await client.put("k", b"v", level="all")
        world.crash("n3")
        await world.sleep(NOTICED_S)
        await client.delete("k", level="quorum")
        await world.sleep(away_s)
        assert all(holds(world, node) for node in ("n1", "n2"))
        await world.restart("n3")
        assert not (await client.get("k", level="quorum")).found
        await converged(world, client)
        assert not (await client.get("k", level="all")).found
        await world.sleep(GRACE_S * 4)
        assert not any(holds(world, node) for node in world.running), "and in the end nothing is left of it"

    World(1, cluster=SHORT_GRACE).run(scenario)


@pytest.mark.parametrize("wrong_ms", [MINUTES_MS, -MINUTES_MS])
def test_bug_a_node_whose_clock_was_ahead_refused_the_writes_that_it_coordinated(wrong_ms: int) -> None:
    """Clients that know it already, such as meet it now, and such as have their own clock from it: all are served by all nodes."""

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("here")
        await prepare(client)
        world.skew("n3", wrong_ms)
        later = [world.client("met", targets=["n1"]), world.client("wrong", targets=["n3"])]
        keys = [f"pa-ec/write/{at}" for at in range(KEYS_PER_CELL)]
        for one in (client, *later, *later):
            told = await asyncio.gather(*(one.put(key, b"new") for key in keys))
            assert {result.receipt.coordinator for result in told} == {"n1", "n2", "n3"}
            assert not any(result.receipt.degraded for result in told)

    World(1, cluster=CLUSTER).run(scenario)


@pytest.mark.parametrize("wrong_ms", [0, MINUTES_MS, -MINUTES_MS])
def test_a_first_attempt_that_was_on_its_way_for_longer_than_the_window_is_not_executed(wrong_ms: int) -> None:
    """What a client sends to n1 hangs, and n1 has lost its peers; the client puts elsewhere, another deletes, and then the put
    arrives. Whatever clocks say."""

    async def scenario(world: World) -> None:
        await world.start()
        client, other = world.client("here", timeout_s=20.0), world.client("there", targets=["n2"])
        world.skew("n1", wrong_ms)
        tried = {f"k{at}": await client.put(f"k{at}", b"old") for at in range(KEYS_PER_CELL)}
        key = next(key for key, result in tried.items() if result.receipt.coordinator == "n1")
        world.stall("here", "n1")
        world.partition(["n1"], ["n2", "n3"])
        stalled_s = world.now_s
        assert (await client.put(key, b"new", level="quorum")).receipt.coordinator != "n1"
        await other.get(key, level="quorum")
        await other.delete(key, level="quorum")
        await world.sleep(stalled_s + 2.2 - world.now_s)  # the window is 2 s; a little later the link would be given up
        world.heal("here", "n1")
        await world.sleep(0.5)
        world.heal_all()
        await converged(world, other)
        assert not (await other.get(key, level="all")).found

    World(1, cluster=replace(SHORT_GRACE, tombstone_grace_s=86_400.0)).run(scenario)


def test_a_clock_that_is_ahead_within_the_retry_window_does_no_harm() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("here")
        await prepare(client)
        world.skew("n3", int(CLUSTER.retry_window_s * 900))
        assert set((await row_told(client)).values()) == {"yes / yes"}

    World(1, cluster=CLUSTER).run(scenario)


def holds(world: World, node: str) -> bool:
    """Whether there is a record of "k", a tombstone is one, on a node's disk."""
    prefixes = world.local(node).view.space("default").prefixes
    return any(prefix + b"k" in world.disk(node).held() for prefix in prefixes)


async def converged(world: World, client: AsyncClient) -> None:
    """Waits for what `kv status --wait converged` waits for."""
    async with asyncio.timeout(60):
        while True:
            rows = await client.admin.status()
            if all(row.state == "alive" and not (row.hints_pending or row.rebuilding or row.divergent_partitions) for row in rows):
                return
            await world.sleep(0.1)


# --- through real sockets


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(toxiproxy_server: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProxiedCluster]:
    namespaces = {"default": {"preset": "pa-ec"}, "quick": {"preset": "pa-el"}}
    async with proxied(tmp_path_factory.mktemp("table"), sites=("outside", "inside"), namespaces=namespaces) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(shared: ProxiedCluster) -> AsyncIterator[ProxiedCluster]:
    yield shared
    await tidy(shared)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(120, func_only=True)
async def test_real_nodes_on_both_sides_of_a_split_do_as_their_rows_say(cluster: ProxiedCluster) -> None:
    async with client_of(cluster, "outside") as outside, client_of(cluster, "inside") as inside:
        await prepare(outside)
        await inside.get("k")
        await cluster.plane.partition([["n1", "inside"], ["n2", "n3", "outside"]])
        await cluster.plane.verify()
        await notice(inside, "n1")
        await notice(outside, "n2", "n3")
        # The small side first: what it reads must be what there was before the cut.
        assert await row_told(inside) == table()["split-small-side"]
        assert await row_told(outside) == table()["split-large-side"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(120, func_only=True)
async def test_a_real_node_whose_calls_go_nowhere_does_as_its_row_says_and_still_serves_the_others(cluster: ProxiedCluster) -> None:
    """n1 cannot call n2 and n3, which call n1 as ever: for them all three replicas are there."""
    async with client_of(cluster, "outside") as outside, client_of(cluster, "inside") as inside:
        await prepare(outside)
        await inside.get("k")
        await cluster.plane.cut(Link("n1", "n2"), Link("n1", "n3"), direction=Direction.REQUESTS)
        await cluster.plane.cut(Link("inside", "n2"), Link("inside", "n3"), Link("outside", "n1"))
        await cluster.plane.verify()
        await notice(inside, "n1")
        await notice(outside, "n2", "n3")
        assert await row_told(inside) == table()["one-way-heard-by-nobody"]
        receipt = (await outside.put("k", b"v", level="all")).receipt
        assert set(receipt.acknowledged) == {"n1", "n2", "n3"}
