"""Cut, stalled and refusing peers: what a quorum still answers, how fast, and what is said when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kvproto.codec import decode_replies, encode_batch
from kvproto.columns import Kind, OperationGroup
from kvproto.errors import AvailabilityError, Code, DeadlineExceeded, KvError, NotOwner, Overloaded, QuorumUnreachable, StorageError
from kvstore.config import ClusterConfig, NodeLimits
from tests.support.cluster import ALL, LONG, ONE, QUORUM, Cluster, Options, UnaryContext, gets, puts, request_id
from tests.support.engines import GatedEngine
from tests.support.waiting import turns, until

SHORT: Options = {"timeouts_ms": [60]}


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as running:
        yield running


async def test_a_quorum_goes_on_with_one_node_of_three_down(cluster: Cluster) -> None:
    cluster.isolate("n3")
    put = await cluster.put("n1", b"k", b"v", **LONG)
    assert put.receipt is not None and sorted(put.receipt.acknowledged) == ["n1", "n2"]
    assert (await cluster.get("n2", b"k", **LONG)).value == b"v"


async def test_an_unreachable_quorum_is_refused_at_once_with_the_numbers(cluster: Cluster) -> None:
    cluster.isolate("n1")
    put, got = await cluster.put("n1", b"k", b"v", **QUORUM, **LONG), await cluster.get("n1", b"k", **QUORUM, **LONG)
    for told, asked in ((put, 0), (got, 3)):
        error = told.error
        assert isinstance(error, QuorumUnreachable) and error.retryable and not error.may_have_applied
        assert (error.needed, error.contacted) == (2, asked) and error.received < 2
        assert error.message.startswith("1 of the 2 replicas needed can")
    assert (await cluster.put("n1", b"k", b"v", **ONE)).error is None


async def test_a_level_of_all_fails_at_once_when_one_node_is_down(cluster: Cluster) -> None:
    cluster.isolate("n2")
    for told in (await cluster.put("n1", b"k", b"v", **ALL, **LONG), await cluster.get("n3", b"k", **ALL, **LONG)):
        assert isinstance(told.error, QuorumUnreachable)
        assert told.error.needed == 3 and told.error.received < 3
        assert told.error.message.startswith("2 of the 3 replicas needed can") and "n2" in told.error.message


async def test_a_write_that_cannot_reach_its_level_is_refused_before_anything_is_written(cluster: Cluster) -> None:
    """n1 is alone: its own replica does not take the write either, so it is certainly not applied and costs no sync."""
    cluster.isolate("n1")
    commits = cluster.members["n1"].local.committer.commits
    told = await cluster.put("n1", b"k", b"v", **QUORUM, **LONG)
    assert isinstance(told.error, QuorumUnreachable) and not told.error.may_have_applied
    assert cluster.held("n1", b"k") is None and cluster.members["n1"].local.committer.commits == commits
    cluster.rejoin("n1")
    assert (await cluster.put("n1", b"k", b"v", **QUORUM, **LONG)).error is None


async def test_a_link_that_breaks_while_a_write_is_under_way_leaves_its_outcome_unknown(cluster: Cluster) -> None:
    for node in ("n2", "n3"):
        cluster.stall(node)
    answer = cluster.start("n1", puts({b"k": b"v"}, **QUORUM, **LONG))
    await until(lambda: cluster.held("n1", b"k"))
    cluster.isolate("n1")
    error = (await answer.complete())[0].error
    assert isinstance(error, QuorumUnreachable) and error.may_have_applied and error.received == 1


async def test_one_stalled_peer_does_not_hold_up_a_quorum(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"old", **ALL)
    cluster.stall("n2")
    for at in range(20):
        assert (await cluster.put("n1", b"k", b"%d" % at, **LONG)).error is None
        assert (await cluster.get("n1", b"k", **LONG)).value == b"%d" % at
    cluster.resume("n2")
    await until(lambda: cluster.held("n2", b"k") == cluster.held("n1", b"k"))


async def test_a_read_that_asked_a_stalled_peer_is_hedged_and_says_so(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    cluster.stall("n2")
    told = [await cluster.get("n1", b"k", **LONG) for _ in range(2)]  # in turn: one of the two asks n2 first
    assert all(one.value == b"v" for one in told)
    assert any(one.receipt is not None and one.receipt.hedged for one in told)


async def test_a_write_whose_deadline_passes_is_unknown_and_a_read_is_not(cluster: Cluster) -> None:
    cluster.stall("n2")
    cluster.stall("n3")
    put, got = await cluster.put("n1", b"k", b"v", **SHORT), await cluster.get("n1", b"k", **SHORT)
    assert isinstance(put.error, DeadlineExceeded) and put.error.may_have_applied
    assert isinstance(got.error, DeadlineExceeded) and not got.error.may_have_applied
    for error in (put.error, got.error):
        assert (error.needed, error.contacted) == (2, 3) and error.received <= 1


async def test_a_write_that_missed_its_deadline_may_well_have_happened(cluster: Cluster) -> None:
    for other in ("n2", "n3"):
        cluster.wire(other, "n1").hold()  # they store it, their answers are late
    assert isinstance((await cluster.put("n1", b"k", b"v", **SHORT)).error, DeadlineExceeded)
    assert (await cluster.get("n2", b"k")).value == b"v"


async def test_peers_that_answer_with_errors_count_as_unreachable(cluster: Cluster) -> None:
    for other in ("n2", "n3"):
        cluster.wire("n1", other).error = StorageError("disk on fire")
    told = await cluster.put("n1", b"k", b"v", **QUORUM, **LONG)
    assert isinstance(told.error, QuorumUnreachable) and told.error.received <= 1 and told.error.may_have_applied
    assert isinstance((await cluster.get("n1", b"k", **QUORUM, **LONG)).error, QuorumUnreachable)


async def test_a_read_goes_on_to_the_next_peer_when_one_answers_with_an_error(cluster: Cluster) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    cluster.wire("n1", "n2").error = StorageError("disk on fire")
    for _ in range(4):
        assert (await cluster.get("n1", b"k", **LONG)).value == b"v"


async def test_a_node_of_another_ring_epoch_does_not_count(cluster: Cluster) -> None:
    ring = cluster.members["n2"].local.view.ring
    cluster.members["n1"].peers.links["n2"]._ring_of = lambda: (ring.epoch + 1, ring.hash)
    told = await cluster.put("n1", b"k", b"v", **ALL, **LONG)
    assert isinstance(told.error, QuorumUnreachable) and "unreachable: n2" in told.error.message
    assert cluster.held("n2", b"k") is None


async def test_an_acknowledgement_waits_for_the_disk_it_speaks_of() -> None:
    async with Cluster(engine=GatedEngine) as cluster:
        engines = {node: member.engine for node, member in cluster.members.items()}
        for engine in engines.values():
            assert isinstance(engine, GatedEngine)
            engine.hold()
        answer = cluster.start("n1", puts({b"k": b"v"}, **LONG))
        await until(lambda: all(len(member.local.store._pending) == 1 for member in cluster.members.values()))
        await turns()
        assert not answer.told
        engines["n2"].release()  # type: ignore[attr-defined]
        await until(lambda: cluster.held("n2", b"k"))
        await turns(20)
        assert not answer.told, "one of two"
        engines["n1"].release()  # type: ignore[attr-defined]
        await answer.complete()
        assert answer[0].receipt is not None and sorted(answer[0].receipt.acknowledged) == ["n1", "n2"]
        engines["n3"].release()  # type: ignore[attr-defined]


async def test_a_read_never_shows_what_is_not_durable_where_it_was_read() -> None:
    async with Cluster(1, engine=GatedEngine) as cluster:
        engine = cluster.members["n1"].engine
        assert isinstance(engine, GatedEngine)
        await cluster.put("n1", b"k", b"old")
        engine.hold()
        answer = cluster.start("n1", puts({b"k": b"new"}))
        await until(lambda: cluster.members["n1"].local.store.is_pending(cluster.store_key(b"k")))
        assert (await cluster.get("n1", b"k")).value == b"old"
        assert not answer.done
        engine.release()
        await answer.complete()
        assert (await cluster.get("n1", b"k")).value == b"new"


async def test_a_failed_disk_refuses_everything_from_then_on() -> None:
    async with Cluster(engine=GatedEngine) as cluster:
        member = cluster.members["n1"]
        assert isinstance(member.engine, GatedEngine)
        member.engine.fail_next()
        told = await cluster.put("n1", b"k", b"v", **ALL)
        assert isinstance(told.error, QuorumUnreachable) and told.error.may_have_applied
        assert len(member.failures) == 1
        for _ in range(2):
            error = (await cluster.put("n1", b"k", b"v2")).error
            assert isinstance(error, StorageError)
        assert len(member.engine.batches) == 2, "the lease and the write that failed, and nothing after it"


async def test_keys_whose_owners_are_stalled_come_later_and_the_others_at_once() -> None:
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        keys = [b"key-%d" % at for at in range(64)]
        mine = [key for key in keys if "n1" in cluster.owners(key)]
        slow = [key for key in mine if {"n4", "n5"} <= set(cluster.owners(key))]
        fast = [key for key in mine if key not in slow]
        assert slow and fast
        cluster.stall("n4")
        cluster.stall("n5")
        answer = cluster.start("n1", puts(dict.fromkeys(mine, b"v"), **LONG))
        await until(lambda: len(answer.told) == len(fast))
        assert not answer.done
        assert {mine[position] for _, position in answer.told} == set(fast)
        cluster.resume("n4")
        cluster.resume("n5")
        await answer.complete()
        assert answer.parts >= 2 and all(told.error is None for told in answer.told.values())


async def test_a_node_that_owns_nothing_of_a_key_has_an_owner_coordinate() -> None:
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        keys = [b"key-%d" % at for at in range(40)]
        answer = await cluster.run("n1", puts({key: b"v" + key for key in keys}))
        for position, key in enumerate(keys):
            told, owners = answer[position], cluster.owners(key)
            assert told.error is None and told.receipt is not None
            assert told.receipt.coordinator in owners and set(told.receipt.acknowledged) <= set(owners)
            assert (told.receipt.coordinator == "n1") is ("n1" in owners)
            assert not any(cluster.held(node, key) for node in cluster.ids if node not in owners), "only home replicas store it"
        answer = await cluster.run("n5", gets(*keys))
        assert [answer[at].value for at in range(40)] == [b"v" + key for key in keys]


async def test_a_forwarded_batch_is_not_forwarded_again() -> None:
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        key = next(key for key in (b"key-%d" % at for at in range(64)) if "n1" not in cluster.owners(key))
        answer = await cluster.start("n1", gets(key), hops=1).complete()
        assert isinstance(answer[0].error, NotOwner)


def key_of_others(cluster: Cluster) -> tuple[bytes, list[str]]:
    """A key that n1 is no home replica of, and its owners in order of preference."""
    key = next(key for key in (b"key-%d" % at for at in range(64)) if "n1" not in cluster.owners(key))
    return key, cluster.owners(key)


async def test_forwarding_goes_on_to_the_next_owner_when_one_cannot_be_reached() -> None:
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        key, owners = key_of_others(cluster)
        cluster.cut("n1", owners[0])
        told = (await cluster.run("n1", puts({key: b"v"}, **LONG)))[0]
        assert told.error is None and told.receipt is not None and told.receipt.coordinator == owners[1]
        for owner in owners[1:]:
            cluster.cut("n1", owner)
        told = await cluster.get("n1", key, **QUORUM, **LONG)
        assert isinstance(told.error, AvailabilityError) and not told.error.may_have_applied


async def test_bug_forwarding_forgot_that_an_earlier_owner_may_have_applied_the_write() -> None:
    """1. The first owner executes the write, its answer is lost: unknown. 2. The request id allows another try: the second owner
    is not connected, and so is the third. 3. The client was told "not applied" for the last one's sake."""
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        key, owners = key_of_others(cluster)
        cluster.wire(owners[0], "n1").is_cut = True  # its answers are lost
        for owner in owners[1:]:
            cluster.cut("n1", owner)
        told = (await cluster.run("n1", puts({key: b"v"}, request_ids=request_id(cluster.clock, 1), **QUORUM, **LONG)))[0]
        assert isinstance(told.error, AvailabilityError) and told.error.may_have_applied
        assert (await cluster.get(owners[0], key)).value == b"v"


