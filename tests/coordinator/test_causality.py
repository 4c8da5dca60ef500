"""Contexts, siblings and retries: what a write supersedes, and that one write stays one write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kvproto.columns import Kind, OperationGroup
from kvproto.errors import BadRequest, Overloaded, RetryWindowPassed, StorageError, TooLarge
from kvstore.config import ClusterConfig
from kvstore.core.record import (
    EXACT,
    OVERWRITE_PLUS,
    decode,
    encode_context,
)
from kvstore.core.versions import Context
from tests.support.cluster import ALL, LONG, ONE, Cluster, puts, request_id
from tests.support.engines import GatedEngine
from tests.support.waiting import turns, until

NOTHING = encode_context(Context())


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as running:
        yield running


async def siblings(cluster: Cluster, node: str = "n1", key: bytes = b"k") -> list[bytes]:
    told = await cluster.get(node, key, **ALL)
    assert told.error is None
    return sorted(told.values)


async def test_a_write_without_a_context_supersedes_what_its_coordinator_holds(cluster: Cluster) -> None:
    for at in range(30):
        told = await cluster.put(cluster.ids[at % 3], b"k", b"%d" % at, **ALL)
        assert told.count == 1
    assert await siblings(cluster) == [b"29"]


async def test_a_writer_that_knows_nothing_makes_a_sibling(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"a", **ALL)
    told = await cluster.put("n2", b"k", b"b", context=NOTHING, **ALL)
    assert told.count == 2
    for node in cluster.ids:
        assert await siblings(cluster, node) == [b"a", b"b"]


async def test_concurrent_writers_become_siblings_and_a_reader_resolves_them(cluster: Cluster) -> None:
    base = await cluster.put("n1", b"k", b"base", **ALL)
    await cluster.put("n2", b"k", b"left", context=base.context, **ALL)
    await cluster.put("n3", b"k", b"right", context=base.context, **ALL)
    read = await cluster.get("n1", b"k")
    assert sorted(read.values) == [b"left", b"right"] and len(set(read.versions)) == 2
    told = await cluster.put("n2", b"k", b"both", context=read.context, **ALL)
    assert told.count == 1
    for node in cluster.ids:
        assert await siblings(cluster, node) == [b"both"]


async def test_a_write_made_during_a_cut_is_not_lost_when_it_heals(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"base", **ALL)
    cluster.isolate("n3")
    await cluster.put("n3", b"k", b"minority", **ONE)
    await cluster.put("n1", b"k", b"majority")
    cluster.rejoin("n3")
    assert await siblings(cluster) == [b"majority", b"minority"]


async def test_a_delete_is_concurrent_with_a_write_that_it_has_not_seen(cluster: Cluster) -> None:
    base = await cluster.put("n1", b"k", b"base", **ALL)
    await cluster.put("n2", b"k", b"kept", context=base.context, **ALL)
    await cluster.delete("n3", b"k", contexts=[base.context], **ALL)
    assert await siblings(cluster) == [b"kept"]


async def test_a_context_with_overwrite_also_supersedes_what_the_coordinator_holds(cluster: Cluster) -> None:
    mine = await cluster.put("n1", b"k", b"mine", **ALL)
    await cluster.put("n2", b"k", b"other", context=NOTHING, **ALL)
    token = bytes((OVERWRITE_PLUS,)) + mine.context[1:]
    assert mine.context[0] == EXACT
    assert (await cluster.put("n3", b"k", b"new", context=token, **ALL)).count == 1
    assert await siblings(cluster) == [b"new"]


async def test_what_this_client_was_acknowledged_is_superseded_also_where_it_has_not_arrived(cluster: Cluster) -> None:
    """The client's own write is on n1 and n2; n3, which missed it, coordinates the next one with the client's context."""
    cluster.wire("n1", "n3").error = StorageError("not now")
    mine = await cluster.put("n1", b"k", b"first")
    cluster.isolate("n1")
    token = bytes((OVERWRITE_PLUS,)) + mine.context[1:]
    told = await cluster.put("n3", b"k", b"second", context=token, **LONG)
    assert told.count == 1
    cluster.wire("n1", "n3").error = None
    cluster.rejoin("n1")
    assert await siblings(cluster) == [b"second"]


async def test_dots_that_the_coordinator_has_not_seen_are_fetched_before_it_mints(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"other", **ALL)
    cluster.isolate("n3")
    mine = await cluster.put("n1", b"k", b"mine", context=NOTHING)  # a sibling: the context names its dot alone
    cluster.rejoin("n3")
    told = await cluster.put("n3", b"k", b"next", context=mine.context, **ALL)
    assert told.count == 2
    assert await siblings(cluster) == [b"next", b"other"]


async def test_dots_that_nobody_reachable_has_seen_do_not_hold_up_the_write(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"other", **ALL)
    cluster.isolate("n1")
    mine = await cluster.put("n1", b"k", b"mine", context=NOTHING, **ONE)
    told = await cluster.put("n3", b"k", b"next", context=mine.context, **LONG)
    assert told.error is None
    cluster.rejoin("n1")
    assert await siblings(cluster) == [b"mine", b"next", b"other"], "a sibling, which loses nothing"


async def test_bug_catching_up_waited_for_a_stalled_peer_although_another_had_told_all(cluster: Cluster) -> None:
    """1. n1 and n2 hold a dot that n3 missed; n1 stalls. 2. A context names the dot at n3. 3. n2 answers with it at once, and
    the write waited for n1 all the same, until its deadline."""
    await cluster.put("n1", b"k", b"other", **ALL)
    cluster.wire("n1", "n3").error = StorageError("not now")
    mine = await cluster.put("n1", b"k", b"mine", context=NOTHING)
    await until(lambda: cluster.held("n2", b"k") == cluster.held("n1", b"k"))
    cluster.stall("n1")
    told = await cluster.put("n3", b"k", b"next", context=mine.context, **LONG)
    assert told.error is None and told.count == 2


async def test_bug_a_write_that_caught_up_changed_the_group_its_client_might_send_again(cluster: Cluster) -> None:
    """1. A context names a dot that nobody reachable has seen. 2. The coordinator took it out of the client's own group. 3. An
    embedded client, which shares the object, retried with a context that no longer named it."""
    cluster.isolate("n1")
    await cluster.put("n1", b"k", b"other", **ONE)
    mine = await cluster.put("n1", b"k", b"mine", context=NOTHING, **ONE)
    group = puts({b"k": b"next"}, contexts=[mine.context], **ONE)
    assert (await cluster.run("n3", group))[0].error is None
    assert list(group.contexts) == [mine.context]


async def test_bug_what_was_staged_beside_a_context_to_catch_up_with_waited_uncommitted() -> None:
    """1. One batch at n3: key a needs nothing, key k names a dot that only stalled peers know. 2. a's record was staged and
    built upon, but not sent to the disk or the others before the catching up ended."""
    async with Cluster() as cluster:
        await cluster.put("n1", b"k", b"other", **ALL)
        cluster.wire("n1", "n3").error = StorageError("not now")
        mine = await cluster.put("n1", b"k", b"mine", context=NOTHING)
        cluster.stall("n1")
        cluster.wire("n3", "n2").hold()
        group = OperationGroup(Kind.PUT, "default", [b"a", b"k"], [b"1", b"2"], contexts=[b"", mine.context], **LONG)
        answer = cluster.start("n3", group)
        await until(lambda: cluster.held("n3", b"a"))
        assert not answer.told
        cluster.wire("n3", "n2").release()
        await answer.complete()
        assert answer[0].error is None and answer[1].error is None


async def test_bug_a_client_that_left_while_its_write_caught_up_broke_the_commits_of_others() -> None:
    """1. A write merges what it fetched and waits for that commit. 2. Its client goes away. 3. The commit completed a cancelled
    future, which raised: whoever else was in the batch was never told, and the node could not stop."""
    async with Cluster(engine=GatedEngine) as cluster:
        await cluster.put("n1", b"k", b"other", **ALL)
        cluster.isolate("n3")
        mine = await cluster.put("n1", b"k", b"mine", context=NOTHING)
        cluster.rejoin("n3")
        engine = cluster.members["n3"].engine
        assert isinstance(engine, GatedEngine)
        engine.hold()
        writes = len(engine.batches)
        answer = cluster.start("n3", puts({b"k": b"next"}, contexts=[mine.context], **LONG))
        await until(lambda: len(engine.batches) > writes)
        answer.task.cancel()  # type: ignore[union-attr]
        await asyncio.gather(answer.task, return_exceptions=True)  # type: ignore[arg-type]
        engine.release()
        assert (await cluster.put("n3", b"j", b"v", **ALL)).error is None
        assert not cluster.defects


@pytest.mark.parametrize("token", [b"\x01", b"\x07\x00\x00", b"\x01\x00\x05", b"\x01\x00\x00" + b"x" * 19, b"nonsense at all"])
async def test_what_is_no_context_is_refused_alone(cluster: Cluster, token: bytes) -> None:
    answer = await cluster.run("n1", puts({b"a": b"1", b"b": b"2"}, contexts=[token, b""]))
    assert isinstance(answer[0].error, BadRequest) and answer[0].error.subject == "context"
    assert answer[1].error is None


async def test_bug_a_context_of_writes_that_were_never_made_broke_the_whole_batch(cluster: Cluster) -> None:
    """A client sends a context that covers counters which this coordinator has not minted yet: the write under one of them would
    be born superseded. It was noticed by an exception that left what the batch had staged uncommitted and unanswered."""
    actor = cluster.members["n1"].local.ledger.actor
    forged = encode_context(Context({actor: 1 << 40}))
    answer = await cluster.run("n1", puts({b"a": b"1", b"b": b"2", b"c": b"3"}, contexts=[b"", forged, b""]))
    assert answer[0].error is None and answer[2].error is None
    assert isinstance(answer[1].error, BadRequest) and answer[1].error.subject == "context"
    assert (await cluster.put("n1", b"b", b"4")).error is None


async def test_bug_a_forged_context_accepted_elsewhere_made_a_key_unwritable(cluster: Cluster) -> None:
    """1. n2 takes a context that covers counters n1 has yet to mint. 2. The record reaches n1. 3. Every write of the key there
    ended in an assertion: its dot was covered before it was minted. Now n1 goes on under a new epoch."""
    actor = cluster.members["n1"].local.ledger.actor
    assert (await cluster.put("n2", b"k", b"v", context=encode_context(Context({actor: 1 << 40})), **ALL)).error is None
    error = (await cluster.put("n1", b"k", b"w")).error
    assert isinstance(error, Overloaded) and not error.may_have_applied
    assert cluster.members["n1"].local.ledger.actor != actor
    await cluster.members["n1"].local.ledger.leased()
    assert (await cluster.put("n1", b"k", b"w", **ALL)).error is None
    assert await siblings(cluster, "n3") == [b"w"]


async def test_too_many_siblings_are_refused_to_clients_and_a_resolving_write_is_not() -> None:
    async with Cluster(settings=ClusterConfig(partitions=8, siblings_max=5)) as cluster:
        for at in range(5):
            assert (await cluster.put("n1", b"k", b"%d" % at, context=NOTHING, **ALL)).error is None
        error = (await cluster.put("n2", b"k", b"one too many", context=NOTHING)).error
        assert isinstance(error, TooLarge) and (error.subject, error.limit, error.actual) == ("siblings", 5, 6)
        read = await cluster.get("n2", b"k")
        assert read.count == 5
        assert (await cluster.put("n3", b"k", b"merged", context=read.context)).count == 1


async def test_replicas_never_limit_siblings() -> None:
    """Limits are for clients: what became too much by merging can still be stored, read and repaired."""
    async with Cluster(settings=ClusterConfig(partitions=8, siblings_max=2)) as cut:
        for node in cut.ids:
            cut.isolate(node)
        for node in cut.ids:
            await cut.put(node, b"k", node.encode(), **ONE)
        for node in ("n1", "n2"):
            cut.rejoin(node)
        assert sorted((await cut.get("n1", b"k", **ALL)).values) == [b"n1", b"n2", b"n3"]


async def test_one_request_id_through_two_coordinators_is_one_write(cluster: Cluster) -> None:
    ids = request_id(cluster.clock, 7)
    first = (await cluster.run("n1", puts({b"k": b"v"}, request_ids=ids, **ALL)))[0]
    again = (await cluster.run("n2", puts({b"k": b"v"}, request_ids=ids, attempt=1, **ALL)))[0]
    assert again.versions == first.versions and again.count == 1
    assert await siblings(cluster) == [b"v"]


async def test_a_retry_that_could_not_be_recognised_still_reads_as_one_write(cluster: Cluster) -> None:
    """n3 cannot know of the first execution: it executes again, and the two are one sibling."""
    ids = request_id(cluster.clock, 7)
    cluster.isolate("n3")
    await cluster.run("n1", puts({b"k": b"v"}, request_ids=ids))
    await cluster.run("n3", puts({b"k": b"v"}, request_ids=ids, attempt=1, **ONE))
    cluster.rejoin("n3")
    assert await siblings(cluster) == [b"v"]


async def test_a_retry_of_a_superseded_write_does_not_come_back(cluster: Cluster) -> None:
    ids = request_id(cluster.clock, 7)
    first = (await cluster.run("n1", puts({b"k": b"old"}, request_ids=ids, **ALL)))[0]
    await cluster.put("n2", b"k", b"new", **ALL)
    again = (await cluster.run("n3", puts({b"k": b"old"}, request_ids=ids, attempt=1, **ALL)))[0]
    assert again.error is None and again.versions == first.versions
    assert await siblings(cluster) == [b"new"]


async def test_a_retry_is_acknowledged_only_when_the_write_is_as_safe_as_asked() -> None:
    """The first attempt's record is staged but not durable: the retry must not be answered before it is."""
    async with Cluster(1, engine=GatedEngine) as cluster:
        engine = cluster.members["n1"].engine
        assert isinstance(engine, GatedEngine)
        engine.hold()
        ids = request_id(cluster.clock, 1)
        answers = [cluster.start("n1", puts({b"k": b"v"}, request_ids=ids, attempt=attempt)) for attempt in (0, 1)]
        await turns(20)
        assert not any(answer.told for answer in answers)
        engine.release()
        told = [(await answer.complete())[0] for answer in answers]
        assert told[0].versions == told[1].versions


