"""The namespaces that a node keeps in memory alone: a bounded map for each, beside the engine on disk (ADR 25).

Nothing of them is ever written to the disk, and nothing outlives the process. What is evicted, or was lost with the process, is
simply not there. That it had been there must not be forgotten altogether, though: a record that is older, in a message that comes
late or on a replica that has missed what superseded it, would take its place, and what was deleted would be back. So each map has a
moment, `forgotten_ms`: of a key that is not held nothing is taken in from other nodes that was written before. The start of the
process is one such moment, the storing of what was evicted another.

`Store` keeps and asks, `RoutedEngine` lets scans see it, `go_by` follows the namespaces. Belongs to one event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kvproto.columns import MemoryUse, NamespaceInfo
from kvstore.core.catalog.settings import MEMORY
from kvstore.core.forgetting import written_ms
from kvstore.core.record import DamagedRecord
from kvstore.runtime import Clock
from kvstore.storage.evicting import EvictingMap
from kvstore.storage.layout import NAMESPACE_AT

CLOCKS_MS = 100
"""Nodes whose clocks differ by more than this may take in a write for new that was superseded within so little."""


class MemorySpace:
    """One namespace's records, by store key."""

    __slots__ = ("map", "name")

    def __init__(self, name: str, bytes_max: int) -> None:
        self.name = name
        self.map = EvictingMap(bytes_max)

    def is_forgotten(self, store_key: bytes, record: bytes) -> bool:
        """Whether a verified record that comes from elsewhere may be one that had been superseded here before it was forgotten."""
        if not self.map.forgotten_ms or store_key in self.map:
            return False
        try:
            return written_ms(record) <= self.map.forgotten_ms + CLOCKS_MS
        except DamagedRecord:
            return False  # whoever merges it says so


class MemorySpaces:
    """Those of one node; `spaces` by the four bytes of the namespace's id in a store key, the same dict for ever."""

    def __init__(self, clock: Clock, *, is_first_life: bool) -> None:
        """`is_first_life`: this data directory is new, so that nothing can have been lost with an earlier process."""
        self._clock = clock
        self._began_ms = 0 if is_first_life else clock.now_ms()
        self.spaces: dict[bytes, MemorySpace] = {}

    def go_by(self, infos: Iterable[NamespaceInfo], *, at_start: bool) -> list[bytes]:
        """From here on these are the namespaces. What is gone of those in memory is gone at once; the ids of those that are new.
        `at_start`: an earlier process may have held something of them."""
        wanted = {info.id.to_bytes(4, "big"): info for info in infos if info.storage == MEMORY}
        for number in [number for number in self.spaces if number not in wanted]:
            del self.spaces[number]
        fresh = sorted(wanted.keys() - self.spaces.keys())
        for number in fresh:
            space = self.spaces[number] = MemorySpace(wanted[number].name, wanted[number].max_bytes)
            space.map.forgotten_ms = self._began_ms if at_start else 0
        return fresh

    def keep(self, pairs: Sequence[tuple[bytes, bytes]]) -> list[int]:
        """Keeps those of `pairs` that are of namespaces in memory; the positions of the others."""
        spaces, others = self.spaces, []
        of: dict[bytes, list[tuple[bytes, bytes]]] = {}
        for position, pair in enumerate(pairs):
            number = pair[0][NAMESPACE_AT]
            if number in spaces:
                of.setdefault(number, []).append(pair)
            else:
                others.append(position)
        now_ms = self._clock.now_ms()
        for number, some in of.items():
            spaces[number].map.put(some, now_ms)
        return others

    def remove(self, store_keys: Sequence[bytes]) -> list[bytes]:
        """Drops what is held of these keys; those that are of no namespace in memory."""
        of: dict[bytes, list[bytes]] = {}
        others = []
        for store_key in store_keys:
            number = store_key[NAMESPACE_AT]
            if number in self.spaces:
                of.setdefault(number, []).append(store_key)
            else:
                others.append(store_key)
        for number, some in of.items():
            self.spaces[number].map.remove(some)
        return others

    def forgotten(self, store_keys: Sequence[bytes], records: Sequence[bytes]) -> set[int]:
        """The positions of records that come from elsewhere and are not to be taken in (`MemorySpace.is_forgotten`)."""
        spaces = self.spaces
        return {
            position
            for position, (store_key, record) in enumerate(zip(store_keys, records, strict=True))
            if (space := spaces.get(store_key[NAMESPACE_AT])) is not None and space.is_forgotten(store_key, record)
        }

    def holds_any(self, store_keys: Iterable[bytes]) -> bool:
        """Whether one of these keys is of a namespace in memory."""
        return bool(self.spaces) and not self.spaces.keys().isdisjoint([store_key[NAMESPACE_AT] for store_key in store_keys])

    def is_of(self, store_key: bytes) -> bool:
        """Whether this key, or prefix, is of a namespace in memory."""
        return store_key[NAMESPACE_AT] in self.spaces

    def scans(self, start: bytes, end: bytes | None) -> list[Iterator[tuple[bytes, bytes]]]:
        """A scan of each namespace that holds anything."""
        return [space.map.scan(start, end) for space in list(self.spaces.values()) if len(space.map)]

    def uses(self) -> tuple[MemoryUse, ...]:
        """What each takes, by name."""
        return tuple(
            MemoryUse(space.name, len(space.map), space.map.size_bytes, space.map.bytes_max, space.map.evictions)
            for space in sorted(self.spaces.values(), key=lambda space: space.name)
        )

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        for space in self.spaces.values():
            space.map.check()
