"""Damage to the files of a LevelDB database, as a disk does it: in place, and without telling anybody. Blocks.

What is written to a table shows at once to a process that has it mapped; what it holds in its caches stays whole.
"""

from __future__ import annotations

import os
from pathlib import Path

from kvchaos.disks.tables import blocks_of_users

LOG_HEADER_BYTES = 7
"""Checksum, length and type of the first record."""


class NothingToDamage(Exception):
    """There is no such file, or nothing in it."""


def flip_in_tables(data: Path) -> int:
    """Flips a bit in every block of users' records of every table below `data`; how many. Raises `NothingToDamage`."""
    flipped = 0
    for table in sorted(data.rglob("*.ldb")):
        for block in blocks_of_users(table.read_bytes()):
            _flip(table, block.offset + block.size_bytes // 2)
            flipped += 1
    if not flipped:
        raise NothingToDamage(f"no table below {data} has a block of records alone")
    return flipped


def flip_in_log(data: Path) -> Path:
    """Flips a bit in the first record of the newest log below `data`; the same again undoes it. Raises `NothingToDamage`."""
    log = _newest(data, "*.log", LOG_HEADER_BYTES + 1)
    _flip(log, LOG_HEADER_BYTES)
    return log


def shorten_table(data: Path) -> Path:
    """Cuts the newest table below `data`, of a process that has ended, to half its length. Raises `NothingToDamage`."""
    table = _newest(data, "*.ldb", 2)
    os.truncate(table, table.stat().st_size // 2)
    return table


def _newest(data: Path, pattern: str, bytes_min: int) -> Path:
    found = [path for path in data.rglob(pattern) if path.stat().st_size >= bytes_min]
    if not found:
        raise NothingToDamage(f"no {pattern} below {data} has {bytes_min} bytes")
    return max(found, key=lambda path: path.name)


def _flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
