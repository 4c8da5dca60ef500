"""Reads with what a session has seen: not older than that, or BehindSession (safety rule 20)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kvproto.errors import BadRequest, BehindSession
from tests.support.cluster import ALL, LONG, ONE, QUORUM, Cluster, gets
from tests.support.waiting import turns


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as running:
        yield running


async def seen_at_one(cluster: Cluster, node: str, key: bytes, value: bytes) -> bytes:
    """Only `node` holds it; what its author has seen."""
    cluster.isolate(node)
    context = (await cluster.put(node, key, value, **ONE)).context
    cluster.rejoin(node)
    return context


async def test_a_replica_that_is_behind_asks_others_whatever_the_level(cluster: Cluster) -> None:
    seen = await seen_at_one(cluster, "n1", b"k", b"v")
    assert (await cluster.get("n2", b"k", **ONE)).count == 0, "without a session it is not there"
    told = await cluster.get("n2", b"k", seen=[seen], **ONE)
    assert told.value == b"v" and told.error is None


async def test_what_has_been_superseded_since_is_new_enough(cluster: Cluster) -> None:
    seen = (await cluster.put("n1", b"k", b"v", **ALL)).context
    await cluster.put("n2", b"k", b"w", **ALL)
    assert (await cluster.get("n3", b"k", seen=[seen], **ONE)).value == b"w"


async def test_what_nobody_within_reach_has_is_behind_the_session(cluster: Cluster) -> None:
    seen = await seen_at_one(cluster, "n1", b"k", b"v")
    cluster.isolate("n1")
    for options in (ONE, QUORUM, {}):
        error = (await cluster.get("n2", b"k", seen=[seen], **options, **LONG)).error
        assert isinstance(error, BehindSession) and error.retryable and not error.may_have_applied


async def test_it_waits_for_what_is_on_its_way(cluster: Cluster) -> None:
    seen = await seen_at_one(cluster, "n1", b"k", b"v")
    cluster.cut("n1", "n2")
    cluster.cut("n1", "n3")
    answer = cluster.start("n2", gets(b"k", seen=[seen], **ONE, **LONG))
    await turns(20)
    assert not answer.told
    cluster.heal("n1", "n2")
    assert (await answer.complete())[0].value == b"v"


async def test_keys_of_one_batch_wait_for_themselves_alone(cluster: Cluster) -> None:
    seen = await seen_at_one(cluster, "n1", b"late", b"v")
    quick = (await cluster.put("n1", b"quick", b"q", **ALL)).context
    cluster.isolate("n1")
    answer = cluster.start("n2", gets(b"quick", b"late", b"none", seen=[quick, seen, b""], **ONE, **LONG))
    await turns(20)
    assert answer[0].value == b"q" and answer[2].count == 0
    assert (0, 1) not in answer.told
    assert isinstance((await answer.complete())[1].error, BehindSession)


async def test_what_was_deleted_and_forgotten_everywhere_is_not_waited_for(cluster: Cluster) -> None:
    """No home replica has a trace of it: tombstones go when all of them have had them for the grace."""
    context = (await cluster.put("n1", b"other", b"v", **ALL)).context
    told = await cluster.get("n2", b"k", seen=[context], **ONE, **LONG)
    assert told.error is None and told.count == 0


async def test_what_was_never_handed_out_is_refused(cluster: Cluster) -> None:
    error = (await cluster.get("n2", b"k", seen=[b"nonsense"])).error
    assert isinstance(error, BadRequest) and error.subject == "seen"
