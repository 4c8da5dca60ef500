"""Replies in, outcomes out: decides the operations of one sub-batch among the home replicas of its keys.

Pure; the coordinator's put and get feed it in arrival order and act on what it settles (Dynamo, SOSP'07, section 4.5). The usual
reply is "all of them", so whole answers are one counter; refusals of single positions are counted beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum


class Outcome(Enum):
    """What has become of an operation."""

    PENDING = "pending"
    MET = "met"
    UNREACHABLE = "unreachable"


class Tally:
    """Counts the answers of `targets` to `size` operations, each needing `need` of them.

    A target answers once: `record` (with the positions that it refused or cannot vouch for) or `fail` (none of them). `settle`
    returns what has been decided since it was last called; an operation is decided once, and stays so.
    """

    __slots__ = ("_answered", "_failed", "_open", "_refusals", "_waiting", "need", "size", "targets")

    def __init__(self, targets: Sequence[str], need: int, size: int) -> None:
        assert 1 <= need <= len(targets), f"{need} of {len(targets)}"
        assert size >= 1
        self.targets = tuple(targets)
        self.need = need
        self.size = size
        self._waiting = set(targets)
        self._answered: list[str] = []
        self._failed: list[str] = []
        self._refusals: dict[int, tuple[str, ...]] = {}
        self._open: set[int] | None = None  # None: all of them

    def record(self, target: str, refused: Iterable[int] = ()) -> None:
        """`target` answered for everything but `refused`."""
        assert target in self._waiting, f"{target} was not asked or has answered"
        self._waiting.remove(target)
        self._answered.append(target)
        for position in refused:
            assert 0 <= position < self.size
            self._refusals[position] = (*self._refusals.get(position, ()), target)

    def fail(self, target: str) -> None:
        """`target` will not answer any of them."""
        assert target in self._waiting, f"{target} was not asked or has answered"
        self._waiting.remove(target)
        self._failed.append(target)

    def settle_for_less(self) -> bool:
        """Needs no more than can still answer, and one at least; whether that is less than was needed. For levels that degrade."""
        able = max(1, len(self._answered) + len(self._waiting))
        if able >= self.need:
            return False
        self.need = able
        return True

    @property
    def answered(self) -> tuple[str, ...]:
        """Who answered so far, in arrival order."""
        return tuple(self._answered)

    @property
    def failed(self) -> tuple[str, ...]:
        """Who will not answer."""
        return tuple(self._failed)

    @property
    def waiting(self) -> frozenset[str]:
        """Who may still answer."""
        return frozenset(self._waiting)

    @property
    def waiting_in_order(self) -> tuple[str, ...]:
        """Who may still answer, in the order of the targets."""
        return tuple(target for target in self.targets if target in self._waiting)

    def answered_for(self, position: int) -> tuple[str, ...]:
        """Whose answers count for `position`, in arrival order."""
        refusing = self._refusals.get(position, ())
        return tuple([target for target in self._answered if target not in refusing])

    def received(self, position: int) -> int:
        """How many answers count for `position`."""
        return len(self._answered) - len(self._refusals.get(position, ()))

    def outcome(self, position: int) -> Outcome:
        """What has become of `position`."""
        received = self.received(position)
        if received >= self.need:
            return Outcome.MET
        return Outcome.PENDING if received + len(self._waiting) >= self.need else Outcome.UNREACHABLE

    @property
    def settled(self) -> bool:
        """Whether every operation is decided and was reported by `settle`."""
        return self._open is not None and not self._open

    def settle(self) -> list[tuple[Outcome, list[int] | None]]:
        """What is newly decided: an outcome and its positions, None for all of them at once. Positions that stand together were
        answered by the same targets."""
        if self._open is None and not self._refusals:
            outcome = self.outcome(0)
            if outcome is Outcome.PENDING:
                return []
            self._open = set()
            return [(outcome, None)]
        if self._open is None:
            self._open = set(range(self.size))
        decided: dict[tuple[Outcome, tuple[str, ...]], list[int]] = {}
        for position in sorted(self._open):
            outcome = self.outcome(position)
            if outcome is not Outcome.PENDING:
                decided.setdefault((outcome, self._refusals.get(position, ())), []).append(position)
                self._open.remove(position)
        return [(outcome, positions) for (outcome, _), positions in decided.items()]

    def undecided(self) -> list[int] | None:
        """The positions still open, None for all of them."""
        return None if self._open is None else sorted(self._open)
