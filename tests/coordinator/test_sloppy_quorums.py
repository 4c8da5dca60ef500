"""Writes and reads of a preset while home replicas are away: stand-ins, degraded answers, and what is noted for later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import pytest

from kvproto.columns import Sloppy
from kvproto.errors import NotOwner, Overloaded, QuorumUnreachable
from kvstore.config import ClusterConfig, NodeLimits
from kvstore.coordinator.put import ASKED_AGAIN_MAX, PutCoordinator
from kvstore.transport import parts
from tests.support.cluster import ALL, LONG, QUORUM, Cluster, Told, gets, puts, request_id
from tests.support.waiting import turns, until

FIVE = ClusterConfig(partitions=16)


@pytest.fixture
async def three() -> AsyncIterator[Cluster]:
    async with Cluster() as running:
        yield running


@pytest.fixture
async def five() -> AsyncIterator[Cluster]:
    async with Cluster(5, settings=FIVE) as running:
        yield running


def key_at(cluster: Cluster, node: str) -> tuple[bytes, list[str], list[str]]:
    """A key that `node` is the first home replica of, its home replicas, and the other nodes."""
    key = next(key for key in (b"key-%d" % at for at in range(99)) if cluster.owners(key)[0] == node)
    homes = cluster.owners(key)
    return key, homes, [other for other in cluster.ids if other not in homes]


def achieved(told: Told) -> tuple[set[str], bool, bool]:
    """Who answered, hinted, degraded."""
    assert told.error is None and told.receipt is not None, told
    return set(told.receipt.acknowledged), told.receipt.hinted, told.receipt.degraded


def pending(cluster: Cluster, node: str) -> dict[str, int]:
    hints = cluster.members[node].local.hints
    return {target: hints.pending(target) for target in hints.targets}


async def test_a_stand_in_takes_the_place_of_a_home_replica_and_the_receipt_says_so(five: Cluster) -> None:
    key, homes, others = key_at(five, "n1")
    for home in homes[1:]:
        five.isolate(home)
    who, hinted, degraded = achieved(await five.put("n1", key, b"v", **LONG))
    assert who <= {"n1", *others} and len(who) == 2 and hinted and not degraded
    await until(lambda: all(five.held(node, key) for node in others))
    assert sorted(target for node in others for target in pending(five, node)) == sorted(homes[1:])
    assert pending(five, "n1") == {}, "whoever stands in hands it over"


async def test_a_read_finds_what_stand_ins_hold(five: Cluster) -> None:
    """n1 takes a write with two stand-ins and goes away; with it every home replica is gone, and any node answers all the same."""
    key, homes, others = key_at(five, "n1")
    for home in homes[1:]:
        five.isolate(home)
    await five.put("n1", key, b"v", **LONG)
    await until(lambda: all(five.held(node, key) for node in others))
    five.isolate("n1")
    for node in others:
        told = await five.get(node, key, **LONG)
        assert told.value == b"v"
        assert achieved(told) == (set(others), True, False)


async def test_a_stand_in_coordinates_when_no_home_replica_is_left(five: Cluster) -> None:
    key, homes, others = key_at(five, "n1")
    for home in homes:
        five.isolate(home)
    told = await five.put(others[0], key, b"v", **LONG)
    assert achieved(told) == (set(others), True, False)
    assert told.receipt is not None and told.receipt.coordinator == others[0]
    assert (await five.get(others[1], key, **LONG)).value == b"v"
    assert {target for node in others for target in pending(five, node)} == set(homes), "all three will get it"


async def test_where_too_few_are_left_a_preset_takes_what_there_is_and_says_so(three: Cluster) -> None:
    three.isolate("n1")
    assert achieved(await three.put("n1", b"k", b"v", **LONG)) == ({"n1"}, False, True)
    told = await three.get("n1", b"k", **LONG)
    assert told.value == b"v" and achieved(told) == ({"n1"}, False, True)
    assert pending(three, "n1") == {"n2": 1, "n3": 1}


async def test_an_explicit_level_is_met_by_home_replicas_or_refused(five: Cluster) -> None:
    key, homes, _ = key_at(five, "n1")
    for home in homes[1:]:
        five.isolate(home)
    for told in (await five.put("n1", key, b"v", **QUORUM, **LONG), await five.get("n1", key, **QUORUM, **LONG)):
        assert isinstance(told.error, QuorumUnreachable) and not told.error.may_have_applied


async def test_a_sloppy_level_takes_stand_ins_and_is_met_or_refused(five: Cluster) -> None:
    """1. Two of three homes are away, two others stand in: met, hinted. 2. These are away too: refused, not less."""
    key, homes, others = key_at(five, "n1")
    for home in homes[1:]:
        five.isolate(home)
    for _ in range(2):
        who, hinted, degraded = achieved(await five.put("n1", key, b"v", sloppy=Sloppy.YES, **QUORUM, **LONG))
        assert who <= {"n1", *others} and len(who) == 2 and hinted and not degraded
        who, hinted, degraded = achieved(await five.get("n1", key, sloppy=Sloppy.YES, **QUORUM, **LONG))
        assert len(who) == 2 and hinted and not degraded
    for other in others:
        five.isolate(other)
    told = await five.put("n1", key, b"v", sloppy=Sloppy.YES, **QUORUM, **LONG)
    assert isinstance(told.error, QuorumUnreachable) and not told.error.may_have_applied
    assert isinstance((await five.get("n1", key, sloppy=Sloppy.YES, **QUORUM, **LONG)).error, QuorumUnreachable)


async def test_a_preset_that_shall_not_be_sloppy_is_met_by_home_replicas_or_refused(five: Cluster) -> None:
    key, homes, _ = key_at(five, "n1")
    five.isolate(homes[1])
    assert achieved(await five.put("n1", key, b"v", sloppy=Sloppy.NO, **LONG)) == ({homes[0], homes[2]}, False, False)
    five.isolate(homes[2])
    for told in (
        await five.put("n1", key, b"v", sloppy=Sloppy.NO, **LONG),
        await five.get("n1", key, sloppy=Sloppy.NO, **LONG),
    ):
        assert isinstance(told.error, QuorumUnreachable) and not told.error.may_have_applied


async def test_a_home_replica_that_fails_a_write_is_replaced_while_it_is_under_way(five: Cluster) -> None:
    key, homes, others = key_at(five, "n1")
    for home in homes[1:]:
        five.stall(home)
    answer = five.start("n1", puts({key: b"v"}, **LONG))
    await until(lambda: five.held("n1", key))
    for home in homes[1:]:
        five.isolate(home)
    who, hinted, degraded = achieved((await answer.complete())[0])
    assert "n1" in who and who & set(others) and hinted and not degraded


async def test_a_home_replica_that_fails_a_read_is_replaced_too(five: Cluster) -> None:
    key, homes, _ = key_at(five, "n1")
    await five.put("n1", key, b"v", **ALL)
    for home in homes[1:]:
        five.stall(home)
    answer = five.start("n1", gets(key, **LONG))
    await until(lambda: any(five.wire("n1", home).waiting for home in homes[1:]))
    for home in homes[1:]:
        five.isolate(home)
    told = (await answer.complete())[0]
    assert told.value == b"v" and achieved(told)[1:] == (True, False)


async def test_who_missed_a_write_is_noted_even_when_it_turns_out_after_the_reply(three: Cluster) -> None:
    """n2 is stalled: the reply does not wait for it. Then its link breaks with the write in it: n1 owes it the record."""
    three.stall("n2")
    assert achieved(await three.put("n1", b"k", b"v", **LONG))[0] == {"n1", "n3"}
    assert pending(three, "n1") == {}
    three.isolate("n2")
    await until(lambda: pending(three, "n1") == {"n2": 1})


async def test_a_stand_in_that_holds_too_much_declines_and_the_next_is_asked(five: Cluster) -> None:
    key, homes, _ = key_at(five, "n1")
    view = five.members["n1"].local.view
    owners = view.owner_sets[3][view.set_of_partition[3][view.ring.partition_of(key)]]
    first, second = owners.stand_ins
    five.members[first].local.hints._held_bytes_max = 0
    five.isolate(homes[2])
    five.stall(homes[1])
    told = await five.put("n1", key, b"v", **LONG)
    assert achieved(told) == ({"n1", second}, True, False)
    assert pending(five, first) == {} and five.held(first, key) is None


async def test_a_write_that_no_stand_in_can_hold_fails_and_says_why(five: Cluster) -> None:
    """There are nodes enough; they hold too much for others. One copy is no quorum, and what it was is unknown."""
    key, homes, others = key_at(five, "n1")
    for node in others:
        five.members[node].local.hints._held_bytes_max = 0
    for home in homes[1:]:
        five.isolate(home)
    error = (await five.put("n1", key, b"v", **LONG)).error
    assert isinstance(error, Overloaded) and error.may_have_applied and error.retry_after_s > 0
    assert (error.needed, error.subject) == (2, "hints")
    assert error.received <= 1, "our own disk may be slower than they are to decline"
    assert [five.held(node, key) for node in others] == [None, None]


async def test_bug_one_refusal_of_a_replica_that_was_there_made_a_preset_settle_for_less(three: Cluster) -> None:
    """1. n3 is away. 2. n2 has too much to do for a moment. 3. The write was answered with one copy; now n2 is asked again."""
    three.isolate("n3")
    wire = three.wire("n1", "n2")
    wire.error = Overloaded("busy", retry_after_s=0.01)
    writing = asyncio.ensure_future(three.put("n1", b"k", b"v", **LONG))
    await until(lambda: wire.messages >= 1)
    await turns()
    assert not writing.done()
    wire.error = None
    assert achieved(await writing) == ({"n1", "n2"}, False, False)
    assert three.held("n2", b"k") == three.held("n1", b"k")


async def test_a_replica_that_refuses_every_time_is_given_up_in_the_end(three: Cluster) -> None:
    three.isolate("n3")
    wire = three.wire("n1", "n2")
    wire.error = Overloaded("busy")
    assert achieved(await three.put("n1", b"k", b"v", **LONG)) == ({"n1"}, False, True)
    assert wire.messages == 1 + ASKED_AGAIN_MAX
    assert pending(three, "n1") == {"n2": 1, "n3": 1}, "it is owed what it refused"


async def test_a_replica_that_was_asked_again_too_late_counts_for_those_who_are_owed(three: Cluster) -> None:
    """A quorum without n2 answers before n2 was asked again; it refuses again, and is owed the record."""
    wire = three.wire("n1", "n2")
    wire.error = Overloaded("busy")
    three.stall("n3")
    writing = asyncio.ensure_future(three.put("n1", b"k", b"v", **LONG))
    await until(lambda: wire.messages >= 1)
    await turns()
    three.resume("n3")
    assert achieved(await writing) == ({"n1", "n3"}, False, False)
    await until(lambda: pending(three, "n1") == {"n2": 1})


async def test_nobody_who_can_hold_a_write_for_others_takes_it_when_its_hints_are_full() -> None:
    async with Cluster(5, settings=FIVE, limits=NodeLimits(hints_max=1)) as cluster:
        key, homes, others = key_at(cluster, "n1")
        other = next(
            name for name in (b"key-%d" % at for at in range(999)) if name != key and set(cluster.owners(name)) == set(homes)
        )
        for home in homes:
            cluster.isolate(home)
        assert (await cluster.put(others[0], key, b"v", **LONG)).error is None
        error = (await cluster.put(others[0], other, b"v", **LONG)).error
        assert isinstance(error, Overloaded) and not error.may_have_applied and error.retry_after_s > 0


async def test_a_write_that_a_home_replica_may_have_applied_stays_one_write_at_a_stand_in(five: Cluster) -> None:
    """1. The only home replica in reach executes the write, its answer is lost. 2. The node that forwarded it takes it itself, with
    its request id. 3. Both copies meet, once the home's own is on its disk, for which nobody had to wait: one value."""
    key, homes, others = key_at(five, "n1")
    for home in homes[1:]:
        five.isolate(home)
    five.wire(homes[0], others[0]).is_cut = True  # its answers are lost
    told = (await five.run(others[0], puts({key: b"v"}, request_ids=request_id(five.clock, 1), **LONG)))[0]
    assert told.error is None and told.receipt is not None and told.receipt.coordinator == others[0]
    five.wire(homes[0], others[0]).is_cut = False
    for node in five.ids:
        five.rejoin(node)
    await until(lambda: five.held(homes[0], key))
    read = await five.get(homes[0], key, **LONG)
    assert read.count == 1 and read.value == b"v"


