"""Latencies as HDR histograms: three significant digits from a nanosecond to an hour, mergeable between processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hdrh.histogram import HdrHistogram

LATENCY_NS_MAX = 3_600_000_000_000
SIGNIFICANT_DIGITS = 3
PERCENTILES: Mapping[str, float] = {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "p99_9_us": 99.9, "max_us": 100.0}


class Latencies:
    """A histogram of latencies in nanoseconds; figures come out in microseconds."""

    def __init__(self, latencies_ns: Iterable[int] = ()) -> None:
        self._histogram: Any = HdrHistogram(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
        record = self._histogram.record_value
        for latency_ns in latencies_ns:
            record(min(max(latency_ns, 1), LATENCY_NS_MAX))

    @property
    def count(self) -> int:
        """How many were recorded."""
        return int(self._histogram.get_total_count())

    def percentile_us(self, percentile: float) -> float:
        """The latency that `percentile` per cent do not exceed, in µs; 0 if nothing was recorded."""
        return float(self._histogram.get_value_at_percentile(percentile)) / 1000 if self.count else 0.0

    def summary(self) -> dict[str, float]:
        """`p50_us`, `p90_us`, `p99_us`, `p99_9_us`, `max_us` and `mean_us`."""
        figures = {name: round(self.percentile_us(percentile), 3) for name, percentile in PERCENTILES.items()}
        return figures | {"mean_us": round(float(self._histogram.get_mean_value()) / 1000, 3) if self.count else 0.0}

    def merge(self, other: Latencies) -> None:
        """Adds what `other` recorded."""
        self._histogram.add(other._histogram)

    def encode(self) -> str:
        """As text in the HDR histogram log's own coding (V2, compressed, base64), which every HDR tool reads."""
        encoded: bytes = self._histogram.encode()
        return encoded.decode("ascii")

    @classmethod
    def decode(cls, text: str) -> Latencies:
        """The reverse of `encode`."""
        latencies = cls()
        latencies._histogram.decode_and_add(text.encode("ascii"))
        return latencies
