"""How whole records from elsewhere become a store's own: each is merged with the latest that is held of its key, and a message of
them is one commit.

Nearly all are written over the very record that is held here, and are taken in columns (`_overwritten`); whatever is not goes one
by one, which is right for everything. Called by store.py, which says what may come in at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kvproto.errors import KvError, RecordLost
from kvstore.core.merkle.forest import Forest
from kvstore.core.merkle.tree import items_of
from kvstore.core.policies.operations import Policy
from kvstore.core.policies.registry import join_records
from kvstore.core.record import DamagedRecord, verify
from kvstore.core.record_writes import merge_records, merge_successors
from kvstore.storage.layout import NAMESPACE_AT

KEYS_AT_ONCE = 64
"""Whose records are in memory together where a batch may be about many large ones."""

Pair = tuple[bytes, bytes]
Merged = Callable[[KvError | None, list[int]], None]
"""Told once what was merged is durable, or cannot be, and the positions that were refused."""


class Held(Protocol):
    """What merging needs of a store."""

    forest: Forest | None

    @property
    def pending(self) -> Mapping[bytes, bytes]:
        """See `Store.pending`."""

    def durable_all(self, store_keys: Sequence[bytes]) -> tuple[list[bytes | None], list[int]]:
        """See `Store.durable_all`."""

    def latest(self, store_key: bytes) -> bytes | None:
        """See `Store.latest`."""

    def stage(self, store_key: bytes, record: bytes) -> None:
        """See `Store.stage`."""

    def stage_all(self, pairs: Sequence[Pair]) -> None:
        """See `Store.stage_all`."""

    def commit(
        self,
        pairs: list[Pair],
        done: Callable[[KvError | None], None],
        beside: Sequence[Pair] = (),
        *,
        before: list[int] | None = None,
    ) -> None:
        """See `Store.commit`."""


class Merging:
    """One store's. `joins`: by the four bytes of a namespace's id in a store key, the policies whose join is not the usual merge;
    replaced when the namespaces change."""

    __slots__ = ("_store", "joins")

    def __init__(self, store: Held, joins: Mapping[bytes, Policy]) -> None:
        self._store = store
        self.joins = joins

    def all(
        self, store_keys: Sequence[bytes], records: Sequence[bytes], done: Merged, beside: Sequence[Pair], *, intact: bool
    ) -> None:
        """Merges all of them; see `Store.merge`."""
        store, joins = self._store, self.joins
        if intact and (not joins or joins.keys().isdisjoint([key[NAMESPACE_AT] for key in store_keys])):
            again = _positions_again(store_keys) if len(set(store_keys)) < len(store_keys) else ()
            before: list[int] | None = None if store.forest is None else []
            pairs = self._overwritten(_without(store_keys, again), _without(records, again), before)
            if pairs is not None:
                store.stage_all(pairs)
                if again:
                    self.some(store_keys, records, again, done, beside, pairs=pairs, before=before)
                else:
                    store.commit(pairs, lambda error: done(error, []), beside, before=before)
                return
        self.some(store_keys, records, range(len(store_keys)), done, beside)

    def some(
        self,
        store_keys: Sequence[bytes],
        records: Sequence[bytes],
        at: Sequence[int],
        done: Merged,
        beside: Sequence[Pair],
        *,
        pairs: list[Pair] | None = None,
        before: list[int] | None = None,
    ) -> None:
        """Merges those at the positions `at`, one by one, behind what was merged of the same message already: `pairs`, built on
        `before`."""
        store = self._store
        refused: list[int] = []
        pairs = [] if pairs is None else pairs
        before = [] if before is None else before
        waits = False
        for position in at:
            store_key, record = store_keys[position], records[position]
            if not verify(record):
                refused.append(position)
                continue
            try:
                held = store.latest(store_key)
                merged = record if held is None else self.join(store_key, held, record)
            except (RecordLost, DamagedRecord):
                refused.append(position)
                continue
            if merged is held:
                waits = waits or store_key in store.pending
                continue
            store.stage(store_key, merged)
            pairs.append((store_key, merged))
            if store.forest is not None:
                before += items_of([store_key], [held])
        if pairs or waits or beside:
            store.commit(pairs, lambda error: done(error, refused), beside, before=before)
        else:
            done(None, refused)

    def join(self, store_key: bytes, held: bytes, new: bytes) -> bytes:
        """What two verified records of a key become together, as its namespace's policy has it; `held` itself if `new` adds
        nothing."""
        policy = self.joins.get(store_key[NAMESPACE_AT])
        return merge_records(held, new) if policy is None else join_records(policy, held, new)

    def _overwritten(self, store_keys: Sequence[bytes], records: Sequence[bytes], before: list[int] | None) -> list[Pair] | None:
        """The usual case: each record overwrites what is held here, which is not in memory all at once. None: some do not. The
        items of what was held are added to `before`."""
        pending, durable_all = self._store.pending.get, self._store.durable_all
        pairs: list[Pair] = []
        for first in range(0, len(store_keys), KEYS_AT_ONCE):
            keys, added = store_keys, records
            if len(store_keys) > KEYS_AT_ONCE:
                keys, added = store_keys[first : first + KEYS_AT_ONCE], records[first : first + KEYS_AT_ONCE]
            durable, lost = durable_all(keys)
            held = [pending(store_key) or record for store_key, record in zip(keys, durable, strict=True)]
            merged = None if lost else merge_successors(held, added)
            if merged is None:
                return None
            pairs += zip(keys, merged, strict=True)
            if before is not None:
                before += items_of(keys, held)
        return pairs


def _positions_again(store_keys: Sequence[bytes]) -> list[int]:
    """The positions of keys that stand further in front as well: what is merged there is what these are merged with."""
    seen: set[bytes] = set()
    again: list[int] = []
    for position, store_key in enumerate(store_keys):
        if store_key in seen:
            again.append(position)
        seen.add(store_key)
    return again


def _without(column: Sequence[bytes], positions: Sequence[int]) -> Sequence[bytes]:
    """The column but for some positions."""
    if not positions:
        return column
    left_out = set(positions)
    return [item for at, item in enumerate(column) if at not in left_out]