async def test_bug_a_stand_in_that_refused_forgot_that_a_home_replica_may_have_applied_the_write(five: Cluster) -> None:
    """1. The home replica in reach executes the write, its answer is lost. 2. The node that forwarded it would take it itself, and
    may not hold more. 3. That is no definite refusal."""
    key, homes, others = key_at(five, "n1")
    for home in homes[1:]:
        five.isolate(home)
    five.wire(homes[0], others[0]).is_cut = True
    five.members[others[0]].local.hints.admit = _full  # type: ignore[method-assign]
    error = (await five.run(others[0], puts({key: b"v"}, request_ids=request_id(five.clock, 1), **LONG)))[0].error
    assert isinstance(error, Overloaded) and error.may_have_applied
    await until(lambda: five.held(homes[0], key))


async def test_what_is_left_of_a_large_batch_is_refused_once_the_home_replicas_are_back(
    five: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. Another stand-in holds large values; all home replicas are away. 2. A write over each of them, whose contexts name what
    this one has not seen: that comes in parts. 3. After the first part the home replicas are back: they are to be asked now."""
    first, homes, (me, other) = key_at(five, "n1")
    names = (b"large-%d" % at for at in range(9999))
    keys = [first, *islice((name for name in names if set(five.owners(name)) == set(homes)), 7)]
    for node in (*homes, me):
        five.isolate(node)
    written = await five.run(other, puts(dict.fromkeys(keys, b"x" * 16_384), **LONG))
    five.heal(me, other)
    monkeypatch.setattr(parts, "GATHERED_BYTES_MAX", 50_000)
    monkeypatch.setattr("kvstore.api.exchange.PART_BYTES_MAX", 25_000)
    collect = PutCoordinator._collect

    async def collect_first(puts: PutCoordinator, *args: Any) -> None:
        await collect(puts, *args)
        for home in homes:
            five.heal(me, home)

    monkeypatch.setattr(PutCoordinator, "_collect", collect_first)
    contexts = [written[at].context for at in range(8)]
    answer = await five.run(me, puts(dict.fromkeys(keys, b"new"), contexts=contexts, **LONG))
    errors = [answer[at].error for at in range(8)]
    taken = next((at for at, error in enumerate(errors) if error), 8)
    assert 0 < taken < 8 and errors[:taken] == [None] * taken
    assert all(isinstance(error, NotOwner) and not error.may_have_applied for error in errors[taken:])
    assert me not in pending(five, me), "it owes nothing to itself"
    assert all(five.held(me, key) for key in keys[:taken]), "what it took it holds"


def _full(count: int, size_bytes: int) -> None:
    raise Overloaded("this node holds too much for others", retry_after_s=1)
