"""Bounds how often an event is told, for events that a stranger can bring about, or that a sick disk brings about a thousand times
a second. What was held back is counted, and said with the next one that is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvstore.telemetry.logs import log

BURST = 10.0
PER_S = 0.2


class BoundedLog:
    """At most `burst` lines of an event at once and `per_s` in the long run, each event by itself. `now_s` never goes back."""

    __slots__ = ("_burst", "_left", "_now_s", "_per_s", "_waiting", "suppressed")

    def __init__(self, now_s: Callable[[], float], *, burst: float = BURST, per_s: float = PER_S) -> None:
        self._now_s = now_s
        self._burst = burst
        self._per_s = per_s
        self._left: dict[str, tuple[float, float]] = {}  # event -> lines left, as of when
        self._waiting: dict[str, int] = {}
        self.suppressed: dict[str, int] = {}
        """Lines that were held back, by event; for the metrics."""

    def tell(self, level: str, event: str, /, **facts: Any) -> None:
        """Logs the event, or counts it. `event` is one of the code's own names, never a stranger's."""
        now_s = self._now_s()
        left, since_s = self._left.get(event, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._per_s)
        if left < 1.0:
            self._left[event] = (left, now_s)
            self._waiting[event] = self._waiting.get(event, 0) + 1
            self.suppressed[event] = self.suppressed.get(event, 0) + 1
            return
        self._left[event] = (left - 1.0, now_s)
        held_back = self._waiting.pop(event, 0)
        if held_back:
            facts["suppressed"] = held_back
        getattr(log, level)(event, **facts)
