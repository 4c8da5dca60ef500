"""The four seams' production side: wall time and randomness. Everything else is handed these.

The only module of the server that may read a clock or the system's randomness (ruff TID251): simulation passes its own.
"""

from __future__ import annotations

import random
import time
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
