"""A replica's records: what is durable, and what is about to be. Merge on write is merging.py's.

Reads see only what is durable, so no answer can rest on a commit that may yet fail (safety rule 3). Merges use an overlay of the
records queued for commit, pinned until they are durable. Beside it lies a byte-bounded cache of recent durable records. A record
that fails its checksum is quarantined: copied aside, counted, never served; until it is repaired this replica answers neither "not
found" nor a vote for it (safety rule 5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from kvproto.errors import KvError, RecordLost, StorageError, UnknownNamespace
from kvstore.core.catalog.catalog import Catalog
from kvstore.core.merkle.forest import PREFIX_BYTES, Forest
from kvstore.core.merkle.tree import items_of
from kvstore.core.policies.operations import Policy
from kvstore.core.record import verify
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.dropped_ids import DroppedIds
from kvstore.storage.engine import Engine
from kvstore.storage.layout import NAMESPACE_AT, prefix_successor, quarantine_key
from kvstore.storage.memory_spaces import MemorySpaces
from kvstore.storage.merging import KEYS_AT_ONCE, Merging
from kvstore.storage.record_cache import RecordCache

Done = Callable[[KvError | None], None]
Snapshot = Iterator[tuple[bytes, bytes]]


def _is_dropped() -> KvError:
    return UnknownNamespace("the namespace was dropped while this was under way: nothing was written")


KEYS_AT_FIRST = 8


class Store:
    """Merge on write over one engine. Belongs to one event loop; every method returns at once."""

    def __init__(
        self,
        engine: Engine,
        committer: Committer,
        *,
        cache_bytes_max: int,
        on_quarantine: Callable[[bytes], None] = lambda store_key: None,
        forest: Forest | None = None,
        joins: Mapping[bytes, Policy] | None = None,
        memory: MemorySpaces | None = None,
    ) -> None:
        """`forest`: the hash trees of its records, if anybody compares them; they change with each commit that completes. `joins`:
        by the four bytes of a namespace's id in a store key, the policies whose join is not the usual merge. `memory`: the
        namespaces whose records are in no engine: kept as soon as they are committed, and no commit waits for anything then."""
        self._memory = memory
        self._in_memory = memory.spaces if memory is not None else {}
        self.unsynced: frozenset[bytes] = frozenset()
        """Ids of the namespaces whose records are not synced (durability `os`)."""
        self.unsure: frozenset[bytes] = frozenset()
        """Those of them of which records may be lost here, nobody knows which: what is held or not held is no vote."""
        self._merging = Merging(self, joins or {})
        self.join = self._merging.join
        self._dropped = DroppedIds(Catalog())
        self.forest = forest
        self.is_rebuilding = False
        """Whether records of this node are lost, nobody knows which: what is held or not held here is then no vote."""
        self._going: set[bytes] = set()  # of these a deletion is on its way
        self._engine = engine
        self._committer = committer
        self._pending: dict[bytes, bytes] = {}
        self._cache = RecordCache(cache_bytes_max)
        self._on_quarantine = on_quarantine
        self._quarantined: set[bytes] = set()
        self.lookups = 0
        """Records asked for by batches; those that were not in the cache are `misses`, and were read from the engine."""
        self.misses = 0

    def go_by(self, catalog: Catalog, joins: Mapping[bytes, Policy]) -> None:
        """From here on `joins` are those of the namespaces, and no record of one that `catalog` names as dropped is taken in any
        more, whoever sends it and however late: what was accepted before is the last of it."""
        self._merging.joins = joins
        self._dropped = DroppedIds(catalog)

    @property
    def cache(self) -> RecordCache:
        """The recent durable records; for whoever reads its size."""
        return self._cache

    @property
    def quarantined(self) -> int:
        """How many keys are quarantined now."""
        return len(self._quarantined)

    @property
    def lost_keys(self) -> list[bytes]:
        """The keys that are quarantined now, in order."""
        return sorted(self._quarantined)

    def distrust(self, store_key: bytes) -> None:
        """Its record on the disk was found to be damaged: it is lost from now on, also where the cache still had it whole."""
        self._cache.forget([store_key])
        try:
            self.durable(store_key)
        except RecordLost:
            return  # noted
        if self.forest is not None:  # it has been written again since, and nobody knows over what
            self.forest.mark_unknown([store_key[:PREFIX_BYTES]])

    def durable(self, store_key: bytes) -> bytes | None:
        """The durable record, or None if there is none. Raises `RecordLost`."""
        return self._cache.get(store_key) or self._load(store_key)

    def latest(self, store_key: bytes) -> bytes | None:
        """The record as of every merge accepted so far, durable or not: what the next merge builds on. Raises `RecordLost`."""
        return self._pending.get(store_key) or self._cache.get(store_key) or self._load(store_key)

    def durable_all(self, store_keys: Sequence[bytes]) -> tuple[list[bytes | None], list[int]]:
        """The durable record of each key, None where there is none, and the positions of those that are lost, None among the
        records."""
        cached, load = self._cache.get, self._load
        self.lookups += len(store_keys)
        try:
            return [cached(store_key) or load(store_key) for store_key in store_keys], []
        except RecordLost:
            return self._durable_but_lost(store_keys)

    def durable_up_to(self, store_keys: Sequence[bytes], bytes_max: int) -> tuple[list[bytes | None], list[int], int]:
        """As `durable_all` for as many of the keys, at least one, as `bytes_max` holds the records of, and a few more; and the
        bytes of these records."""
        count = KEYS_AT_FIRST
        records, lost = self.durable_all(store_keys if len(store_keys) <= count else store_keys[:count])
        size_bytes = sum(map(len, filter(None, records)))
        while size_bytes < bytes_max and (first := len(records)) < len(store_keys):
            count = min(2 * count, KEYS_AT_ONCE // 2)
            some, lost_here = self.durable_all(store_keys[first : first + count])
            size_bytes += sum(map(len, filter(None, some)))
            records += some
            if lost_here:
                lost += [first + position for position in lost_here]
        return records, lost, size_bytes

    def durable_in_turn(self, store_keys: Sequence[bytes], lost: list[int]) -> Iterable[bytes | None]:
        """As `durable_all`, read as the iterator goes on, so that a batch that replaces many large records does not hold them all.
        `lost` is filled up to the record given last, at least."""
        if len(store_keys) <= KEYS_AT_ONCE:
            records, lost[:] = self.durable_all(store_keys)
            return records
        return chain.from_iterable(self._in_turn(store_keys, lost))

    def _in_turn(self, store_keys: Sequence[bytes], lost: list[int]) -> Iterator[list[bytes | None]]:
        for first in range(0, len(store_keys), KEYS_AT_ONCE):
            some, lost_here = self.durable_all(store_keys[first : first + KEYS_AT_ONCE])
            if lost_here:
                lost += [first + position for position in lost_here]
            yield some

    def _durable_but_lost(self, store_keys: Sequence[bytes]) -> tuple[list[bytes | None], list[int]]:
        records: list[bytes | None] = []
        lost: list[int] = []
        for position, store_key in enumerate(store_keys):
            try:
                records.append(self.durable(store_key))
            except RecordLost:
                records.append(None)
                lost.append(position)
        return records, lost

    @property
    def pending(self) -> Mapping[bytes, bytes]:
        """The records that were accepted and are not durable yet: what the next merge of these keys builds on."""
        return self._pending

    def is_pending(self, store_key: bytes) -> bool:
        """Whether its latest record is not durable yet."""
        return store_key in self._pending

    def holds_back(self, store_keys: Sequence[bytes], record_bytes_min: int) -> bool:
        """Whether the latest record of one of them, of so many bytes or more, is not durable yet."""
        latest = filter(None, map(self._pending.get, store_keys))
        return max(map(len, latest), default=0) >= record_bytes_min

    def stage(self, store_key: bytes, record: bytes) -> None:
        """Makes `record` the latest of its key. The caller commits it in the same turn of the loop (`commit`)."""
        self._pending[store_key] = record

    def stage_all(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """As `stage`, each; later pairs win."""
        self._pending.update(pairs)

    def admit(self, count: int, size_bytes: int) -> None:
        """Raises `Overloaded` or `StorageError` if so much may not be staged now."""
        self._committer.admit(count, size_bytes)

    def commit(
        self,
        pairs: list[tuple[bytes, bytes]],
        done: Done,
        beside: Sequence[tuple[bytes, bytes]] = (),
        *,
        before: list[int] | None = None,
    ) -> None:
        """Makes staged `pairs`, admitted before, durable in order; `done` is called once they are, or cannot be. `beside`: what
        becomes durable with them, in the same batch, and is no record. `before`: the item (core/merkle) of what each was built on,
        0 for nothing; needed where there are trees."""
        if self._in_memory and pairs:
            pairs, before = self._kept_in_memory(pairs, before)
            if not pairs and not beside:
                done(self._committer.failure)
                return
        if self._dropped.any and any(map(self._dropped.is_of, pairs_keys := [store_key for store_key, _ in pairs])):
            kept = [at for at, store_key in enumerate(pairs_keys) if not self._dropped.is_of(store_key)]
            self._unstage([pair for pair in pairs if self._dropped.is_of(pair[0])])
            if not kept:
                self._committer.submit(Commit((), 0, lambda error: done(error or _is_dropped())))
                return
            pairs, before = [pairs[at] for at in kept], before and [before[at] for at in kept]
        size_bytes = sum([len(store_key) + len(record) for store_key, record in pairs])
        written = [*pairs, *beside] if beside else pairs
        if self._going and before is not None:
            self._build_on_nothing(pairs, before)
        sync = bool(beside) or not self._unsynced_alone(pairs)
        self._committer.submit(Commit(written, size_bytes, lambda error: self._committed(pairs, before, error, done), sync=sync))

    def _unsynced_alone(self, pairs: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether all of them are of namespaces that are not synced."""
        return bool(self.unsynced) and self.unsynced.issuperset([store_key[NAMESPACE_AT] for store_key, _ in pairs])

    def _kept_in_memory(
        self, pairs: list[tuple[bytes, bytes]], before: list[int] | None
    ) -> tuple[list[tuple[bytes, bytes]], list[int] | None]:
        """Keeps what is of namespaces in memory; the others of `pairs`, with theirs of `before`."""
        assert self._memory is not None
        if not self._memory.holds_any([store_key for store_key, _ in pairs]):
            return pairs, before
        if self._committer.failure is None:  # else nothing is acknowledged any more
            others = self._memory.keep(pairs)
        else:
            others = [at for at, (store_key, _) in enumerate(pairs) if not self._memory.is_of(store_key)]
        kept = set(others)
        self._unstage([pair for at, pair in enumerate(pairs) if at not in kept])
        return [pairs[at] for at in others], before and [before[at] for at in others]

    def _unstage(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        for store_key, record in pairs:
            if self._pending.get(store_key) is record:
                del self._pending[store_key]

    def _build_on_nothing(self, pairs: Sequence[tuple[bytes, bytes]], before: list[int]) -> None:
        """What is built on a record whose deletion is on its way comes behind that: it finds nothing there."""
        for position, (store_key, _) in enumerate(pairs):
            if store_key in self._going:
                self._going.remove(store_key)
                before[position] = 0

    def snapshot(self, prefix: bytes, done: Callable[[StorageError | None, Snapshot | None], None]) -> None:
        """The records under `prefix` as of a moment between two commits: `done` is called behind every commit whose records are in
        it, and before every one whose records are not."""
        taken: list[Snapshot] = []
        failures: list[StorageError] = []

        def look() -> None:
            try:
                taken.append(self._engine.scan(prefix, prefix_successor(prefix)))
            except StorageError as error:
                failures.append(error)

        def looked(error: StorageError | None) -> None:
            failure = error or (failures[0] if failures else None)
            done(failure, taken[0] if taken and failure is None else None)

        self._committer.submit(Commit((), 0, looked, look=look))

    def discard(self, held: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes], done: Done) -> None:
        """Deletes records that are the latest of their keys and durable, together with `deletes`, which are no records. A record
        that has changed stays. Whoever minted into one of them must not go on under the same actor epoch (safety rule 2)."""
        going: list[tuple[bytes, bytes]] = []
        for store_key, record in held:
            if self._dropped.any and self._dropped.is_of(store_key):
                continue  # erased by somebody else, who has forgotten its tree
            try:
                if not self.is_pending(store_key) and self.durable(store_key) == record:
                    going.append((store_key, record))
            except RecordLost:
                continue

        keys = [store_key for store_key, _ in going]
        if self._in_memory and self._memory is not None:
            on_disk = set(self._memory.remove(keys))
            going = [(store_key, record) for store_key, record in going if store_key in on_disk]
            keys = [store_key for store_key, _ in going]
        before = [] if self.forest is None else items_of(keys, [record for _, record in going])

        def discarded(error: StorageError | None) -> None:
            if error is None:
                self._cache.forget([store_key for store_key, record in going if not self.is_pending(store_key)])
                self._going.difference_update(keys)
                if self.forest is not None:
                    self.forest.change(keys, before, [None] * len(keys))
            done(error)

        if self.forest is not None:
            self._going.update(keys)
        # Nothing reads them from here on: a merge that built on one would be put behind its deletion all the same, in whole.
        self._cache.forget(keys)
        self._committer.submit(Commit((), sum(map(len, keys)), discarded, [*keys, *deletes]))

    def merge(
        self,
        store_keys: Sequence[bytes],
        records: Sequence[bytes],
        done: Callable[[KvError | None, list[int]], None],
        *,
        intact: bool = False,
        beside: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Merges whole records from elsewhere, admitted before, and commits what they add; `done` gets the positions refused.

        Damaged records and keys that are lost here are refused. A record that adds nothing still waits for what it equals to be
        durable. `intact`: a checksum over all of the records was verified, so that each need not be. `beside` as in `commit`.
        """
        if self._dropped.any and any(map(self._dropped.is_of, store_keys)):
            # Whoever sent them has not heard of that yet.
            kept = [at for at, store_key in enumerate(store_keys) if not self._dropped.is_of(store_key)]
            dropped = {*range(len(store_keys))}.difference(kept)
            self._merging.some(store_keys, records, kept, lambda error, refused: done(error, sorted([*dropped, *refused])), beside)
        elif self._in_memory and self._memory is not None and (late := self._memory.forgotten(store_keys, records)):
            self._merging.some(store_keys, records, [at for at in range(len(store_keys)) if at not in late], done, beside)
        else:
            self._merging.all(store_keys, records, done, beside, intact=intact)

    def settled(self, done: Done) -> None:
        """Calls `done` behind every commit so far."""
        self._committer.submit(Commit((), 0, done))

    def erase(self, store_keys: Sequence[bytes], done: Done, *, beside: Sequence[bytes] = ()) -> None:
        """Deletes records of dropped namespaces, and the system keys `beside` them, whatever they hold. When no commit that could
        hold more of them is on its way (`settled`)."""
        assert all(map(self._dropped.is_of, store_keys)), "somebody goes by that namespace still"
        self._cache.forget(store_keys)
        self._quarantined.difference_update(store_keys)
        self._committer.submit(Commit((), sum(map(len, store_keys)), done, [*store_keys, *beside]))

    def forget_dropped(self) -> None:
        """Nothing of dropped namespaces is known to be lost, or compared, any more."""
        self._quarantined = {store_key for store_key in self._quarantined if not self._dropped.is_of(store_key)}
        for prefix in self.forest.prefixes if self.forest is not None else ():
            if self._dropped.is_of(prefix):
                assert self.forest is not None
                self.forest.drop(prefix)

    def forget_all(self, *, but: Collection[bytes]) -> None:
        """There is no record any more, except perhaps under the prefixes `but`: they were deleted behind our back, while nobody
        wrote."""
        assert not self._pending, "somebody wrote"
        self._cache.clear()
        self._quarantined.clear()
        if self.forest is not None:
            self.forest.forget_all()
            self.forest.mark_unknown(but)

    def repair_lost(self, store_key: bytes, record: bytes, done: Done) -> None:
        """Replaces what was lost by `record`, the merge of what all other home replicas hold. It stays lost until that is
        durable."""
        try:
            # Accepted before the loss was noticed, or since it was repaired: not to be taken back.
            held = self.latest(store_key)
        except RecordLost:
            held = None
        if held is not None:
            record = self.join(store_key, held, record)
        self.stage(store_key, record)
        self.commit([(store_key, record)], done, before=items_of([store_key], [held]))

    def is_unsure_of(self, namespace: bytes) -> bool:
        """Whether what is held or not held here of the namespace with this id (as in store keys) is no vote."""
        return self.is_rebuilding or namespace in self.unsure

    def is_in_memory(self, store_key: bytes) -> bool:
        """Whether its namespace is in memory alone."""
        return store_key[NAMESPACE_AT] in self._in_memory

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self._cache.check()
        if self._memory is not None:
            self._memory.check()

    def check_trees(self, prefixes: Iterable[bytes]) -> None:
        """Asserts that the known trees of `prefixes` are those of the durable records, when nothing is on its way to the disk; for
        tests and simulation."""
        if self.forest is None or self._pending or self._going:
            return
        for prefix in prefixes:
            records = [
                (store_key, record if verify(record) else self._cache.get(store_key))
                for store_key, record in self._engine.scan(prefix, prefix_successor(prefix))
                if store_key not in self._quarantined
            ]
            whole = [(store_key, record) for store_key, record in records if record is not None]
            if len(whole) == len(records):  # else a record is damaged, and nobody has noticed yet
                self.forest.check(prefix, whole)

    def _load(self, store_key: bytes) -> bytes | None:
        if self._in_memory and (space := self._in_memory.get(store_key[NAMESPACE_AT])) is not None:
            return space.map.get(store_key)
        self.misses += 1
        try:
            record = self._engine.get(store_key)
        except StorageError as error:
            raise self._quarantine(store_key, b"", str(error)) from error
        if record is None:
            return None
        if not verify(record):
            raise self._quarantine(store_key, record, "its checksum is wrong")
        self._cache.update([(store_key, record)])
        return record

    def _quarantine(self, store_key: bytes, damaged: bytes, reason: str) -> RecordLost:
        """Counts and copies aside a damaged record; it stays in place as well, so that it is found again after a restart."""
        if store_key not in self._quarantined:
            self._quarantined.add(store_key)
            if self.forest is not None:  # nobody knows any more what it held
                self.forest.mark_unknown([store_key[:PREFIX_BYTES]])
            if damaged and self._committer.failure is None:
                self._committer.submit(Commit([(quarantine_key(store_key), damaged)], len(damaged), lambda error: None))
            self._on_quarantine(store_key)
        return RecordLost(
            f"a record of this node cannot be read ({reason}); another replica has to answer", subject=store_key.hex()
        )

    def _committed(
        self, pairs: list[tuple[bytes, bytes]], before: list[int] | None, error: StorageError | None, done: Done
    ) -> None:
        if error is None:
            if self.forest is not None and pairs:
                assert before is not None, "whoever commits says what was held"
                self.forest.change([store_key for store_key, _ in pairs], before, [record for _, record in pairs])
            pending = self._pending
            for store_key, record in pairs:
                if pending.get(store_key) is record:
                    del pending[store_key]
            self._cache.update(pairs)
            if self._quarantined:
                self._quarantined.difference_update([store_key for store_key, _ in pairs])
        done(error)
