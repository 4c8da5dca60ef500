"""Hybrid logical clock (Kulkarni et al. 2014), for tie-breaks, expiry and staleness; never for causality.

A stamp is 48 bits of Unix milliseconds and 16 bits of counter in one integer, so stamps compare as numbers. Pure: the wall clock's
reading is an argument.
"""

from __future__ import annotations

LOGICAL_BITS = 16


class HybridClock:
    """Stamps that never run backwards, whatever the wall clock does."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def stamp(self, now_ms: int) -> int:
        """A stamp later than every one before it, and not before `now_ms`."""
        self._last = max(self._last + 1, now_ms << LOGICAL_BITS)
        return self._last

    def observe(self, stamp: int) -> None:
        """Takes note of a stamp made elsewhere: the next one here is later."""
        self._last = max(self._last, stamp)


def physical_ms(stamp: int) -> int:
    """The wall-clock part of a stamp."""
    return stamp >> LOGICAL_BITS
