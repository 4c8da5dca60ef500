"""Copies for others that are let go too early, or never: rules 2 and 11."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvproto.errors import KvError, Overloaded
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.catching_up import CatchingUp
from kvstore.coordinator.missed import UNNOTED, Missed
from kvstore.coordinator.put import PutCoordinator
from kvstore.coordinator.replicas import Arrivals, Noted
from kvstore.coordinator.seats import Seats
from kvstore.core.doubts import Doubts
from kvstore.repair import hinted_handoff
from kvstore.repair.hinted_handoff import HintedHandoff
from kvstore.storage.hint_gaps import HintGaps
from kvstore.storage.hints import HintTable
from kvstore.transport.peers import StoreChunk


@bug("hint-deleted-early", "a hint is deleted when it is sent, not when its target has acknowledged it (safety rule 11)")
def delete_hints_early(patch: Patch) -> None:
    """The copy that counted goes with it; if the target does not get the record, nobody has it."""

    async def send(
        self: HintedHandoff, target: str, keys: Sequence[bytes], records: Sequence[bytes], size_bytes: int
    ) -> StoreChunk:
        chunk = StoreChunk(target, keys, records, size_bytes, asyncio.get_running_loop().time() + 5.0, lambda answered: None)
        self._peers.store(chunk)
        return StoreChunk(target, keys, records, size_bytes, 0.0, lambda answered: None)

    patch.set(HintedHandoff, "_send", send)


@bug("stand-in-epoch-kept", "a stand-in that has deleted its copy goes on under the actor that minted into it (safety rule 2)")
def keep_the_epoch(patch: Patch) -> None:
    """Its next dot covers the ones that it no longer holds."""
    patch.set(hinted_handoff, "names_actor", lambda record, actor: False)


@bug("hint-in-memory-only", "a stand-in's pointer is not on the disk: after a restart nobody hands its copy over (safety rule 11)")
def forget_pointers(patch: Patch) -> None:
    """The copy stays where nobody looks for it."""

    def hold(self: HintTable, *args: Any) -> list[tuple[bytes, bytes]]:
        hold_durably(self, *args)
        return []

    hold_durably = patch.set(HintTable, "hold", hold)


@bug("catching-up-unnoted", "a stand-in that catches up before it writes does not note for whom the copy is (safety rule 11)")
def catch_up_unnoted(patch: Patch) -> None:
    """Found by the swarm: when the write itself comes to nothing, a copy is left that nobody hands over, or deletes."""

    async def take_in(self: CatchingUp, _sub: object, *args: Any) -> None:
        await take_in_noted(self, SimpleNamespace(owners=SimpleNamespace(includes_me=True)), *args)

    take_in_noted = patch.set(CatchingUp, "take_in", take_in)


@bug("hint-before-durable", "a hint whose record is not durable yet is taken for one that has nothing to hand over")
def hand_over_early(patch: Patch) -> None:
    """Found on the way: the copy that counted was left behind."""
    patch.set(HintedHandoff, "_is_due", lambda self, store_key: True)


@bug(
    "forgets-degraded",
    "what nodes that were away may know is not asked: reads say that they are whole (safety rule 12)",
    scenario="healing",
)
def forget_degraded(patch: Patch) -> None:
    """Right after a split a read misses what the small side has acknowledged, and does not say so."""
    patch.set(Doubts, "about", lambda self, partitions: frozenset())


@bug(
    "gaps-untold",
    "of partitions where hints were dropped a node tells that it owes nothing (safety rule 12)",
    scenario="healing",
)
def tell_no_gaps(patch: Patch) -> None:
    """Found by the swarm: what only the small side had taken was missed, by reads that said that they were whole."""
    patch.set(HintGaps, "partitions", property(lambda self: set()))


@bug(
    "answered-before-noted",
    "a write that fewer have than it needs is answered before it is durable who has missed it (safety rule 12)",
    scenario="crash-in-lesser-write",
)
def answer_before_noted(patch: Patch) -> None:
    """Killed in between, its coordinator says in its next life that it owes nothing."""

    async def write_down(self: Missed, home: str, keys: Sequence[bytes], arrivals: Arrivals) -> None:
        async def note() -> None:
            await asyncio.sleep(0.02)  # the answer is out
            await UNNOTED.passed()
            self.owe([home], keys)

        arrivals.add(Noted(home, None))
        notes.append(asyncio.create_task(note()))

    notes: list[asyncio.Task[None]] = []
    patch.set(Missed, "write_down", write_down)


@bug("hint-cap-fails-writes", "a write is refused when there is no room to note who has missed it", scenario="hint-cap")
def fail_at_the_cap(patch: Patch) -> None:
    """Who is owed something is a shortcut that may be dropped; a quorum that can be reached is no reason to refuse anybody."""

    def why_not(self: PutCoordinator, sub: SubBatch, seats: Seats) -> KvError | None:
        if seats.absent and self._hints.count + len(sub.store_keys) > self._hints._count_max:  # noqa: SLF001 - as if it were its own
            return Overloaded("no room for hints", retry_after_s=0.1, subject="hints")
        found: KvError | None = why_not_before(self, sub, seats)
        return found

    why_not_before = patch.set(PutCoordinator, "why_not", why_not)
