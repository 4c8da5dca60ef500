"""What a line of the table is: what it compares, its bar, and how the rounds of one run decide it. Pure. The lines themselves are
in catalogue.py.

A round gives a pair: kvstore's figure and the other side's, measured one after the other. A line's ratio is the median of the
pairs' ratios: absolute figures of a shared machine drift within minutes, the two halves of a pair hardly do.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class Verdict(enum.Enum):
    """What a run says about a line."""

    MET = "yes"
    MISSED = "NO"
    NOT_MEASURED = "-"
    SHOWN = ""


class Sense(enum.Enum):
    """Which side of the bar the ratio has to be on."""

    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True, slots=True)
class Line:
    """One row. `other` names what is compared with; both figures are in `unit`; the ratio is ours / other.

    Without a `bar` it is shown and not judged. `groups` are the names by which it can be asked for beside its own.
    """

    name: str
    title: str
    unit: str
    other: str
    sense: Sense = Sense.AT_LEAST
    bar: float | None = None
    groups: tuple[str, ...] = ()

    @property
    def bar_text(self) -> str:
        """Such as ">= 4"; "-" for a line that is only shown."""
        return "-" if self.bar is None else f"{self.sense.value} {self.bar:g}"


@dataclass(frozen=True, slots=True)
class Pair:
    """One round's two figures, both positive; infinite where operations failed. NaN: that side was not measured."""

    ours: float
    other: float

    @property
    def ratio(self) -> float:
        """ours / other; NaN unless both were measured."""
        return self.ours / self.other if self.other else math.nan


@dataclass(frozen=True, slots=True)
class Row:
    """A line with the figures of a run: medians over the rounds, NaN where nothing was measured. `native` is what both sides' own
    load tools came to, theirs the other figure."""

    line: Line
    pairs: tuple[Pair, ...]
    ours: float
    other: float
    ratio: float
    ratio_min: float
    ratio_max: float
    verdict: Verdict
    native: Pair = Pair(math.nan, math.nan)


def decide_row(line: Line, pairs: Sequence[Pair], native: Sequence[Pair] = ()) -> Row:
    """The row of a line from its rounds; a round counts towards the ratio only if both of its sides were measured."""
    ratios = [pair.ratio for pair in pairs if not math.isnan(pair.ratio)]
    ratio = median(ratios)
    return Row(
        line,
        tuple(pairs),
        ours=median([pair.ours for pair in pairs]),
        other=median([pair.other for pair in pairs]),
        ratio=ratio,
        ratio_min=min(ratios, default=math.nan),
        ratio_max=max(ratios, default=math.nan),
        verdict=decide_verdict(line, ratio),
        native=Pair(median([pair.ours for pair in native]), median([pair.other for pair in native])),
    )


def decide_verdict(line: Line, ratio: float) -> Verdict:
    """Whether a ratio is on the right side of the bar; on the bar is met."""
    if math.isnan(ratio):
        return Verdict.NOT_MEASURED
    if line.bar is None:
        return Verdict.SHOWN
    met = ratio >= line.bar if line.sense is Sense.AT_LEAST else ratio <= line.bar
    return Verdict.MET if met else Verdict.MISSED


def median(figures: Sequence[float]) -> float:
    """The median of those that were measured; NaN if none was."""
    measured = [figure for figure in figures if not math.isnan(figure)]
    return statistics.median(measured) if measured else math.nan


def decide_exit_code(rows: Sequence[Row], *, gate: bool) -> int:
    """0 without `gate`; with it 8 if a bar was missed, else 9 if a line could not be measured (contract.md, section 2)."""
    verdicts = {row.verdict for row in rows}
    if not gate or verdicts <= {Verdict.MET, Verdict.SHOWN}:
        return 0
    return 8 if Verdict.MISSED in verdicts else 9
