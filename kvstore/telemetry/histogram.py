"""Counts in buckets, for what happens in batches: one search adds a whole batch. prometheus_client's own would cost that much for
each operation, and could not be simulated.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

SECONDS: tuple[float, ...] = tuple(round(0.0001 * 2**power, 4) for power in range(18))
"""0.1 ms to 13 s, each twice the one before."""

SIZES: tuple[float, ...] = tuple(float(2**power) for power in range(13))
"""1 to 4,096: operations or records of a batch."""

REPLICAS: tuple[float, ...] = tuple(float(count) for count in range(10))
"""0 to 9: replicas that answered."""

SIBLINGS: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Values of a key; 0: there was none."""


class Histogram:
    """Values up to each of `bounds`, ascending, and those beyond the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """`count` times `value`."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """(bound, values up to it), the last bound infinite: the shape of an exposition."""
        running = 0
        rows: list[tuple[float, int]] = []
        for bound, count in zip((*self.bounds, float("inf")), list(self.counts), strict=True):
            running += count
            rows.append((bound, running))
        return rows
