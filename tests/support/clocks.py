"""A wall clock that stands still until it is told otherwise."""

from __future__ import annotations

import asyncio

START_MS = 1_700_000_000_000


class ManualClock:
    """A `Clock` whose time is an attribute."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        return self.time_ms

    def since_boot_s(self) -> float:
        """Goes on: it is no wall clock."""
        return asyncio.get_running_loop().time()

    def advance_s(self, seconds: float) -> None:
        self.time_ms += int(seconds * 1000)
