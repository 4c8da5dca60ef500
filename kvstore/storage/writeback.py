"""Has a table reach the disk while LevelDB fills it, a few megabytes at a time.

LevelDB syncs a table when it has written all of it, up to a whole write buffer at once, and meanwhile every sync of its log waits
in the same queue of the disk. So a thread syncs the newest table each time it has grown by some megabytes, and little is left for
LevelDB's own sync (ADR 34; RocksDB's `bytes_per_sync`, for which LevelDB has no option). It begins when something in the directory
has changed, as a new log does that, and ends when nothing grows any more.

A sync that fails here is a failed sync like any other, and the engine's last: Linux tells an error of writing back to each who has
the file open, LevelDB as well, but before version 4.13 it told it once. That a file cannot be opened to be synced, for want of
descriptors or because it is gone, harms nobody: LevelDB syncs it in the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from kvstore.storage.syncing import sync_data

PIECE_BYTES = 4 << 20
LOOK_S = 0.01
QUIET_LOOKS = 50
"""At so many looks in a row no table has grown by a piece, and a writeback ends."""
SUSPECT_LOOKS = 5
"""After the directory has changed it is listed at so many looks: its time stamp is coarse, and a second change within one tick
would not show."""
TABLE_SUFFIX = ".ldb"


class TableWriteback:
    """That of the database in the directory `path`. `on_failure` is called on its thread, which runs from the first `begin` on."""

    def __init__(self, path: Path, on_failure: Callable[[OSError], object]) -> None:
        self._path = path
        self._on_failure = on_failure
        self._due = Event()
        self._stopping = Event()
        self._thread: Thread | None = None
        self._changed_ns = 0
        self._listings_due = 0
        self._newest = ""
        self._synced_bytes = 0

    def begin(self) -> None:
        """A table is being written, or soon will be. Idempotent, and cheap."""
        self._due.set()
        if self._thread is None and not self._stopping.is_set():
            self._thread = Thread(target=self._run, name="kv-writeback", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Syncs nothing more. Idempotent."""
        self._stopping.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> bool:
        """Syncs the newest table if it has grown by a piece; whether it was synced. Raises `OSError` if its sync failed."""
        try:
            name = self._newest_table()
            if name != self._newest:
                self._newest, self._synced_bytes = name, 0
            if not name:
                return False
            place = self._path / name
            size_bytes = place.stat().st_size
            if size_bytes - self._synced_bytes < PIECE_BYTES:
                return False
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            sync_data(descriptor)
        finally:
            os.close(descriptor)
        self._synced_bytes = size_bytes
        return True

    def _newest_table(self) -> str:
        """The table with the highest number: LevelDB writes one at a time. "": there is none."""
        changed_ns = self._path.stat().st_mtime_ns
        if changed_ns != self._changed_ns:
            self._changed_ns = changed_ns
            self._listings_due = SUSPECT_LOOKS
        if not self._listings_due:
            return self._newest
        self._listings_due -= 1
        return max((name for name in os.listdir(self._path) if name.endswith(TABLE_SUFFIX)), key=_age, default="")

    def _run(self) -> None:
        while self._due.wait() and not self._stopping.is_set():
            self._due.clear()
            quiet_looks = 0
            while quiet_looks < QUIET_LOOKS and not self._stopping.wait(LOOK_S):
                try:
                    quiet_looks = 0 if self.look() else quiet_looks + 1
                except OSError as error:
                    self._on_failure(error)
                    return


def _age(name: str) -> tuple[int, str]:
    """Numbers have six digits, and more once they need them."""
    return len(name), name
