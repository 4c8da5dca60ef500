"""What LevelDB promises beyond the engine contract: what is durable when, what damage and a full disk lead to."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kvproto.errors import StorageError
from kvstore.storage.leveldb import END_MARK, LevelDbEngine
from tests.storage.children import (
    CHILD_S_MAX,
    DAMAGED_KEYS,
    FILLER,
    answers,
    child,
    command,
    damaged_pair,
    environment,
    next_line,
    small_engine,
    synced_pair,
)


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    pairs = [synced_pair(number) for number in range(1_000)]
    for at in range(0, 1_000, 250):
        engine = small_engine(tmp_path / "db")
        assert list(engine.scan(b"")) == pairs[:at]
        engine.write(pairs[at : at + 250], sync=at % 500 == 0)
        engine.close()
    engine = small_engine(tmp_path / "db")
    assert list(engine.scan(b"")) == pairs
    assert all(engine.get(key) == value for key, value in pairs)
    engine.close()


def test_everything_reported_as_synced_survives_sigkill(tmp_path: Path) -> None:
    with child("write_synced", tmp_path / "db") as writer:
        reported = [int(next_line(writer)) for _ in range(500)]
        writer.kill()
        while (line := next_line(writer)).endswith("\n"):  # what follows the last newline was not reported whole
            reported.append(int(line))
    engine = small_engine(tmp_path / "db")
    assert reported == list(range(len(reported)))
    assert all(engine.get(key) == value for key, value in map(synced_pair, reported))
    found = len(list(engine.scan(b"")))
    assert len(reported) <= found <= len(reported) + 1  # at most the write that it was killed in, whole
    engine.close()


def test_a_synced_write_reaches_the_medium_before_it_is_reported(tmp_path: Path) -> None:
    """SIGKILL cannot show this, for the page cache outlives the process: so the system calls themselves are looked at."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("this machine has no strace to see system calls with")
    trace = ["strace", "-f", "-qq", "-e", "trace=write,fsync,fdatasync", "-e", "signal=none", "-o", str(tmp_path / "calls")]
    with child("write_synced", tmp_path / "db", before=trace) as writer:
        reported = [next_line(writer) for _ in range(20)]
    if reported[0] == "":
        pytest.skip("this machine does not let a test trace its own child")
    calls = (tmp_path / "calls").read_text()
    start = 0
    for line in reported:
        report = calls.index(f'write(1, "{line.strip()}', start)
        assert re.search(r"f(data)?sync\(\d+\) += 0|f(data)?sync resumed>.* = 0", calls[start:report]), line
        start = report + 1


def test_a_second_process_is_refused_while_the_first_has_it_open(tmp_path: Path) -> None:
    with child("write_synced", tmp_path / "db") as writer:
        next_line(writer)
        with pytest.raises(StorageError, match="open in another process"):
            LevelDbEngine(tmp_path / "db")
    LevelDbEngine(tmp_path / "db").close()


@pytest.mark.parametrize("path", ["a file", "a file/db", "missing/db", "/proc/db"])
def test_a_path_that_cannot_hold_a_database_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "a file").write_bytes(b"precious")
    with pytest.raises(StorageError):
        LevelDbEngine(tmp_path / path)
    assert (tmp_path / "a file").read_bytes() == b"precious"


def test_keys_from_the_end_mark_on_are_reserved(tmp_path: Path) -> None:
    engine = small_engine(tmp_path / "db")
    last = END_MARK[:-1]
    with pytest.raises(AssertionError):
        engine.write([(last, b""), (END_MARK, b"")], sync=True)
    with pytest.raises(AssertionError):
        engine.write([], [END_MARK + b"x"], sync=True)
    assert list(engine.scan(b"")) == []
    engine.write([(last, b"1")], sync=True)
    assert list(engine.scan(b"", END_MARK + b"\xff")) == list(engine.scan(last)) == [(last, b"1")]
    assert list(engine.scan(END_MARK + b"x")) == []
    engine.close()


# --- A full disk ----------------------------------------------------------------------------------------------------------------


def check_full_disk_answers(told: Any) -> None:
    assert told["acknowledged"] > 50
    (message, may_have_applied, retryable), again = told["refusals"]
    assert "is full" in message
    assert "free some space" in message
    assert may_have_applied
    assert not retryable
    assert again == [message, may_have_applied, retryable]  # though there was room again
    assert told["held"] == told["held_after_restart"] == told["acknowledged"]


def test_a_write_without_room_fails_as_full_and_every_later_one_with_it(tmp_path: Path) -> None:
    """In a child whose files may not grow past 40 kB: LevelDB gets EFBIG where a full disk gives ENOSPC."""
    (told,) = answers("write_until_full", tmp_path / "db", 40_000)
    check_full_disk_answers(told)


def test_opening_without_room_says_that_the_disk_is_full(tmp_path: Path) -> None:
    directory, engine = answers("open_when_full", tmp_path, 0)
    assert "is full" in str(directory)
    assert "is full" in str(engine)
    LevelDbEngine(tmp_path / "db").close()