@pytest.mark.parametrize("attempt", [0, 1])
async def test_an_id_from_before_the_window_is_refused_and_of_a_later_attempt_as_unknown(cluster: Cluster, attempt: int) -> None:
    window_s = ClusterConfig().retry_window_s
    fresh, stale = request_id(cluster.clock, 1, age_s=window_s), request_id(cluster.clock, 2, age_s=window_s + 0.001)
    answer = await cluster.run("n1", puts({b"a": b"1", b"b": b"2"}, request_ids=fresh + stale, attempt=attempt))
    assert answer[0].error is None
    error = answer[1].error
    assert isinstance(error, RetryWindowPassed) and error.may_have_applied == bool(attempt)
    assert error.limit == window_s * 1000
    assert cluster.held("n1", b"b") is None


@pytest.mark.parametrize("wrong_s", [-600.0, 600.0])
async def test_where_the_sender_s_clock_is_known_no_wall_clock_says_how_old_an_id_is(cluster: Cluster, wrong_s: float) -> None:
    window_s, now_ms = ClusterConfig().retry_window_s, asyncio.get_running_loop().time() * 1000
    ahead_ms = cluster.clock.now_ms() - int(now_ms)
    fresh, stale = request_id(cluster.clock, 1), request_id(cluster.clock, 2, age_s=window_s + 1)
    cluster.clock.advance_s(wrong_s)
    group = puts({b"a": b"1", b"b": b"2"}, request_ids=fresh + stale, attempt=1, ids_ahead_ms=ahead_ms)
    answer = await cluster.run("n1", group)
    assert answer[0].error is None
    error = answer[1].error
    assert isinstance(error, RetryWindowPassed) and error.may_have_applied and not error.retryable


