"""What the templates are given: a page as texts and plots, cell by cell. Pure data; `views` fills it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kvchaos.report.freshness import Freshness


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One side's reads or writes while the fault lasted, as text."""

    side: str
    kind: str
    promised: str
    answered: str
    ok: str
    refused: str
    unknown: str
    degraded: str
    p50: str
    p99: str
    refuse_p99: str
    errors: str


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One operation that failed."""

    at: str
    side: str
    process: str
    f: str
    key: str
    outcome: str
    took: str
    error: str


@dataclass(frozen=True, slots=True)
class ColumnView:
    """One column of one scenario."""

    id: str
    name: str
    verdict: str
    word: str
    broken: Sequence[str]
    lacking: Sequence[str]
    stale: str
    availability: Sequence[tuple[str, str]]
    figures: Sequence[FigureRow]
    plots: Sequence[str]
    failures_plot: str
    failures: Sequence[FailureRow]
    failures_count: int
    missing: str


@dataclass(frozen=True, slots=True)
class RunView:
    """One scenario. `failure`: why nothing was judged; `failure_breaks`: that is a broken promise itself."""

    id: str
    name: str
    title: str
    seed: str
    agreed: str
    failure: str
    failure_breaks: bool
    replay: str
    versions: str
    faults: Sequence[str]
    columns: Sequence[ColumnView]

    def column(self, name: str) -> ColumnView | None:
        """Its column of that name."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class FreshnessView:
    """Measured and predicted staleness of one column."""

    name: str
    found: Freshness
    plot: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class PacelcView:
    """The table, a row of texts for each setting."""

    rows: Sequence[tuple[str, str, Sequence[str]]]
    rtt: str
    seed: str
    replay: str
    versions: str
    freshness: Sequence[FreshnessView] = ()


@dataclass(slots=True)
class PageView:
    """Everything."""

    runs: Sequence[RunView]
    pacelc: PacelcView | None
    columns: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[tuple[RunView, ColumnView]]:
        """Columns whose promises were broken."""
        return [(run, column) for run in self.runs for column in run.columns if column.verdict == "broken"]

    @property
    def unclear(self) -> list[tuple[RunView, ColumnView]]:
        """Columns of which nothing can be said."""
        return [(run, column) for run in self.runs for column in run.columns if column.verdict == "inconclusive"]

    @property
    def failures(self) -> list[RunView]:
        """Scenarios in which nothing was judged."""
        return [run for run in self.runs if run.failure]

    @property
    def broken_count(self) -> int:
        """Broken cells, and scenarios whose failure is a broken promise."""
        return len(self.broken) + sum(run.failure_breaks for run in self.failures)

    @property
    def unclear_count(self) -> int:
        """Unclear cells, and scenarios of which nothing can be said."""
        return len(self.unclear) + sum(not run.failure_breaks for run in self.failures)

    @property
    def held(self) -> int:
        """How many cells are ok."""
        return sum(column.verdict == "ok" for run in self.runs for column in run.columns)
