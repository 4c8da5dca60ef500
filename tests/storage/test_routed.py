"""What a node scans is the disk and the namespaces in memory, in one order; so are keys alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from kvstore.storage.memory import MemoryEngine
from kvstore.storage.memory_spaces import MemorySpaces
from kvstore.storage.routed import RoutedEngine


class Spaces:
    """Two namespaces in memory, or none."""

    def __init__(self, *maps: MemoryEngine) -> None:
        self._maps = maps

    def scans(self, start: bytes, end: bytes | None) -> list[Iterator[tuple[bytes, bytes]]]:
        return [one.scan(start, end) for one in self._maps]


def routed(disk: MemoryEngine, *maps: MemoryEngine) -> RoutedEngine:
    return RoutedEngine(disk, cast(MemorySpaces, Spaces(*maps)))


def test_disk_and_memory_are_one_map_in_order() -> None:
    disk = MemoryEngine({b"a": b"1", b"d": b"4"})
    engine = routed(disk, MemoryEngine({b"b": b"2"}), MemoryEngine({b"c": b"3", b"e": b"5"}))
    assert list(engine.scan(b"")) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4"), (b"e", b"5")]
    assert list(engine.keys(b"")) == [b"a", b"b", b"c", b"d", b"e"]
    assert list(engine.keys(b"b", b"e")) == [b"b", b"c", b"d"]
    assert list(routed(disk).keys(b"")) == [b"a", b"d"]
