"""A clock that stands still until a test moves it."""

from __future__ import annotations

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""


class FakeClock:
    """Both the cluster's time of day and the client's monotonic clock."""

    def __init__(self, start_ms: int = START_MS) -> None:
        self._start_ms = start_ms
        self._passed_s = 0.0

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass."""
        if not seconds >= 0:
            raise ValueError(f"time does not run backwards: {seconds} s")
        self._passed_s += seconds

    def monotonic_s(self) -> float:
        """Seconds since the clock was made."""
        return self._passed_s

    def now_ms(self) -> int:
        """The time of day, Unix milliseconds."""
        return self._start_ms + round(self._passed_s * 1000)
