"""From a schedule that breaks something to a report: shrunk, told in a few lines, with the command that shows it again.

Bounded in runs and not in time, so that the report of a schedule is the same bytes in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvchaos.simulation.run import Outcome, run
from kvchaos.simulation.schedule import Schedule
from kvchaos.simulation.shrink import RUNS_MAX, Shrinker
from kvchaos.simulation.timeline import render_timeline


@dataclass(frozen=True, slots=True)
class Report:
    """The smallest schedule that was found to break the same promise, its outcome, and the lines to show."""

    schedule: Schedule
    outcome: Outcome
    lines: Sequence[str]


def explain(schedule: Schedule, *, bug: str | None = None, command: str = "", runs_max: int = RUNS_MAX) -> Report | None:
    """The report on a schedule; None if nothing breaks."""
    first = run(schedule, bug=bug)
    if first.is_ok:
        return None
    promise = first.violations[0].promise

    def breaks(candidate: Schedule) -> bool:
        return any(found.promise == promise for found in run(candidate, bug=bug).violations)

    shrinker = Shrinker(breaks, runs_max=runs_max)
    small = shrinker.shrink(schedule)
    outcome = run(small, bug=bug, keep_events=True)
    # The promise that was shrunk by is told first.
    outcome.violations.sort(key=lambda found: found.promise != promise)
    planted = [f"planted bug: {bug}"] if bug else []
    size = f"shrunk in {shrinker.runs} runs from {len(schedule.operations)} operations and {len(schedule.faults)} faults"
    return Report(small, outcome, render_timeline(outcome, notes=[*planted, size], command=command))
