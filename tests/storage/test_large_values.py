"""Large values in files beside LevelDB: what is there after a stop, a kill, damage and a full disk, and that room is given back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.errors import StorageError
from kvstore.api.metrics.storage import KeyEstimate
from kvstore.storage.disk_engine import VALUES, open_disk_engine
from kvstore.storage.engine import UNREADABLE
from kvstore.storage.large.engine import LARGE_BYTES, LargeValueEngine
from kvstore.storage.large.files import OsFiles
from kvstore.storage.large.pointers import MARK, OFFSET_MAX, Pointer, escape, read_marked
from kvstore.storage.large.shelf import SHORTENED_BYTES, SPARES_MAX
from kvstore.storage.layout import store_key_prefix
from kvstore.storage.trees import held_prefixes
from tests.storage.children import answers, child, large_engine, next_line, synced_pair
from tests.storage.forgetful import ForgetfulFiles, SyncedMemory
from tests.storage.test_leveldb_engine import check_full_disk_answers, on_a_small_disk

VALUE = bytes(range(256)) * (LARGE_BYTES // 256)


def opened(path: Path, *, thread: bool = True) -> LargeValueEngine:
    """As a node opens it, but for the size of its files, of which four large values fill one."""
    return open_disk_engine(path, file_bytes=4 * LARGE_BYTES, thread=thread)


def number(engine: LargeValueEngine, name: str) -> int:
    return int(engine.statistics()[name])


def eventually(condition: Callable[[], object]) -> None:
    """Waits for something that another thread does; the test's time limit ends it."""
    while not condition():
        Event().wait(0.01)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LargeValueEngine]:
    made = opened(tmp_path / "db")
    yield made
    made.close()


# --- Pointers -------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.integers(0, OFFSET_MAX), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_a_pointer_is_read_as_it_was_written(file: int, offset: int, size_bytes: int, checksum: int) -> None:
    pointer = Pointer(file, offset, size_bytes, checksum)
    assert pointer.encode().startswith(MARK)
    assert read_marked(pointer.encode()) == pointer


@given(st.binary())
def test_a_value_that_begins_like_a_pointer_is_no_pointer(rest: bytes) -> None:
    assert read_marked(escape(MARK + rest)) == MARK + rest
    assert read_marked(escape(Pointer(1, 2, 3, 4).encode() + rest)) == Pointer(1, 2, 3, 4).encode() + rest


@pytest.mark.parametrize("stored", [MARK, MARK + b"p", MARK + b"q" + bytes(24), MARK + b"p" + bytes(25)])
def test_what_is_neither_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match=r"no pointer|no kind of pointer"):
        read_marked(stored)


def test_a_damaged_pointer_is_an_error_and_no_value(engine: LargeValueEngine) -> None:
    engine.inner.write([(b"k", MARK + b"nonsense")], sync=True)
    with pytest.raises(StorageError, match="is damaged"):
        engine.get(b"k")
    assert list(engine.scan(b"")) == [(b"k", UNREADABLE)]


# --- Where values lie -----------------------------------------------------------------------------------------------------------


def test_values_from_32_kib_on_lie_beside_the_database_and_others_in_it(engine: LargeValueEngine) -> None:
    engine.write([(b"large", VALUE), (b"small", VALUE[1:])], sync=True)
    assert (engine.get(b"large"), engine.get(b"small")) == (VALUE, VALUE[1:])
    assert (number(engine, "large_values"), number(engine, "large_value_bytes")) == (1, len(VALUE))
    assert engine.inner.get(b"small") == VALUE[1:]
    assert len(engine.inner.get(b"large") or b"") < 100


def test_what_is_not_synced_stays_in_the_database_whose_log_keeps_its_order(engine: LargeValueEngine) -> None:
    engine.write([(b"large", VALUE)], sync=False)
    assert engine.inner.get(b"large") == VALUE
    assert number(engine, "large_values") == 0


def test_a_value_without_a_sync_that_replaces_a_synced_one_frees_it(engine: LargeValueEngine) -> None:
    engine.write([(b"k", VALUE)], sync=True)
    engine.write([(b"k", VALUE[::-1])], sync=False)
    assert engine.get(b"k") == VALUE[::-1]
    assert number(engine, "large_values") == 0


# --- Afterwards -----------------------------------------------------------------------------------------------------------------


def test_everything_is_there_when_it_is_opened_again_and_what_is_alive_is_learnt(tmp_path: Path) -> None:
    pairs = [(b"key %d" % at, b"%d" % at + VALUE) for at in range(10)]
    for _ in range(3):
        engine = opened(tmp_path / "db")
        engine.write(pairs, sync=True)
        engine.write([], [b"key 3"], sync=True)
        expected = [pair for pair in pairs if pair[0] != b"key 3"]
        assert list(engine.scan(b"")) == expected
        engine.close()
        with pytest.raises(StorageError, match="is closed"):
            engine.get(b"key 1")
        with pytest.raises(StorageError, match="is closed"):
            engine.write(pairs, sync=True)
        engine = opened(tmp_path / "db")
        assert [(key, engine.get(key)) for key, _ in expected] == expected
        eventually(lambda: number(engine, "large_values") == 9)  # noqa: B023 - called at once
        engine.close()


