"""How fast background work goes: so many bytes a second at the most, and slower while clients are served.

It yields and does not stop: work that waits for idleness may wait for ever, and what it repairs is what reads and quorums rest on.
So while clients are served it rests after each piece of work for `REST_FACTOR` times as long as that took, the waiting for a peer
included, and no longer than `REST_S_MAX`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

REST_FACTOR = 1.5
REST_S_MAX = 0.1
BURST_S = 0.25


class Pace:
    """One node's background work. `is_busy` says whether clients are served."""

    def __init__(self, bytes_per_s: int, is_busy: Callable[[], bool]) -> None:
        self._bytes_per_s = bytes_per_s
        self._is_busy = is_busy
        self._loop = asyncio.get_running_loop()
        self._free_at_s = 0.0
        self._rested_s = self._loop.time()

    async def rest(self, size_bytes: int = 0) -> None:
        """After a piece of work of `size_bytes`: returns when the next may begin."""
        now_s = self._loop.time()
        worked_s = now_s - self._rested_s
        self._free_at_s = max(self._free_at_s, now_s - BURST_S) + size_bytes / self._bytes_per_s
        yield_s = min(REST_S_MAX, REST_FACTOR * worked_s) if self._is_busy() else 0.0
        await asyncio.sleep(max(yield_s, self._free_at_s - now_s, 0.0))
        self._rested_s = self._loop.time()
