"""Damage to disks is what it says: bits of users' records alone, one bit of a log, half a table; versions given twice are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvchaos.checkers.minted import check_minted
from kvchaos.disks.damage import NothingToDamage, flip_in_log, flip_in_tables, shorten_table
from kvchaos.disks.tables import SYSTEM_PREFIX, blocks_of_users
from kvchaos.history import Recorder, calls_of
from kvproto.errors import StorageError
from kvstore.storage.leveldb import LevelDbEngine

KEYS = 300


def key_of(number: int) -> bytes:
    return b"\x00\x01" + b"user/%04d" % number


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Users' keys and a node's own in one table, and an empty log: LevelDB makes a table of a log when it opens."""
    path = tmp_path / "db"
    engine = LevelDbEngine(path)
    engine.write([(key_of(number), bytes([number % 251]) * 100) for number in range(KEYS)], sync=True)
    engine.write([(SYSTEM_PREFIX + b"n/%04d" % number, bytes(100)) for number in range(KEYS)], sync=True)
    engine.close()
    LevelDbEngine(path).close()
    return path


def test_the_blocks_of_users_are_those_before_the_nodes_own(database: Path) -> None:
    [table] = database.glob("*.ldb")
    data = table.read_bytes()
    blocks = blocks_of_users(data)
    assert len(blocks) > 3 and [block.last_key for block in blocks] == sorted(block.last_key for block in blocks)
    assert all(b"user/" in data[block.offset : block.offset + block.size_bytes] for block in blocks)
    assert not any(b"n/0" in data[block.offset : block.offset + block.size_bytes] for block in blocks)


def test_what_is_no_table_is_not_taken_for_one() -> None:
    with pytest.raises(ValueError, match="no LevelDB table"):
        blocks_of_users(bytes(100))


def test_flipped_tables_lose_records_of_users_and_nothing_of_the_nodes_own(database: Path) -> None:
    flipped = flip_in_tables(database)
    engine = LevelDbEngine(database)
    lost = 0
    for number in range(KEYS):
        try:
            assert engine.get(key_of(number)) == bytes([number % 251]) * 100, "never a wrong value"
        except StorageError:
            lost += 1
    assert lost > KEYS / 2 and flipped > 3
    assert engine.get(SYSTEM_PREFIX + b"n/%04d" % (KEYS - 1)) == bytes(100)
    engine.close()


def test_a_flipped_log_is_refused_and_whole_when_it_is_flipped_back(tmp_path: Path) -> None:
    engine = LevelDbEngine(tmp_path / "db")
    engine.write([(b"k", b"value")], sync=True)
    engine.close()
    flip_in_log(tmp_path / "db")
    with pytest.raises(StorageError, match="damaged"):
        LevelDbEngine(tmp_path / "db")
    flip_in_log(tmp_path / "db")
    engine = LevelDbEngine(tmp_path / "db")
    assert engine.get(b"k") == b"value"
    engine.close()


def test_half_a_table_is_left_and_where_there_is_none_that_is_said(database: Path, tmp_path: Path) -> None:
    [table] = database.glob("*.ldb")
    size_bytes = table.stat().st_size
    assert shorten_table(database) == table and table.stat().st_size == size_bytes // 2
    (tmp_path / "empty").mkdir()
    for damage in (flip_in_tables, flip_in_log, shorten_table):
        with pytest.raises(NothingToDamage):
            damage(tmp_path / "empty")


def test_a_version_that_two_writes_have_is_found_and_that_of_a_retry_is_not() -> None:
    times = iter(range(100))
    recorder = Recorder(lambda: next(times))
    for process, key, write, version in ((0, "a", "w1", "01"), (1, "b", "w2", "02"), (2, "a", "w1", "01"), (3, "b", "w3", "01")):
        recorder.note(process, "invoke", "write", key=key, write=write)
        recorder.note(process, "ok", "write", key=key, version=version)
    [found] = check_minted(calls_of(recorder.history.events))
    assert "w3 of b has the version of w1 of a" in found.sentence()
