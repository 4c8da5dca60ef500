"""Removes from the disk what was written there for a namespace in memory before this node had heard that it is one.

Records of a namespace that is not known yet are kept on the disk like any others (cluster/catalog_keeper.py): whoever sent them
knows it. Once this node knows it as well, nothing reads them there any more. They were copies that counted, so what is older than
this moment must not come back in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvstore.cluster.view import RingHolder
from kvstore.runtime import Clock
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.layout import prefix_successor
from kvstore.storage.memory_spaces import MemorySpaces
from kvstore.storage.routed import RoutedEngine


class Leftovers:
    """One node's; `removed` counts records."""

    def __init__(self, engine: RoutedEngine, committer: Committer, memory: MemorySpaces, ring: RingHolder, clock: Clock) -> None:
        self._disk = engine.disk
        self._committer = committer
        self._memory = memory
        self._ring = ring
        self._clock = clock
        self.removed = 0

    def look(self, ids: Sequence[bytes]) -> None:
        """Behind every commit so far, for the namespaces in memory with these ids (as in store keys)."""
        if ids:
            self._committer.submit(Commit((), 0, self._then(ids)))

    def _then(self, ids: Sequence[bytes]) -> Callable[[object], None]:
        def remove(error: object) -> None:
            if error is None:
                for number in ids:
                    self._remove(number)

        return remove

    def _remove(self, number: bytes) -> None:
        space = self._memory.spaces.get(number)
        if space is None:
            return
        partitions = self._ring.view.ring.partitions
        prefixes = [partition.to_bytes(2, "big") + number for partition in range(partitions)]
        keys = [key for prefix in prefixes for key in self._disk.keys(prefix, prefix_successor(prefix))]
        if keys:
            self.removed += len(keys)
            space.map.forgotten_ms = max(space.map.forgotten_ms, self._clock.now_ms())
            self._committer.submit(Commit((), sum(map(len, keys)), lambda error: None, keys))
