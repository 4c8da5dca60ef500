"""A replica's answers to its peers: compare, merge, page. Knows no network and no quorum.

Called by the peer service for other nodes, and by the scan coordinator for our own share. Comparisons are answered at once from
what is durable; merges when they are durable; pages are read off the loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

from kvproto.errors import BadRequest, KvError, StorageError
from kvstore.core.catalog.catalog import CLUSTER_NAMESPACE_ID
from kvstore.core.page import Page
from kvstore.core.record import (
    DIGEST_BYTES,
    NO_DIGEST,
    digest,
    verify,
)
from kvstore.core.writers import Writers
from kvstore.runtime import Clock
from kvstore.storage.engine import Engine
from kvstore.storage.hints import HintTable
from kvstore.storage.layout import (
    NAMESPACE_AT,
    NAMESPACE_ID_MAX,
    PARTITION_MAX,
    PREFIX_BYTES,
    SYSTEM_PREFIX,
    partition_range,
    prefix_successor,
    store_key_prefix,
)
from kvstore.storage.merging import KEYS_AT_ONCE
from kvstore.storage.registers import Registers, is_live
from kvstore.storage.store import Snapshot, Store
from kvstore.storage.tombstones import Slice, read_slice


class Compared:
    """What differs from the digests asked about: positions, their records (empty: nothing held), and lost positions. `rest_from`:
    the first position that was not looked at, because the records had filled their bytes; 0: all were."""

    __slots__ = ("differing", "lost", "records", "rest_from", "size_bytes")

    def __init__(self) -> None:
        self.differing: list[int] = []
        self.records: list[bytes] = []
        self.lost: list[int] = []
        self.rest_from = 0
        self.size_bytes = 0  # of the records


class Scanned:
    """Some rows of a snapshot in order; what is `damaged` is not among them. `is_over`: there are no more."""

    __slots__ = ("damaged", "is_over", "records", "store_keys")

    def __init__(self) -> None:
        self.store_keys: list[bytes] = []
        self.records: list[bytes] = []
        self.damaged: list[bytes] = []
        self.is_over = False


class Replica:
    """This node as a home replica."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        partitions: int,
        hints: HintTable,
        *,
        clock: Clock,
        registers: Registers,
        linearizable: frozenset[bytes],
    ) -> None:
        """`linearizable`: ids of the namespaces, as in store keys, whose records are registers (storage/registers.py): nothing
        here is about those but their number, and which there are."""
        self._registers = registers
        self._clock = clock
        self.linearizable = linearizable
        """Replaced when the namespaces change."""
        self._store = store
        self._hints = hints
        self._engine = engine
        self._partitions = partitions
        self._end = store_key_prefix(partitions, 0) if partitions <= PARTITION_MAX else SYSTEM_PREFIX
        self._scans = ThreadPoolExecutor(max_workers=2, thread_name_prefix="scan")
        self._counting: asyncio.Future[int] | None = None
        self.writers = Writers()
        self.closed: KvError | None = None
        """Why no peer is answered, while that is so: this node does not know yet whether what it holds is of use."""
        self.expired = 0
        """Records and keys whose deadline had passed when they came (api/peer.py)."""

    def is_unsure_of(self, store_keys: Sequence[bytes]) -> bool:
        """Whether what is held here of all of these is no vote: see `Store.is_unsure_of`. Where it is so of some of them, `compare`
        says that these are lost."""
        store = self._store
        if not store.unsure or store.is_rebuilding:
            return store.is_rebuilding
        return store.unsure.issuperset([store_key[NAMESPACE_AT] for store_key in store_keys])

    def why_misplaced(self, store_keys: Sequence[bytes]) -> KvError | None:
        """Why these cannot be the store keys of records, if one of them cannot: it lies in no partition, among what this node keeps
        for itself, holds no key, or is of a linearizable namespace. Two passes in C."""
        if self.linearizable and not self.linearizable.isdisjoint([store_key[NAMESPACE_AT] for store_key in store_keys]):
            return BadRequest("the store key of a register: what is accepted is never copied", subject="store_keys")
        if not store_keys or (max(store_keys) < self._end and min(map(len, store_keys)) > PREFIX_BYTES):
            return None
        return BadRequest("a store key that lies in no partition, or holds no key", subject="store_keys")

    def compare(self, store_keys: Sequence[bytes], digests: bytes, bytes_max: int, record_bytes_max: int) -> Compared:
        """Where our durable records differ from `digests`, 8 bytes a key: all of them, or as many as `bytes_max` holds and at least
        one. A record of more than `record_bytes_max` cannot be sent at all and counts as lost."""
        out = Compared()
        for first in range(0, len(store_keys), KEYS_AT_ONCE):
            some = store_keys[first : first + KEYS_AT_ONCE]
            asked = digests[first * DIGEST_BYTES : (first + len(some)) * DIGEST_BYTES]
            self._compare_some(out, first, some, asked, bytes_max, record_bytes_max)
            if out.rest_from:
                break
        if self._store.unsure and not self.is_unsure_of(store_keys):
            self._withdraw(out, store_keys)
        return out

    def _withdraw(self, out: Compared, store_keys: Sequence[bytes]) -> None:
        """Says of namespaces of which records may be lost that theirs are: a message about others as well must count for these."""
        unsure = self._store.unsure
        doubtful = {at for at, store_key in enumerate(store_keys) if store_key[NAMESPACE_AT] in unsure}
        kept = [(at, record) for at, record in zip(out.differing, out.records, strict=True) if at not in doubtful]
        out.differing, out.records = [at for at, _ in kept], [record for _, record in kept]
        out.size_bytes = sum(len(record) for _, record in kept)
        end = out.rest_from or len(store_keys)
        out.lost = sorted({*out.lost, *(at for at in doubtful if at < end)})

    def _compare_some(
        self, out: Compared, first: int, store_keys: Sequence[bytes], digests: bytes, bytes_max: int, record_bytes_max: int
    ) -> None:
        """Adds what there is to say of the keys at positions from `first` on: few enough to hold all of their records."""
        records, lost = self._store.durable_all(store_keys)
        ours = b"".join([NO_DIGEST if record is None else digest(record) for record in records])
        if ours == digests and not lost:
            return
        for at, record in enumerate(records):
            position, begin = first + at, at * DIGEST_BYTES
            if at in lost:
                out.lost.append(position)
            elif ours[begin : begin + DIGEST_BYTES] != digests[begin : begin + DIGEST_BYTES]:
                size = len(record or b"")
                if size > record_bytes_max:
                    out.lost.append(position)
                    continue
                if out.size_bytes + size > bytes_max and out.records:
                    out.rest_from = position
                    return
                out.size_bytes += size
                out.differing.append(position)
                out.records.append(record or b"")

    def merge(
        self,
        store_keys: Sequence[bytes],
        records: Sequence[bytes],
        done: Callable[[KvError | None, list[int]], None],
        *,
        intact: bool = False,
        held_for: Sequence[tuple[int, int, str]] = (),
    ) -> None:
        """Merges whole records; `done` is called once what they add is durable. Never raises. `intact` as in `Store.merge`.
        `held_for`: runs (first position, how many, target) that we hold in the place of a home replica, or decline to."""
        if len(store_keys) != len(records):
            done(BadRequest(f"{len(store_keys)} keys with {len(records)} records"), [])
            return
        try:
            self._store.admit(len(store_keys), sum(map(len, records)))
        except KvError as error:
            done(error, [])
            return
        if not held_for:
            self._store.merge(store_keys, records, done, intact=intact)
            return
        declined: set[int] = set()
        pointers: list[tuple[bytes, bytes]] = []
        for first, count, target in held_for:
            keys, held = store_keys[first : first + count], records[first : first + count]
            try:
                self._hints.admit(count, sum(map(len, held)))
            except KvError:
                declined.update(range(first, first + count))
                continue
            pointers += self._hints.hold(target, keys, held)
        if not declined:
            self._store.merge(store_keys, records, done, intact=intact, beside=pointers)
            return
        kept = [position for position in range(len(store_keys)) if position not in declined]

        def merged(error: KvError | None, refused: list[int]) -> None:
            done(error, sorted([*declined, *(kept[position] for position in refused)]))

        self._store.merge([store_keys[at] for at in kept], [records[at] for at in kept], merged, intact=intact, beside=pointers)

    async def page(self, namespace: int, start: bytes, end: bytes, count_max: int, bytes_max: int) -> Page:
        """Records of a namespace from `start` to before `end` (empty: no end) in key order over all partitions held here; of
        registers the keys alone. Raises `BadRequest` for what is no namespace's id."""
        if namespace > NAMESPACE_ID_MAX:
            raise BadRequest(f"{namespace} is no namespace's id", subject="namespace", actual=namespace)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._scans, self._page, namespace, start, end, count_max, bytes_max)

    async def sweep(self, start: bytes, now_ms: int) -> Slice:
        """What has expired, and what is nothing but tombstones, among some records from the store key `start` on. Raises
        `StorageError`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._scans, read_slice, self._engine, start, now_ms, self.linearizable
        )

    async def read_some(self, snapshot: Snapshot, count_max: int, bytes_max: int) -> Scanned:
        """The next rows of a snapshot, off the loop. Raises `StorageError`."""
        return await asyncio.get_running_loop().run_in_executor(self._scans, _read_some, snapshot, count_max, bytes_max)

    def snapshot(self, start: bytes, end: bytes | None) -> Snapshot:
        """The records from `start` to before `end` as of now. Raises `StorageError`."""
        return self._engine.scan(start, end)

    async def keys_under(self, prefix: bytes, count_max: int) -> list[bytes]:
        """The first store keys under `prefix` in order, whatever they hold, read off the loop. Raises `StorageError`."""
        return await asyncio.get_running_loop().run_in_executor(self._scans, self._keys_under, prefix, count_max)

    async def count_keys(self) -> int:
        """How many keys of users are held, tombstones included where they are no registers. Where hash trees are known they are
        asked; the rest is read, all of it, off the loop; of what cannot be read in whole those before the gap. Whoever asks while
        somebody counts gets the same answer: a count must not be a way to keep scans waiting."""
        if self._counting is None:
            forest = self._store.forest
            known = {} if forest is None else forest.counts()
            is_all = forest is not None and not forest.unknown_count and self.linearizable <= {_OWN}
            self._counting = asyncio.get_running_loop().run_in_executor(self._scans, self._count_keys, known, is_all)
            self._counting.add_done_callback(self._counted)
        return await asyncio.shield(self._counting)

    def close(self) -> None:
        """Ends the scan threads."""
        self._scans.shutdown(wait=True)

    def _counted(self, counting: asyncio.Future[int]) -> None:
        self._counting = None
        if not counting.cancelled():
            counting.exception()  # whoever asked may be gone: nobody else looks at it

    def _keys_under(self, prefix: bytes, count_max: int) -> list[bytes]:
        return list(islice(self._engine.keys(prefix, prefix_successor(prefix)), count_max))

    def _count_keys(self, known: Mapping[bytes, int], is_all: bool) -> int:
        """`known`: the numbers of records by prefix, which need not be read; `is_all`: there are no others."""
        read = 0 if is_all else sum(self._count_in(partition, known) for partition in range(self._partitions))
        return sum(known.values()) + read

    def _count_in(self, partition: int, known: Mapping[bytes, int]) -> int:
        """Those of one partition that are not under a `known` prefix, up to the first block that cannot be read: a node that has
        lost records still says how it is."""
        now_ms, count = self._clock.now_ms(), 0
        start, end = partition_range(partition)
        with suppress(StorageError):
            while (found := next(self._engine.keys(start, end), None)) is not None:
                prefix, start = found[:PREFIX_BYTES], prefix_successor(found[:PREFIX_BYTES]) or end
                if prefix in known or prefix[NAMESPACE_AT] == _OWN:
                    continue
                if prefix[NAMESPACE_AT] in self.linearizable:
                    for _, record in self._engine.scan(prefix, start):
                        count += is_live(record, now_ms)
                else:
                    for _ in self._engine.keys(prefix, start):
                        count += 1
        return count

    def _page(self, namespace: int, start: bytes, end: bytes, count_max: int, bytes_max: int) -> Page:
        iterators = []
        for partition in range(self._partitions):
            prefix = store_key_prefix(partition, namespace)
            stop = prefix + end if end else prefix_successor(prefix)
            iterators.append(self._engine.scan(prefix + start, stop))
        keys: list[bytes] = []
        records: list[bytes] = []
        lost: list[bytes] = []
        size_bytes = 0
        strip = len(store_key_prefix(0, namespace))
        registers = namespace.to_bytes(4, "big") in self.linearizable
        rebuilding = not self._registers.votes if registers else self._store.is_unsure_of(namespace.to_bytes(4, "big"))
        try:
            for store_key, record in heapq.merge(*iterators, key=lambda pair: pair[0][strip:]):
                if len(keys) + len(lost) >= count_max or size_bytes >= bytes_max:
                    return Page(keys, records, True, lost, rebuilding=rebuilding)
                key = store_key[strip:]
                if registers:  # which there are, read or not: what they hold is asked of whoever proposes
                    keys.append(key)
                    records.append(b"")
                    size_bytes += len(record)
                elif verify(record):
                    keys.append(key)
                    records.append(record)
                    size_bytes += len(key) + len(record)
                else:
                    lost.append(key)
        except StorageError as error:
            raise StorageError(f"a scan could not be read: {error}") from error
        return Page(keys, records, False, lost, rebuilding=rebuilding)


_OWN = CLUSTER_NAMESPACE_ID.to_bytes(4, "big")
"""What nodes keep for themselves is no key of a user."""


def _read_some(snapshot: Snapshot, count_max: int, bytes_max: int) -> Scanned:
    out = Scanned()
    size_bytes = 0
    for store_key, record in snapshot:
        if verify(record):
            out.store_keys.append(store_key)
            out.records.append(record)
            size_bytes += len(record)
        else:
            out.damaged.append(store_key)
        if len(out.store_keys) >= count_max or size_bytes >= bytes_max:
            return out
    out.is_over = True
    return out