async def test_a_sender_that_lies_about_its_clock_is_answered(cluster: Cluster) -> None:
    for lie_ms in (-(1 << 64), 1 << 64):
        group = puts({b"k": b"v"}, request_ids=request_id(cluster.clock, 1), ids_ahead_ms=lie_ms)
        error = (await cluster.run("n1", group))[0].error
        assert (error is None) == (lie_ms < 0)


async def test_a_retry_of_a_forgotten_write_is_refused_not_executed_again(cluster: Cluster) -> None:
    """More writes than a record remembers ids of, all within the window: the oldest is forgotten, and its retry may not run."""
    ids = request_id(cluster.clock, 1)
    await cluster.run("n1", puts({b"k": b"forgotten"}, request_ids=ids, **ALL))
    for at in range(ClusterConfig().retry_ids_max + 2):
        cluster.clock.advance_s(0.01)
        await cluster.run("n1", puts({b"k": b"%d" % at}, request_ids=request_id(cluster.clock, 2 + at), **ALL))
    for node in cluster.ids:
        told = (await cluster.run(node, puts({b"k": b"forgotten"}, request_ids=ids, attempt=1)))[0]
        assert isinstance(told.error, RetryWindowPassed)
    assert (await cluster.get("n1", b"k")).value == b"%d" % (at)