async def test_bug_forwarding_forgot_an_earlier_owner_when_a_later_one_refused_the_write() -> None:
    """1. The first owner executes the write, its answer is lost: unknown. 2. The second owner, asked with the same request id,
    cannot reach its level and says "nothing was written", of its own attempt. 3. The client was told that of all attempts."""
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        key, owners = key_of_others(cluster)
        cluster.wire(owners[0], "n1").is_cut = True  # its answers are lost
        for owner in (owners[0], owners[2]):
            cluster.cut(owners[1], owner)
        told = (await cluster.run("n1", puts({key: b"v"}, request_ids=request_id(cluster.clock, 1), **QUORUM, **LONG)))[0]
        assert isinstance(told.error, QuorumUnreachable) and told.error.may_have_applied
        assert (await cluster.get(owners[0], key)).value == b"v"


async def test_an_unknown_write_without_a_request_id_is_not_forwarded_twice() -> None:
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        key, owners = key_of_others(cluster)
        cluster.wire(owners[0], "n1").is_cut = True
        told = (await cluster.run("n1", puts({key: b"v"}, **LONG)))[0]
        assert isinstance(told.error, AvailabilityError) and told.error.may_have_applied
        assert cluster.wire("n1", owners[1]).messages == 0


async def test_a_forwarded_write_with_a_request_id_is_one_write_wherever_it_ran() -> None:
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        key, owners = key_of_others(cluster)
        cluster.wire(owners[0], "n1").is_cut = True
        told = (await cluster.run("n1", puts({key: b"v"}, request_ids=request_id(cluster.clock, 1), **LONG)))[0]
        assert told.error is None and told.receipt is not None and told.receipt.coordinator == owners[1]
        read = await cluster.get(owners[2], key, **ALL)
        assert read.value == b"v" and read.count == 1


