"""Reads at timeline and bounded, which a home replica answers alone where it is proven to be fresh enough (docs/adr/0021)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvproto.columns import Kind, Level, OperationGroup
from kvproto.errors import QuorumUnreachable
from kvstore.config import ClusterConfig
from kvstore.config.values import NamespaceConfig
from kvstore.repair import horizons
from tests.support.cluster import Cluster, Told, gets, puts
from tests.support.horizons import hear, upkeep
from tests.support.waiting import until

SPACES = {
    "default": NamespaceConfig(mode="linearizable", preset="pc-el"),
    "strict": NamespaceConfig(id=2, mode="linearizable", preset="pc-ec"),
}
SETTINGS = ClusterConfig(partitions=8, namespaces=SPACES, timeline_bound_s=3600.0)
"""A bound that no test outlasts: what is asked is as of the last round that the test has made."""


def cluster(nodes: int = 3, **options: Any) -> Cluster:
    return Cluster(nodes, settings=options.pop("settings", SETTINGS), **options)


def alone(told: Told, node: str) -> bool:
    """Whether `node` answered without asking anybody."""
    receipt = told.receipt
    assert told.error is None and receipt is not None
    return receipt.acknowledged == (node,) and receipt.needed == 1


async def test_every_home_replica_answers_alone_what_all_hold() -> None:
    async with cluster() as on:
        pairs = {b"key-%d" % at: b"value-%d" % at for at in range(60)}
        await on.run("n1", puts(pairs))
        await on.delete("n1", b"key-7")
        await hear(on)
        await until(lambda: all(on.held(node, b"key-59") is not None for node in on.ids))
        await hear(on)
        for node in on.ids:
            got = await on.run(node, gets(*pairs, b"never written"))
            for at, (key, value) in enumerate(pairs.items()):
                assert alone(got[at], node)
                assert got[at].value == (None if key == b"key-7" else value)
            assert alone(got[60], node) and not got[60].count


async def test_a_replica_that_has_heard_nobody_leaves_the_read_to_the_proposer() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        got = await on.get("n2", b"k")
        assert got.value == b"v" and got.receipt is not None and got.receipt.needed == 2


async def test_a_replica_that_missed_a_write_does_not_answer_alone_once_it_has_heard_of_it() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"old")
        await hear(on)
        on.isolate("n3")
        await on.put("n1", b"k", b"new")
        got = await on.get("n3", b"k")
        assert alone(got, "n3") and got.value == b"old", "within the bound"
        on.rejoin("n3")
        await hear(on, "n3")
        for bound_ms in (60_000, 1):
            got = await on.get("n3", b"k", level=Level.BOUNDED, bound_ms=bound_ms)
            assert got.value == ("old" if alone(got, "n3") else "new").encode()
        got = await on.get("n3", b"k", level=Level.BOUNDED, bound_ms=1)
        assert got.value == b"new", "nobody could prove that the older one is fresh"


async def test_a_minority_reads_within_the_bound_and_refuses_at_once_after_it() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        await until(lambda: on.held("n3", b"k") is not None)
        await hear(on)
        on.isolate("n3")
        assert alone(await on.get("n3", b"k"), "n3")
        assert isinstance((await on.put("n3", b"k", b"w")).error, QuorumUnreachable)
        assert isinstance((await on.get("n3", b"k", level=Level.LINEARIZABLE)).error, QuorumUnreachable)
        error = (await on.get("n3", b"k", level=Level.BOUNDED, bound_ms=1)).error
        assert isinstance(error, QuorumUnreachable) and not error.may_have_applied
        assert (await on.get("n1", b"k")).value == b"v"


async def test_a_session_is_never_shown_less_than_it_has_seen() -> None:
    async with cluster() as on:
        old = await on.put("n1", b"k", b"old")
        await until(lambda: on.held("n3", b"k") is not None)
        await hear(on)
        on.cut("n1", "n3")
        new = await on.put("n1", b"k", b"new")
        assert (await on.get("n3", b"k", seen=[old.versions[0]])).value == b"old"
        got = await on.get("n3", b"k", seen=[new.versions[0]])
        assert got.value == b"new" and not alone(got, "n3")
        got = await on.get("n3", b"other", seen=[new.versions[0]])
        assert not alone(got, "n3"), "what is there no more may have been there"


async def test_what_has_expired_is_left_to_the_proposer_who_commits_its_tombstone() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v", ttls_ms=[500])
        await until(lambda: on.held("n3", b"k") is not None)
        await hear(on)
        assert (await on.get("n3", b"k")).value == b"v"
        on.clock.advance_s(1.0)
        got = await on.get("n3", b"k")
        assert not got.count and not alone(got, "n3")


async def test_an_accept_that_nobody_confirmed_is_not_shown_and_what_it_came_over_is() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"old")
        await until(lambda: on.held("n3", b"k") is not None)
        await hear(on)
        await until(lambda: alone_now(on, "n3"))
        on.cut("n1", "n2")
        on.wire("n3", "n1").hold()  # its acknowledgement, which would make it chosen
        pending = on.start("n1", puts({b"k": b"new"}))
        before = on.held("n3", b"k")
        await until(lambda: on.held("n3", b"k") != before)
        got = await on.get("n3", b"k")
        assert alone(got, "n3") and got.value == b"old"
        on.wire("n3", "n1").release()
        assert (await pending.complete())[0].error is None


def alone_now(on: Cluster, node: str) -> bool:
    registers = on.members[node].local.linearizable.registers
    return registers.tracker.is_chosen(on.store_key(b"k"))


async def test_a_node_that_is_no_home_replica_hands_reads_to_all_that_are() -> None:
    async with cluster(5) as on:
        key = next(key for key in (b"k%d" % at for at in range(100)) if "n1" not in on.owners(key))
        await on.put("n1", key, b"v")
        await until(lambda: all(on.held(node, key) is not None for node in on.owners(key)))
        await hear(on)
        answered = {(await on.get("n1", key)).receipt.acknowledged for _ in range(12)}  # type: ignore[union-attr]
        assert answered == {(node,) for node in on.owners(key)}


async def test_levels_other_than_timeline_and_bounded_go_to_a_majority() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        await on.run("n1", OperationGroup(Kind.PUT, "strict", [b"k"], [b"v"]))
        await until(lambda: on.held("n3", b"k") is not None)
        await hear(on)
        assert not alone(await on.get("n3", b"k", level=Level.LINEARIZABLE), "n3")
        strict = OperationGroup(Kind.GET, "strict", [b"k"])
        assert not alone((await on.run("n3", strict))[0], "n3")
        timeline = OperationGroup(Kind.GET, "strict", [b"k"], level=Level.TIMELINE, explain=True)
        await hear(on)
        told = (await on.run("n3", timeline))[0]
        assert alone(told, "n3") and "n3 answered alone" in told.receipt.explanation[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("nodes", [1, 2, 4, 5])
async def test_other_numbers_of_nodes(nodes: int) -> None:
    settings = ClusterConfig(
        partitions=8, replicas=nodes, namespaces={"default": NamespaceConfig(mode="linearizable", preset="pc-el", n=nodes)}
    )
    async with cluster(nodes, settings=settings) as on:
        await on.put("n1", b"k", b"v")
        await until(lambda: all(on.held(node, b"k") is not None for node in on.ids))
        await hear(on)
        for node in on.ids:
            got = await on.get(node, b"k")
            assert got.value == b"v" and alone(got, node)
        majority = nodes // 2 + 1
        for node in on.ids[majority:]:
            on.isolate(node)
        assert (await on.put("n1", b"k", b"w")).error is None
        for node in on.ids[:majority]:
            assert (await on.get(node, b"k", level=Level.LINEARIZABLE)).value == b"w"


async def test_a_restart_proves_nothing_until_it_has_looked_and_heard() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        await until(lambda: on.held("n3", b"k") is not None)
        await hear(on)
        assert alone(await on.get("n3", b"k"), "n3")
        on.members["n3"].local.linearizable.registers.tracker.forget_all()
        assert not alone(await on.get("n3", b"k"), "n3")
        await hear(on)
        await asyncio.sleep(0)
        assert alone(await on.get("n3", b"k"), "n3")


# Who is watched for it (docs/adr/0032).


def watched(on: Cluster, node: str) -> set[str]:
    """The namespaces of which all groups are watched; of the others none is."""
    tracker, view = on.members[node].local.linearizable.tracker, on.members[node].local.view
    found = set()
    for name in SPACES:
        groups = tracker.groups.keys() & set(view.space(name).prefixes)
        assert groups and (groups <= tracker.watched or not groups & tracker.watched)
        if groups <= tracker.watched:
            found.add(name)
    return found


async def test_a_namespace_is_watched_where_it_is_read_alone_and_for_a_while_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(horizons, "LINGER_BOUNDS", 3)
    async with cluster(settings=ClusterConfig(partitions=8, namespaces=SPACES, timeline_bound_s=0.1)) as on:
        jobs = [upkeep(on, node) for node in on.ids]
        for job in jobs:
            job.start()
        try:
            assert [watched(on, node) for node in on.ids] == [{"default"}] * 3, "whose reads are alone by their preset"
            read = OperationGroup(Kind.GET, "strict", [b"k"], level=Level.TIMELINE)
            first = (await on.run("n1", read))[0]
            assert not alone(first, "n1"), "nothing is known yet"
            assert watched(on, "n1") == {"default", "strict"} and watched(on, "n2") == {"default"}

            async def is_alone() -> bool:
                return alone((await on.run("n1", read))[0], "n1")

            while not await is_alone():
                await asyncio.sleep(0)
            await until(lambda: watched(on, "n1") == {"default"})
        finally:
            for job in jobs:
                job.stop()
