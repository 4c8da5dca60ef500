"""What is promised of one column on one side while a fault lasts, and the least that has to happen for a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SERVED_SHARE_MIN = 0.99
WHOLE_SHARE_MIN = 0.8
"""Of what is served, so much does not say `degraded` without a right to where nodes lost each other though nothing kept them
apart (hiccups.py). Where none did, nothing does: while a node is away, the others answer for what they know, and that is whole.
A right to has what was answered without the node that holds hints of the partition (figures.doubted_reads)."""
UNKNOWN_SHARE_MAX = 0.5
"""Of refusals: what had been sent before the far side was known to be away stays unknown."""


class Expect(StrEnum):
    """Of the operations of one side while the fault lasts and was noticed."""

    SERVE = "serve"
    """As good as all are answered, and few say `degraded`."""
    DEGRADED = "degraded"
    """As good as all are answered; that they say `degraded` is allowed."""
    REFUSE = "refuse"
    """None is answered: typed errors, certainly not applied, but for what was under way."""
    HANG = "hang"
    """None is answered, and what was sent is unknown: whoever has it says nothing. Calls end at their deadlines."""
    MAY = "may"
    """Answered or refused, and what was answered is true."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Of reads and of writes."""

    reads: Expect
    writes: Expect

    def __str__(self) -> str:
        return self.reads.value if self.reads is self.writes else f"reads {self.reads}, writes {self.writes}"


SERVE = Cell(Expect.SERVE, Expect.SERVE)
DEGRADED = Cell(Expect.DEGRADED, Expect.DEGRADED)
REFUSE = Cell(Expect.REFUSE, Expect.REFUSE)
HANG = Cell(Expect.HANG, Expect.HANG)
MAY = Cell(Expect.MAY, Expect.MAY)
