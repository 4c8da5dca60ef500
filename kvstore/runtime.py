"""The four seams' production side: wall and monotonic time, randomness, and periodic work. Everything else is handed these.

The only module of the server that may read a clock or the system's randomness (ruff TID251): simulation passes its own.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, windows and expiry; never for causality. Timers use the event loop's own clock."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000


def system_random() -> random.Random:
    """A generator seeded by the system; drawn once per process and passed in."""
    return random.Random(random.SystemRandom().getrandbits(256))


async def periodic(interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` again and again, `interval_s` after it last ended, until cancelled. The owner names the task and ends it."""
    while True:
        await asyncio.sleep(interval_s)
        await work()
