"""Puts, gets and deletes over three nodes: levels, receipts, limits, and what a batch answers for each key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kvproto.columns import Kind, Level, OperationGroup
from kvproto.errors import BadRequest, TooLarge, UnknownNamespace
from tests.support.cluster import ALL, ONE, QUORUM, Cluster, Options, gets, puts


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as running:
        yield running


async def test_what_was_put_through_one_node_is_read_through_every_other(cluster: Cluster) -> None:
    put = await cluster.put("n1", b"k", b"v")
    assert put.error is None and put.count == 1 and len(put.versions[0]) == 20
    for node in cluster.ids:
        told = await cluster.get(node, b"k")
        assert told.value == b"v" and told.versions == put.versions


async def test_a_missing_key_is_found_to_be_missing_not_an_error(cluster: Cluster) -> None:
    told = await cluster.get("n2", b"never written")
    assert told.value is None and told.count == 0 and told.context == b""


async def test_a_deleted_key_is_missing_and_its_context_says_what_was_seen(cluster: Cluster) -> None:
    put = await cluster.put("n1", b"k", b"v")
    deleted = await cluster.delete("n1", b"k")
    told = await cluster.get("n2", b"k")
    assert told.value is None and told.context == deleted.context != put.context
    assert (await cluster.put("n3", b"k", b"again", context=told.context)).count == 1
    assert (await cluster.get("n1", b"k")).value == b"again"


async def test_deleting_a_missing_key_succeeds(cluster: Cluster) -> None:
    assert (await cluster.delete("n3", b"nothing")).error is None


async def test_a_batch_with_refused_operations_executes_the_others(cluster: Cluster) -> None:
    answer = await cluster.run(
        "n1", puts({b"a": b"1", b"": b"2", b"b" * 5000: b"3", b"c": b"x" * (1 << 20), b"d": b"y" * ((1 << 20) + 1)})
    )
    assert answer[0].error is None and answer[3].error is None
    empty, long, big = answer[1].error, answer[2].error, answer[4].error
    assert isinstance(empty, BadRequest) and empty.subject == "key"
    assert isinstance(long, TooLarge) and (long.subject, long.limit, long.actual) == ("key", 4096, 5000)
    assert isinstance(big, TooLarge) and (big.subject, big.limit, big.actual) == ("value", 1 << 20, (1 << 20) + 1)
    assert (await cluster.get("n2", b"a")).value == b"1"
    assert len((await cluster.get("n3", b"c")).value or b"") == 1 << 20


async def test_a_batch_refused_whole_is_answered_for_each_key(cluster: Cluster) -> None:
    answer = await cluster.run("n1", OperationGroup(Kind.GET, "nowhere", [b"a", b"b"]))
    assert isinstance(answer[0].error, UnknownNamespace) and isinstance(answer[1].error, UnknownNamespace)
    assert "default" in answer[0].error.message


@pytest.mark.parametrize(
    ("group", "named"),
    [
        (OperationGroup(Kind.PUT, "default", [b"a", b"b"], [b"1"]), "values"),
        (OperationGroup(Kind.GET, "default", [b"a"], [b"1"]), "values"),
        (OperationGroup(Kind.PUT, "default", [b"a"], [b"1"], request_ids=b"short"), "request_ids"),
        (OperationGroup(Kind.PUT, "default", [b"a"], [b"1"], contexts=[b"", b""]), "contexts"),
        (OperationGroup(Kind.PUT, "default", [b"a", b"b", b"c"], [b""] * 3, ttls_ms=[1, 2]), "ttls_ms"),
        (OperationGroup(Kind.GET, "default", [b"a", b"b", b"c"], timeouts_ms=[1, 2]), "timeouts_ms"),
    ],
)
async def test_columns_that_are_not_parallel_are_refused_by_name(cluster: Cluster, group: OperationGroup, named: str) -> None:
    error = (await cluster.run("n1", group))[0].error
    assert isinstance(error, BadRequest) and error.subject == named


async def test_a_group_without_keys_is_refused(cluster: Cluster) -> None:
    assert isinstance((await cluster.run("n1", OperationGroup(Kind.GET, "default", [])))[0].error, BadRequest)


@pytest.mark.parametrize(("kind", "letter"), [(Kind.GET, "r"), (Kind.PUT, "w"), (Kind.DELETE, "w")])
@pytest.mark.parametrize("asked", [0, 4, 1000])
async def test_r_or_w_of_nothing_or_above_n_is_refused_with_the_numbers(
    cluster: Cluster, kind: Kind, letter: str, asked: int
) -> None:
    values = [b"v"] if kind is Kind.PUT else ()
    group = OperationGroup(kind, "default", [b"k"], values, level=Level.EXPLICIT, **{letter: asked})  # type: ignore[arg-type]
    error = (await cluster.run("n1", group))[0].error
    assert isinstance(error, BadRequest)
    assert (error.subject, error.limit, error.actual) == (letter, 3, asked)


@pytest.mark.parametrize(
    ("options", "needed"), [({}, 2), (ONE, 1), (QUORUM, 2), (ALL, 3), ({"level": Level.EXPLICIT, "r": 3, "w": 3}, 3)]
)
async def test_receipts_say_which_level_was_asked_and_who_answered(cluster: Cluster, options: Options, needed: int) -> None:
    for told in (await cluster.put("n1", b"k", b"v", **options), await cluster.get("n1", b"k", **options)):
        receipt = told.receipt
        assert receipt is not None
        assert receipt.needed == needed and receipt.n == receipt.n_asked == 3
        assert len(set(receipt.acknowledged)) == len(receipt.acknowledged) >= needed
        assert receipt.coordinator == "n1" and receipt.durable and not receipt.degraded
        assert receipt.server_time_ms == cluster.clock.time_ms and receipt.ring_epoch == 1


async def test_explain_tells_who_said_what(cluster: Cluster) -> None:
    put = await cluster.put("n1", b"k", b"v", explain=True, **ALL)
    got = await cluster.get("n1", b"k", explain=True, **ALL)
    assert put.receipt is not None and got.receipt is not None
    assert sorted(note.split()[0] for note in put.receipt.explanation) == ["n1", "n2", "n3"]
    assert sorted(note.split()[0] for note in got.receipt.explanation) == ["n1", "n2", "n3"]


async def test_one_key_twice_in_a_batch_is_written_in_order(cluster: Cluster) -> None:
    answer = await cluster.run("n1", OperationGroup(Kind.PUT, "default", [b"k", b"j", b"k"], [b"first", b"j", b"second"]))
    assert [answer[at].count for at in range(3)] == [1, 1, 1]
    for node in cluster.ids:
        told = await cluster.get(node, b"k", **ALL)
        assert told.value == b"second" and told.versions == answer[2].versions


async def test_groups_of_one_batch_are_answered_each(cluster: Cluster) -> None:
    await cluster.put("n1", b"a", b"1", **ALL)
    answer = await cluster.run("n1", gets(b"a", b"b"), puts({b"b": b"2"}), OperationGroup(Kind.DELETE, "default", [b"c"]))
    assert answer.told[0, 0].values == [b"1"]
    assert answer.told[1, 0].error is None and answer.told[2, 0].error is None


@pytest.mark.parametrize("nodes", [1, 2, 3])
async def test_small_rings_have_smaller_quorums_and_say_so(nodes: int) -> None:
    async with Cluster(nodes) as cluster:
        put, got = await cluster.put("n1", b"k", b"v"), await cluster.get(f"n{nodes}", b"k")
        assert got.value == b"v"
        for told in (put, got):
            assert told.receipt is not None
            assert (told.receipt.n, told.receipt.n_asked, told.receipt.needed) == (nodes, 3, nodes // 2 + 1)
        error = (await cluster.get("n1", b"k", level=Level.EXPLICIT, r=nodes + 1)).error
        assert isinstance(error, BadRequest) and error.limit == nodes
        if nodes < 3:
            assert "n=3" not in error.message.partition("(")[0] and "3 was asked for" in error.message


async def test_an_expired_value_is_missing_everywhere_and_can_be_written_again(cluster: Cluster) -> None:
    put = await cluster.put("n1", b"k", b"v", ttls_ms=[5000], **ALL)
    told = await cluster.get("n2", b"k")
    assert told.value == b"v" and told.expires_ms == [cluster.clock.time_ms + 5000]
    cluster.clock.advance_s(4.999)
    assert (await cluster.get("n3", b"k")).value == b"v"
    cluster.clock.advance_s(0.001)
    for node in cluster.ids:
        told = await cluster.get(node, b"k")
        assert told.value is None and told.context == put.context
    assert (await cluster.put("n2", b"k", b"new")).count == 1
    assert (await cluster.get("n1", b"k")).value == b"new"


async def test_ttls_differ_by_key(cluster: Cluster) -> None:
    await cluster.run("n1", puts({b"short": b"1", b"ever": b"2", b"long": b"3"}, ttls_ms=[10, 0, 10_000]))
    cluster.clock.advance_s(1)
    answer = await cluster.run("n1", gets(b"short", b"ever", b"long"))
    assert [answer[at].value for at in range(3)] == [None, b"2", b"3"]
    assert answer[1].expires_ms == [0]


async def test_bug_a_ttl_beyond_64_bits_broke_the_whole_batch(cluster: Cluster) -> None:
    """A client asks for a time to live of 2^64 - 1 ms: its expiry did not fit its field, and what the batch had staged by then
    was never committed nor answered."""
    answer = await cluster.run("n1", puts({b"a": b"1", b"b": b"2"}, ttls_ms=[0, (1 << 64) - 1]))
    for position in (0, 1):
        error = answer[position].error
        assert isinstance(error, BadRequest) and error.subject == "ttls_ms" and error.actual == (1 << 64) - 1
    assert (await cluster.put("n1", b"a", b"2")).error is None
