"""How much of something may be used a second: a bucket that fills at a rate and that each use empties.

Work comes in batches, and a batch is taken or refused as a whole; so whoever comes while the bucket holds anything at all may take
what he needs, and the bucket then owes it: nobody is let in before that has been refilled. On average no more than the rate is
used, and a batch larger than the bucket is not refused for ever. What an answer has cost is charged when it is known. Pure.
"""

from __future__ import annotations

BURST_S = 1.0
"""What was not used is kept for so long."""


class TokenBucket:
    """`rate` units a second, which may change; holds what a second brings, and is full at first. `taken` is a counter."""

    __slots__ = ("_at_s", "_level", "rate", "taken")

    def __init__(self, rate: float) -> None:
        assert rate > 0
        self.rate = rate
        self._level = rate * BURST_S
        self._at_s = -float("inf")
        self.taken = 0.0

    def wait_s(self, now_s: float) -> float:
        """0.0 if something may be taken now, else after how long."""
        if now_s > self._at_s:
            self._level = min(self.rate * BURST_S, self._level + (now_s - self._at_s) * self.rate)
            self._at_s = now_s
        return 0.0 if self._level > 0 else (1e-9 - self._level) / self.rate

    def take(self, units: float) -> None:
        """Uses so much, whether or not it is there."""
        self._level -= units
        self.taken += units
