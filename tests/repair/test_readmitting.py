"""A node whose acceptor has lost its disk, readmitted by the other owners: over real coordinators, links and stores."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

import pytest

from kvproto.columns import LossAccepted
from kvproto.errors import BadRequest, KvError, QuorumUnreachable
from kvstore.config import ClusterConfig
from kvstore.config.values import NamespaceConfig
from kvstore.core.register import held as registers
from kvstore.core.register.ballot import NO_BALLOT, make_ballot
from kvstore.core.register.messages import Ask, Reply, Step
from kvstore.repair import readmitting
from kvstore.storage import registers as storage
from kvstore.storage.admission import Admission
from kvstore.storage.registers import Registers
from tests.support.cluster import Cluster, puts
from tests.support.waiting import until

SETTINGS = ClusterConfig(partitions=8, namespaces={"default": NamespaceConfig(mode="linearizable", preset="pc-ec")})


def cluster(nodes: int = 3, **options: Any) -> Cluster:
    return Cluster(nodes, settings=SETTINGS, **options)


def wipe(on: Cluster, node: str) -> None:
    """Its acceptor and its engine hold nothing any more, and it knows that it has lost something."""
    local, engine = on.members[node].local, on.members[node].engine
    half = local.linearizable.registers
    engine.write([], [key for key, _ in engine.scan(b"")], sync=True)
    engine.write(half.lose(), sync=True)
    half.acceptor.groups.clear()
    half._cache.clear()


def work_of(on: Cluster, node: str) -> readmitting.Readmitting:
    mending = on.members[node].local.mending
    assert mending is not None
    return mending.readmitting


async def readmit(on: Cluster, node: str) -> None:
    half = on.members[node].local.linearizable.registers
    while half.is_lost:
        assert await work_of(on, node)._go_on() or not half.is_lost


def lost(on: Cluster, node: str) -> bool:
    return on.members[node].local.linearizable.registers.is_lost


async def test_a_wiped_node_holds_everything_and_votes_again() -> None:
    async with cluster() as on:
        pairs = {b"key-%d" % at: b"value-%d" % at for at in range(100)}
        await on.run("n1", puts(pairs))
        await on.delete("n1", b"key-7")
        wipe(on, "n2")
        assert (await on.members["n2"].local.status()).rebuilding == "registers lost"
        await readmit(on, "n2")
        assert (await on.members["n2"].local.status()).rebuilding == ""
        on.isolate("n1")
        for key, value in pairs.items():
            got = await on.get("n3", key)
            assert got.value == value if key != b"key-7" else not got.count


async def test_what_was_acknowledged_by_the_wiped_node_and_one_other_survives_the_loss_of_the_third() -> None:
    async with cluster() as on:
        on.isolate("n3")
        assert (await on.put("n1", b"k", b"v")).error is None
        on.rejoin("n3")
        wipe(on, "n2")
        await readmit(on, "n2")
        on.isolate("n1")
        assert (await on.get("n3", b"k")).value == b"v"


async def test_what_the_others_hold_differently_is_proposed_to_them_again() -> None:
    async with cluster() as on:
        on.isolate("n3")
        await on.put("n1", b"k", b"v")
        on.rejoin("n3")
        wipe(on, "n2")
        await readmit(on, "n2")
        held = [on.held(node, b"k") for node in on.ids]
        assert {registers.stamp(one or b"") for one in held} == {registers.stamp(held[0] or b"")}
        assert {registers.accepted(one or b"") for one in held} == {registers.accepted(held[0] or b"")}


async def test_it_has_no_vote_until_every_other_owner_has_answered() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        wipe(on, "n2")
        on.isolate("n3")
        again = work_of(on, "n2")
        assert not await again._go_on()
        told = await on.put("n1", b"k", b"w", timeouts_ms=[300])
        assert isinstance(told.error, QuorumUnreachable)
        on.rejoin("n3")
        await readmit(on, "n2")
        assert (await on.put("n1", b"k", b"w")).error is None


async def test_two_of_three_that_lost_their_disks_are_never_readmitted_by_each_other() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        for node in ("n2", "n3"):
            wipe(on, node)
        for node in ("n2", "n3"):
            again = work_of(on, node)
            for _ in range(5):
                await again._go_on()
            assert lost(on, node) and not on.members[node].local.linearizable.registers.admission.admitted


async def test_two_of_three_that_lost_their_disks_are_readmitted_once_one_of_them_is_given_up() -> None:
    async with cluster() as on:
        pairs = {b"key-%d" % at: b"value-%d" % at for at in range(50)}
        await on.run("n1", puts(pairs))
        await until(lambda: all(on.held("n1", key) is not None for key in pairs))
        for node in ("n2", "n3"):
            wipe(on, node)
        told = [on.members[node].local.accept_loss(["n2"]) for node in on.ids]
        groups = len(work_of(on, "n3").open_groups())
        assert told == [LossAccepted("n1", 0), LossAccepted("n2", 0), LossAccepted("n3", groups)], "n2 waits for n1 and n3"
        said = [(await on.members[node].local.status()).rebuilding for node in on.ids]
        assert said == ["", "registers lost", "registers lost, admitted again without n2"]
        await readmit(on, "n3")
        await readmit(on, "n2")
        on.isolate("n1")
        for key, value in pairs.items():
            assert (await on.get("n2", key)).value == value
        assert (await on.put("n3", b"key-1", b"after")).error is None


async def test_what_was_given_up_is_waited_for_again_after_the_next_loss() -> None:
    async with cluster() as on:
        for node in ("n2", "n3"):
            wipe(on, node)
        on.members["n3"].local.accept_loss(["n2"])
        await readmit(on, "n3")
        wipe(on, "n3")
        again = work_of(on, "n3")
        for _ in range(5):
            await again._go_on()
        assert lost(on, "n3") and not on.members["n3"].local.linearizable.registers.admission.admitted


async def test_only_nodes_can_be_given_up() -> None:
    async with cluster() as on:
        for names in (["n2", "n9"], []):
            with pytest.raises(BadRequest, match="n1, n2, n3"):
                on.members["n3"].local.accept_loss(names)


async def test_its_promises_are_above_all_that_others_promised_or_took_also_of_groups_without_a_key() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        empty = on.members["n3"].local.view.space("default").prefixes
        taken = make_ballot(77, 1, 1)
        on.members["n3"].local.linearizable.registers.acceptor._taken = lambda group: taken
        wipe(on, "n2")
        await readmit(on, "n2")
        half = on.members["n2"].local.linearizable.registers
        assert all(half.promised(group) > taken for group in empty)
        again = Registers(on.members["n2"].engine, on.members["n2"].local.committer, cache_bytes_max=0)
        assert all(again.promised(group) == half.promised(group) for group in empty), "durable"


async def test_a_group_is_copied_in_pages_and_what_lay_here_is_replaced(monkeypatch: Any) -> None:
    monkeypatch.setattr(storage, "PAGES_BYTES_MAX", 300)
    async with cluster() as on:
        pairs = {b"key-%02d" % at: b"v" * 100 for at in range(60)}
        await on.run("n1", puts(pairs))
        member = on.members["n2"]
        stale = on.store_key(b"key-03") + b"stale"
        await until(lambda: on.held("n2", b"key-03") is not None)
        held = on.held("n2", b"key-03")
        assert held is not None
        member.engine.write([(stale, held)], sync=True)
        member.engine.write(member.local.linearizable.registers.lose(), sync=True)
        await readmit(on, "n2")
        assert member.engine.get(stale) is None, "the others had forgotten it"
        assert [on.held("n2", key) is not None for key in pairs] == [True] * len(pairs)


async def test_a_proposer_that_passes_the_ballot_makes_the_page_be_asked_for_again() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        wipe(on, "n2")
        group = on.store_key(b"k")[:6]
        half = on.members["n3"].local.linearizable.registers
        told: list[Any] = []
        passed = make_ballot(1000, 5, 5)
        half.ask(Ask(Step.READ, [group + b"k"], [passed]), lambda error, reply: told.append(error))
        await readmit(on, "n2")
        assert on.members["n2"].local.linearizable.registers.promised(group) > passed
        assert (await on.put("n1", b"k", b"w")).error is None


async def test_a_group_that_was_admitted_votes_before_all_are_and_after_a_restart(monkeypatch: Any) -> None:
    monkeypatch.setattr(readmitting, "GROUPS_AT_ONCE", 1)
    async with cluster() as on:
        await on.run("n1", puts({b"key-%d" % at: b"v" for at in range(50)}))
        wipe(on, "n2")
        member = on.members["n2"]
        again = work_of(on, "n2")
        groups = list(again.open_groups())
        while not member.local.linearizable.registers.admission.admitted:
            assert await again._go_on()
        (admitted,) = member.local.linearizable.registers.admission.admitted
        after = Registers(member.engine, member.local.committer, cache_bytes_max=0)
        assert after.is_lost and after.admission.admitted == {admitted}
        told: list[Reply | None] = []
        ballot = make_ballot(1 << 40, 1, 1)
        after.ask(Ask(Step.CONFIRM, groups, [ballot] * len(groups)), lambda error, reply: told.append(reply))
        assert told[0] is not None
        assert [at for at in range(len(groups)) if at not in told[0].refused] == [groups.index(admitted)]


async def test_a_later_loss_takes_back_what_was_admitted() -> None:
    async with cluster() as on:
        wipe(on, "n2")
        member = on.members["n2"]
        half = member.local.linearizable.registers
        again = work_of(on, "n2")
        assert await again._go_on()
        assert half.admission.admitted
        member.engine.write(half.lose(), sync=True)
        assert not half.admission.admitted
        assert not Admission(member.engine).admitted


async def test_a_damaged_register_at_another_owner_holds_its_group_up_and_no_other() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        await until(lambda: on.held("n3", b"k") is not None)
        wipe(on, "n2")
        key = on.store_key(b"k")
        held = on.held("n3", b"k")
        assert held is not None
        on.members["n3"].engine.write([(key, held[:-1] + b"?")], sync=True)
        again = work_of(on, "n2")
        while await again._go_on():
            pass
        assert list(again.open_groups()) == [key[:6]]
        assert on.members["n2"].local.linearizable.registers.promised(key[:6]) == NO_BALLOT
        on.members["n3"].engine.write([(key, held)], sync=True)
        again._waits.clear()
        await readmit(on, "n2")


async def test_it_stays_lost_until_it_knows_every_namespace_that_it_may_have_voted_in() -> None:
    async with cluster() as on:
        wipe(on, "n2")
        again = work_of(on, "n2")
        read, again._read_catalog = again._read_catalog, AsyncMock(side_effect=KvError("no majority"))
        while await again._go_on():
            pass
        assert not again.open_groups() and lost(on, "n2")
        again._read_catalog = read
        await readmit(on, "n2")


async def test_it_goes_by_itself() -> None:
    async with cluster() as on:
        await on.put("n1", b"k", b"v")
        wipe(on, "n2")
        again = work_of(on, "n2")
        again.start()
        await until(lambda: not lost(on, "n2"))
        again.stop()
