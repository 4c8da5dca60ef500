"""Whether a scenario's promises held, column by column: from the checkers of its history and from what was answered where. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from kvchaos.scenarios.cells import SERVED_SHARE_MIN, UNKNOWN_SHARE_MAX, WHOLE_SHARE_MIN, Expect
from kvchaos.scenarios.figures import READS, WRITTEN, Figures
from kvchaos.scenarios.scenario import Scenario

Sides = Mapping[str, Mapping[str, Figures]]
"""By side, of reads and writes."""


class Word(StrEnum):
    """What came of a column."""

    OK = "ok"
    BROKEN = "broken"
    INCONCLUSIVE = "inconclusive"


@dataclass(slots=True)
class Verdict:
    """`broken`: promises that did not hold, in words; `lacking`: why nothing can be said."""

    column: str
    broken: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)

    @property
    def word(self) -> Word:
        """Broken promises first: they are true whatever else is lacking."""
        return Word.BROKEN if self.broken else Word.INCONCLUSIVE if self.lacking else Word.OK


def judge_sides(scenario: Scenario, column: str, during: Sides, verdict: Verdict, hiccups: Sequence[str] = ()) -> None:
    """Holds what happened while the fault lasted against the column's cells. `hiccups`: nodes that lost each other meanwhile."""
    whole = WHOLE_SHARE_MIN if hiccups else 1.0
    for side, kinds in during.items():
        cell = scenario.cell(column, side)
        for kind, expected in ((READS, cell.reads), (WRITTEN, cell.writes)):
            _judge(f"{kind} {side}", expected, kinds[kind], scenario.during_min, whole, verdict)
            if expected is Expect.HANG and kind == WRITTEN and not kinds[kind].unknown:
                verdict.lacking.append(f"{kind} {side}: none was under way when its coordinator stopped: none is unknown")


def _judge(what: str, expected: Expect, found: Figures, least: int, whole: float, verdict: Verdict) -> None:
    if found.count < least:
        verdict.lacking.append(f"{what}: {found.count} operations, {least} are needed")
        return
    served = f"{found.ok} answered ({found.degraded} degraded, {found.doubted} of them by right)"
    told = f"{served}, {found.refused} refused, {found.unknown} unknown {found.errors or ''}"
    if expected in (Expect.SERVE, Expect.DEGRADED) and found.ok_share < SERVED_SHARE_MIN:
        verdict.broken.append(f"{what} were promised to be served: {told}")
    if expected is Expect.SERVE and found.count - (found.degraded - found.doubted) < whole * found.count:
        verdict.broken.append(f"{what} were promised to be whole: {told}")
    if expected is Expect.HANG and found.ok:
        verdict.broken.append(f"{what} were answered by who stands still: {told}")
    if expected is Expect.REFUSE:
        if found.ok:
            verdict.broken.append(f"{what} were promised to be refused: {told}")
        elif found.unknown > UNKNOWN_SHARE_MAX * found.count:
            verdict.broken.append(f"{what} were promised to be refused for certain: {told}")