def test_what_a_database_held_before_there_were_files_is_read_as_ever(tmp_path: Path) -> None:
    made = open_disk_engine(tmp_path / "db")
    made.inner.write([(b"old", VALUE)], sync=True)
    made.close()
    engine = opened(tmp_path / "db")
    assert engine.get(b"old") == VALUE
    engine.write([(b"old", VALUE + b"new")], sync=True)
    assert list(engine.scan(b"")) == [(b"old", VALUE + b"new")]
    engine.close()


def test_everything_reported_as_synced_survives_sigkill(tmp_path: Path) -> None:
    with child("write_synced", tmp_path / "db", "large") as writer:
        reported = [int(next_line(writer)) for _ in range(500)]
        writer.kill()
        while (line := next_line(writer)).endswith("\n"):
            reported.append(int(line))
    engine = large_engine(tmp_path / "db")
    assert reported == list(range(len(reported)))
    assert all(engine.get(key) == value for key, value in map(synced_pair, reported))
    assert len(reported) <= len(list(engine.scan(b""))) <= len(reported) + 1
    engine.close()


def test_a_write_without_room_fails_as_full_and_every_later_one_with_it(tmp_path: Path) -> None:
    """In a child whose files may not grow past 20 kB, of which the first to come so far is one of values."""
    (told,) = answers("write_until_full", tmp_path / "db", 20_000, "large")
    check_full_disk_answers(told)


def test_a_write_on_a_full_disk_fails_as_full_and_every_later_one_with_it(tmp_path: Path) -> None:
    (told,) = on_a_small_disk(tmp_path, 500_000, "write_until_full", tmp_path / "disk" / "db", 0, "large")
    check_full_disk_answers(told)


# --- Damage ---------------------------------------------------------------------------------------------------------------------


def flip(path: Path, offset: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 4
    path.write_bytes(raw)


def cut(path: Path, offset: int) -> None:
    os.truncate(path, offset)


def lose(path: Path, offset: int) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [flip, cut, lose])
def test_a_damaged_value_is_an_error_the_others_are_read_and_a_new_one_heals_it(
    tmp_path: Path, damage: Callable[[Path, int], None]
) -> None:
    engine = opened(tmp_path / "db")
    engine.write([(b"elsewhere", b"small"), (b"first", VALUE), (b"last", VALUE[::-1])], sync=True)
    engine.close()
    (file,) = (tmp_path / "db" / VALUES).iterdir()
    damage(file, len(VALUE) + 100)
    engine = opened(tmp_path / "db")
    with pytest.raises(StorageError, match="is damaged"):
        engine.get(b"last")
    first = UNREADABLE if damage is lose else VALUE
    assert list(engine.scan(b"")) == [(b"elsewhere", b"small"), (b"first", first), (b"last", UNREADABLE)]
    assert engine.get(b"elsewhere") == b"small"
    if damage is not lose:
        assert engine.get(b"first") == VALUE
    engine.write([(b"first", VALUE), (b"last", VALUE)], sync=True)
    assert dict(engine.scan(b"")) == {b"elsewhere": b"small", b"first": VALUE, b"last": VALUE}
    engine.close()


def test_a_file_with_a_damaged_value_stays_for_as_long_as_that_is_pointed_to(tmp_path: Path) -> None:
    engine = opened(tmp_path / "db")
    engine.write([(b"damaged", VALUE), *[(b"%d" % at, VALUE) for at in range(3)]], sync=True)
    engine.close()
    (file,) = (tmp_path / "db" / VALUES).iterdir()
    flip(file, 100)
    engine = opened(tmp_path / "db", thread=False)
    engine.write([], [b"0", b"1", b"2"], sync=True)
    while engine.reclaimer.step() is not None:
        pass
    assert file.exists()
    with pytest.raises(StorageError, match="does not verify"):
        engine.get(b"damaged")
    engine.close()


# --- Room -----------------------------------------------------------------------------------------------------------------------


def test_room_is_given_back_and_little_more_is_taken_than_is_alive(tmp_path: Path) -> None:
    engine = opened(tmp_path / "db")
    keys = [b"key %02d" % at for at in range(20)]
    rng = Random(7)
    held: dict[bytes, bytes] = {}
    for at in range(300):
        key = rng.choice(keys)
        held[key] = b"%d" % at + VALUE
        engine.write([(key, held[key])], sync=True)
    assert dict(engine.scan(b"")) == held
    file_bytes = 5 * LARGE_BYTES
    bound = 2 * 20 * LARGE_BYTES + (2 + SPARES_MAX) * file_bytes
    eventually(lambda: number(engine, "large_value_file_bytes") <= bound)
    assert dict(engine.scan(b"")) == held
    engine.write([], keys, sync=True)
    eventually(lambda: number(engine, "large_value_file_bytes") <= (2 + SPARES_MAX) * file_bytes)
    assert list(engine.scan(b"")) == []
    engine.close()


