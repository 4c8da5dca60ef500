"""All that one node counts and tells, as one object that is handed around when the node is put together."""

from __future__ import annotations

from kvstore.telemetry.histogram import SECONDS, Histogram
from kvstore.telemetry.limiter import BoundedLog
from kvstore.telemetry.meters import CallMeter, CommitMeter, LinkMeter, RequestMeter, Timer

SLOW_BATCH_S = 0.5


class Telemetry:
    """Counters, None of each without `metrics`; a log that is bounded; and from when on a batch is slow (0: never)."""

    def __init__(self, timer: Timer, *, metrics: bool = True, slow_batch_s: float = SLOW_BATCH_S) -> None:
        self.timer = timer
        self.logs = BoundedLog(timer)
        self.slow_batch_s = slow_batch_s
        self.metrics = metrics
        self.requests = RequestMeter(timer) if metrics else None
        self.commits = CommitMeter(timer) if metrics else None
        self.calls = CallMeter(timer) if metrics else None
        self.loop_lag = Histogram(SECONDS) if metrics else None

    def link(self) -> LinkMeter | None:
        """Counters for one more link."""
        return LinkMeter() if self.metrics else None
