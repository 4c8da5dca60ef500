"""The disk of one node whose every write and sync is written down, so that its power can be cut.

The record is of one life of the process, from an empty directory on; what a second life does to files that were cut is not in it.
"""

from __future__ import annotations

from pathlib import Path

from kvchaos.disks.cutting import CutReport, apply_cut, plan_cut
from kvchaos.disks.synced import read_events, replay

SYNC_MS = 5
"""Each sync takes so much longer: a power cut then nearly always meets something that is written and not synced."""


class RecordedDisk:
    """The directory `data` of a node that runs under the compiled shim `library`; the record lies in `folder`."""

    def __init__(self, library: Path, data: Path, folder: Path) -> None:
        # Resolved: the shim learns the path of an open file from the kernel, and compares it with this.
        self._data = data.resolve()
        self._events = folder / "disk-events.tsv"
        self._library = library

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process write its record."""
        return {
            "LD_PRELOAD": str(self._library),
            "KV_SHIM_ROOT": str(self._data),
            "KV_SHIM_LOG": str(self._events),
            "KV_SHIM_DELAY_MS": str(SYNC_MS),
        }

    def unsynced_bytes(self) -> int:
        """What lies in logs and is not synced, of a process that stands still or has ended. Blocks."""
        lives = replay(read_events(self._events)).files.items()
        return sum(life.length - (life.synced_length or 0) for path, life in lives if path.endswith(".log"))

    def cut_back(self) -> CutReport:
        """Takes away what was not synced, of a process that has ended. Raises `CannotCut`. Blocks."""
        return apply_cut(self._data, plan_cut(replay(read_events(self._events))))
