"""Tables are synced while they are written: piece by piece, the newest only, and a sync that fails ends the engine."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from kvproto.errors import StorageError
from kvstore.storage import writeback
from kvstore.storage.leveldb import LevelDbEngine
from kvstore.storage.syncing import sync_data
from kvstore.storage.writeback import TableWriteback

PIECE_BYTES = 1000


class Syncs:
    """In the place of `sync_data`: what was synced, and how long it was by then. `error` is raised instead."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.error: OSError | None = None

    def __call__(self, descriptor: int) -> None:
        if self.error is not None:
            raise self.error
        self.seen.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, os.fstat(descriptor).st_size))


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    made = Syncs()
    monkeypatch.setattr(writeback, "sync_data", made)
    return made


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TableWriteback]:
    monkeypatch.setattr(writeback, "PIECE_BYTES", PIECE_BYTES)
    failures: list[OSError] = []
    made = TableWriteback(tmp_path, failures.append)
    yield made
    made.close()
    assert not failures


def grow(path: Path, by_bytes: int) -> None:
    with path.open("ab") as file:
        file.write(bytes(by_bytes))


def test_a_table_is_synced_each_time_it_has_grown_by_a_piece(tmp_path: Path, tables: TableWriteback, syncs: Syncs) -> None:
    assert not tables.look()
    for by_bytes in (PIECE_BYTES - 1, 1, PIECE_BYTES - 1, 5 * PIECE_BYTES, 1):
        grow(tmp_path / "000005.ldb", by_bytes)
        tables.look()
    assert syncs.seen == [("000005.ldb", PIECE_BYTES), ("000005.ldb", 7 * PIECE_BYTES - 1)]


def test_the_newest_table_is_the_one_that_is_written(tmp_path: Path, tables: TableWriteback, syncs: Syncs) -> None:
    for name in ("000005.ldb", "999999.ldb", "1000000.ldb", "1000001.log", "MANIFEST-1000002"):
        grow(tmp_path / name, 2 * PIECE_BYTES)
    assert tables.look() and not tables.look()
    grow(tmp_path / "1000003.ldb", 3 * PIECE_BYTES)
    assert tables.look()
    assert syncs.seen == [("1000000.ldb", 2 * PIECE_BYTES), ("1000003.ldb", 3 * PIECE_BYTES)]


def test_a_table_that_is_gone_when_it_is_looked_at_is_no_failure(
    tables: TableWriteback, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listdir", lambda path: ["000005.ldb"])
    assert not tables.look()
    assert syncs.seen == []


def test_bug_a_node_without_a_free_descriptor_took_its_disk_for_failed(
    tmp_path: Path, tables: TableWriteback, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. So many files are open that a table cannot be opened to be synced early. 2. That counted as a failed sync, and the node
    stopped."""
    grow(tmp_path / "000005.ldb", PIECE_BYTES)

    def open_none(*args: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as full:
        full.setattr(os, "open", open_none)
        assert not tables.look()
    assert syncs.seen == []
    assert tables.look()
    assert syncs.seen == [("000005.ldb", PIECE_BYTES)]


def test_a_directory_in_which_nothing_changes_is_not_listed(
    tmp_path: Path, tables: TableWriteback, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(tmp_path / "000005.ldb", 1)
    for _ in range(writeback.SUSPECT_LOOKS):
        tables.look()
    monkeypatch.setattr(os, "listdir", pytest.fail)
    grow(tmp_path / "000005.ldb", PIECE_BYTES)
    assert tables.look()
    assert syncs.seen == [("000005.ldb", PIECE_BYTES + 1)]


def fill(engine: LevelDbEngine, *, until: Event) -> None:
    """Writes, synced, until something has happened; the test's time limit ends it."""
    at = 0
    while not until.is_set():
        engine.write([(b"%09d" % (at * 64 + one), bytes(1000)) for one in range(64)], sync=True)
        at += 1


def test_leveldbs_tables_are_synced_while_it_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = Event()

    def sync(descriptor: int) -> None:
        sync_data(descriptor)
        began.set()

    monkeypatch.setattr(writeback, "PIECE_BYTES", 64 << 10)
    monkeypatch.setattr(writeback, "sync_data", sync)
    engine = LevelDbEngine(tmp_path / "db", write_buffer_bytes=1 << 20)
    fill(engine, until=began)
    engine.close()
    reopened = LevelDbEngine(tmp_path / "db", write_buffer_bytes=1 << 20)
    keys = list(reopened.keys(b""))
    assert keys == [b"%09d" % at for at in range(len(keys))] and keys
    reopened.close()


def test_a_table_that_cannot_be_synced_ends_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: Syncs) -> None:
    syncs.error = OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr(writeback, "PIECE_BYTES", 64 << 10)
    engine = LevelDbEngine(tmp_path / "db", write_buffer_bytes=1 << 20)
    with pytest.raises(StorageError, match="Input/output error") as failed:
        fill(engine, until=Event())
    assert failed.value.may_have_applied
    with pytest.raises(StorageError, match="Input/output error"):
        engine.write([(b"k", b"v")], sync=False)
    engine.close()


def test_it_does_not_begin_once_it_has_ended(tables: TableWriteback) -> None:
    tables.close()
    tables.begin()
    assert tables._thread is None


def has_thread(engine: LevelDbEngine) -> bool:
    return engine._writeback._thread is not None


def test_where_nothing_is_synced_no_table_is_synced_early(tmp_path: Path) -> None:
    engine = LevelDbEngine(tmp_path / "db", write_buffer_bytes=64 << 10)
    for at in range(200):
        engine.write([(b"%09d" % at, bytes(1000))], sync=False)
    assert not has_thread(engine)
    for at in range(200):
        engine.write([(b"%09d" % at, bytes(1000))], sync=True)
    assert has_thread(engine)
    engine.close()
