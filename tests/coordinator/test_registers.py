"""Linearizable namespaces over real coordinators, stores, links and services, with a wire that can be cut and held."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvproto.columns import GroupReply, Kind, Level, OperationGroup
from kvproto.conditions import ABSENT, PRESENT, between, value_is, version_is
from kvproto.errors import (
    AvailabilityError,
    BadRequest,
    ConditionFailed,
    DeadlineExceeded,
    QuorumUnreachable,
    RetryWindowPassed,
    WrongMode,
)
from kvstore.config import ClusterConfig
from kvstore.config.values import NamespaceConfig
from kvstore.core.register import held as registers
from kvstore.core.register.ballot import NO_BALLOT
from kvstore.core.register.messages import Ask, Step, encode_ask
from kvstore.storage.registers import Registers
from tests.support.cluster import LONG, Cluster, Told, gets, puts, request_id
from tests.support.waiting import until

LINEARIZABLE = NamespaceConfig(mode="linearizable", preset="pc-ec")
SETTINGS = ClusterConfig(partitions=8, namespaces={"default": LINEARIZABLE})


def cluster(nodes: int = 3, **options: Any) -> Cluster:
    return Cluster(nodes, settings=SETTINGS, **options)


def key_of(cluster: Cluster, leader: str) -> bytes:
    """A key whose first home replica is `leader`."""
    return next(key for key in (b"k%d" % at for at in range(1000)) if cluster.owners(key)[0] == leader)


async def increment(on: Cluster, node: str, key: bytes, amount: int = 1, **options: Any) -> Told:
    group = OperationGroup(Kind.INCREMENT, "default", [key], amounts=[amount], **options)
    return (await on.run(node, group))[0]


async def touch(on: Cluster, node: str, key: bytes, ttl_ms: int) -> Told:
    return (await on.run(node, OperationGroup(Kind.TOUCH, "default", [key], ttls_ms=[ttl_ms])))[0]


async def test_what_was_put_is_got_at_every_node() -> None:
    async with cluster() as on:
        told = await on.put("n1", b"k", b"v1")
        assert told.error is None
        for node in on.ids:
            got = await on.get(node, b"k")
            assert got.value == b"v1"
            assert got.versions == told.versions
            assert got.receipt is not None and got.receipt.durable and len(got.receipt.acknowledged) >= got.receipt.needed == 2


async def test_a_key_that_was_never_written_and_one_that_was_deleted_are_not_found() -> None:
    async with cluster() as on:
        assert (await on.get("n2", b"k")).count == 0
        await on.put("n1", b"k", b"v")
        assert (await on.delete("n3", b"k")).error is None
        assert (await on.get("n1", b"k")).count == 0


async def test_versions_of_a_key_order_as_bytes_over_takeovers() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        versions = []
        for _ in range(3):
            versions += (await on.put("n1", key, b"v")).versions
        on.isolate("n1")
        versions += (await on.put("n2", key, b"v")).versions
        on.rejoin("n1")
        versions += (await on.put("n1", key, b"v")).versions
        assert versions == sorted(versions) and len(set(versions)) == 5


async def test_operations_on_one_key_in_one_batch_are_applied_in_order_and_accepted_once() -> None:
    async with cluster() as on:
        group = OperationGroup(Kind.INCREMENT, "default", [b"k"] * 5, amounts=[1] * 5)
        answer = await on.run("n1", group)
        assert [answer[at].values[0] for at in range(5)] == [b"1", b"2", b"3", b"4", b"5"]
        assert (await on.get("n1", b"k")).value == b"5"


async def test_a_thousand_keys_at_once() -> None:
    async with cluster() as on:
        pairs = {b"key-%d" % at: b"value-%d" % at for at in range(1000)}
        answer = await on.run("n1", puts(pairs))
        assert all(answer[at].error is None for at in range(1000))
        got = await on.run("n2", gets(*pairs))
        assert [got[at].value for at in range(1000)] == list(pairs.values())


async def test_conditions_hold_or_fail_and_say_what_is_there() -> None:
    async with cluster() as on:
        first = await on.put("n1", b"k", b"v1", conditions=[ABSENT])
        assert first.error is None
        failed = await on.put("n2", b"k", b"v2", conditions=[ABSENT])
        assert isinstance(failed.error, ConditionFailed) and not failed.error.may_have_applied
        assert (await on.put("n3", b"k", b"v2", conditions=[version_is(first.versions[0])])).error is None
        assert isinstance((await on.put("n3", b"k", b"v3", conditions=[version_is(first.versions[0])])).error, ConditionFailed)
        assert (await on.put("n1", b"k", b"v3", conditions=[value_is(b"v2")])).error is None
        assert (await on.delete("n1", b"k", conditions=[PRESENT])).error is None
        assert isinstance((await on.delete("n1", b"k", conditions=[PRESENT])).error, ConditionFailed)


async def test_a_failed_condition_comes_with_the_columns_of_what_is_there() -> None:
    async with cluster() as on:
        version = (await on.put("n1", b"k", b"v1")).versions[0]
        replies: list[Any] = []
        group = puts({b"k": b"v2"}, conditions=[ABSENT])
        await on.members["n1"].local.coordinator.execute([group], lambda some, last: replies.extend(some))
        (reply,) = replies
        assert isinstance(reply.error, ConditionFailed)
        assert (list(reply.values), reply.versions) == ([b"v1"], version)


async def test_increments_count_within_their_bounds_and_refuse_what_is_no_number() -> None:
    async with cluster() as on:
        assert (await increment(on, "n1", b"k", 5)).values == [b"5"]
        assert (await increment(on, "n2", b"k", -7, conditions=[between(low=-2)])).values == [b"-2"]
        assert isinstance((await increment(on, "n3", b"k", -1, conditions=[between(low=-2)])).error, ConditionFailed)
        await on.put("n1", b"text", b"abc")
        refused = await increment(on, "n1", b"text")
        assert isinstance(refused.error, BadRequest)
        assert (await on.get("n1", b"text")).value == b"abc"


async def test_an_expired_value_is_absent_and_its_tombstone_committed_first() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v", ttls_ms=[1000])
        assert (await on.get("n2", b"k")).value == b"v"
        on.clock.time_ms += 1500
        assert (await on.get("n2", b"k")).count == 0

        def flags() -> set[int]:
            return {registers.accepted(held)[0] for node in on.ids if (held := on.held(node, b"k")) is not None}

        assert 1 in flags(), "it is told when it is committed"
        await until(lambda: flags() == {1})
        assert (await on.put("n3", b"k", b"w", conditions=[ABSENT])).error is None


async def test_a_touch_changes_when_a_value_expires_and_not_its_version() -> None:
    async with cluster() as on:
        version = (await on.put("n1", b"k", b"v", ttls_ms=[1000])).versions
        assert (await touch(on, "n2", b"k", 60_000)).count == 1
        on.clock.time_ms += 5000
        got = await on.get("n3", b"k")
        assert (got.value, got.versions) == (b"v", version)
        assert (await touch(on, "n1", b"nothing", 60_000)).count == 0


async def test_a_repeated_request_is_answered_as_before_also_by_another_proposer() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        told = request_id(on.clock, 1)
        assert (await increment(on, "n1", key, request_ids=told)).values == [b"1"]
        assert (await increment(on, "n1", key, request_ids=told, attempt=1)).values == [b"1"]
        on.isolate("n1")
        assert (await increment(on, "n2", key, request_ids=told, attempt=1)).values == [b"1"]
        assert (await on.get("n3", key)).value == b"1"


async def test_an_id_from_before_the_retry_window_is_refused_and_a_first_attempt_for_certain() -> None:
    async with cluster() as on:
        old = request_id(on.clock, 1, age_s=60)
        refused = await increment(on, "n1", b"k", request_ids=old, attempt=1)
        assert isinstance(refused.error, RetryWindowPassed) and refused.error.may_have_applied
        refused = await increment(on, "n1", b"k", request_ids=old)
        assert isinstance(refused.error, RetryWindowPassed) and refused.error.retryable and not refused.error.may_have_applied


async def test_a_client_whose_clock_is_a_minute_behind_is_served_once_it_is_known_how_far() -> None:
    async with cluster() as on:
        ahead_ms = on.clock.now_ms() - 60_000 - int(asyncio.get_running_loop().time() * 1000)
        for number in range(3):
            told = await increment(on, "n1", b"k", request_ids=request_id(on.clock, number, age_s=60), ids_ahead_ms=ahead_ms)
            assert told.values == [b"%d" % (number + 1)]


async def test_bug_a_first_attempt_was_executed_twice_once_32_others_had_pushed_its_id_out() -> None:
    """It hung on its way, the client asked another node, and then it arrived there too."""
    async with cluster() as on:
        key = key_of(on, "n1")
        ids = b"".join(request_id(on.clock, number) for number in range(64))
        hung, others = ids[:16], ids[16:]
        assert (await increment(on, "n1", key, request_ids=hung, attempt=1)).values == [b"1"]
        group = OperationGroup(Kind.INCREMENT, "default", [key] * 63, amounts=[1] * 63, request_ids=others)
        assert (await on.run("n1", group))[62].error is None
        assert (await increment(on, "n1", key, request_ids=hung)).values == [b"1"], "its proposer remembers"
        on.isolate("n1")
        refused = await increment(on, "n2", key, request_ids=hung)
        assert isinstance(refused.error, RetryWindowPassed) and refused.error.retryable and not refused.error.may_have_applied
        assert (await increment(on, "n2", key, request_ids=hung, attempt=1)).error.may_have_applied  # type: ignore[union-attr]
        assert (await on.get("n2", key)).value == b"64"


async def test_the_side_without_a_majority_refuses_at_once_and_the_other_goes_on() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        await on.put("n1", key, b"before")
        on.isolate("n1")
        started_s = asyncio.get_running_loop().time()
        for told in (await on.put("n1", key, b"lost", **LONG), await on.get("n1", key, **LONG)):
            assert isinstance(told.error, QuorumUnreachable) and not told.error.may_have_applied
        assert asyncio.get_running_loop().time() - started_s < 1
        assert (await on.put("n2", key, b"after")).error is None
        assert (await on.get("n3", key)).value == b"after"
        on.rejoin("n1")
        assert (await on.get("n1", key)).value == b"after"


async def test_a_write_whose_accept_was_under_way_when_the_majority_went_away_is_unknown() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        await on.put("n1", key, b"before")
        on.stall("n2")
        on.stall("n3")
        answer = on.start("n1", puts({key: b"maybe"}, **LONG))
        await asyncio.sleep(0.02)
        on.isolate("n1")
        await answer.complete()
        assert isinstance(answer[0].error, QuorumUnreachable) and answer[0].error.may_have_applied


async def test_silence_of_a_majority_ends_at_the_deadline_as_unknown() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        await on.put("n1", key, b"before")
        on.stall("n2")
        on.stall("n3")
        told = await on.put("n1", key, b"maybe", timeouts_ms=[100])
        assert isinstance(told.error, DeadlineExceeded) and told.error.may_have_applied
        on.resume("n2")
        on.resume("n3")
        assert (await on.get("n1", key)).value == b"maybe"


async def test_two_that_both_propose_for_a_key_lose_nothing() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        groups = [OperationGroup(Kind.INCREMENT, "default", [key], amounts=[1], **LONG) for _ in range(20)]
        answers = [on.start(("n1", "n2", "n3")[at % 3], group, hops=1) for at, group in enumerate(groups)]
        numbers = sorted([int((await answer.complete())[0].values[0]) for answer in answers])
        assert numbers == list(range(1, 21))


async def test_levels_of_the_other_mode_are_refused_by_name() -> None:
    async with cluster() as on:
        told = await on.get("n1", b"k", level=Level.QUORUM)
        assert isinstance(told.error, WrongMode) and "linearizable" in told.error.message
        for level in (Level.LINEARIZABLE, Level.TIMELINE):
            assert (await on.get("n1", b"k", level=level)).error is None


async def test_a_scan_shows_committed_values_in_key_order() -> None:
    async with cluster() as on:
        pairs = {b"key-%02d" % at: b"value-%02d" % at for at in range(30)}
        await on.run("n1", puts(pairs))
        await on.delete("n2", b"key-07")
        on.isolate("n3")
        pages = await on.scan("n1")
        assert [page.error for page in pages] == [None] * len(pages)
        shown = [key for page in pages for key in page.keys]
        assert shown == [key for key in pairs if key != b"key-07"]
        assert [value for page in pages for value in page.values] == [pairs[key] for key in shown]
        limited = await on.scan("n2", limit=3)
        assert [key for page in limited for key in page.keys] == shown[:3]


async def test_status_counts_live_registers() -> None:
    async with cluster() as on:
        await on.run("n1", puts({b"a": b"1", b"b": b"2"}))
        await on.delete("n1", b"a")
        local = on.members["n1"].local
        await until(lambda: not local.linearizable.registers._pending)  # two others may have been enough
        assert (await local.status()).keys == 1


async def test_a_damaged_register_has_no_vote_and_is_replaced_under_a_later_ballot() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        await on.put("n1", key, b"v1")
        damaged = on.members["n2"]
        registers = damaged.local.linearizable.registers
        # A put waits for two of three; and what the disk has the loop may not have heard of, which would fill the cache again.
        await until(lambda: on.held("n2", key) is not None and not registers._pending)
        held = on.held("n2", key)
        assert held is not None
        damaged.engine.write([(on.store_key(key), held[:-1] + b"?")], sync=True)
        registers._cache.clear()
        on.isolate("n1")
        told = await on.get("n3", key, timeouts_ms=[300])
        assert isinstance(told.error, QuorumUnreachable), "one whole register of three is no majority"
        on.rejoin("n1")
        assert (await on.get("n3", key)).value == b"v1"
        assert (await on.put("n2", key, b"v2", timeouts_ms=[1000])).error is None


@pytest.mark.parametrize("nodes", [1, 5])
async def test_other_numbers_of_nodes(nodes: int) -> None:
    async with cluster(nodes) as on:
        pairs = {b"key-%d" % at: b"v" for at in range(50)}
        answer = await on.run(on.ids[-1], puts(pairs))
        assert all(answer[at].error is None for at in range(50))
        got = await on.run(on.ids[0], gets(*pairs))
        assert all(got[at].value == b"v" for at in range(50))


async def test_a_majority_that_is_called_dead_ends_what_waits_for_it_within_100_ms() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        await on.put("n1", key, b"before")
        on.stall("n2")
        on.stall("n3")
        answer = on.start("n1", puts({key: b"maybe"}, **LONG))
        await asyncio.sleep(0.02)
        began_s = asyncio.get_running_loop().time()
        on.members["n1"].local.opinions.dead = frozenset(("n2", "n3"))
        await answer.complete()
        assert isinstance(answer[0].error, QuorumUnreachable) and answer[0].error.may_have_applied
        assert asyncio.get_running_loop().time() - began_s < 0.5, "100 ms, and a busy machine"
        refused = await on.get("n1", key, **LONG)
        assert isinstance(refused.error, QuorumUnreachable) and not refused.error.may_have_applied


async def test_a_node_that_has_lost_its_disk_abstains_and_the_others_go_on() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        on.isolate("n3")
        await on.put("n1", key, b"v")
        on.rejoin("n3")
        lost = on.members["n1"].local
        lost.linearizable.registers.lose()
        assert (await on.get("n1", key)).value == b"v", "n2 and n3 answer, whoever proposes"
        assert (await lost.status()).rebuilding == "registers lost"
        on.isolate("n2")
        refused = await on.get("n3", key, timeouts_ms=[300])
        assert isinstance(refused.error, QuorumUnreachable), "n1 has no vote, so one of three is left"


async def test_a_promise_and_what_was_accepted_outlive_the_process() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        member = on.members["n2"]
        before, key = member.local.linearizable.registers, on.store_key(b"k")

        def has_both() -> bool:
            """Of a process that starts now, on what is on the disk. The other two may have answered while n2 was still at it."""
            again = Registers(member.engine, member.local.committer, cache_bytes_max=0)
            promised = again.promised(key[:6]) == before.promised(key[:6]) != NO_BALLOT
            return promised and again.latest(key) == before.latest(key) is not None

        await until(has_both)


async def test_records_of_the_other_kind_are_neither_stored_nor_asked_for_under_a_registers_key() -> None:
    async with cluster() as on:
        replica = on.members["n1"].local.replica
        assert isinstance(replica.why_misplaced([on.store_key(b"k")]), BadRequest)
        told: list[Any] = []
        desk = on.members["n1"].local.linearizable.desk
        desk.ask_bytes(b"nonsense", lambda error, reply: told.append(error))
        elsewhere = Ask(Step.READ, [b"\x00\x01\x00\x00\x00\x09k"], [NO_BALLOT])
        desk.ask_bytes(encode_ask(elsewhere), lambda error, reply: told.append(error))
        assert [type(error) for error in told] == [BadRequest, BadRequest]


async def test_bug_a_write_that_was_handed_on_and_lost_was_told_as_not_applied_when_nobody_else_could_be_reached() -> None:
    async with cluster() as on:
        key = key_of(on, "n1")
        peers = on.members["n2"].peers

        async def lost(node: str, group: OperationGroup, timeout_s: float, trace: bytes = b"") -> list[GroupReply]:
            on.isolate("n2")  # the answer is on its way when the cut begins
            raise AvailabilityError(f"{node} was cut off", may_have_applied=True)

        peers.forward = lost  # type: ignore[method-assign]
        told = await on.put("n2", key, b"maybe", timeouts_ms=[1000])
        assert isinstance(told.error, QuorumUnreachable) and told.error.may_have_applied


async def test_explain_tells_who_stands_behind_an_answer() -> None:
    async with cluster() as on:
        put = await on.put("n1", b"k", b"v", explain=True)
        got = await on.get("n1", b"k", explain=True)
        for told, did in ((put, "accepted it after"), (got, "confirmed that it has promised no later ballot after")):
            assert told.receipt is not None
            assert [line.partition(" ")[0] for line in told.receipt.explanation] == list(told.receipt.acknowledged)
            assert all(did in line and line.endswith(" ms") for line in told.receipt.explanation)
        plain = await on.get("n1", b"k")
        assert plain.receipt is not None and plain.receipt.explanation == ()
