"""How much memory processes take over time, and whether that grows."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

SAMPLE_S = 1.0
MIB = 1 << 20


def rss_bytes(pid: int) -> int | None:
    """What the process has in memory now; None if there is none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return None
    rss = status.partition("VmRSS:")[2].split()
    return int(rss[0]) * 1024 if rss else None


def slope_mib_per_minute(samples: list[tuple[float, int]]) -> float:
    """The least-squares slope of (seconds, bytes)."""
    mean_s = sum(at for at, _ in samples) / len(samples)
    mean = sum(size for _, size in samples) / len(samples)
    spread = sum((at - mean_s) ** 2 for at, _ in samples)
    return sum((at - mean_s) * (size - mean) for at, size in samples) / spread * 60 / MIB if spread else 0.0


class MemoryWatch:
    """Samples the processes that `pids` names, by name and life: a process that was started again begins a new life."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self.lives: defaultdict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
        self._pids = pids
        self._task = asyncio.create_task(self._watch(), name="memory-watch")

    async def stop(self) -> None:
        """Takes no more samples."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def growth(self, *, warm_up_s: float, least_s: float) -> dict[str, float]:
        """MiB a minute of each process in the longest of its lives, its first `warm_up_s` left out; of those lives that are then
        still `least_s` long."""
        found: dict[str, tuple[float, float]] = {}
        for (name, _), samples in self.lives.items():
            kept = [sample for sample in samples if sample[0] >= samples[0][0] + warm_up_s]
            span_s = kept[-1][0] - kept[0][0] if kept else 0.0
            if span_s >= least_s and span_s > found.get(name, (0.0, 0.0))[0]:
                found[name] = (span_s, slope_mib_per_minute(kept))
        return {name: slope for name, (_, slope) in sorted(found.items())}

    def largest_mib(self) -> dict[str, int]:
        """The most that each had at any time."""
        largest: dict[str, int] = {}
        for (name, _), samples in sorted(self.lives.items()):
            largest[name] = max(largest.get(name, 0), max(size for _, size in samples) // MIB)
        return largest

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for name, pid in self._pids().items():
                size = rss_bytes(pid)
                if size is not None:
                    self.lives[name, pid].append((loop.time(), size))
            await asyncio.sleep(SAMPLE_S)
