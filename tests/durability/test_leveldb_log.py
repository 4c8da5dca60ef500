"""The reader of LevelDB's log agrees with what LevelDB writes, and ends where a crash or damage ends a log."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kvstore.storage.leveldb import LevelDbEngine
from tests.durability.leveldb_log import BLOCK_BYTES, edit_of, puts_of, read_log

Batch = list[tuple[bytes, bytes]]
# Around a block's end every case occurs: a fragment that fits exactly, room for less than a header, a record over several blocks.
SIZES = [1, 100, BLOCK_BYTES - 200, 150, 7, 3 * BLOCK_BYTES, 5, *range(BLOCK_BYTES - 80, BLOCK_BYTES - 30), 1]


def write_batches(folder: Path) -> list[Batch]:
    rng = random.Random(7)
    batches: list[Batch] = [[(b"k%03d" % number, rng.randbytes(size))] for number, size in enumerate(SIZES)]
    batches.append([(b"m%03d" % number, rng.randbytes(10)) for number in range(300)])
    engine = LevelDbEngine(folder)
    for batch in batches:
        engine.write(batch, [b"gone"], sync=False)
    engine.close()
    return batches


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Batch], bytes]:
    folder = tmp_path_factory.mktemp("log") / "db"
    batches = write_batches(folder)
    (log,) = folder.glob("*.log")
    return batches, log.read_bytes()


def test_every_batch_is_read_as_it_was_written(written: tuple[list[Batch], bytes]) -> None:
    batches, data = written
    _end_mark, *read = [puts_of(record.payload) for record in read_log(data)]
    assert read == batches


def test_a_record_ends_where_the_file_ended_after_it(written: tuple[list[Batch], bytes]) -> None:
    """So that a sync up to that length, and no shorter one, covers it."""
    _, data = written
    ends = [record.end for record in read_log(data)]
    assert ends == sorted(set(ends)) and ends[-1] == len(data)
    for count in (1, 3, 8, 30, len(ends)):
        assert len(list(read_log(data[: ends[count - 1]]))) == count
        assert len(list(read_log(data[: ends[count - 1] - 1]))) == count - 1


def test_a_flipped_bit_ends_the_log_before_its_record(written: tuple[list[Batch], bytes]) -> None:
    _, data = written
    ends = [record.end for record in read_log(data)]
    for count in (1, 4, 20):
        damaged = bytearray(data)
        damaged[ends[count] - 1] ^= 4
        assert [record.end for record in read_log(bytes(damaged))] == ends[:count]


def test_an_empty_or_zero_filled_log_has_no_records() -> None:
    assert list(read_log(b"")) == list(read_log(bytes(BLOCK_BYTES))) == []


def test_the_list_of_tables_names_each_table_and_the_first_log_that_still_counts(tmp_path: Path) -> None:
    rng = random.Random(8)
    engine = LevelDbEngine(tmp_path / "db", write_buffer_bytes=64 << 10)
    for number in range(200):
        engine.write([(b"%06d" % number, rng.randbytes(2_000))], sync=False)
    engine.close()
    (manifest,) = (tmp_path / "db").glob("MANIFEST-*")
    edits = [edit_of(record.payload) for record in read_log(manifest.read_bytes())]
    named = {number for edit in edits for number in edit.new_tables}
    present = {int(path.stem) for path in (tmp_path / "db").glob("*.ldb")}
    assert len(named) >= 3 and named <= present
    assert all(number > max(named) for number in present - named), "it was closed while it made the last one"
    first_log = max(edit.log_number for edit in edits if edit.log_number is not None)
    assert min(int(path.stem) for path in (tmp_path / "db").glob("*.log")) >= first_log
