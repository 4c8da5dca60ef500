"""Touches: another time to live under the same version, never at the price of a delete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kvproto.columns import Kind, Level, OperationGroup
from kvproto.errors import QuorumUnreachable, RecordLost, RetryWindowPassed
from kvstore.config import ClusterConfig
from tests.support.cluster import ALL, LONG, Cluster, Told
from tests.support.engines import RottingEngine
from tests.support.waiting import until


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(engine=RottingEngine) as running:
        yield running


def touches(*keys: bytes, ttl_ms: int, **options: Any) -> OperationGroup:
    return OperationGroup(Kind.TOUCH, "default", list(keys), ttls_ms=[ttl_ms], **options)


async def touch(cluster: Cluster, node: str, key: bytes, *, ttl_ms: int, **options: Any) -> Told:
    return (await cluster.run(node, touches(key, ttl_ms=ttl_ms, **options)))[0]


async def test_a_touch_moves_the_end_of_a_value_and_keeps_its_version(cluster: Cluster) -> None:
    put = await cluster.put("n1", b"k", b"v", ttls_ms=[5000], **ALL)
    told = await touch(cluster, "n2", b"k", ttl_ms=60_000, **ALL)
    assert told.count == 1 and told.versions == put.versions
    cluster.clock.advance_s(6)
    found = await cluster.get("n3", b"k", **ALL)
    assert found.value == b"v" and found.versions == put.versions
    assert found.expires_ms == [cluster.clock.time_ms + 54_000]
    assert len({cluster.held(node, b"k") for node in cluster.ids}) == 1


async def test_a_touch_of_nothing_writes_nothing(cluster: Cluster) -> None:
    await cluster.put("n1", b"gone", b"v", **ALL)
    await cluster.delete("n1", b"gone", **ALL)
    await cluster.put("n1", b"over", b"v", ttls_ms=[10], **ALL)
    cluster.clock.advance_s(1)
    before = [cluster.held("n1", key) for key in (b"gone", b"over")]
    answer = await cluster.run("n1", touches(b"never", b"gone", b"over", ttl_ms=60_000))
    assert [answer[at].count for at in range(3)] == [0, 0, 0]
    assert [cluster.held("n1", key) for key in (b"gone", b"over")] == before
    assert cluster.held("n1", b"never") is None


async def test_a_coordinator_that_missed_the_put_touches_what_the_others_hold(cluster: Cluster) -> None:
    cluster.isolate("n1")
    put = await cluster.put("n2", b"k", b"v", ttls_ms=[5000])
    cluster.rejoin("n1")
    told = await touch(cluster, "n1", b"k", ttl_ms=60_000)
    assert told.count == 1 and told.versions == put.versions
    cluster.clock.advance_s(6)
    assert (await cluster.get("n1", b"k")).value == b"v"


async def test_a_coordinator_that_missed_the_delete_touches_nothing(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    cluster.isolate("n1")
    await cluster.delete("n2", b"k")
    cluster.rejoin("n1")
    assert (await touch(cluster, "n1", b"k", ttl_ms=60_000)).count == 0
    assert (await cluster.get("n1", b"k")).value is None


async def test_a_touch_that_did_not_know_of_a_delete_loses_against_it(cluster: Cluster) -> None:
    """1. A delete on one side of a cut, a touch on the other: both are acknowledged, degraded. 2. After the cut the key is gone."""
    await cluster.put("n1", b"k", b"v", ttls_ms=[5000], **ALL)
    cluster.isolate("n1")
    assert (await touch(cluster, "n1", b"k", ttl_ms=60_000)).count == 1
    assert (await cluster.delete("n2", b"k")).error is None
    cluster.rejoin("n1")
    cluster.clock.advance_s(1)
    assert (await cluster.get("n1", b"k", **ALL)).value is None
    await until(lambda: len({cluster.held(node, b"k") for node in cluster.ids}) == 1)


async def test_a_touch_of_siblings_touches_each(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"a", context=b"\x01\x00\x00", ttls_ms=[5000], **ALL)
    await cluster.put("n1", b"k", b"b", context=b"\x01\x00\x00", ttls_ms=[5000], **ALL)
    assert (await touch(cluster, "n1", b"k", ttl_ms=60_000, **ALL)).count == 2
    cluster.clock.advance_s(6)
    assert sorted((await cluster.get("n2", b"k", **ALL)).values) == [b"a", b"b"]


async def test_a_touch_that_cannot_reach_its_level_is_refused_and_changes_nothing(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", ttls_ms=[5000], **ALL)
    cluster.isolate("n3")
    before = cluster.held("n1", b"k")
    refused = await touch(cluster, "n1", b"k", ttl_ms=60_000, level=Level.ALL)
    assert isinstance(refused.error, QuorumUnreachable) and not refused.error.may_have_applied
    assert cluster.held("n1", b"k") == before


async def test_too_few_replicas_do_not_say_that_there_is_nothing(cluster: Cluster) -> None:
    """A preset degrades, but the only replica that is reached may be the only one that has missed the put."""
    cluster.isolate("n1")
    refused = await touch(cluster, "n1", b"k", ttl_ms=60_000)
    assert isinstance(refused.error, QuorumUnreachable) and not refused.error.may_have_applied
    assert (refused.error.needed, refused.error.received) == (2, 1)


async def test_a_touch_that_is_older_than_the_retry_window_is_refused(cluster: Cluster) -> None:
    """It was on its way for longer: whoever sent it has given it up."""
    await cluster.put("n1", b"k", b"v", **ALL)
    old = (cluster.clock.now_ms() - 60_000).to_bytes(6, "big") + bytes(10)
    assert isinstance((await touch(cluster, "n1", b"k", ttl_ms=1, request_ids=old)).error, RetryWindowPassed)


async def test_a_lost_record_is_not_touched(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    member = cluster.members["n1"]
    assert isinstance(member.engine, RottingEngine)
    member.engine.damaged.add(cluster.store_key(b"k"))
    member.local.store._cache.clear()
    answer = await cluster.run("n1", touches(b"k", b"other", ttl_ms=60_000))
    assert isinstance(answer[0].error, RecordLost) and answer[1].count == 0


async def test_many_keys_are_touched_some_at_a_time_and_each_is_answered_once(cluster: Cluster) -> None:
    keys = [b"%d" % at for at in range(300)]
    await cluster.run("n1", OperationGroup(Kind.PUT, "default", keys[::2], [b"v"] * 150, **LONG))
    answer = await cluster.run("n1", touches(*keys, ttl_ms=60_000, **LONG))
    assert [answer[at].count for at in range(300)] == [1, 0] * 150


async def test_bug_a_touch_in_the_place_of_home_replicas_deleted_the_value() -> None:
    """Whoever stands in for home replicas minted a touch like a write without a value."""
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as five:
        homes = five.owners(b"k")
        others = [node for node in five.ids if node not in homes]
        await five.put(homes[0], b"k", b"v", ttls_ms=[60_000], **ALL)
        for home in homes:
            five.isolate(home)
        nothing = await touch(five, others[0], b"k", ttl_ms=600_000)
        assert nothing.error is None and nothing.count == 0
        assert (await five.put(others[0], b"k", b"w", ttls_ms=[60_000])).error is None
        assert (await touch(five, others[0], b"k", ttl_ms=600_000)).count == 1
        found = await five.get(others[1], b"k")
        assert found.value == b"w" and found.expires_ms == [five.clock.time_ms + 600_000]
