"""Namespaces with a policy across replicas: what is concurrent adds up, wins or is merged; increments are counted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from kvproto.columns import Kind, OperationGroup
from kvproto.errors import BadRequest, QuorumUnreachable, RetryWindowPassed, TooLarge, WrongMode
from kvstore.config import ClusterConfig, NamespaceConfig
from kvstore.coordinator.policy_minting import PolicyMint
from kvstore.core.policies.operations import Increment
from kvstore.core.policies.typed import COUNTER
from kvstore.core.record import OVERWRITE_PLUS, decode
from kvstore.core.versions import make_dot
from tests.support.cluster import ALL, ONE, QUORUM, Cluster, Told, request_id


def cluster_of(policy: str, **options: Any) -> Cluster:
    """A cluster whose default namespace has `policy`."""
    space = NamespaceConfig(policy=policy, **{name: value for name, value in options.items() if name in ("merge", "samples")})
    others = {name: value for name, value in options.items() if name not in ("merge", "samples")}
    return Cluster(settings=ClusterConfig(partitions=8, namespaces={"default": space}, **others))


async def change(cluster: Cluster, node: str, kind: Kind, key: bytes = b"k", **options: Any) -> Told:
    """One operation on one key; `value`, `field`, `by` and `context` are its columns' only entries."""
    columns: dict[str, Any] = {}
    for name, column in (("value", "values"), ("field", "fields"), ("by", "amounts"), ("context", "contexts")):
        if name in options:
            columns[column] = [options.pop(name)]
    return (await cluster.run(node, OperationGroup(kind, "default", [key], **columns, **options)))[0]


async def increment(cluster: Cluster, node: str, by: int = 1, **options: Any) -> Told:
    return await change(cluster, node, Kind.INCREMENT, by=by, **options)


async def read(cluster: Cluster, node: str = "n1") -> Sequence[bytes]:
    told = await cluster.get(node, b"k", **ALL)
    assert told.error is None
    return told.values


# --- counters


async def test_increments_on_both_sides_of_a_cut_add_up_when_it_heals() -> None:
    async with cluster_of("counter") as cluster:
        assert (await increment(cluster, "n1", 5, **ALL)).values == [b"5"]
        cluster.isolate("n3")
        assert (await increment(cluster, "n3", 10, **ONE)).values == [b"15"]
        assert (await increment(cluster, "n1", -2, **QUORUM)).values == [b"3"]
        cluster.rejoin("n3")
        for node in cluster.ids:
            assert await read(cluster, node) == [b"13"]


async def test_a_repeated_increment_is_answered_by_whoever_remembers_it_and_counted_once() -> None:
    async with cluster_of("counter") as cluster:
        ids = request_id(cluster.clock, 1)
        await increment(cluster, "n1", 5, request_ids=ids, **ALL)
        await increment(cluster, "n1", 1, **ALL)
        for node in cluster.ids:
            again = await increment(cluster, node, 5, request_ids=ids, attempt=1, **ALL)
            assert again.error is None and again.values == [b"6"]
        assert await read(cluster) == [b"6"]


async def test_a_repeated_increment_is_refused_as_unknown_where_nobody_remembers_it() -> None:
    """1. n1 counts, alone, and is cut off before anybody hears of it. 2. The client tries n2, which does not know it."""
    async with cluster_of("counter") as cluster:
        ids = request_id(cluster.clock, 1)
        cluster.isolate("n1")
        assert (await increment(cluster, "n1", 5, request_ids=ids, **ONE)).error is None
        refused = await increment(cluster, "n2", 5, request_ids=ids, attempt=1, **QUORUM)
        assert isinstance(refused.error, RetryWindowPassed)
        assert refused.error.may_have_applied and not refused.error.retryable
        cluster.rejoin("n1")
        assert await read(cluster) == [b"5"]