async def test_writes_of_clients_without_ids_are_told_apart(cluster: Cluster) -> None:
    answer = await cluster.run("n1", puts({b"a": b"1", b"b": b"2"}), puts({b"a": b"3"}, contexts=[NOTHING]))
    assert all(told.error is None for told in answer.told.values())
    assert await siblings(cluster, key=b"a") == [b"1", b"3"]


async def test_a_peer_that_missed_a_write_gets_it_with_the_next(cluster: Cluster) -> None:
    """The whole record travels (safety rule 1): the second write brings n3 the first one, which is not superseded by it."""
    cluster.isolate("n3")
    await cluster.put("n1", b"k", b"first")
    cluster.rejoin("n3")
    await cluster.put("n1", b"k", b"second", context=NOTHING, **ALL)
    record = cluster.held("n3", b"k")
    assert record is not None
    assert sorted(sibling.value for sibling in decode(record).siblings) == [b"first", b"second"]


async def test_writes_through_one_coordinator_in_parallel_are_never_lost(cluster: Cluster) -> None:
    """Safety rule 1's schedule: X, then Y through one coordinator, both knowing nothing; some replicas see only one message."""
    cluster.wire("n1", "n3").hold()
    first = cluster.start("n1", puts({b"k": b"x"}, contexts=[NOTHING]))
    second = cluster.start("n1", puts({b"k": b"y"}, contexts=[NOTHING]))
    await first.complete()
    await second.complete()
    cluster.wire("n1", "n3").waiting.pop(0)  # n3 never sees X alone
    cluster.wire("n1", "n3").release()
    assert await siblings(cluster, "n2") == [b"x", b"y"]


async def test_bug_catching_up_waited_for_a_slow_disk_beyond_the_deadline() -> None:
    """1. n1 and n2 hold a dot that n3 missed, and n3's disk hangs. 2. A context names the dot at n3. 3. n3 merged what the others
    told and waited for its own disk, however long, though the others could have made the write durable without it."""
    async with Cluster(engine=GatedEngine) as cluster:
        await cluster.put("n1", b"k", b"other", **ALL)
        cluster.wire("n1", "n3").error = StorageError("not now")
        mine = await cluster.put("n1", b"k", b"mine", context=NOTHING)
        await until(lambda: cluster.held("n2", b"k") == cluster.held("n1", b"k"))
        engine = cluster.members["n3"].engine
        assert isinstance(engine, GatedEngine)
        engine.hold()
        told = await cluster.put("n3", b"k", b"next", context=mine.context, timeouts_ms=[400])
        assert told.error is None and told.count == 2
        engine.release()
