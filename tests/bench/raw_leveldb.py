"""The physical limit: LevelDB alone, one thread, synced write batches of 64, on the filesystem that holds the clusters' data."""

from __future__ import annotations

import time
from pathlib import Path

try:
    import plyvel
except ImportError:
    import plyvel_next as plyvel

from tests.bench.workload import Workload

BATCH_PUTS = 64
WRITE_BUFFER_BYTES = 32 << 20
"""What a node gives LevelDB too (kvstore.config.values.NodeLimits)."""


class RawLevelDB:
    """A database at `path` filled with the workload's keys."""

    def __init__(self, path: Path, workload: Workload) -> None:
        self._database = plyvel.DB(str(path), create_if_missing=True, write_buffer_size=WRITE_BUFFER_BYTES, compression=None)
        self._workload = workload
        with self._database.write_batch(sync=True) as batch:
            for i, key in enumerate(workload.keys):
                batch.put(key, workload.value(i))

    def measure_puts_per_s(self, *, seconds: float, seed: str) -> float:
        """Puts a second in synced batches of 64, for `seconds` of wall time. Blocks."""
        order, puts = self._workload.order(seed), 0
        begin = time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < seconds:
            with self._database.write_batch(sync=True) as batch:
                for at in range(puts, puts + BATCH_PUTS):
                    batch.put(order[at % len(order)], self._workload.value(at))
            puts += BATCH_PUTS
        return puts / elapsed

    def close(self) -> None:
        """Closes the database."""
        self._database.close()
