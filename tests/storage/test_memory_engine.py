"""The memory engine's own: what a crash loses and what it may not lose, and what scans cost that nobody reads."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproto.errors import StorageError
from kvstore.storage.memory import MemoryEngine

keys = st.binary(max_size=2)
pairs = st.lists(st.tuples(keys, st.binary(max_size=2)), max_size=4)
Batch = tuple[list[tuple[bytes, bytes]], list[bytes], bool]
batches: st.SearchStrategy[list[Batch]] = st.lists(st.tuples(pairs, st.lists(keys, max_size=2), st.booleans()), max_size=10)


def replay(batches: list[Batch]) -> dict[bytes, bytes]:
    state: dict[bytes, bytes] = {}
    for puts, deletes, _ in batches:
        for key in deletes:
            state.pop(key, None)
        state.update(puts)
    return state


@settings(max_examples=150, deadline=None)
@given(batches=batches, data=st.data())
def test_a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest(batches: list[Batch], data: st.DataObject) -> None:
    engine = MemoryEngine(crashable=True)
    for puts, deletes, sync in batches:
        engine.write(puts, deletes, sync=sync)
    synced = max((at for at, (_, _, sync) in enumerate(batches, start=1) if sync), default=0)
    assert engine.unsynced_batches == len(batches) - synced
    assert engine.durable == replay(batches[:synced])
    kept = data.draw(st.integers(0, engine.unsynced_batches))
    restarted = engine.crash(keep_unsynced_batches=kept)
    expected = replay(batches[: synced + kept])
    assert list(restarted.scan(b"")) == sorted(expected.items())
    assert restarted.durable == expected
    assert restarted.unsynced_batches == 0
    assert restarted.size_bytes() == sum(len(key) + len(value) for key, value in expected.items())


def test_a_sync_covers_every_batch_before_it() -> None:
    engine = MemoryEngine(crashable=True)
    engine.write([(b"a", b"1")], sync=False)
    engine.write([(b"b", b"2")], sync=False)
    assert engine.durable == {}
    engine.write([], sync=True)
    assert engine.crash().durable == {b"a": b"1", b"b": b"2"}


def test_what_still_runs_of_a_crashed_process_can_write_nowhere() -> None:
    engine = MemoryEngine(crashable=True)
    engine.write([(b"a", b"1")], sync=True)
    scan, restarted = engine.scan(b""), engine.crash()
    for call in (lambda: engine.write([(b"a", b"2")], sync=True), lambda: engine.get(b"a"), lambda: list(scan)):
        with pytest.raises(StorageError, match="closed"):
            call()
    assert restarted.get(b"a") == b"1"


def test_closing_syncs_nothing() -> None:
    engine = MemoryEngine(crashable=True)
    engine.write([(b"a", b"1")], sync=True)
    engine.write([(b"a", b"2")], sync=False)
    engine.close()
    assert engine.durable == {b"a": b"1"}
    assert engine.crash(keep_unsynced_batches=1).get(b"a") == b"2"


def test_an_engine_that_cannot_crash_remembers_no_batches() -> None:
    engine = MemoryEngine([(b"a", b"1")])
    engine.write([(b"b", b"2")], sync=False)
    assert engine.statistics() == {"engine": "memory", "keys": "2", "scans": "0", "unsynced_batches": "0"}
    with pytest.raises(AssertionError):
        engine.crash()


def test_a_scan_that_is_dropped_costs_later_writes_nothing() -> None:
    engine = MemoryEngine([(b"%04d" % at, b"") for at in range(1_000)])
    unread, half_read = engine.scan(b""), engine.scan(b"")
    next(half_read)
    assert engine.statistics()["scans"] == "2"
    del unread, half_read
    assert engine.statistics()["scans"] == "0"
