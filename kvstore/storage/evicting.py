"""A map in memory that never grows beyond its bound: what was least useful goes (SIEVE; Zhang et al., NSDI 2024).

Entries stand in the order in which they came; a hand walks from the oldest to the newest. One that was used since the hand passed
it last is passed once more, the first that was not goes. So what is asked for stays without being moved about: a read sets one
flag. Against LRU that is cheaper, and it keeps out what is written and never read, which is most of what a cache is given.

What has gone leaves no trace but `forgotten_ms`: the latest moment at which anything that went was stored. Whoever comes with a
record that was written before may come with one that had been superseded here (storage/memory_spaces.py). Belongs to one event
loop; scans are read in any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kvstore.storage.memory import MemoryEngine

ENTRY_OVERHEAD_BYTES = 300
"""What CPython spends on an entry beside the bytes of its key and record: two rows of hash tables, two objects of bytes, the entry,
its place in the order of keys. Measured by tests/storage/test_evicting.py."""


class _Entry:
    __slots__ = ("key", "newer", "older", "record", "stored_ms", "used")

    def __init__(self, key: bytes, record: bytes, stored_ms: int) -> None:
        self.key = key
        self.record = record
        self.stored_ms = stored_ms
        self.used = False
        self.newer: _Entry | None = None
        self.older: _Entry | None = None


class EvictingMap:
    """Records by store key, up to `bytes_max` with what they cost beside their bytes; over it by no more than the record that was
    put last, and only where that is the only one. `evictions` counts."""

    __slots__ = ("_engine", "_entries", "_hand", "_newest", "_oldest", "bytes_max", "evictions", "forgotten_ms", "size_bytes")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.size_bytes = 0
        self.evictions = 0
        self.forgotten_ms = 0
        self._entries: dict[bytes, _Entry] = {}
        self._engine = MemoryEngine()  # the same, in the order of keys
        self._oldest: _Entry | None = None
        self._newest: _Entry | None = None
        self._hand: _Entry | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        """Whether it is held. Asking is no use of it."""
        return key in self._entries

    def get(self, key: bytes) -> bytes | None:
        """The record of `key`, which was used by that."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = True
        return entry.record

    def peek(self, key: bytes) -> bytes | None:
        """As `get`, for whoever only looks on."""
        entry = self._entries.get(key)
        return None if entry is None else entry.record

    def put(self, pairs: Sequence[tuple[bytes, bytes]], now_ms: int) -> None:
        """Keeps `pairs`, later ones before earlier ones; what has to make room for them goes."""
        entries, gone = self._entries, []
        for key, record in pairs:
            entry = entries.get(key)
            if entry is None:
                self._add(_Entry(key, record, now_ms))
            else:
                self.size_bytes += len(record) - len(entry.record)
                entry.record, entry.stored_ms, entry.used = record, now_ms, True
            while self.size_bytes > self.bytes_max and len(entries) > 1:
                gone.append(self._evict(key))
        kept = [(key, record) for key, record in pairs if (entry := entries.get(key)) is not None and entry.record is record]
        self._engine.write(kept, [key for key in gone if key not in entries], sync=False)

    def remove(self, keys: Iterable[bytes]) -> None:
        """Drops what is held of these keys, for whoever knows that it is not wanted any more: that is no eviction."""
        found = [entry for key in keys if (entry := self._entries.pop(key, None)) is not None]
        for entry in found:
            self._unlink(entry)
        self._engine.write([], [entry.key for entry in found], sync=False)

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """See `Engine.scan`. Reading everything is no use of anything."""
        return self._engine.scan(start, end)

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        chain, at = [], self._oldest
        while at is not None:
            assert at.newer is None or at.newer.older is at, "the order is broken"
            chain.append(at)
            at = at.newer
        assert len(chain) == len(self._entries) and all(self._entries[entry.key] is entry for entry in chain)
        assert self.size_bytes == sum(map(_cost, chain)), "the bytes do not add up"
        assert self.size_bytes <= self.bytes_max or len(chain) <= 1, "over its bound by more than one record"
        assert self._hand is None or self._entries.get(self._hand.key) is self._hand, "the hand points at what has gone"
        assert dict(self._engine.scan(b"")) == {entry.key: entry.record for entry in chain}

    def _add(self, entry: _Entry) -> None:
        self._entries[entry.key] = entry
        self.size_bytes += _cost(entry)
        entry.older = self._newest
        if self._newest is None:
            self._oldest = entry
        else:
            self._newest.newer = entry
        self._newest = entry

    def _unlink(self, entry: _Entry) -> None:
        self.size_bytes -= _cost(entry)
        if self._hand is entry:
            self._hand = entry.newer
        if entry.older is None:
            self._oldest = entry.newer
        else:
            entry.older.newer = entry.newer
        if entry.newer is None:
            self._newest = entry.older
        else:
            entry.newer.older = entry.older

    def _evict(self, kept: bytes) -> bytes:
        """The key of what went; never `kept`, which is being put."""
        entry = self._hand or self._oldest
        while True:
            if entry is None:
                entry = self._oldest
            assert entry is not None, "nothing is held, and it is too much"
            if not entry.used and entry.key != kept:
                break
            entry.used = False
            entry = entry.newer
        self._hand = entry
        self._unlink(entry)
        del self._entries[entry.key]
        self.evictions += 1
        self.forgotten_ms = max(self.forgotten_ms, entry.stored_ms)
        return entry.key


def _cost(entry: _Entry) -> int:
    return len(entry.key) + len(entry.record) + ENTRY_OVERHEAD_BYTES