def on_a_small_disk(tmp_path: Path, filler_bytes: int, *program: object) -> list[Any]:
    """Runs a child program on a file system of one mebibyte of its own, which ends with it; skips where that is not allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    own_mounts = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-r", "-m"]
    mount = 'mount -t tmpfs -o size=1m kvstore "$0" || exit 77; head -c "$1" /dev/zero >"$0/$2"; shift 2; exec "$@"'
    line = [*own_mounts, "sh", "-c", mount, str(disk), str(filler_bytes), FILLER, *command(*map(str, program))]
    try:
        done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=CHILD_S_MAX, check=False)
    except FileNotFoundError:
        pytest.skip("this machine has no unshare to mount a small disk with")
    if done.returncode in (1, 77) and not done.stdout:
        pytest.skip(f"this machine does not let a test mount a small disk: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(text) for text in done.stdout.splitlines()]


def test_a_write_on_a_full_disk_fails_as_full_and_every_later_one_with_it(tmp_path: Path) -> None:
    (told,) = on_a_small_disk(tmp_path, 500_000, "write_until_full", tmp_path / "disk" / "db", 0)
    check_full_disk_answers(told)


def test_opening_on_a_full_disk_says_so(tmp_path: Path) -> None:
    directory, engine = on_a_small_disk(tmp_path, 2 << 20, "open_when_full", tmp_path / "disk", -1)
    assert "is full" in directory
    assert "is full" in engine


# --- Damage ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of several tables, its last hundred keys in the log."""
    path = tmp_path_factory.mktemp("pristine") / "db"
    for first, last in ((0, DAMAGED_KEYS - 100), (DAMAGED_KEYS - 100, DAMAGED_KEYS)):
        engine = small_engine(path)  # opening moves the log before it into a table
        for at in range(first, last, 20):
            engine.write([damaged_pair(number) for number in range(at, at + 20)], sync=False)
        engine.close()
    return path


def damage_reports(pristine: Path, scratch: Path, damages: list[tuple[str, int, int]]) -> list[Any]:
    reports: list[Any] = answers("read_damaged", pristine, scratch, json.dumps(damages))
    assert len(reports) == len(damages)  # the interpreter survived each
    return reports


def random_flips(path: Path, pattern: str, count: int) -> list[tuple[str, int, int]]:
    rng = Random(f"{pattern}/{count}")
    files = sorted(path.glob(pattern))
    assert files
    return [(file.name, rng.randrange(file.stat().st_size), rng.randrange(8)) for file in rng.choices(files, k=count)]


def test_an_undamaged_database_reads_whole(pristine: Path, tmp_path: Path) -> None:
    """Guards the tests below: without damage nothing is refused."""
    log = next(pristine.glob("*.log"))
    (pristine / "spare").write_bytes(log.read_bytes())
    (report,) = damage_reports(pristine, tmp_path, [("spare", 0, 0)])
    assert report["opening"] is None
    assert report["gets"] == {"right": DAMAGED_KEYS}
    assert (report["scan_found"], report["scan_refused"]) == (DAMAGED_KEYS, False)
    (pristine / "spare").unlink()


def test_a_flipped_bit_in_a_table_is_an_error_and_never_a_wrong_value_or_a_gap(pristine: Path, tmp_path: Path) -> None:
    files = [path.name for path in pristine.glob("*.ldb")]
    ends = [(name, (pristine / name).stat().st_size - back, 3) for name in files for back in (1, 20, 40, 60)]  # footer and index
    reports = damage_reports(pristine, tmp_path, [*random_flips(pristine, "*.ldb", 40), *ends])
    refused = 0
    for report in reports:
        if report["opening"] is not None:
            refused += 1
            continue
        gets = report["gets"]
        refused += bool(gets.get("refused"))
        assert set(gets) <= {"right", "refused"}, report
        assert report["scan_wrong"] == 0, report
        assert report["scan_refused"] or report["scan_found"] == DAMAGED_KEYS, report
        assert report["scan_refused"] or not gets.get("refused"), report
    assert refused > len(reports) // 3  # the damage was seen to take


def test_a_scan_over_a_damaged_last_block_does_not_end_quietly(tmp_path: Path) -> None:
    """plyvel ends such an iterator as if there were no more keys: the partition would look empty to whoever compares it."""
    small_engine(tmp_path / "db").close()
    engine = small_engine(tmp_path / "db")
    tables_before = set((tmp_path / "db").glob("*.ldb"))  # nothing but the end mark
    engine.write([damaged_pair(number) for number in range(10)], sync=True)
    engine.close()
    small_engine(tmp_path / "db").close()
    (table,) = set((tmp_path / "db").glob("*.ldb")) - tables_before
    raw = bytearray(table.read_bytes())
    raw[20] ^= 4
    table.write_bytes(raw)
    engine = small_engine(tmp_path / "db")
    for scan in (engine.scan(b""), engine.scan(b"key", b"key 00000005"), engine.scan(b"", b"\xff")):
        with pytest.raises(StorageError, match="damaged"):
            list(scan)
    with pytest.raises(StorageError, match="damaged"):
        list(engine.keys(b""))
    with pytest.raises(StorageError, match="damaged"):
        engine.get(damaged_pair(3)[0])
    engine.close()


