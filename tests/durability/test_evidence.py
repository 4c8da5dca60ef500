"""When a value counts as durable on a node, on a real database: by the sync of its log, or by the table that it moved to."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvchaos.disks.synced import Timeline, replay
from tests.durability.evidence import NodeEvidence, collect
from tests.durability.test_shim import run_under

# Records of a node, some synced by themselves; the buffer is small, so that most of them move to tables.
PROGRAM = """
import os, sys
from kvstore.core.record_writes import first_record
from kvstore.storage.layout import store_key_prefix, system_key
from kvstore.storage.leveldb import LevelDbEngine
engine = LevelDbEngine(sys.argv[1], write_buffer_bytes=64 << 10)
for number in range(300):
    value = b"%03d." % number + bytes(1000)
    record = first_record(bytes(12) + number.to_bytes(8, "big"), bytes(16), number, 0, value)
    pairs = [(store_key_prefix(1, 1) + b"k%d" % number, record), (system_key(b"lease"), b"not a record")]
    engine.write(pairs, sync=number in (10, 20))
os._exit(0)  # a clean end syncs what is in the logs
"""


@pytest.fixture(scope="module")
def run(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Timeline, NodeEvidence]:
    folder = tmp_path_factory.mktemp("evidence")
    done, events = run_under(shim, folder, PROGRAM)
    assert done.returncode == 0, done.stderr
    timeline = replay(events)
    return timeline, collect(timeline, folder / "kept")


def durable_ns(evidence: NodeEvidence) -> list[int | None]:
    """Since when each value is durable, in the order in which they were written."""
    return [evidence.copies[value].durable_ns for value in sorted(evidence.copies)]


def test_every_value_is_found_in_some_log_whether_it_was_unlinked_or_not(run: tuple[Timeline, NodeEvidence]) -> None:
    timeline, evidence = run
    assert sorted(int(value[:3]) for value in evidence.copies) == list(range(300))
    assert evidence.logs >= 4 and any(path.endswith(".log") for path in timeline.gone)


def test_a_sync_covers_every_value_before_it_at_its_return(run: tuple[Timeline, NodeEvidence]) -> None:
    timeline, evidence = run
    moments = durable_ns(evidence)
    first_log = min(path for path in timeline.lives() if path.endswith(".log"))
    mark, first, second = (sync.end_ns for sync in timeline.lives()[first_log].syncs)
    assert mark < first < second
    assert moments[:11] == [first] * 11 and moments[11:21] == [second] * 10


def test_a_value_whose_log_was_not_synced_counts_once_its_table_and_the_list_that_names_it_are(
    run: tuple[Timeline, NodeEvidence],
) -> None:
    timeline, evidence = run
    moved = durable_ns(evidence)[21]
    tables = sorted(path for path in timeline.lives() if path.endswith(".ldb"))
    table = timeline.lives()[tables[0]]
    (manifest,) = (life for path, life in timeline.files.items() if "/MANIFEST-" in path)
    table_ns = table.durable_ns(table.length)
    assert moved is not None and table_ns is not None and moved > table_ns
    assert moved in {sync.end_ns for sync in manifest.syncs}


def test_a_value_that_is_only_in_a_log_without_a_sync_never_counts(run: tuple[Timeline, NodeEvidence]) -> None:
    _, evidence = run
    assert durable_ns(evidence)[-1] is None


def test_by_the_letter_of_posix_a_copy_counts_only_once_the_directory_is_synced(run: tuple[Timeline, NodeEvidence]) -> None:
    """LevelDB renames CURRENT when it opens and does not sync the directory; the engine does, behind the first batch."""
    timeline, evidence = run
    by_number = [evidence.copies[value] for value in sorted(evidence.copies)]
    ((_, synced_ns), *_) = [sync for sync in next(iter(timeline.directory_syncs.values())) if sync[0] > renamed_ns(timeline)]
    assert all(copy.durable_ns is not None and copy.durable_ns < synced_ns == copy.named_ns for copy in by_number[:11])
    assert all(copy.durable_ns is not None and copy.named_ns == copy.durable_ns for copy in by_number[11:21])


def renamed_ns(timeline: Timeline) -> int:
    (moment,) = (life.renamed_ns for path, life in timeline.files.items() if path.endswith("/CURRENT"))
    assert moment is not None
    return moment


def test_a_directory_that_was_not_synced_after_a_file_was_made_does_not_hold_its_name(run: tuple[Timeline, NodeEvidence]) -> None:
    timeline, _ = run
    logs = sorted(path for path in timeline.lives() if path.endswith(".log"))
    created = {path: timeline.lives()[path].created_ns for path in logs}
    named = {path: timeline.named_ns(path, created[path]) for path in logs}
    assert all(moment is None or moment > created[path] for path, moment in named.items())
    assert named[logs[0]] is not None
