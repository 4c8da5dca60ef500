"""A byte-bounded cache of recent durable records, filled a commit at a time: a few calls into C for all of its records.

First in, first out: a record that is written again keeps the place of the one it replaces. The order is kept apart, because the
oldest key of a plain dict is found behind the holes of all that were dropped before it, and an `OrderedDict` looks up each key once
more, in a table that no processor's cache holds: a third of the cost of an update.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

RECORD_OVERHEAD_BYTES = 250  # what CPython spends on a cached key and record beside their bytes
_STALE_MAX = 1024


class RecordCache:
    """Durable records by store key, up to `bytes_max` of them; one that is larger by itself is kept until the next comes."""

    __slots__ = ("_order", "bytes_max", "get", "records", "size_bytes")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.size_bytes = 0
        self.records: dict[bytes, bytes] = {}
        self._order: deque[bytes] = deque()  # every key kept, the oldest first; and some that were forgotten since
        self.get = self.records.get

    def update(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Keeps what was read or written; later pairs win."""
        fresh = dict(pairs)
        before = list(map(self.get, fresh))
        self.size_bytes += sum(map(len, fresh.values())) - sum(map(len, filter(None, before)))
        if None in before:
            added = [store_key for store_key, record in zip(fresh, before, strict=True) if record is None]
            self.size_bytes += sum(map(len, added)) + RECORD_OVERHEAD_BYTES * len(added)
            self._order.extend(added)
        self.records.update(fresh)
        if self.size_bytes > self.bytes_max:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        records, next_oldest = self.records, self._order.popleft
        while self.size_bytes > self.bytes_max and len(records) > 1:
            store_key = next_oldest()
            record = records.pop(store_key, None)
            if record is not None:
                self.size_bytes -= len(store_key) + len(record) + RECORD_OVERHEAD_BYTES

    def forget(self, store_keys: Iterable[bytes]) -> None:
        """Drops what is kept of these keys."""
        for store_key in store_keys:
            record = self.records.pop(store_key, None)
            if record is not None:
                self.size_bytes -= len(store_key) + len(record) + RECORD_OVERHEAD_BYTES
        # A key that is forgotten and kept again, over and over, must not fill the memory with its places.
        if len(self._order) > 2 * len(self.records) + _STALE_MAX:
            self._order = deque(self.records)

    def clear(self) -> None:
        """Forgets everything."""
        self.records.clear()
        self._order.clear()
        self.size_bytes = 0

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        cost = sum(len(store_key) + len(record) + RECORD_OVERHEAD_BYTES for store_key, record in self.records.items())
        assert cost == self.size_bytes, (cost, self.size_bytes)
        assert self.records.keys() <= set(self._order), "it could not be dropped"
        assert self.size_bytes <= self.bytes_max or len(self.records) <= 1
