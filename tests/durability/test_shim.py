"""The shim sees everything that the engine and the data directory ask of the file system, and can slow and fail it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvchaos.disks.build import COMPILERS, CannotBuild, build_shim, find_compiler
from kvchaos.disks.synced import Event, Timeline, read_events, replay

# A data directory with an engine in it that rotates its log several times, as a node has it, and a clean stop.
PROGRAM = """
import sys
from pathlib import Path
from kvstore.storage.directory import open_directory
from kvstore.storage.leveldb import LevelDbEngine
directory = open_directory(sys.argv[1], cluster_id="c", node_id="n")
engine = LevelDbEngine(directory.subdirectory("data"), write_buffer_bytes=64 << 10)
for number in range(60):
    engine.write([(b"%04d/%02d" % (number, at), bytes([number]) * 300) for at in range(20)], sync=True)
engine.close()
directory.close(b"state")
"""
BATCHES = 60
UNSEEN = {"LOG", "LOCK"}  # LevelDB's messages go through stdio, and its lock file stays empty


def run_under(
    shim: Path, folder: Path, program: str = PROGRAM, **settings: object
) -> tuple[subprocess.CompletedProcess[str], list[Event]]:
    """Runs the program on folder/db; what it said, and the events. Logs that it unlinks are kept in folder/kept."""
    events, kept = folder / "events.tsv", folder / "kept"
    kept.mkdir()
    env = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "LD_PRELOAD": str(shim),
        "KV_SHIM_ROOT": str(folder.resolve() / "db"),
        "KV_SHIM_LOG": str(events),
        "KV_SHIM_KEEP": str(kept),
        **{name: str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-c", program, str(folder.resolve() / "db")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    return done, read_events(events)


@pytest.fixture
def clean_run(shim: Path, tmp_path: Path) -> Timeline:
    done, events = run_under(shim, tmp_path)
    assert done.returncode == 0, done.stderr
    return replay(events)


def test_no_byte_reaches_a_file_without_the_shim_seeing_it(clean_run: Timeline, tmp_path: Path) -> None:
    on_disk = {str(path.resolve()): path.stat().st_size for path in (tmp_path / "db").rglob("*") if path.is_file()}
    seen = {path: life.length for path, life in clean_run.files.items()}
    assert {path: size for path, size in on_disk.items() if Path(path).name not in UNSEEN} == {
        path: size for path, size in seen.items() if Path(path).name not in UNSEEN
    }
    assert sum(path.endswith(".ldb") for path in on_disk) >= 2


def test_every_synced_batch_is_one_sync_of_the_log_that_covers_all_of_it(clean_run: Timeline) -> None:
    logs = {path: life for path, life in clean_run.lives().items() if path.endswith(".log")}
    assert sum(len(life.syncs) for life in logs.values()) == BATCHES + 1, "and one for the end mark"
    assert all(life.synced_length == life.length > 0 for life in logs.values() if life.syncs)


def test_a_log_that_is_unlinked_can_still_be_read(clean_run: Timeline, tmp_path: Path) -> None:
    gone = {Path(path).name: life.length for path, life in clean_run.gone.items() if path.endswith(".log")}
    assert len(gone) >= 2
    assert {path.name: path.stat().st_size for path in (tmp_path / "kept").iterdir()} == gone


def test_the_files_of_a_clean_stop_are_durable_under_their_names(clean_run: Timeline) -> None:
    by_name = {Path(path).name: (path, life) for path, life in clean_run.files.items()}
    for name in ("kvstore.json", "clean-shutdown.json"):
        path, life = by_name[name]
        assert life.synced_length == life.length > 0
        assert life.renamed_ns is not None and clean_run.named_ns(path, life.renamed_ns) is not None


def test_a_delay_makes_each_sync_that_much_longer(shim: Path, tmp_path: Path) -> None:
    done, events = run_under(shim, tmp_path, KV_SHIM_DELAY_MS=7)
    assert done.returncode == 0, done.stderr
    took_ms = [(event.end_ns - event.begin_ns) / 1e6 for event in events if event.call in ("fsync", "fdatasync")]
    assert len(took_ms) > BATCHES and min(took_ms) >= 7


def test_the_sync_that_is_told_to_fails_and_the_program_learns_it(shim: Path, tmp_path: Path) -> None:
    done, events = run_under(shim, tmp_path, KV_SHIM_FAIL_AT=5, KV_SHIM_FAIL_PATH=".log")
    assert done.returncode != 0 and "StorageError" in done.stderr and "Input/output error" in done.stderr
    syncs = [event.result for event in events if event.call == "fdatasync" and event.path.endswith(".log")]
    assert syncs[:5] == [0, 0, 0, 0, -5], "four work, the fifth is EIO"
    timeline = replay(events)
    assert timeline.failed_ns is not None


def test_a_failed_rename_is_no_rename(clean_run: Timeline) -> None:
    """LevelDB tries to rename a LOG that is not there yet: the event has its errno and changes nothing."""
    assert not any(path.endswith("LOG.old") for path in clean_run.lives())


@pytest.mark.parametrize("present", COMPILERS)
def test_any_of_the_usual_compilers_will_do(present: str) -> None:
    assert find_compiler(lambda name: f"/bin/{name}" if name == present else None) == (f"/bin/{present}",)
    assert find_compiler(lambda name: None) is None


def test_a_compiler_that_fails_leaves_nothing_that_looks_built(tmp_path: Path) -> None:
    with pytest.raises(CannotBuild, match="false"):
        build_shim(tmp_path, which=lambda name: "/bin/false")
    assert list(tmp_path.iterdir()) == []
