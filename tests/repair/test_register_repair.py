"""Registers that are not the same at all owners are accepted again, and tombstones end where they are (docs/adr/0021)."""

from __future__ import annotations

import asyncio
from typing import Any

from kvproto.columns import Level
from kvstore.config import ClusterConfig
from kvstore.config.values import NamespaceConfig
from kvstore.core.register import held as registers
from kvstore.core.register import payload as payloads
from kvstore.core.register.held import digest_of
from kvstore.repair import register_repair
from kvstore.storage import register_scans
from tests.support.cluster import Cluster, puts
from tests.support.engines import RottingEngine
from tests.support.horizons import hear, upkeep
from tests.support.waiting import until

GRACE_S = 40.0
SPACES = {"default": NamespaceConfig(mode="linearizable", preset="pc-el")}
SETTINGS = ClusterConfig(partitions=8, namespaces=SPACES, timeline_bound_s=3600.0, tombstone_grace_s=GRACE_S, retry_window_s=1.0)


def cluster(nodes: int = 3, **options: Any) -> Cluster:
    return Cluster(nodes, settings=SETTINGS, **options)


async def repair(on: Cluster) -> int:
    """Every node looks for what differs, once, as after its last look; how many registers it handed over."""
    await hear(on)
    jobs = [(node, upkeep(on, node).repair) for node in on.ids]
    before = sum(job.found for _, job in jobs)
    for node, job in jobs:
        places = [place for _ in range(register_repair.LOOKS) for place in job._look(register_repair.LOOKS)]
        await job._repair(sorted({place for place in places if node < place[1]}))
    return sum(job.found for _, job in jobs) - before


def stamps(on: Cluster, key: bytes) -> set[bytes]:
    """What is accepted of a key, by its stamps; b"" for nothing."""
    found = [on.held(node, key) for node in on.owners(key)]
    return {b"" if held is None else registers.stamp(held) for held in found}


def digests(on: Cluster, key: bytes) -> set[int]:
    group = on.store_key(key)[:6]
    return {on.members[node].local.linearizable.tracker.groups[group].durable_digest for node in on.owners(key)}


def check_digests(on: Cluster) -> None:
    """What every node counts is what it holds."""
    for member in on.members.values():
        half = member.local.linearizable
        half.check()  # which takes in what became durable
        for group, progress in half.tracker.groups.items():
            expected = 0
            for store_key, held in member.engine.scan(group):
                if store_key[:6] == group:
                    expected ^= digest_of(store_key, held)
            assert not progress.is_known or progress.durable_digest == expected


async def test_a_replica_that_missed_writes_gets_them_by_itself_and_answers_alone() -> None:
    async with cluster() as on:
        await hear(on)
        on.isolate("n3")
        pairs = {b"key-%d" % at: b"value-%d" % at for at in range(30)}
        await on.run("n1", puts(pairs))
        await on.delete("n1", b"key-3")
        on.rejoin("n3")
        assert await repair(on) >= 30
        await until(lambda: all(len(stamps(on, key)) == 1 for key in pairs))
        await hear(on)
        check_digests(on)
        on.isolate("n3")
        for key, value in pairs.items():
            got = await on.get("n3", key)
            assert got.receipt is not None and got.receipt.acknowledged == ("n3",)
            assert got.value == (None if key == b"key-3" else value)


async def test_nothing_is_settled_where_nothing_differs() -> None:
    async with cluster() as on:
        await hear(on)
        await on.run("n1", puts({b"key-%d" % at: b"v" for at in range(30)}))
        await until(lambda: all(len(stamps(on, b"key-%d" % at)) == 1 for at in range(30)))
        assert await repair(on) == 0
        check_digests(on)


