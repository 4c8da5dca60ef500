"""Hash trees that do not tell what is on the disk, and nodes that do not tell what they have lost: rule 5 and anti-entropy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.core.merkle.forest import Forest
from kvstore.repair.rebuilding import Rebuilding
from kvstore.storage import half
from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key, system_name_range
from kvstore.storage.store import Store


@bug("merkle-leaf-not-updated-on-merge", "records that come from other nodes are not added to the hash trees")
def leave_merges_out(patch: Patch) -> None:
    """Trees that differ where nothing does, and agree where something is missing."""
    merging: list[Store] = []

    def merge_unseen(self: Store, *args: Any, **named: Any) -> None:
        merging.append(self)
        try:
            merge(self, *args, **named)
        finally:
            merging.pop()

    def commit_unseen(self: Store, *args: Any, before: list[int] | None = None) -> None:
        commit(self, *args, before=None if self in merging else before)

    def committed_unseen(self: Store, pairs: Any, before: list[int] | None, *rest: Any) -> None:
        forest = self.forest
        self.forest = None if before is None else forest
        try:
            committed(self, pairs, before, *rest)
        finally:
            self.forest = forest

    merge = patch.set(Store, "merge", merge_unseen)
    commit = patch.set(Store, "commit", commit_unseen)
    committed = patch.set(Store, "_committed", committed_unseen)


@bug("wiped-node-votes", "a node that has lost its disk counts towards quorums before it has its records back (safety rule 5)")
def vote_after_a_wipe(patch: Patch) -> None:
    """What was acknowledged by it and another is not found by it and a third."""
    patch.set(Rebuilding, "begin", lambda self, reason: None)


@bug("dump-kept-after-unclean-start", "hash trees that an earlier clean stop stored are believed after a crash")
def believe_old_trees(patch: Patch) -> None:
    """They do not know what was written since."""

    def load_whatever_there_is(engine: Engine, clean_state: bytes | None, prefixes: Iterable[bytes], *rest: Any) -> Forest:
        stored = list(engine.scan(*system_name_range(b"tree/")))
        if not stored:
            forest: Forest = load(engine, clean_state, prefixes, *rest)
            return forest
        forest = Forest()
        for name, data in stored:
            forest.load(name[len(system_key(b"tree/")) :], data)
        return forest

    load = patch.set(half, "load_forest", load_whatever_there_is)