def test_bug_a_file_that_was_deleted_held_up_every_sync(tmp_path: Path) -> None:
    """The journal of a file system gives back the blocks of a large file in one piece, and all syncs wait for it. So a file that
    nothing points into is not deleted, but becomes the next one."""
    engine = opened(tmp_path / "db", thread=False)

    def overwrite(count: int) -> None:
        for _ in range(count):
            engine.write([(b"k", VALUE)], sync=True)
            while engine.reclaimer.step() is not None:
                pass

    def inodes() -> set[int]:
        return {file.stat().st_ino for file in (tmp_path / "db" / VALUES).iterdir()}

    overwrite(40)
    before = inodes()
    overwrite(100)
    assert inodes() == before
    assert len(before) <= 2 + SPARES_MAX
    assert engine.get(b"k") == VALUE
    engine.close()


def test_bug_a_file_with_nothing_but_empty_values_was_taken_away() -> None:
    """It has no living bytes, and pointers into it all the same."""
    memory, files = SyncedMemory(crashable=True), ForgetfulFiles()
    engine = LargeValueEngine(memory, files, name="n", large_bytes=0, file_bytes=8, thread=False)
    engine.write([(b"empty", b""), (b"fills the file", bytes(8)), (b"next", bytes(8))], sync=True)
    engine.write([], [b"fills the file"], sync=True)
    while engine.reclaimer.step() is not None:
        pass
    assert list(engine.scan(b"")) == [(b"empty", b""), (b"next", bytes(8))]
    engine.close()


def test_bug_whoever_wanted_keys_alone_read_every_large_value() -> None:
    """1. A node holds large values. 2. Its metrics are scraped, and twenty thousand of them are read from the disk each time."""

    class Watched(ForgetfulFiles):
        reads = 0

        def read(self, number: int, offset: int, size_bytes: int) -> bytes:
            self.reads += 1
            return super().read(number, offset, size_bytes)

    files = Watched()
    engine = LargeValueEngine(SyncedMemory(), files, name="memory", large_bytes=4, thread=False)
    prefixes = [store_key_prefix(partition, 1) for partition in range(4)]
    keys = [prefix + name for prefix in prefixes for name in (b"a", b"b")]
    engine.write([(key, b"value") for key in keys], sync=True)
    assert list(engine.keys(b"")) == keys
    assert list(held_prefixes(engine)) == prefixes
    assert KeyEstimate(engine).estimate(range(4)) == len(keys)
    assert files.reads == 0
    assert len(list(engine.scan(b""))) == files.reads == len(keys)
    engine.close()


def test_spares_beyond_a_few_are_given_back_piece_by_piece(tmp_path: Path) -> None:
    (tmp_path / "values").mkdir()
    files = OsFiles(tmp_path / "values")
    for at in range(1, 3):
        writer = files.create(at)
        writer.write(SHORTENED_BYTES, b"the last byte lies here")
        writer.sync()
        writer.close()
        writer.close()
    assert files.shorten(1, SHORTENED_BYTES)
    assert files.sizes_bytes() == {1: 23, 2: SHORTENED_BYTES + 23}
    assert not files.shorten(1, SHORTENED_BYTES)
    assert not files.shorten(1, SHORTENED_BYTES)
    assert files.sizes_bytes() == {2: SHORTENED_BYTES + 23}
    writer = files.create(3, over=2)
    writer.write(0, b"new")
    writer.sync()
    writer.close()
    assert files.sizes_bytes() == {3: SHORTENED_BYTES + 23}
    assert files.read(3, 0, 3) == b"new"


def test_readers_see_whole_values_while_they_are_overwritten_and_moved(tmp_path: Path) -> None:
    """Threads that read, one that writes, one that reclaims: nobody ever reads what was not written, or what is older than what was
    written before the question."""
    engine = opened(tmp_path / "db")
    keys = [b"key %d" % at for at in range(6)]
    newest = dict.fromkeys(keys, 0)
    engine.write([(key, b"%06d" % 0 + VALUE) for key in keys], sync=True)
    stopping = Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stopping.is_set():
                for key in keys:
                    at_least = newest[key]
                    value = engine.get(key)
                    assert value is not None and value[6:] == VALUE
                    assert int(value[:6]) >= at_least
                assert [key for key, value in engine.scan(b"") if value[6:] == VALUE] == keys
        except BaseException as error:
            failures.append(error)
            raise

    readers = [Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    rng = Random(11)
    try:
        for at in range(1, 600):
            key = rng.choice(keys)
            engine.write([(key, b"%06d" % at + VALUE)], sync=True)
            newest[key] = at
    finally:
        stopping.set()
        for reader in readers:
            reader.join()
    assert not failures
    assert engine.size_bytes() < 200 * LARGE_BYTES
    engine.close()