async def test_what_was_accepted_by_one_and_never_chosen_is_decided_by_the_proposer() -> None:
    """Safety rule 17: n3 alone holds it; it is not copied to anybody as it is."""
    async with cluster() as on:
        await on.put("n1", b"k", b"chosen")
        await until(lambda: len(stamps(on, b"k")) == 1)
        member = on.members["n3"]
        group = on.store_key(b"new")[:6]
        stamp = b"\x00" * 7 + b"\x01" + b"\x09" * 16 + b"\x00" * 7 + b"\x01"
        payload = payloads.encode(stamp[:20], b"never chosen")
        member.engine.write([(on.store_key(b"new"), registers.encode(stamp, payload))], sync=True)
        await hear(on)
        assert await repair(on) == 1
        await until(lambda: len(stamps(on, b"new")) == 1 and b"" not in stamps(on, b"new"))
        assert stamp not in stamps(on, b"new"), "accepted again, under the proposer's ballot"
        await hear(on)
        assert len(digests(on, b"new")) == 1 and group in on.members["n1"].local.linearizable.tracker.groups
        values = {(await on.get(node, b"new", level=Level.LINEARIZABLE)).value for node in on.ids}
        assert values in ({None}, {b"never chosen"}), "whichever the majority that was read has shown"


async def test_a_damaged_register_is_accepted_again_under_a_later_ballot() -> None:
    async with cluster(engine=RottingEngine) as on:
        await on.put("n1", b"k", b"v")
        await until(lambda: len(stamps(on, b"k")) == 1)
        store_key = on.store_key(b"k")
        member = on.members["n3"]
        held = member.engine.get(store_key)
        assert held is not None
        member.engine.write([(store_key, held[:-1] + bytes((held[-1] ^ 1,)))], sync=True)
        member.local.linearizable.registers.forget([store_key])
        await hear(on)
        assert member.local.linearizable.registers.quarantined == 1
        assert len(digests(on, b"k")) == 2
        for _ in range(2):  # the first is refused, and ends the ballot
            assert await repair(on) >= 1
            await on.get("n1", b"k", level=Level.LINEARIZABLE)
        await until(lambda: len(stamps(on, b"k")) == 1)
        assert member.local.linearizable.registers.quarantined == 0
        await hear(on)
        check_digests(on)
        assert len(digests(on, b"k")) == 1


async def test_groups_are_compared_in_pages(monkeypatch: Any) -> None:
    monkeypatch.setattr(register_scans, "KEYS_AT_ONCE", 2)
    async with cluster() as on:
        await hear(on)
        on.isolate("n2")
        pairs = {b"key-%d" % at: b"v" for at in range(40)}
        await on.run("n1", puts(pairs))
        on.rejoin("n2")
        await on.run("n1", puts({b"other-%d" % at: b"v" for at in range(40)}))
        on.members["n2"].local.linearizable.tracker.forget_all()
        assert await repair(on) >= 40
        await until(lambda: all(len(stamps(on, key)) == 1 for key in pairs))
        await hear(on)
        check_digests(on)


async def test_a_scan_counts_what_is_written_while_it_looks(monkeypatch: Any) -> None:
    monkeypatch.setattr(register_scans, "KEYS_AT_ONCE", 2)
    async with cluster() as on:
        await on.run("n1", puts({b"key-%d" % at: b"v" for at in range(40)}))
        for node in on.ids:
            upkeep(on, node).horizons.follow()
        writing = on.start("n1", puts({b"key-%d" % (3 * at): b"w" for at in range(40)}))
        for node in on.ids:
            assert await upkeep(on, node).horizons.scan()
        await writing.complete()
        await on.run("n1", puts({b"last-%d" % at: b"w" for at in range(40)}))
        await until(lambda: all(len(stamps(on, b"last-%d" % at)) == 1 for at in range(40)))
        check_digests(on)
        assert all(one.is_known for one in on.members["n1"].local.linearizable.tracker.groups.values())


async def sweep(on: Cluster) -> None:
    for node in on.ids:
        await upkeep(on, node).reaper.sweep()


