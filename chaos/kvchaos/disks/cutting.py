"""What a power failure would have left: every file of a dead node cut back to what was synced, by the record of the shim.

SIGKILL leaves the page cache, so a restart after it proves nothing about fsync. Here the cache's part is taken away:
- a file that was synced keeps what the last sync covered, and its name: on ext4, XFS and Btrfs the sync of a new file makes its
  name durable; POSIX would ask for a sync of the directory as well (how many acknowledgements rest on that, verdict.py counts);
- a file that was never synced is emptied if its directory was synced after it was made, else removed;
- a rename holds if anything was synced after it (those file systems write directories in order), and a cut refuses to judge others;
- what was unlinked stays away, and what the shim never saw (LevelDB's LOG of messages) is removed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from kvchaos.disks.synced import Timeline


class CannotCut(Exception):
    """The record does not say what a power failure would have left."""


@dataclass(slots=True)
class CutReport:
    """What was taken away; `torn_bytes` were left though nothing had synced them."""

    files_cut: int = 0
    files_removed: int = 0
    bytes_lost: int = 0
    torn_bytes: int = 0


def plan_cut(timeline: Timeline, tear: Random | None = None) -> dict[str, int]:
    """The length that is left of each file; those that are not listed are gone. Raises `CannotCut`. Pure.

    With `tear`, some of what was written to a log and not synced is left, a random number of bytes: a disk may have come so far.
    """
    left: dict[str, int] = {}
    for path, life in timeline.files.items():
        if life.renamed_ns is not None and life.renamed_ns > timeline.last_sync_begin_ns:
            raise CannotCut(f"{path} was renamed and nothing was synced since")
        if life.synced_length is not None:
            left[path] = life.synced_length
            if tear is not None and path.endswith(".log"):
                left[path] += tear.randint(0, max(0, life.length - life.synced_length))
        elif timeline.named_ns(path, life.created_ns) is not None:
            left[path] = 0
    return left


def apply_cut(folder: Path, left: Mapping[str, int]) -> CutReport:
    """Cuts the files below `folder`, of a process that has ended, to the lengths planned. Raises `CannotCut` if one is shorter."""
    report = CutReport()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        length, planned = path.stat().st_size, left.get(str(path))
        if planned is None:
            report.files_removed += 1
            report.bytes_lost += length
            path.unlink()
        elif planned < length:
            report.files_cut += 1
            report.bytes_lost += length - planned
            os.truncate(path, planned)
        elif planned > length:
            raise CannotCut(f"{path} has {length} bytes and {planned} were synced: the record is not of this file")
    missing = [path for path in left if not Path(path).exists()]
    if missing:
        raise CannotCut(f"{missing[0]} was synced and is not there")
    return report
