"""From a node's timeline and its files: since when each value that the node wrote is durable there.

A value lies in a record of LevelDB's log and is durable once a sync has covered that record; or, later, in a table, durable once
the table and the edit of the MANIFEST that names it and retires the log are. LevelDB recovers by the very same rule. Read after
the process has ended and before anything is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvchaos.disks.synced import FileLife, Timeline
from kvstore.core.record import decode
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
        for end, values in _values_of(_content(Path(path), kept)):
            evidence.log_records += 1
            copy = _date(life.durable_ns(end), named_ns, moved_ns)
            for value in values:
                evidence.copies[value] = _earlier(evidence.copies.get(value), copy)
    return evidence


def _named_ns(timeline: Timeline, path: str, log: FileLife) -> int | None:
    """Since when the directory, as synced, leads to this log: by its own name, and by CURRENT, which LevelDB renames into place."""
    current = str(Path(path).with_name("CURRENT"))
    life = timeline.files.get(current)
    if life is None:
        return None
    return timeline.named_ns(path, max(log.created_ns, life.renamed_ns or life.created_ns))


def _date(synced_ns: int | None, named_ns: int | None, moved_ns: int | None) -> Copy:
    strictly = None if synced_ns is None or named_ns is None else max(synced_ns, named_ns)
    return Copy(_first(synced_ns, moved_ns), _first(strictly, moved_ns))


def _earlier(one: Copy | None, other: Copy) -> Copy:
    if one is None:
        return other
    return Copy(_first(one.durable_ns, other.durable_ns), _first(one.named_ns, other.named_ns))


def _first(one: int | None, other: int | None) -> int | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)


def _content(path: Path, kept: Path) -> bytes:
    return path.read_bytes() if path.exists() else (kept / path.name).read_bytes()


def _values_of(data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """(where it ends, the values of users in it) of each record of a log."""
    for record in read_log(data):
        values = [
            sibling.value
            for key, row in puts_of(record.payload)
            if not key.startswith(SYSTEM_PREFIX)
            for sibling in decode(row).siblings
        ]
        yield record.end, values


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
