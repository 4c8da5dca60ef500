"""Actor epochs: nothing is minted beyond what is durably leased, and no name is used twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from kvproto.errors import Overloaded
from kvstore.storage.commit import Committer
from kvstore.storage.epochs import ACTOR_KEY, LEASE, ActorLedger, node_tag
from tests.support.engines import GatedEngine
from tests.support.waiting import turns, until


class Rig:
    """A ledger over a gated engine, and the leases that its peers were told of."""

    def __init__(self, seed: int = 1) -> None:
        self.engine = GatedEngine()
        self.told: list[tuple[bytes, int]] = []
        self.committer = Committer(self.engine, sync=True, on_failure=lambda error: None)
        self.ledger = ActorLedger(
            "n1", self.committer, random.Random(seed), on_renewed=lambda actor, lease: self.told.append((actor, lease))
        )

    @property
    def durable_lease(self) -> int:
        """What the disk says of the current actor: 0 if it speaks of another one."""
        row = self.engine.durable.get(ACTOR_KEY, bytes(20))
        return int.from_bytes(row[12:], "big") if row[:12] == self.ledger.actor else 0

    def mint_all(self, count: int = 1) -> list[int]:
        """Mints until the ledger refuses."""
        minted: list[int] = []
        refusal: Overloaded | None = None
        while refusal is None:
            try:
                first = self.ledger.reserve(count)
                minted += range(first, first + count)
            except Overloaded as error:
                refusal = error
        assert refusal.retry_after_s > 0 and not refusal.may_have_applied
        return minted


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    rig.engine.release()
    await rig.committer.close()


async def test_nothing_is_minted_before_the_first_lease_is_durable() -> None:
    rig = Rig()  # in this very turn of the loop: nobody has been told of any commit yet
    assert rig.mint_all() == []
    await rig.ledger.leased()
    assert rig.ledger.reserve(3) == 1 and rig.ledger.reserve(1) == 4
    assert rig.told == [(rig.ledger.actor, rig.durable_lease)] and rig.durable_lease >= LEASE
    await rig.committer.close()


async def test_bug_a_new_directory_had_a_past_before_it_was_noted_that_it_is_new() -> None:
    """Whoever makes the ledger of a new directory writes that down next, and asks for a lease then: what is leased first would be
    all that the next life finds, after a crash between the two."""
    rig = Rig()
    await turns(20)
    assert rig.committer.commits == 0 and not rig.engine.durable
    await rig.ledger.leased()
    assert rig.durable_lease == LEASE
    await rig.committer.close()


@pytest.mark.parametrize("count", [1, 7, 999])
async def test_nothing_is_ever_minted_beyond_the_durable_lease(rig: Rig, count: int) -> None:
    await rig.ledger.leased()
    rig.engine.hold()
    minted = rig.mint_all(count)
    assert minted == list(range(1, len(minted) + 1)) and LEASE - count < len(minted) <= LEASE == rig.durable_lease
    rig.engine.release()
    await until(lambda: rig.ledger.lease > LEASE)
    assert rig.ledger.reserve(1) == len(minted) + 1


async def test_the_next_lease_is_under_way_before_the_last_one_is_used_up(rig: Rig) -> None:
    await rig.ledger.leased()
    rig.ledger.reserve(LEASE // 2)
    assert rig.told == [(rig.ledger.actor, LEASE)]
    rig.ledger.reserve(1)
    await until(lambda: len(rig.told) == 2)
    assert rig.ledger.lease >= LEASE // 2 + LEASE


async def test_a_batch_larger_than_a_lease_is_only_refused_once(rig: Rig) -> None:
    await rig.ledger.leased()
    with pytest.raises(Overloaded):
        rig.ledger.reserve(5 * LEASE)
    await until(lambda: rig.ledger.lease > LEASE)
    assert rig.ledger.reserve(5 * LEASE) == 1


async def test_a_new_epoch_has_a_new_name_and_its_own_lease(rig: Rig) -> None:
    await rig.ledger.leased()
    rig.ledger.reserve(10)
    before = rig.ledger.actor
    rig.ledger.begin_epoch()
    assert rig.ledger.actor != before and rig.ledger.actor[:4] == before[:4] == node_tag("n1")
    assert rig.mint_all() == []
    await rig.ledger.leased()
    assert rig.ledger.reserve(1) == 1 and rig.durable_lease >= 1


async def test_epochs_that_begin_while_a_lease_is_written_each_get_their_own(rig: Rig) -> None:
    rig.engine.hold()
    names = {rig.ledger.actor}
    for _ in range(3):
        rig.ledger.begin_epoch()
        names.add(rig.ledger.actor)
    assert len(names) == 4 and rig.mint_all() == []
    rig.engine.release()
    await rig.ledger.leased()
    assert rig.ledger.reserve(1) == 1 <= rig.durable_lease


async def test_a_ledger_goes_on_only_when_it_is_told_and_never_below_what_was_leased(rig: Rig) -> None:
    actor = node_tag("n1") + b"8 bytes."
    await rig.ledger.leased()
    assert rig.ledger.actor != actor, "by itself it always begins anew"
    rig.ledger.resume_epoch(actor, 17, 20_000)
    assert rig.mint_all() == []
    await rig.ledger.leased()
    assert rig.ledger.actor == actor and rig.ledger.reserve(1) == 20_001
    assert rig.told[-1] == (actor, 20_000 + LEASE) and rig.durable_lease == 20_000 + LEASE


async def test_bug_a_resumed_epoch_leased_nothing_new_while_the_first_lease_was_being_written(rig: Rig) -> None:
    """1. At start a fresh epoch's lease is on its way to the disk. 2. The epoch of the last run is resumed meanwhile and its
    renewal was skipped: no peer heard of a higher lease. 3. It minted up to the old lease; a copy of the directory from before
    this start, restored, was not recognised by anybody and minted the same dots again."""
    rig.engine.hold()
    actor = node_tag("n1") + b"8 bytes."
    rig.ledger.resume_epoch(actor, 0, LEASE)
    rig.engine.release()
    await rig.ledger.leased()
    assert (actor, 2 * LEASE) in rig.told
    assert rig.ledger.reserve(1) > LEASE


async def test_an_actor_of_another_node_cannot_be_resumed(rig: Rig) -> None:
    with pytest.raises(AssertionError):
        rig.ledger.resume_epoch(node_tag("n2") + b"8 bytes.", 1, 2)


async def test_a_failed_disk_leases_nothing_and_keeps_nobody_waiting(rig: Rig) -> None:
    await rig.ledger.leased()
    rig.engine.fail_next()
    rig.ledger.begin_epoch()
    await asyncio.wait_for(rig.ledger.leased(), 5)
    assert rig.mint_all() == []
    await turns(20)
    assert len(rig.told) == 1


def test_nodes_have_tags_of_their_own() -> None:
    assert len({node_tag(f"n{at}") for at in range(1000)}) == 1000
    assert all(len(node_tag(name)) == 4 for name in ("", "n1", "a" * 64))
