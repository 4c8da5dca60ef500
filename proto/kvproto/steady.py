"""What another machine's clock says, from what it said: both clocks never step, so they are apart by the same for ever.

What was said was on its way for a while, so the estimate lags behind: never ahead of the other clock but by what the two drift
apart within the memory. What was heard with the least delay of late counts. Pure; belongs to whoever reads one stream.
"""

from __future__ import annotations

MEMORY_S = 60.0
NEVER = float("inf")


class FarClock:
    """One other clock."""

    __slots__ = ("_before_s", "_least_s", "_turned_s")

    def __init__(self) -> None:
        self._before_s = NEVER
        self._least_s = NEVER
        self._turned_s = 0.0

    def heard(self, there_ms: int, now_s: float) -> None:
        """It said `there_ms` (0: nothing), and that was read when ours said `now_s`."""
        if not there_ms:
            return
        if now_s - self._turned_s > MEMORY_S:
            self._before_s, self._least_s, self._turned_s = self._least_s, NEVER, now_s
        self._least_s = min(self._least_s, now_s - there_ms / 1000)

    def at_least_ms(self, now_s: float) -> int:
        """What it says when ours says `now_s`, or a little less; 0 if it was never heard."""
        apart_s = min(self._before_s, self._least_s)
        return 0 if apart_s == NEVER else max(0, int((now_s - apart_s) * 1000))
