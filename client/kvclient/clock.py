"""Time as the client sees it: one monotonic clock, passed in, so that a simulated world can own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds; wall time comes from the nodes (`ClusterInfo.server_time_ms`), never from this machine."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment."""


class SystemClock:
    """The machine's monotonic clock: the client's production seam for time."""

    __slots__ = ()

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()  # noqa: TID251 - this class is the replacement the ban names
