"""LevelDB's own table of levels, from text to numbers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(slots=True, frozen=True)
class LevelStats:
    """One level: its files now, and what compactions into it have cost since the engine was opened. LevelDB counts whole MiB."""

    level: int
    files: int
    size_bytes: int
    compaction_s: float
    read_bytes: int
    written_bytes: int


def parse_level_stats(table: str) -> list[LevelStats]:
    """The rows of the property `leveldb.stats`; a line that is no row is passed over."""
    rows: list[LevelStats] = []
    for line in table.splitlines():
        cells = line.split()
        if len(cells) != 6 or not cells[0].isdecimal():
            continue
        level, files, size_mib, seconds, read_mib, written_mib = cells
        size, read, written = (int(float(mib) * MIB) for mib in (size_mib, read_mib, written_mib))
        rows.append(LevelStats(int(level), int(files), size, float(seconds), read, written))
    return rows
