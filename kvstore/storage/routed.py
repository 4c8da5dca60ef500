"""The engine on disk with the namespaces in memory beside it: what a node scans is both, in one order.

Everything else is the disk's: `Store` keeps and reads what is in memory itself (storage/memory_spaces.py), at once and on the event
loop, so no key of such a namespace comes here to be written, and reading a key on disk costs no more than without it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from operator import itemgetter

from kvstore.storage.engine import Engine
from kvstore.storage.memory_spaces import MemorySpaces


class RoutedEngine:
    """An `Engine`; closing it closes the disk's."""

    def __init__(self, disk: Engine, memory: MemorySpaces) -> None:
        self.disk = disk
        self._memory = memory
        self.get = disk.get
        self.write = disk.write
        self.prepare = disk.prepare
        self.size_bytes = disk.size_bytes
        self.statistics = disk.statistics
        self.close = disk.close

    def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Engine.scan`."""
        pairs = self.disk.scan(start, end)
        others = self._memory.scans(start, end)
        return heapq.merge(pairs, *others) if others else pairs

    def keys(self, start: bytes, end: bytes | None = None) -> Iterator[bytes]:
        """See `Engine.keys`."""
        keys = self.disk.keys(start, end)
        others = self._memory.scans(start, end)
        return heapq.merge(keys, *[map(itemgetter(0), pairs) for pairs in others]) if others else keys