def test_a_flipped_bit_in_the_log_refuses_to_open_or_costs_a_tail_that_looks_torn(pristine: Path, tmp_path: Path) -> None:
    """A length that points past the end of the log cannot be told from a write that the power cut; nothing else goes missing."""
    log = next(pristine.glob("*.log")).name
    header = [(log, at, bit) for at in range(7) for bit in range(8)]  # checksum, length, type of the first record
    reports = damage_reports(pristine, tmp_path, [*header, *random_flips(pristine, "*.log", 20)])
    for report in reports:
        _, at, bit = report["damage"]
        if report["opening"] is None:
            assert (at, bit) in ((5, 6), (5, 7)), report
            assert report["gets"] == {"right": DAMAGED_KEYS - 100, "missing": 100}
            assert report["scan_found"] == DAMAGED_KEYS - 100
        else:
            assert "damaged" in report["opening"], report


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT"])
def test_a_flipped_bit_in_the_list_of_tables_is_never_a_wrong_value(pristine: Path, tmp_path: Path, pattern: str) -> None:
    reports = damage_reports(pristine, tmp_path, random_flips(pristine, pattern, 20))
    assert all(report["opening"] is not None for report in reports)


def test_a_missing_table_is_damage(pristine: Path, tmp_path: Path) -> None:
    shutil.copytree(pristine, tmp_path / "db")
    min((tmp_path / "db").glob("*.ldb")).unlink()
    with pytest.raises(StorageError, match="damaged"):
        small_engine(tmp_path / "db")


def test_bug_a_table_that_was_cut_short_was_told_as_a_failing_disk(pristine: Path, tmp_path: Path) -> None:
    """1. A table loses its second half. 2. LevelDB says `Invalid argument`, and the operator was not told that the data is damaged.
    Found by F18."""
    shutil.copytree(pristine, tmp_path / "db")
    for table in (tmp_path / "db").glob("*.ldb"):
        os.truncate(table, table.stat().st_size // 2)
    with pytest.raises(StorageError, match="is damaged"):
        small_engine(tmp_path / "db")


def test_an_error_on_opening_leaves_the_database_free_to_be_opened(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    with pytest.raises(StorageError) as refused:
        small_engine(tmp_path / "db")
    (tmp_path / "db" / "CURRENT").unlink()
    small_engine(tmp_path / "db").close()
    assert refused.value.subject == str(tmp_path / "db")


def test_closing_syncs_every_log_if_anything_was_written_without_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LevelDB leaves a log for the next one without syncing it: a sync of the last one does not cover what is in the first."""
    synced: list[int] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def logs() -> list[int]:
        return [path.stat().st_ino for path in sorted((tmp_path / "db").glob("*.log"))]

    engine = small_engine(tmp_path / "db")
    engine.write([synced_pair(1)], sync=True)
    monkeypatch.setattr(os, "fsync", noting)
    engine.close()
    assert not set(synced) & set(logs())
    engine = small_engine(tmp_path / "db")
    engine.write([synced_pair(2)], sync=False)
    engine.write([synced_pair(3)], sync=True)
    engine.close()
    engine.close()
    assert logs()
    assert [one for one in synced if one in logs()] == logs()


def test_a_close_that_cannot_sync_says_so_and_has_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    engine = small_engine(tmp_path / "db")
    engine.write([synced_pair(1)], sync=False)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageError, match="Input/output error") as failed:
        engine.close()
    assert failed.value.may_have_applied
    monkeypatch.undo()
    engine = small_engine(tmp_path / "db")
    assert engine.get(synced_pair(1)[0]) == synced_pair(1)[1]
    engine.close()


def test_a_sync_of_everything_covers_every_log_and_its_failure_is_that_of_all_later_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken away on the strength of it (large/reclaiming.py) must not be pointed to again after a crash."""
    synced: list[int] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    engine = small_engine(tmp_path / "db")
    engine.write([synced_pair(1)], sync=False)
    monkeypatch.setattr(os, "fsync", noting)
    engine.sync()
    logs = {path.stat().st_ino for path in (tmp_path / "db").glob("*.log")}
    assert logs and {*logs, (tmp_path / "db").stat().st_ino} <= set(synced)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageError, match="Input/output error") as failed:
        engine.sync()
    assert failed.value.may_have_applied
    monkeypatch.undo()
    with pytest.raises(StorageError, match="Input/output error"):
        engine.write([synced_pair(2)], sync=True)
    engine.close()
