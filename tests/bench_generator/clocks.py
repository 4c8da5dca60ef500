"""Clocks for the loop that do not depend on how busy the machine is."""

from __future__ import annotations


class Ticks:
    """Every reading is `tick_us` later than the one before: a window holds the same number of operations on any machine."""

    def __init__(self, tick_us: int = 100) -> None:
        self._now_ns = 10**12
        self._tick_ns = tick_us * 1_000

    def __call__(self) -> int:
        self._now_ns += self._tick_ns
        return self._now_ns


class Machine:
    """A clock that only operations move: each takes the next of `durations_ms`, and the last one for ever after."""

    def __init__(self, *durations_ms: int) -> None:
        self.now_ns = 10**12
        self._durations_ms = list(durations_ms)

    def clock(self) -> int:
        return self.now_ns

    async def op(self, _i: int) -> None:
        duration_ms = self._durations_ms.pop(0) if len(self._durations_ms) > 1 else self._durations_ms[0]
        self.now_ns += duration_ms * 1_000_000
