"""How old a record may be on its way: what was read longer than half the grace ago may have been superseded, and what superseded it
forgotten (safety rule 9). Whoever sends it reads it again."""

from __future__ import annotations

from kvproto.errors import AvailabilityError, KvError
from kvstore.core.reaping import Grace
from kvstore.runtime import Clock


class Freshness:
    """Judges by this node's wall clock; `refused` counts records."""

    def __init__(self, me: str, clock: Clock, grace: Grace) -> None:
        self._me = me
        self._clock = clock
        self._late_ms = int(grace.late_s * 1000)
        self.refused = 0

    def now_ms(self) -> int:
        """When something is read, or asked for; what `why_late` is told of it later."""
        return self._clock.now_ms()

    def why_late(self, since_ms: int, count: int) -> KvError | None:
        """Why `count` records that were read at `since_ms`, wall time of whoever read them, are not taken; None if they are."""
        age_ms = self._clock.now_ms() - since_ms
        if abs(age_ms) <= self._late_ms:  # from the future: nobody knows how old it is
            return None
        self.refused += count
        when = f"{age_ms / 1000:.1f} s ago" if age_ms >= 0 else f"{-age_ms / 1000:.1f} s from now, by its clock"
        return AvailabilityError(
            f"{self._me} takes no record read {when}, at most {self._late_ms / 1000:g} s: read it again",
            limit=self._late_ms,
            actual=abs(age_ms),
            subject=self._me,
        )
