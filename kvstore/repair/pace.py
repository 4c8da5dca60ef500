"""How fast background work goes: so many bytes a second at the most, and behind what clients wait for.

It yields and does not stop: where clients never pause it still goes on after each `YIELD_S`, for work that waits for idleness may
wait for ever, and what it repairs is what reads and quorums rest on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

YIELD_S = 0.05
LOOKS = 10
BURST_S = 0.25


class Pace:
    """One node's background work. `is_busy` says whether clients' work waits."""

    def __init__(self, bytes_per_s: int, is_busy: Callable[[], bool]) -> None:
        self._bytes_per_s = bytes_per_s
        self._is_busy = is_busy
        self._loop = asyncio.get_running_loop()
        self._free_at_s = 0.0
        self._began_s = self._loop.time()

    async def rest(self, size_bytes: int = 0) -> None:
        """After a piece of work of `size_bytes`: returns when the next may begin. While clients wait, work and rest take turns of
        equal length."""
        now_s = self._loop.time()
        worked_s = min(YIELD_S, now_s - self._began_s)
        self._free_at_s = max(self._free_at_s, now_s - BURST_S) + size_bytes / self._bytes_per_s
        until_s = max(self._free_at_s, now_s + worked_s if self._is_busy() else now_s)
        await asyncio.sleep(max(0.0, until_s - now_s))
        for _ in range(LOOKS):
            if not self._is_busy():
                break
            await asyncio.sleep(YIELD_S / LOOKS)
        self._began_s = self._loop.time()
