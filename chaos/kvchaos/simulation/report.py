"""From a schedule that breaks something to a report: shrunk, told in a few lines, with the command that shows it again.

Bounded in runs and not in time, so that the report of a schedule is the same bytes in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvchaos.simulation.run import Outcome, run
from kvchaos.simulation.schedule import Schedule
from kvchaos.simulation.shrink import RUNS_MAX, Shrinker
from kvchaos.simulation.timeline import Text, render_timeline
from kvchaos.simulation.wording import count


@dataclass(frozen=True, slots=True)
class Report:
    """The smallest schedule that was found to break the same promise, its outcome, and the lines to show."""

    schedule: Schedule
    outcome: Outcome
    lines: Sequence[Text]


def explain(
    schedule: Schedule,
    promise: str,
    *,
    bug: str | None = None,
    command: str = "",
    runs_max: int = RUNS_MAX,
    on_run: Callable[[int], None] = lambda runs: None,
) -> Report:
    """The report on a schedule that breaks `promise`; `on_run` is told how many smaller ones were tried."""

    def breaks(candidate: Schedule) -> bool:
        on_run(shrinker.runs)
        return any(found.promise == promise for found in run(candidate, bug=bug).violations)

    shrinker = Shrinker(breaks, runs_max=runs_max)
    small = shrinker.shrink(schedule)
    outcome = run(small, bug=bug, keep_events=True)
    # The promise that was shrunk by is told first.
    outcome.violations.sort(key=lambda found: found.promise != promise)
    before = f"{count(len(schedule.operations), 'operation')} and {count(len(schedule.faults), 'fault')}"
    notes = [f"shrunk in {count(shrinker.runs, 'run')} from {before}" + (f"; planted bug: {bug}" if bug else "")]
    return Report(small, outcome, render_timeline(outcome, notes=notes, command=command))
