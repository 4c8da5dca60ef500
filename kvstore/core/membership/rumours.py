"""Claims on their way round: passed on with whatever is sent anyway, each a bounded number of times (SWIM, section 4.1).

Bounded by the members: there is one claim of each, and a stronger one takes the place of the one before.
"""

from __future__ import annotations

from kvstore.core.membership.table import Claim


class Rumours:
    """The claims to pass on, those that were told least first."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, Claim]] = {}  # by member: how often, and what

    def __len__(self) -> int:
        return len(self._told)

    def spread(self, claim: Claim) -> None:
        """Begins to tell `claim`, instead of what was told of its member. The caller knows that it is news."""
        self._told[claim.member] = (0, claim)

    def take(self, count: int, retransmits: int) -> list[Claim]:
        """Up to `count` claims for one message, each of which counts as told; gone once told `retransmits` times."""
        chosen = sorted(self._told, key=lambda member: (self._told[member][0], member))[:count]
        claims = []
        for member in chosen:
            times, claim = self._told[member]
            claims.append(claim)
            if times + 1 >= retransmits:
                del self._told[member]
            else:
                self._told[member] = (times + 1, claim)
        return claims

    def forget(self, member: str) -> None:
        """It is no member any more."""
        self._told.pop(member, None)
