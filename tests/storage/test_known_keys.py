"""Keys that were never written need not be asked for; every key that was is known, whatever happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.errors import StorageError
from kvstore.storage import known_keys
from kvstore.storage.known_keys import KnownKeys, learn
from kvstore.storage.leveldb import LevelDbEngine
from tests.support.waiting import until

KEYS = st.lists(st.binary(max_size=8), max_size=40)


def numbered(first: int, count: int) -> list[bytes]:
    return [b"key-%d" % number for number in range(first, first + count)]


def may_hold(known: KnownKeys, key: bytes) -> bool:
    """As the engine asks, in a loop of its own."""
    return any(key in one for one in known.filters)


@given(batches=st.lists(KEYS, max_size=12), before=KEYS)
def test_what_was_added_is_never_absent(batches: list[list[bytes]], before: list[bytes]) -> None:
    fresh, opened = KnownKeys(complete=True, layer_keys_first=8), KnownKeys(complete=False, layer_keys_first=8)
    assert not may_hold(fresh, b"never")
    for batch in batches:
        fresh.add(batch)
        opened.add(batch)
        assert may_hold(opened, b"never")  # as long as not every key is known
    learn(opened, [(key, b"") for key in before], Event())
    for known in (fresh, opened):
        assert all(may_hold(known, key) for batch in batches for key in batch)
    assert all(may_hold(opened, key) for key in before)


def test_few_others_are_taken_for_known() -> None:
    known = KnownKeys(complete=True, layer_keys_first=1 << 10)
    for first in range(0, 30_000, 100):
        known.add(numbered(first, 100))
    assert known.complete
    assert len(known.filters) > 1
    assert sum(map(partial(may_hold, known), numbered(100_000, 10_000))) < 600  # 1 % in each of at most 4


def test_keys_that_are_written_again_and_again_take_no_room() -> None:
    known = KnownKeys(complete=True, layer_keys_first=1 << 10)
    for _ in range(100):
        known.add(numbered(0, 800))
    assert len(known.filters) == 1


def test_more_keys_than_are_kept_may_all_be_there_for_good() -> None:
    known = KnownKeys(complete=True, layer_keys_first=1 << 4)
    for first in range(0, 4_000, 50):
        known.add(numbered(first, 50))
    layers = len(known.filters)
    assert known.is_full
    assert all(map(partial(may_hold, known), numbered(0, 8_000)))
    known.add(numbered(8_000, 5_000))
    known.completed()
    assert (known.complete, len(known.filters)) == (False, layers)


def test_learning_ends_when_it_is_told_to_and_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "LEARN_PAUSE_S", 0)
    read = []

    def pairs() -> Iterator[tuple[bytes, bytes]]:
        for key in numbered(0, 100_000):
            read.append(key)
            yield key, b""

    stopping = Event()
    stopping.set()
    learn(known := KnownKeys(complete=False), pairs(), stopping)
    assert (known.complete, len(read)) == (False, known_keys.LEARN_KEYS)
    learn(known := KnownKeys(complete=False, layer_keys_first=1 << 4), pairs(), Event())
    assert not known.complete
    assert len(read) < 10_000


def test_threads_that_write_and_one_that_asks_do_not_disturb_each_other() -> None:
    known = KnownKeys(complete=True, layer_keys_first=1 << 10)
    wrong: list[Any] = []

    def write(first: int) -> None:
        try:
            for at in range(first, first + 20_000, 100):
                keys = numbered(at, 100)
                known.add(keys)
                wrong.extend(key for key in keys if not may_hold(known, key))
        except Exception as error:  # noqa: BLE001 - whatever it is
            wrong.append(error)

    threads = [threading.Thread(target=write, args=[first]) for first in (0, 20_000, 40_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(map(partial(may_hold, known), numbered(0, 60_000)))


class Counting:
    """A database that counts what it is asked."""

    def __init__(self, db: Any) -> None:
        self.db = db
        self.gets = 0

    def get(self, key: bytes, **options: Any) -> bytes | None:
        self.gets += 1
        value: bytes | None = self.db.get(key, **options)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)


class CountingEngine(LevelDbEngine):
    """Over such a database."""

    counting: Counting

    def _open(self, write_buffer_bytes: int, cache_bytes: int) -> Any:
        self.counting = Counting(super()._open(write_buffer_bytes, cache_bytes))
        return self.counting

    def is_learned(self) -> bool:
        return self._known.complete


async def test_leveldb_is_not_asked_for_what_was_never_written(tmp_path: Path) -> None:
    written, others = numbered(0, 2_000), numbered(5_000, 1_000)
    engine = CountingEngine(tmp_path / "db")
    engine.write([(key, key) for key in written[:1_000]], sync=False)
    engine.prepare([(key, key) for key in written[1_000:]], sync=True)()
    for _ in range(2):
        before = engine.counting.gets
        assert [engine.get(key) for key in written] == written
        assert [engine.get(key) for key in others] == [None] * len(others)
        assert engine.counting.gets - before < len(written) + 0.1 * len(others)
        engine.close()
        with pytest.raises(StorageError, match="closed"):
            engine.get(others[0])
        engine = CountingEngine(tmp_path / "db")
        assert [engine.get(key) for key in (written[0], others[0])] == [written[0], None]
        engine.write([(b"while it learns", b"")], [written[-1]], sync=True)
        await until(engine.is_learned)
        assert engine.get(b"while it learns") == b""
        assert engine.get(written[-1]) is None
        engine.write([(written[-1], written[-1])], sync=True)
    engine.close()


def test_a_database_that_has_lost_its_end_mark_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    engine = LevelDbEngine(tmp_path / "db")
    engine.write([(b"a", b"1")], sync=True)
    engine.close()

    class Forgetful(CountingEngine):
        def _mark_end(self) -> None:
            self._db.delete(b"\xff" * 16)
            super()._mark_end()

    engine = Forgetful(tmp_path / "db")
    assert engine.get(b"a") == b"1"
    engine.close()


async def test_a_database_that_cannot_be_read_in_whole_is_asked_for_every_key(tmp_path: Path) -> None:
    class Damaged(CountingEngine):
        def scan(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
            yield b"a", b"1"
            raise StorageError("damaged")

    LevelDbEngine(tmp_path / "db").close()
    engine = Damaged(tmp_path / "db")
    engine.write([(b"b", b"2")], sync=True)
    await until(lambda: not engine._learning.is_alive())
    before = engine.counting.gets
    assert [engine.get(key) for key in (b"b", b"c")] == [b"2", None]
    assert engine.counting.gets == before + 2
    engine.close()
