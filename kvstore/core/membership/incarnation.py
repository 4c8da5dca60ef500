"""Our own incarnations: the number that a member raises to refute what is said of it, and never uses in two lives.

They are leased ahead like the counters of actors: the shell keeps a bound durably, every incarnation in use is below it, and the
next start begins at it. So a node that comes back is believed over everything that was said of its earlier life.
"""

from __future__ import annotations

LEASE = 1_000


class Incarnation:
    """`current` is in use; from the first on, all below `reserved` are durably ours."""

    __slots__ = ("_asked_for", "_reserved", "_wanted", "current")

    def __init__(self, first: int, reserved: int) -> None:
        assert 0 <= first < reserved
        self.current = first
        self._wanted = first
        self._reserved = reserved
        self._asked_for = reserved

    def refute(self, said: int) -> bool:
        """Wants one higher than `said`; whether it is in use now. Whether it was wanted before does not matter."""
        self._wanted = max(self._wanted, said + 1)
        return self._renew()

    def is_answered(self, said: int) -> bool:
        """Whether what was said of incarnation `said` is being refuted already."""
        return self._wanted > said

    def reserve(self, up_to: int) -> bool:
        """All below `up_to` are durably ours; whether a wanted one is in use now."""
        self._reserved = max(self._reserved, up_to)
        self._asked_for = max(self._asked_for, up_to)
        return self._renew()

    def due(self) -> int | None:
        """What to reserve up to, half a lease ahead of need; None if nothing is due or it was asked for already."""
        if self._wanted + LEASE // 2 <= self._asked_for:
            return None
        self._asked_for = self._wanted + LEASE
        return self._asked_for

    def _renew(self) -> bool:
        if not self.current < self._wanted < self._reserved:
            return False
        self.current = self._wanted
        return True

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        assert self.current <= self._wanted and self.current < self._reserved <= self._asked_for
        assert self.current == self._wanted or self._wanted >= self._reserved, "what is wanted waits for the reservation only"
