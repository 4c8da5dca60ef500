"""The lines of the table: what each compares, its bar, and how the rounds of one run decide it. Pure.

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


class Sense(enum.Enum):
    """Which side of the bar the ratio has to be on."""

    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True, slots=True)
class Line:
    """One row. `other` names what is compared with; both figures are in `unit`; the ratio is ours / other."""

    name: str
    title: str
    unit: str
    other: str
    sense: Sense
    bar: float


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
    """A line with the figures of a run: medians over the rounds, NaN where nothing was measured."""

    line: Line
    pairs: tuple[Pair, ...]
    ours: float
    other: float
    ratio: float
    ratio_min: float
    ratio_max: float
    verdict: Verdict


LINES = (
    Line("put-256", "puts, 256 in flight", "/s", "etcd puts", Sense.AT_LEAST, 4.0),
    Line("put-64", "puts, 64 in flight", "/s", "etcd puts", Sense.AT_LEAST, 2.5),
    Line("put-256-raw", "puts x N, 256 in flight", "/s", "raw LevelDB, synced batches of 64", Sense.AT_LEAST, 0.5),
    Line("get-256", "gets, 256 in flight", "/s", "etcd linearizable gets", Sense.AT_LEAST, 4.0),
    Line("put-1", "put, one at a time, p50", "ms", "etcd put", Sense.AT_MOST, 1.0),
    Line("get-1", "get, one at a time, p50", "ms", "etcd linearizable get", Sense.AT_MOST, 1.2),
    Line("put-many", "put_many of 1,000 keys", "keys/s", "etcd transactions of 64 puts", Sense.AT_LEAST, 1.5),
    Line("stalled-replica", "one stalled replica, others' p99", "ms", "the same load without", Sense.AT_MOST, 2.0),
    Line("slow-key", "slow keys, others' p99", "ms", "the same load without", Sense.AT_MOST, 2.0),
    Line("large-value", "a 1 MB value, others' p99", "ms", "the same load without", Sense.AT_MOST, 2.0),
)
REPLICAS = 3
"""N: every put is written this many times, and raw LevelDB's once."""


def decide_row(line: Line, pairs: Sequence[Pair]) -> Row:
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
    )


def decide_verdict(line: Line, ratio: float) -> Verdict:
    """Whether a ratio is on the right side of the bar; on the bar is met."""
    if math.isnan(ratio):
        return Verdict.NOT_MEASURED
    met = ratio >= line.bar if line.sense is Sense.AT_LEAST else ratio <= line.bar
    return Verdict.MET if met else Verdict.MISSED


def median(figures: Sequence[float]) -> float:
    """The median of those that were measured; NaN if none was."""
    measured = [figure for figure in figures if not math.isnan(figure)]
    return statistics.median(measured) if measured else math.nan


def decide_exit_code(rows: Sequence[Row], *, gate: bool) -> int:
    """0 without `gate`; with it 8 if a bar was missed, else 9 if a line could not be measured (contract.md, section 2)."""
    verdicts = {row.verdict for row in rows}
    if not gate or verdicts == {Verdict.MET}:
        return 0
    return 8 if Verdict.MISSED in verdicts else 9
