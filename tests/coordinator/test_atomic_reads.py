"""Level atomic: what a read shows a majority holds by then, so that no later one un-sees it (safety rule 12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kvproto.columns import Level, OperationGroup, Sloppy
from kvproto.errors import BadRequest, Overloaded, QuorumUnreachable
from tests.support.cluster import LONG, ONE, Cluster, gets, puts
from tests.support.waiting import until

ATOMIC: dict[str, Any] = {"level": Level.ATOMIC}


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as running:
        yield running


async def put_at_one(cluster: Cluster, node: str, key: bytes, value: bytes) -> None:
    """Only `node` holds it."""
    cluster.isolate(node)
    await cluster.put(node, key, value, **ONE)
    cluster.rejoin(node)


async def test_what_an_atomic_read_shows_a_majority_holds_when_it_is_answered(cluster: Cluster) -> None:
    """1. Only n1 has the write. 2. n3 is away; n1 reads with n2, which has it by then. 3. n2 reads with n3: it is there."""
    await put_at_one(cluster, "n1", b"k", b"v")
    cluster.isolate("n3")
    assert (await cluster.get("n1", b"k", **ATOMIC, **LONG)).value == b"v"
    assert cluster.held("n2", b"k") == cluster.held("n1", b"k")
    cluster.rejoin("n3")
    cluster.isolate("n1")
    assert (await cluster.get("n2", b"k", **ATOMIC, **LONG)).value == b"v"


async def test_a_read_is_not_answered_while_what_it_found_is_held_by_one(cluster: Cluster) -> None:
    await put_at_one(cluster, "n2", b"k", b"v")
    cluster.isolate("n3")
    engine = cluster.members["n1"].local.committer
    batches = engine.commits
    answer = cluster.start("n1", gets(b"k", **ATOMIC, **LONG))
    assert (await answer.complete())[0].value == b"v"
    assert engine.commits > batches, "n1 has made it durable before"
    assert cluster.held("n1", b"k") == cluster.held("n2", b"k")


async def test_equal_replicas_are_sent_nothing(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", level=Level.ALL)
    before = [member.local.committer.records for member in cluster.members.values()]
    told = await cluster.get("n1", b"k", **ATOMIC)
    assert told.value == b"v" and told.receipt is not None
    assert (told.receipt.needed, told.receipt.degraded, told.receipt.hinted) == (2, False, False)
    assert [member.local.committer.records for member in cluster.members.values()] == before


async def test_one_that_cannot_be_written_back_is_refused(cluster: Cluster) -> None:
    """n2 answers the fetch and declines the store."""
    await put_at_one(cluster, "n1", b"k", b"v")
    cluster.isolate("n3")
    store = cluster.members["n2"].local.replica

    def full(*args: Any, **named: Any) -> None:
        args[2](Overloaded("full"), ())

    store.merge = full  # type: ignore[method-assign]
    error = (await cluster.get("n1", b"k", **ATOMIC, **LONG)).error
    assert isinstance(error, QuorumUnreachable) and error.retryable and not error.may_have_applied


async def test_it_takes_a_majority_of_home_replicas_and_nobody_else() -> None:
    async with Cluster(5) as five:
        key = next(key for key in (b"key-%d" % at for at in range(99)) if five.owners(key)[0] == "n1")
        for home in five.owners(key)[1:]:
            five.isolate(home)
        for group in (gets(key, **ATOMIC, **LONG), puts({key: b"v"}, **ATOMIC, **LONG)):
            assert isinstance((await five.run("n1", group))[0].error, QuorumUnreachable)
        error = await five.get("n1", key, sloppy=Sloppy.YES, **ATOMIC)
        assert isinstance(error.error, BadRequest)


async def test_many_keys_some_of_which_differ(cluster: Cluster) -> None:
    keys = [b"%d" % at for at in range(40)]
    await cluster.run("n1", OperationGroup(puts({}).kind, "default", keys, [b"old"] * 40, level=Level.ALL))
    cluster.isolate("n3")
    await cluster.run("n3", OperationGroup(puts({}).kind, "default", keys[::3], [b"new"] * 14, **ONE))
    cluster.rejoin("n3")
    cluster.isolate("n2")
    answer = await cluster.run("n1", gets(*keys, b"absent", **ATOMIC, **LONG))
    assert [answer[at].value for at in range(40)] == [b"new" if at % 3 == 0 else b"old" for at in range(40)]
    assert answer[40].count == 0
    await until(lambda: all(cluster.held("n1", key) == cluster.held("n3", key) for key in keys))