async def test_many_increments_of_one_millisecond_are_all_counted_and_tell_every_number() -> None:
    """More than the ids that a record remembers: what was forgotten within the batch keeps no first attempt from being counted."""
    async with cluster_of("counter") as cluster:
        count = 200
        group = OperationGroup(Kind.INCREMENT, "default", [b"k"] * count, amounts=[1] * count, **ALL)
        group.request_ids = b"".join(request_id(cluster.clock, count - at) for at in range(count))
        answer = await cluster.run("n1", group)
        assert [answer[at].values for at in range(count)] == [[b"%d" % (at + 1)] for at in range(count)]
        for node in cluster.ids:
            assert await read(cluster, node) == [b"%d" % count]


async def test_a_delete_takes_the_increments_that_it_has_seen_and_no_others() -> None:
    async with cluster_of("counter") as cluster:
        await increment(cluster, "n1", 5, **ALL)
        cluster.isolate("n3")
        await increment(cluster, "n3", 2, **ONE)
        await change(cluster, "n1", Kind.DELETE, **QUORUM)
        cluster.rejoin("n3")
        assert await read(cluster) == [b"2"]


def test_the_quick_increment_makes_the_record_that_the_policy_makes() -> None:
    actor = b"node" + bytes(8)
    settings: dict[str, Any] = {"hlc": 7, "cutoff_ms": 50, "window_ms": 10, "retries_max": 4, "bytes_max": 1 << 20}
    group = OperationGroup(Kind.INCREMENT, "default", [b"k"])
    mint = PolicyMint(COUNTER, group=group, **settings, caught_up=False)
    base: bytes | None = None
    for at in range(1, 40):
        row = (make_dot(actor, at), (60 + at // 3).to_bytes(6, "big") + bytes(9) + bytes((at,)), 0, b"", Increment(at))
        slow = PolicyMint(COUNTER, group=group, **settings, caught_up=False)
        slow._overwrite = lambda *_: None  # type: ignore[method-assign]
        quick, plain = mint.mint(base, *row), slow.mint(base, *row)
        assert (quick.record, quick.total, quick.context) == (plain.record, plain.total, plain.context)
        base = quick.record


# --- sets


async def test_an_add_wins_over_a_concurrent_remove() -> None:
    async with cluster_of("set") as cluster:
        await change(cluster, "n1", Kind.ADD, value=b"x", **ALL)
        cluster.isolate("n3")
        await change(cluster, "n3", Kind.ADD, value=b"x", **ONE)
        await change(cluster, "n1", Kind.REMOVE, value=b"x", **QUORUM)
        cluster.rejoin("n3")
        for node in cluster.ids:
            assert await read(cluster, node) == [b"x"]


async def test_a_remove_takes_what_its_author_was_acknowledged_also_where_the_coordinator_has_not_seen_it() -> None:
    async with cluster_of("set") as cluster:
        cluster.stall("n2")
        added = await change(cluster, "n1", Kind.ADD, value=b"x", **ONE)
        cluster.resume("n2")
        plus = bytes((OVERWRITE_PLUS,)) + added.context[1:]
        assert (await change(cluster, "n2", Kind.REMOVE, value=b"x", context=plus, **ALL)).error is None
        for node in cluster.ids:
            assert await read(cluster, node) == []


async def test_a_remove_of_what_no_replica_within_reach_has_is_refused_and_not_forgotten() -> None:
    async with cluster_of("set") as cluster:
        cluster.isolate("n1")
        added = await change(cluster, "n1", Kind.ADD, value=b"x", **ONE)
        refused = await change(cluster, "n2", Kind.REMOVE, value=b"x", context=added.context, **QUORUM)
        assert isinstance(refused.error, QuorumUnreachable) and not refused.error.may_have_applied
        cluster.rejoin("n1")
        assert (await change(cluster, "n2", Kind.REMOVE, value=b"x", context=added.context, **QUORUM)).error is None
        assert await read(cluster) == []


async def test_a_set_grows_up_to_a_limit_and_can_always_be_made_smaller() -> None:
    async with cluster_of("set", value_bytes_max=1000) as cluster:
        added, error = 0, None
        while error is None:
            error = (await change(cluster, "n1", Kind.ADD, value=b"%0500d" % added, **ALL)).error
            added += error is None
        assert isinstance(error, TooLarge) and error.subject == "items" and error.limit == 4000 and 4 < added < 9
        for at in (0, 1):
            assert (await change(cluster, "n1", Kind.REMOVE, value=b"%0500d" % at, **ALL)).error is None
        assert (await change(cluster, "n1", Kind.ADD, value=b"%0500d" % added, **ALL)).error is None


# --- lww


async def test_lww_converges_on_the_greatest_stamp_at_every_replica() -> None:
    async with cluster_of("lww") as cluster:
        await cluster.put("n1", b"k", b"base", **ALL)
        cluster.isolate("n3")
        await cluster.put("n3", b"k", b"earlier", **ONE)
        cluster.clock.advance_s(1.0)
        await cluster.put("n1", b"k", b"later", **QUORUM)
        cluster.rejoin("n3")
        for node in ("n3", "n2", "n1"):
            assert await read(cluster, node) == [b"later"]


async def test_lww_a_write_that_has_seen_a_fast_clocks_write_is_not_buried_under_it() -> None:
    async with cluster_of("lww") as cluster:
        cluster.clock.advance_s(3600.0)
        await cluster.put("n1", b"k", b"from the future", **ALL)
        cluster.clock.advance_s(-3600.0)
        await cluster.put("n2", b"k", b"after", **ALL)
        for node in cluster.ids:
            assert await read(cluster, node) == [b"after"]


# --- merge functions


def union(one: bytes, two: bytes) -> bytes:
    if b"?" in one + two:
        raise ValueError("a question mark")
    return b",".join(sorted({*one.split(b","), *two.split(b",")}))


MERGE: dict[str, Any] = {"merge": "tests.coordinator.test_policies:union", "samples": ("a", "b", "a,c")}


async def siblings_of(cluster: Cluster, one: bytes, two: bytes) -> None:
    base = await cluster.put("n1", b"k", b"base", **ALL)
    await cluster.put("n2", b"k", one, context=base.context, **ALL)
    await cluster.put("n3", b"k", two, context=base.context, **ALL)


async def test_siblings_are_read_as_what_the_function_makes_of_them_and_stay_siblings() -> None:
    async with cluster_of("merge", **MERGE) as cluster:
        await siblings_of(cluster, b"b", b"a,c")
        for node in cluster.ids:
            assert await read(cluster, node) == [b"a,b,c"]
            held = cluster.held(node, b"k")
            assert held is not None and len(decode(held).siblings) == 2, "nothing is stored of it (safety rule 13)"
        told = await cluster.get("n1", b"k", **ALL)
        await cluster.put("n1", b"k", b"all", context=told.context, **ALL)
        assert await read(cluster) == [b"all"]
        page = (await cluster.scan("n2"))[0]
        assert list(page.values) == [b"all"]


async def test_where_the_function_fails_siblings_are_shown_and_the_receipt_says_why() -> None:
    async with cluster_of("merge", **MERGE) as cluster:
        await siblings_of(cluster, b"b", b"?")
        told = await cluster.get("n1", b"k", **ALL)
        assert sorted(told.values) == [b"?", b"b"]
        assert told.receipt is not None and "a question mark" in told.receipt.explanation[-1]


# --- what a policy has not


@pytest.mark.parametrize("policy", ["siblings", "lww", "set"])
async def test_a_wrong_operation_is_refused_before_anything_is_minted(policy: str) -> None:
    async with cluster_of(policy) as cluster:
        refused = await increment(cluster, "n1", **ALL)
        assert isinstance(refused.error, WrongMode) and 'policy = "counter"' in refused.error.message
        assert all(not member.engine.get(cluster.store_key(b"k")) for member in cluster.members.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"amounts": []},
        {"amounts": [1, 2]},
        {"values": [b"v"]},
        {"fields": [b"f"]},
        {"ttls_ms": [5]},
    ],
)
async def test_columns_that_do_not_belong_are_refused(wrong: dict[str, Any]) -> None:
    async with cluster_of("counter") as cluster:
        group = replace(OperationGroup(Kind.INCREMENT, "default", [b"k"], amounts=[1], **ALL), **wrong)
        assert isinstance((await cluster.run("n1", group)).told[0, 0].error, BadRequest)
        assert await read(cluster) == []
