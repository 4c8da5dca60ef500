"""What a node has on its disk and over it, made and ended as one: commits, its own leases, trees, records and hints.

Knows no ring: which records have trees and how they join it is told. What peers are answered from it is replica.py's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from kvproto.columns import NamespaceInfo
from kvproto.errors import StorageError
from kvproto.link import LinkBounds
from kvstore.config import NodeConfig
from kvstore.core.catalog.catalog import Catalog
from kvstore.core.policies.operations import Policy
from kvstore.runtime import Clock, StartWorker
from kvstore.storage.commit import Committer
from kvstore.storage.dropped_ids import DroppedIds
from kvstore.storage.engine import Engine
from kvstore.storage.epochs import ActorLedger, load_past
from kvstore.storage.hints import HintTable
from kvstore.storage.layout import NAMESPACE_AT
from kvstore.storage.memory_spaces import MemorySpaces
from kvstore.storage.routed import RoutedEngine
from kvstore.storage.store import Store
from kvstore.storage.trees import load_forest, store_forest
from kvstore.telemetry import key_hash
from kvstore.telemetry.node import Telemetry

COMMIT_BYTES_MAX = 1024 * 1024
"""Of records that one fsync makes durable: many small ones must not wait for an fsync each 256 KiB."""


class StorageHalf:
    """One node's. `may_have_lost_hints`: the last life did not end cleanly, and what it had in memory only is gone. A record that
    turns out to be damaged is logged, and ends the actor epoch (safety rule 2)."""

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        *,
        catalog: Catalog,
        infos: Iterable[NamespaceInfo],
        prefixes: Iterable[bytes],
        linearizable: frozenset[bytes],
        joins: Mapping[bytes, Policy],
        clock: Clock,
        rng: random.Random,
        on_failure: Callable[[StorageError], None],
        on_lease: Callable[[bytes, int], None],
        durable: bool,
        start_worker: StartWorker,
        telemetry: Telemetry,
        clean_state: bytes | None,
    ) -> None:
        """`infos`: the namespaces that there are at the start, some perhaps in memory. `prefixes`: those of the records that have
        trees, where there are peers to compare them with. `linearizable`: ids, as in store keys, of the namespaces that have none.
        `joins` as in `Store`."""
        limits = config.limits
        past = load_past(engine)
        self.may_have_lost = clean_state is None and bool(past[0]) and bool(config.others)
        """Whether the last life here did not end cleanly, so that what was not synced may be gone, and others may have it."""
        self.memory = MemorySpaces(clock, is_first_life=not past[0])
        self.in_memory_at_start = self.memory.go_by(infos, at_start=True)
        self.engine = engine = RoutedEngine(engine, self.memory)
        self._telemetry = telemetry
        self.committer = Committer(
            engine,
            sync=durable,
            on_failure=on_failure,
            bounds=LinkBounds(batch_bytes_max=COMMIT_BYTES_MAX, queue_count_max=limits.in_flight_max * 4),
            name=f"commit@{config.node_id}",
            start_worker=start_worker,
            meter=telemetry.commits,
        )
        self.ledger = ActorLedger(config.node_id, self.committer, rng, on_renewed=on_lease, past=past)
        dropped = DroppedIds(catalog)

        def has_no_tree(prefix: bytes) -> bool:
            return prefix[NAMESPACE_AT] in linearizable or dropped.is_of(prefix) or self.memory.is_of(prefix)

        self.forest = load_forest(engine, clean_state, prefixes, has_no_tree) if config.others else None
        self.store = Store(
            engine,
            self.committer,
            cache_bytes_max=limits.record_cache_bytes,
            on_quarantine=self._quarantined,
            forest=self.forest,
            joins=joins,
            memory=self.memory,
        )
        self.hints = HintTable(
            clock, count_max=limits.hints_max, held_bytes_max=limits.hints_bytes_max, age_s_max=limits.hint_age_s_max
        )
        self.hints.load(engine)
        self.may_have_lost_hints = clean_state is None and self.ledger.has_past

    def end(self, state: bytes | None, note_end: Callable[[], None]) -> bytes | None:
        """Once nothing is committed any more: leaves the trees to the next start, if this is a clean end, with what `note_end`
        writes before them, and closes the engine. `state` if that is all there, else None; also while something may be lost that
        the next life has to ask for again."""
        if self.store.unsure:
            state = None
        try:
            if state is not None and self.forest is not None:
                note_end()
                store_forest(self.engine, self.forest, state)
        except StorageError:
            state = None  # everything accepted is durable, but the next start has to find out what
        try:
            self.engine.close()
        except StorageError:
            state = None  # what was not synced may not be on the disk
        return state

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self.store.check()
        self.committer.check()
        self.ledger.check()
        self.hints.check()

    def _quarantined(self, store_key: bytes) -> None:
        count = self.store.quarantined
        self._telemetry.logs.tell("error", "record_quarantined", key_hash=key_hash(store_key), count=count)
        self.ledger.begin_epoch()
