"""How late the event loop is: what every request waits before it is looked at."""

from __future__ import annotations

import asyncio

from kvstore.telemetry.histogram import Histogram
from kvstore.telemetry.meters import Timer

TICK_S = 0.25


class LoopLag:
    """Sleeps a tick at a time and notes how much longer that took. Belongs to one event loop."""

    def __init__(self, lags: Histogram, timer: Timer, *, name: str) -> None:
        self._lags = lags
        self._timer = timer
        self._task = asyncio.get_running_loop().create_task(self._watch(), name=name)

    async def stop(self) -> None:
        """Watches no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            began_s = self._timer()
            await asyncio.sleep(TICK_S)
            self._lags.add(max(0.0, self._timer() - began_s - TICK_S))
