"""LevelDB's table of levels as numbers, and how many keys there are without reading them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvstore.api.metrics.storage import KeyEstimate
from kvstore.storage.layout import store_key_prefix
from kvstore.storage.level_stats import LevelStats, parse_level_stats
from kvstore.storage.leveldb import LevelDbEngine
from kvstore.storage.memory import MemoryEngine

TABLE = """                               Compactions
Level  Files Size(MB) Time(sec) Read(MB) Write(MB)
--------------------------------------------------
  0        2       12         1        0        12
  1       10       80         3      100        95
"""


def test_the_table_of_levels_is_read() -> None:
    mib = 1 << 20
    assert parse_level_stats(TABLE) == [
        LevelStats(0, 2, 12 * mib, 1.0, 0, 12 * mib),
        LevelStats(1, 10, 80 * mib, 3.0, 100 * mib, 95 * mib),
    ]
    assert parse_level_stats("") == []


def test_leveldb_still_speaks_of_its_levels_so(tmp_path: Path) -> None:
    engine = LevelDbEngine(tmp_path / "db", write_buffer_bytes=64 << 10)
    value = bytes(1000)
    for at in range(40):
        engine.write([(b"%d-%d" % (at, number), value) for number in range(50)], sync=False)
    told = engine.statistics()
    engine.close()
    (*_, last) = parse_level_stats(told["levels"])
    assert last.files > 0 and told["memory_bytes"].isdecimal()


def filled(counts: list[int]) -> MemoryEngine:
    """As many keys in each partition."""
    engine = MemoryEngine()
    pairs = [(store_key_prefix(partition, 1) + b"%d" % at, b"r") for partition, count in enumerate(counts) for at in range(count)]
    engine.write(pairs, sync=False)
    return engine


def test_few_keys_are_counted_and_only_where_they_are_ours() -> None:
    estimate = KeyEstimate(filled([3, 4, 5, 100]))
    assert estimate.estimate([0, 1, 2]) == 12
    assert estimate.estimate([]) == 0


def test_many_keys_are_estimated_from_some_partitions_and_better_at_each_call() -> None:
    counts = [90, 110, 100, 130, 70]
    engine = filled(counts)
    estimate = KeyEstimate(engine, keys_read_max=150)
    told = [estimate.estimate(range(5)) for _ in range(3)]
    assert told[0] == (90 + 110) / 2 * 5 and told[-1] == sum(counts)


@pytest.mark.parametrize("keys_read_max", [1, 10])
def test_a_call_reads_no_more_than_it_may(keys_read_max: int) -> None:
    reads = 0

    class Counting(MemoryEngine):
        def scan(self, start: bytes, end: bytes | None = None):  # type: ignore[no-untyped-def]
            nonlocal reads
            for pair in super().scan(start, end):
                reads += 1
                yield pair

    engine = Counting()
    engine.write([(store_key_prefix(0, 1) + b"%d" % at, b"r") for at in range(100)], sync=False)
    KeyEstimate(engine, keys_read_max=keys_read_max).estimate([0])
    assert reads <= keys_read_max + 1
