"""Namespaces that are not synced or only in memory, and what must hold of them all the same (ADR 25)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvchaos.simulation.bugs.dots import keep_epochs
from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvproto.columns import GroupReply
from kvstore.coordinator.remembering import Remembering
from kvstore.repair import hinted_handoff
from kvstore.repair.unsynced import Unsynced
from kvstore.storage import commit
from kvstore.storage.memory_spaces import MemorySpace, MemorySpaces


@bug(
    "unsynced-epoch-kept",
    "a node that lost records of an unsynced namespace goes on under its old actor, behind the last dot it has (safety rule 2)",
    scenario="storages",
)
def keep_unsynced_epochs(patch: Patch) -> None:
    """What it had minted, and others hold, it mints again."""
    keep_epochs(patch)


@bug(
    "unsynced-trusted",
    "after a power cut what a node has left of an unsynced namespace counts as if it were all (safety rule 5)",
    scenario="unsynced-loss",
)
def trust_what_is_left(patch: Patch) -> None:
    """A quorum of it and of one that had missed the write does not show it."""

    def make(self: Unsynced, *args: Any, **options: Any) -> None:
        init(self, *args, **{**options, "may_have_lost": False})

    init = patch.set(Unsynced, "__init__", make)


@bug(
    "unsynced-takes-the-batch",
    "a batch with a record of an unsynced namespace is not synced, whatever else is in it (safety rule 3)",
    scenario="mixed-batches",
)
def sync_none_of_a_batch(patch: Patch) -> None:
    """What was acknowledged as synced is lost with it."""
    patch.set(commit, "needs_sync", lambda batch: all(one.sync for one in batch if one.count))


@bug(
    "memory-missed-unnoted",
    "a write in memory is answered when its level is met, and nobody notes durably which replicas have missed it",
    scenario="forgetful",
)
def answer_at_once(patch: Patch) -> None:
    """Those who took it forget it, and what it superseded is read where it was missed."""

    async def let_go(self: Remembering, *parts: Any) -> None:
        emit = parts[-1]
        held: Sequence[tuple[GroupReply, int]] = self._held
        for reply, count in held:
            emit(reply, count)

    patch.set(Remembering, "let_go", let_go)


@bug(
    "memory-hint-dropped",
    "a hint whose record was evicted, or lost with the process, is dropped as if there were nothing to hand over",
    scenario="forgetful",
)
def drop_hints_of_what_is_gone(patch: Patch) -> None:
    """Its target keeps what was superseded."""

    async def all_forgotten(*parts: Any, **_: Any) -> set[bytes]:
        return set(parts[-1])

    patch.set(hinted_handoff, "have_forgotten", all_forgotten)


@bug(
    "memory-late-record-taken",
    "a tombstone that was evicted holds nothing down: an older value that comes from another replica takes its place",
    scenario="forgetful",
)
def take_whatever_comes(patch: Patch) -> None:
    """Deleted data is back, and spreads."""
    patch.set(MemorySpace, "is_forgotten", lambda self, store_key, record: False)


@bug(
    "memory-start-forgets-nothing",
    "a node that starts with empty memory takes in values from before its start, which it may have seen deleted",
    scenario="forgetful",
)
def forget_that_anything_was_forgotten(patch: Patch) -> None:
    """Read repair brings them from a replica that missed the delete, and hands them on."""

    def go_by(self: MemorySpaces, infos: Any, **_: bool) -> list[bytes]:
        fresh: list[bytes] = go_by_before(self, infos, at_start=False)
        return fresh

    go_by_before = patch.set(MemorySpaces, "go_by", go_by)
