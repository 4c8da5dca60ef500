"""How long reads take at the moment: a histogram that forgets, and the delay after which an answer is unusually late.

Buckets are an eighth of an octave wide (9 %), from 50 µs to 50 s. Called once for each group of a reply, with the number of
operations it answered; the percentile is computed a few times a second and read from an attribute in between.
"""

from __future__ import annotations

from itertools import accumulate
from math import log2

SHARE = 0.95
OBSERVATIONS_MIN = 20.0
AGE_INTERVAL_S = 0.25
HALF_LIFE_S = 1.0
LATENCY_MIN_S = 50e-6
_PER_OCTAVE = 8
_BUCKETS = 20 * _PER_OCTAVE
_KEPT_MIN = 2 * OBSERVATIONS_MIN
NEVER = float("inf")


class RecentLatency:
    """The 95th percentile of what was recorded lately, `p95_s`; infinite until there were enough observations to speak of one.

    What is older than a second counts half, and so on: a change shows within seconds. As long as there is little that is newer, the
    old is kept: a client that reads twice a second still knows what is usual.
    """

    __slots__ = ("_aged_s", "_counts", "_total", "p95_s")

    def __init__(self, now_s: float) -> None:
        self._counts = [0.0] * _BUCKETS
        self._total = 0.0
        self._aged_s = now_s
        self.p95_s = NEVER

    def record(self, latency_s: float, operations: int, now_s: float) -> None:
        """`operations` reads were answered after `latency_s`."""
        at = int(log2(latency_s / LATENCY_MIN_S) * _PER_OCTAVE) if latency_s > LATENCY_MIN_S else 0
        self._counts[min(at, _BUCKETS - 1)] += operations
        self._total += operations
        if now_s - self._aged_s >= AGE_INTERVAL_S:
            self._age(now_s)

    def _age(self, now_s: float) -> None:
        """Brings the percentile up to date, then lets what was seen count less."""
        if self._total >= OBSERVATIONS_MIN:
            wanted = self._total * SHARE
            at = next((at for at, sum_ in enumerate(accumulate(self._counts)) if sum_ >= wanted), _BUCKETS - 1)
            self.p95_s = LATENCY_MIN_S * 2.0 ** ((at + 1) / _PER_OCTAVE)
        kept = max(0.5 ** ((now_s - self._aged_s) / HALF_LIFE_S), min(1.0, _KEPT_MIN / self._total) if self._total else 1.0)
        self._counts = [count * kept for count in self._counts]
        self._total *= kept
        self._aged_s = now_s
