"""How fast work goes that nobody waits for: what is handed over, repaired or swept yields to what clients ask for.

One for each node, shared by everything in the background: each asks for a turn before it does so many bytes of work, and what all
of them do together is bounded by a rate that falls with the load, from `bytes_per_s_max` of an idle node to `bytes_per_s_min` of
one that has all it can do. Never to nothing: what is owed must get through sometime, or a busy cluster never converges
(riak_core#760). The load is looked at again while a turn is waited for, so that the end of a flood is noticed at once. Takes its
time from the event loop; belongs to one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

BYTES_PER_S_MAX = 64 * 1024 * 1024
BYTES_PER_S_MIN = 1024 * 1024
OPERATION_BYTES = 256
"""What a record costs beside its bytes: a thousand empty ones are no less work than some large ones."""
LOOK_S = 0.1
LEAST_S = 1e-6
"""What rounding has left of a wait may be less than the clock can tell: it would never be over."""


class Pace:
    """`await pace.turn(…)` before each piece of work. `load` is from 0, idle, to 1; `waited_s` and `turns` are counters."""

    __slots__ = ("_at_s", "_load", "_loop", "_owed_bytes", "bytes_per_s_max", "bytes_per_s_min", "turns", "waited_s")

    def __init__(
        self,
        load: Callable[[], float] = lambda: 0.0,
        *,
        bytes_per_s_max: float = BYTES_PER_S_MAX,
        bytes_per_s_min: float = BYTES_PER_S_MIN,
    ) -> None:
        assert 0 < bytes_per_s_min <= bytes_per_s_max
        self.bytes_per_s_max = bytes_per_s_max
        self.bytes_per_s_min = bytes_per_s_min
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._at_s = self._loop.time()
        self._owed_bytes = 0.0
        self.turns = 0
        self.waited_s = 0.0

    @property
    def bytes_per_s(self) -> float:
        """The rate as of now: between the two bounds, in proportions, so that half a load is much less than half the rate."""
        load = min(1.0, max(0.0, self._load()))
        return self.bytes_per_s_max * math.pow(self.bytes_per_s_min / self.bytes_per_s_max, load)

    async def turn(self, size_bytes: int = 0, operations: int = 0) -> None:
        """Returns when so much work may be done. The first turn after a pause comes at once, however large it is: who comes next
        waits for it. Who does not know yet how much it will be says nothing here, and `charge`s it afterwards."""
        began_s = self._loop.time()
        while (wait_s := self._wait_s()) > 0:  # noqa: ASYNC110 - time is what is waited for, and nobody could tell how much
            await asyncio.sleep(min(max(wait_s, LEAST_S), LOOK_S))
        self.waited_s += self._loop.time() - began_s
        self.turns += 1
        self.charge(size_bytes, operations)

    def charge(self, size_bytes: int, operations: int = 0) -> None:
        """So much more was done than the turn was asked for."""
        self._owed_bytes += size_bytes + operations * OPERATION_BYTES

    def _wait_s(self) -> float:
        """Until what was begun is worked off at the rate of now."""
        now_s, rate = self._loop.time(), self.bytes_per_s
        self._owed_bytes = max(0.0, self._owed_bytes - (now_s - self._at_s) * rate)
        self._at_s = now_s
        return self._owed_bytes / rate