async def test_a_tombstone_is_forgotten_by_all_owners_after_the_grace_and_not_before() -> None:
    async with cluster() as on:
        await hear(on)
        await on.run("n1", puts({b"key-%d" % at: b"v" for at in range(20)}))
        await on.delete("n1", b"key-3")
        await until(lambda: len(stamps(on, b"key-3")) == 1)
        await sweep(on)
        assert b"" not in stamps(on, b"key-3")
        on.clock.advance_s(GRACE_S + 1)
        await sweep(on)
        await until(lambda: stamps(on, b"key-3") == {b""})
        assert all(b"" not in stamps(on, b"key-%d" % at) for at in range(20) if at != 3)
        check_digests(on)
        await hear(on)
        got = await on.get("n2", b"key-3")
        assert not got.count and got.receipt is not None and got.receipt.acknowledged == ("n2",)
        assert (await on.put("n1", b"key-3", b"again")).error is None
        assert (await on.get("n2", b"key-3", level=Level.LINEARIZABLE)).value == b"again"


async def test_nothing_is_forgotten_while_an_owner_is_away_or_holds_something_else() -> None:
    async with cluster() as on:
        await hear(on)
        await on.put("n1", b"k", b"v")
        await until(lambda: len(stamps(on, b"k")) == 1)
        on.isolate("n3")
        await on.delete("n1", b"k")
        on.clock.advance_s(GRACE_S + 1)
        await sweep(on)
        on.rejoin("n3")
        await sweep(on)
        assert len(stamps(on, b"k")) == 2 and b"" not in stamps(on, b"k"), "n3 holds the value still"
        await repair(on)
        await until(lambda: len(stamps(on, b"k")) == 1)
        await sweep(on)
        await until(lambda: stamps(on, b"k") == {b""})
        assert not (await on.get("n3", b"k", level=Level.LINEARIZABLE)).count


async def test_repair_watches_what_it_looks_at_and_does_not_take_what_is_written_for_what_differs(monkeypatch: Any) -> None:
    monkeypatch.setattr(register_repair, "PAUSE_S", 0.2)
    spaces = {"default": NamespaceConfig(mode="linearizable", preset="pc-ec")}
    async with Cluster(3, settings=ClusterConfig(partitions=8, namespaces=spaces)) as on:
        jobs = {node: upkeep(on, node) for node in on.ids}
        for job in jobs.values():
            job.horizons.follow()
            assert await job.horizons.scan()
        tracker = on.members["n1"].local.linearizable.tracker

        async def has_heard() -> bool:
            jobs["n1"].horizons.ask()
            await until(lambda: not jobs["n1"].horizons._open)
            return all(told.digest is not None for group in tracker.groups.values() for told in group.told.values())

        while not await has_heard():
            await asyncio.sleep(0)
        assert not tracker.watched
        looked_at: set[bytes] = set()
        is_over = False

        async def write() -> None:
            number = 0
            while not is_over:
                await on.run("n1", puts({b"key-%d" % at: b"%d" % number for at in range(40)}))
                looked_at.update(tracker.watched)
                number += 1

        writing = asyncio.create_task(write())
        await until(lambda: on.held("n1", b"key-39") is not None)
        assert await jobs["n1"].repair._lasting() == []
        is_over = True
        await writing
        assert looked_at and not tracker.watched


async def test_it_goes_by_itself(monkeypatch: Any) -> None:
    monkeypatch.setattr(register_repair, "PAUSE_S", 0.02)
    settings = ClusterConfig(partitions=8, namespaces=SPACES, timeline_bound_s=0.1)
    async with Cluster(3, settings=settings) as on:
        on.isolate("n3")
        await on.put("n1", b"k", b"v")
        on.rejoin("n3")
        jobs = [upkeep(on, node) for node in on.ids]
        for job in jobs:
            job.start()
        try:
            await until(lambda: len(stamps(on, b"k")) == 1 and b"" not in stamps(on, b"k"))
        finally:
            for job in jobs:
                job.stop()