async def test_past_its_bound_a_node_is_overloaded_and_certainly_did_nothing() -> None:
    async with Cluster(limits=NodeLimits(in_flight_max=4)) as cluster:
        cluster.stall("n2")
        cluster.stall("n3")
        first = cluster.start("n1", puts({b"a": b"1", b"b": b"2", b"c": b"3"}, **LONG))
        await turns()
        told = await cluster.run("n1", puts({b"d": b"4", b"e": b"5"}, **LONG))
        for position in (0, 1):
            error = told[position].error
            assert isinstance(error, Overloaded) and error.retry_after_s > 0 and not error.may_have_applied
            assert (error.limit, error.actual, error.subject) == (4, 3, "n1")
        assert cluster.members["n1"].local.store.latest(cluster.store_key(b"d")) is None
        assert cluster.members["n1"].local.coordinator.overloaded == 2
        cluster.resume("n2")
        await first.complete()
        assert (await cluster.run("n1", puts(dict.fromkeys([b"%d" % at for at in range(9)], b"v"))))[8].error is None, (
            "alone it fits"
        )
        await until(lambda: cluster.members["n1"].local.coordinator.in_flight == 0)


async def test_a_client_that_goes_away_leaves_nothing_in_flight(cluster: Cluster) -> None:
    cluster.stall("n2")
    cluster.stall("n3")
    answer = cluster.start("n1", puts({b"k": b"v"}, **LONG), gets(b"a", b"b", **LONG))
    await turns()
    assert answer.task is not None and cluster.members["n1"].local.coordinator.in_flight == 3
    answer.task.cancel()
    await asyncio.gather(answer.task, return_exceptions=True)
    assert cluster.members["n1"].local.coordinator.in_flight == 0
    cluster.resume("n2")
    assert (await cluster.get("n1", b"k")).value == b"v", "what was minted is committed all the same"


