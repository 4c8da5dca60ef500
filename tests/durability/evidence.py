"""From a node's timeline and its files: since when each value that the node wrote is durable there.

A value lies in a record of LevelDB's log and is durable once a sync has covered that record; or, later, in a table, durable once
the table and the edit of the MANIFEST that names it and retires the log are. LevelDB recovers by the very same rule. What has only
a pointer there is durable once, besides, a sync has covered it in its file of values. Read after the process has ended and before
anything is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvchaos.disks.synced import FileLife, Timeline
from kvstore.core.record import decode
from kvstore.storage.disk_engine import VALUES
from kvstore.storage.large.files import SUFFIX
from kvstore.storage.large.pointers import MARK, Pointer, read_marked
from kvstore.storage.layout import SYSTEM_PREFIX
from tests.durability.leveldb_log import edit_of, puts_of, read_log

_LOG = re.compile(r"/(\d+)\.log$")
_MANIFEST = re.compile(r"/MANIFEST-\d+$")


@dataclass(frozen=True, slots=True)
class Copy:
    """A value on one node. `durable_ns`: since when, None never. `named_ns`: since when by the letter of POSIX, which lets a new
    name of a file be lost until its directory is synced.
    """

    durable_ns: int | None
    named_ns: int | None


@dataclass(slots=True)
class NodeEvidence:
    """What one node had made durable, and when; and how much there was to read."""

    copies: dict[bytes, Copy]
    logs: int = 0
    log_records: int = 0
    tables: int = 0
    beside: int = 0
    """Of the copies, those in files of values."""


@dataclass(frozen=True, slots=True)
class _Retired:
    """Logs below `log_number` are durable in tables since `since_ns`."""

    log_number: int
    since_ns: int


def collect(timeline: Timeline, kept: Path) -> NodeEvidence:
    """Reads the logs of a node that has ended, those it had unlinked from `kept`, and dates every value in them."""
    evidence = NodeEvidence({})
    retired = list(_retirements(timeline))
    lives = timeline.lives()
    evidence.tables = sum(path.endswith(".ldb") for path in lives)
    for path, life in sorted(lives.items()):
        match = _LOG.search(path)
        if match is None:
            continue
        evidence.logs += 1
        number = int(match.group(1))
        moved_ns = min((one.since_ns for one in retired if one.log_number > number), default=None)
        named_ns = _named_ns(timeline, path, life)
        for end, rows in _rows_of(_content(Path(path), kept)):
            evidence.log_records += 1
            told = _date(life.durable_ns(end), named_ns, moved_ns)
            for row in rows:
                record, copy = row, told
                if row.startswith(MARK):
                    record, beside = _value_beside(timeline, Path(path).parent, row)
                    copy = _later(told, beside)
                    evidence.beside += 1
                for sibling in decode(record).siblings:
                    evidence.copies[sibling.value] = _earlier(evidence.copies.get(sibling.value), copy)
    return evidence


def _value_beside(timeline: Timeline, folder: Path, row: bytes) -> tuple[bytes, Copy]:
    """The value that a pointer leads to, and since when it is durable."""
    pointer = read_marked(row)
    assert isinstance(pointer, Pointer)
    path = str(folder / VALUES / f"{pointer.file:010d}{SUFFIX}")
    life = timeline.files[path]
    assert life.renamed_ns is None, "a file that was written twice: the record of the shim says nothing of its middle"
    durable_ns = life.durable_ns(pointer.offset + pointer.size_bytes)
    named_ns = timeline.named_ns(path, life.created_ns)
    with open(path, "rb") as file:
        file.seek(pointer.offset)
        return file.read(pointer.size_bytes), Copy(durable_ns, _last(durable_ns, named_ns))


def _named_ns(timeline: Timeline, path: str, log: FileLife) -> int | None:
    """Since when the directory, as synced, leads to this log: by its own name, and by CURRENT, which LevelDB renames into place."""
    current = str(Path(path).with_name("CURRENT"))
    life = timeline.files.get(current)
    if life is None:
        return None
    return timeline.named_ns(path, max(log.created_ns, life.renamed_ns or life.created_ns))


def _date(synced_ns: int | None, named_ns: int | None, moved_ns: int | None) -> Copy:
    return Copy(_first(synced_ns, moved_ns), _first(_last(synced_ns, named_ns), moved_ns))


def _later(one: Copy, other: Copy) -> Copy:
    return Copy(_last(one.durable_ns, other.durable_ns), _last(one.named_ns, other.named_ns))


def _last(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def _earlier(one: Copy | None, other: Copy) -> Copy:
    if one is None:
        return other
    return Copy(_first(one.durable_ns, other.durable_ns), _first(one.named_ns, other.named_ns))


def _first(one: int | None, other: int | None) -> int | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)


def _content(path: Path, kept: Path) -> bytes:
    return path.read_bytes() if path.exists() else (kept / path.name).read_bytes()


def _rows_of(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """(where it ends, what it puts for users) of each record of a log."""
    for record in read_log(data):
        yield record.end, [row for key, row in puts_of(record.payload) if not key.startswith(SYSTEM_PREFIX)]


def _retirements(timeline: Timeline) -> Iterator[_Retired]:
    """When which logs had become superfluous: the edit that says so is synced, and so is every table named until then."""
    lives = timeline.lives()
    for path, life in sorted(lives.items()):
        # A MANIFEST that is gone was replaced at the start; what it retired, its successor retires too.
        if not _MANIFEST.search(path) or not Path(path).exists():
            continue
        moments: list[int | None] = []
        for record in read_log(Path(path).read_bytes()):
            edit = edit_of(record.payload)
            moments.append(life.durable_ns(record.end))
            moments += [_table_durable_ns(lives, Path(path).parent, number) for number in edit.new_tables]
            if None in moments:
                break
            if edit.log_number is not None:
                yield _Retired(edit.log_number, max(moment for moment in moments if moment is not None))


def _table_durable_ns(lives: dict[str, FileLife], folder: Path, number: int) -> int | None:
    life = lives.get(str(folder / f"{number:06d}.ldb"))
    return None if life is None else life.durable_ns(life.length)
