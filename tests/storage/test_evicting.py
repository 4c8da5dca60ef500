"""The map in memory: what an entry costs, and that nobody sees half of a batch."""

from __future__ import annotations

import subprocess
import sys

from kvstore.storage.evicting import ENTRY_OVERHEAD_BYTES, EvictingMap

MEASURE = """
import sys, tracemalloc
from kvstore.storage.evicting import EvictingMap
held = EvictingMap(1 << 40)
pairs = [(b"%032d" % number, b"%0200d" % number) for number in range(1000)]
held.put(pairs, 1)
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
for first in range(1000, 41_000, 100):
    held.put([(b"%032d" % number, b"%0200d" % number) for number in range(first, first + 100)], 1)
sys.stdout.write(str((tracemalloc.get_traced_memory()[0] - before) / 40_000 - 232))
"""


def test_an_entry_costs_what_is_counted_for_it() -> None:
    """Hash tables double: between two of their sizes an entry costs up to twice its share. In a process of its own, so that nothing
    else is counted."""
    told = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True).stdout
    assert 0.5 * ENTRY_OVERHEAD_BYTES < float(told) < 1.25 * ENTRY_OVERHEAD_BYTES


def test_a_scan_gives_what_was_there_when_it_began() -> None:
    held = EvictingMap(10_000)
    held.put([(b"a", b"1"), (b"b", b"2")], 1)
    scan = held.scan(b"", None)
    held.put([(b"a", b"3"), (b"c", b"4")], 2)
    held.remove([b"b"])
    assert list(scan) == [(b"a", b"1"), (b"b", b"2")]
    assert list(held.scan(b"", None)) == [(b"a", b"3"), (b"c", b"4")]


def test_of_two_records_of_a_key_in_one_batch_the_later_is_kept_also_where_there_is_no_room_for_anything_else() -> None:
    held = EvictingMap(1)
    held.put([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")], 1)
    assert held.get(b"a") == b"3"
    assert (len(held), held.evictions) == (1, 2)
    held.check()


def test_scanning_is_no_use_of_anything() -> None:
    held = EvictingMap(2 * (ENTRY_OVERHEAD_BYTES + 2))
    held.put([(b"a", b"1"), (b"b", b"2")], 1)
    held.get(b"b")
    assert len(list(held.scan(b"", None))) == 2
    held.put([(b"c", b"3")], 2)
    assert held.get(b"a") is None
    assert held.get(b"b") == b"2"