async def test_a_node_that_shuts_down_refuses_and_is_retryable(cluster: Cluster) -> None:
    cluster.members["n1"].local.coordinator.stop()
    answer = await cluster.run("n1", puts({b"k": b"v"}), OperationGroup(Kind.DELETE, "default", [b"a", b"b"]))
    assert all(
        told.error is not None and told.error.code is Code.SHUTTING_DOWN and told.error.retryable for told in answer.told.values()
    )
    assert len(answer.told) == 3


async def test_a_read_that_meets_a_write_on_its_way_asks_nobody_further(cluster: Cluster) -> None:
    cluster.isolate("n2")
    await cluster.put("n1", b"k", b"v")
    cluster.rejoin("n2")
    await until(lambda: cluster.held("n3", b"k"))
    member, third = cluster.members["n1"], cluster.wire("n1", "n3")
    for waited_s, asked in ((0, 0), (1, 1)):
        cluster.clock.advance_s(waited_s)
        before = third.messages
        member.local.coordinator._gets._replicas._turn = 1  # n2 is asked first
        assert (await cluster.get("n1", b"k", **LONG)).value == b"v"
        await until(lambda: member.local.coordinator.in_flight == 0)
        assert third.messages - before == asked


async def test_bug_a_unary_read_waited_for_stragglers_after_it_was_decided(cluster: Cluster) -> None:
    """1. n2 missed a write, n3 is stalled. 2. A unary get is decided by n1 and n2 and finds n2 stale. 3. Its reply waited until
    the coordinator had stopped listening for n3: what repairs may cost must not reach the client."""
    cluster.wire("n1", "n2").error = StorageError("not now")
    await cluster.put("n1", b"k", b"v")
    cluster.wire("n1", "n2").error = None
    await until(lambda: cluster.held("n3", b"k"))
    cluster.stall("n3")
    cluster.clock.advance_s(1)
    member = cluster.members["n1"]
    member.local.coordinator._gets._replicas._turn = 1  # n2 is asked first
    reply = await member.key_value_service.Batch(encode_batch(1, [gets(b"k", **LONG)]), UnaryContext("client"))
    assert decode_replies(reply)[0].values == [b"v"]
    assert member.local.coordinator.in_flight == 1, "it still listens"


async def test_what_has_waited_beyond_its_deadline_is_not_executed_when_its_turn_comes(cluster: Cluster) -> None:
    local = cluster.members["n1"].local
    told: list[KvError | None] = []
    came_s = asyncio.get_running_loop().time() - 1.0
    for group in (puts({b"k": b"v"}, timeouts_ms=[900]), gets(b"k", timeouts_ms=[900])):
        await local.coordinator.execute([group], lambda replies, last: told.extend(reply.error for reply in replies), came_s=came_s)
    assert all(isinstance(error, DeadlineExceeded) and not error.may_have_applied for error in told) and len(told) == 2
    assert local.coordinator.expired == 2 and cluster.held("n1", b"k") is None
    await local.coordinator.execute([puts({b"k": b"v"}, timeouts_ms=[60_000])], lambda replies, last: None, came_s=came_s)
    await until(lambda: cluster.held("n1", b"k") is not None)
