"""Counters while they are counted on: every answer lies between what was acknowledged before and what was tried by then. Pure.

Each increment that was acknowledged before a read began counts; one that had begun before the read ended, and was not refused, may
count, once. (Jepsen's counter checker, with decrements.) `count` and `view` are those of counters; `increment` and `read` those of
registers. Where answers may be old, only what was never tried is an accusation.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

BETWEEN = "a counter is between what was acknowledged and what was tried"


def check_counters(calls: Iterable[Call], *, fresh: bool = True) -> list[Violation]:
    """At most one violation a key: the first answer that is out of bounds. `fresh`: answers have everything that was acknowledged
    before they began; else they may lack it."""
    by_key: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.f in ("count", "increment", "view", "read"):
            by_key[call.key].append(call)
    return [found for key, about in sorted(by_key.items()) if (found := _check(key, about, fresh)) is not None]


def _check(key: str, calls: Sequence[Call], fresh: bool) -> Violation | None:
    tried = [
        call for call in calls if call.f in ("count", "increment") and isinstance(call.invoke.value, int) and not call.is_refused
    ]
    if not tried:
        return None
    surely, perhaps = _Sums(tried, began=False), _Sums(tried, began=True)
    for read in sorted(calls, key=lambda call: call.ended_ns):
        held = _held(read)
        if held is None:
            continue
        # What lowers the count may have been there early, and what raises it late.
        low = (surely.up(read.began_ns) if fresh else 0) + perhaps.down(read.ended_ns)
        high = perhaps.up(read.ended_ns) + (surely.down(read.began_ns) if fresh else 0)
        if not low <= held <= high:
            return Violation(BETWEEN, key, f"it said {held}, and must have been between {low} and {high}", events_of(read))
    return None


class _Sums:
    """Sums of increments and of decrements up to a moment, by when they began or by when they ended."""

    def __init__(self, calls: Sequence[Call], *, began: bool) -> None:
        self._inclusive = began
        at = sorted((call.began_ns if began else call.ended_ns, call.invoke.value) for call in calls)
        self._times = [time for time, _ in at]
        self._ups: list[int] = [0, *accumulate(max(by, 0) for _, by in at)]
        self._downs: list[int] = [0, *accumulate(min(by, 0) for _, by in at)]

    def up(self, at_ns: float) -> int:
        """What was added."""
        return self._ups[self._count(at_ns)]

    def down(self, at_ns: float) -> int:
        """What was taken away, negative."""
        return self._downs[self._count(at_ns)]

    def _count(self, at_ns: float) -> int:
        # What touches overlaps: it may have begun in time, and need not have ended.
        return (bisect_right if self._inclusive else bisect_left)(self._times, at_ns)


def _held(call: Call) -> int | None:
    """What an answered read says; None for everything else."""
    if call.f not in ("view", "read") or not call.is_ok or call.end is None:
        return None
    value = call.end.value["n"] if call.f == "view" else call.end.value
    return 0 if value is None else value if isinstance(value, int) else None
