"""`kv sim`: simulated clusters from seeds, every promise checked, the first failure shrunk and told.

Results go to stdout and are the same bytes in every process; rates, times and the progress bar go to stderr. Ends with 8 when a
promise was broken, and with 9 when too little was answered to judge by. What runs seeds is imported when it is needed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, note
from kvclient.cli.progress_bar import progress_bar
from kvclient.cli.suggestions import require_known
from kvproto.errors import BadRequest

if TYPE_CHECKING:
    from kvchaos.simulation.fleet import SeedResult
    from kvchaos.simulation.schedule import Schedule
    from kvchaos.simulation.timeline import Text

SEEDS = 100
SEEDS_WITH_BUG = 500
FAILURES_NAMED = 20
INCONCLUSIVE_SHARE_MAX = 0.1
STYLES = {
    "title": {"bold": True},
    "broken": {"fg": "red", "bold": True},
    "accusing": {"bold": True},
    "fault": {"fg": "yellow"},
    "message": {"fg": "cyan"},
    "faint": {"dim": True},
}


@dataclass(frozen=True, slots=True)
class Search:
    """What is run: a scenario, a planted bug or none, and where its shrunk schedule goes. `full`: timelines are not cut."""

    scenario: str = "swarm"
    bug: str | None = None
    save: Path | None = None
    full: bool = False

    def command(self, source: str) -> str:
        """What replays it."""
        named = f" --scenario {self.scenario}" if self.scenario != "swarm" and source.startswith("--seed") else ""
        return f"kv sim run {source}{named}" + (f" --bug {self.bug}" if self.bug else "")


@dataclass(slots=True)
class Tally:
    """What the seeds so far have come to."""

    seeds: int = 0
    acknowledged: int = 0
    excused: int = 0
    simulated_s: float = 0.0
    inconclusive: int = 0
    broken: list[SeedResult] = field(default_factory=list)

    def add(self, result: SeedResult) -> None:
        """One more."""
        self.seeds += 1
        self.acknowledged += result.acknowledged
        self.excused += result.excused
        self.simulated_s += result.simulated_s
        self.inconclusive += result.verdict == "inconclusive"
        if result.violations:
            self.broken.append(result)

    def sentence(self) -> str:
        """One line of counts."""
        held = self.seeds - len(self.broken) - self.inconclusive
        seeds = f"{self.seeds:,} seed{'' if self.seeds == 1 else 's'}"
        counts = f"{held:,} held, {len(self.broken):,} broke a promise, {self.inconclusive:,} inconclusive"
        excused = f" ({self.excused:,} writes may be lost: wiped with every copy)" if self.excused else ""
        return f"{seeds}: {counts}; {self.acknowledged:,} operations answered{excused}, {self.simulated_s:,.0f} s simulated"

    def code(self) -> ExitCode:
        """What it all comes to."""
        if self.broken:
            return ExitCode.PROMISE_BROKEN
        return ExitCode.INCONCLUSIVE if self.inconclusive > INCONCLUSIVE_SHARE_MAX * self.seeds else ExitCode.DONE


@click.group()
def sim() -> None:
    """Simulate whole clusters on virtual time, with every fault there is, and check every promise."""


@sim.command()
@click.pass_context
def bugs(context: click.Context) -> None:
    """List the planted bugs, each of which `kv sim run --bug NAME` finds."""
    from kvchaos.simulation.bugs import BUGS

    _list(context, {name: BUGS[name].sentence for name in sorted(BUGS)})


@sim.command()
@click.pass_context
def scenarios(context: click.Context) -> None:
    """List the scenarios that seeds can be drawn from."""
    from kvchaos.simulation.scenarios import DESCRIPTIONS

    _list(context, DESCRIPTIONS)


@sim.command("run")
@click.option(
    "--seeds", metavar="N", type=click.IntRange(1), help=f"How many (default {SEEDS}; with a bug at most {SEEDS_WITH_BUG})."
)
@click.option("--from", "first", metavar="S", type=click.IntRange(0), default=0, help="The first seed (default 0).")
@click.option("--seed", metavar="S", type=click.IntRange(0), help="Replay one seed and tell what happened.")
@click.option("--minutes", metavar="M", type=click.FloatRange(0, min_open=True), help="New seeds until the time is over.")
@click.option(
    "--scenario", metavar="NAME", help="Where schedules are drawn from (default swarm, with a bug its own): kv sim scenarios."
)
@click.option("--bug", metavar="NAME", help="Plant a bug that must be found: kv sim bugs.")
@click.option("--schedule", "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Replay it.")
@click.option("--save", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Where a shrunk schedule goes.")
@click.option("--full", is_flag=True, help="Replay unshrunk, with a line for everything.")
@click.pass_context
def run_command(
    context: click.Context,
    seeds: int | None,
    first: int,
    seed: int | None,
    minutes: float | None,
    scenario: str | None,
    bug: str | None,
    file: Path | None,
    save: Path | None,
    full: bool,
) -> int:
    """Run seeds on all cores, or replay one."""
    from kvchaos.simulation.bugs import BUGS
    from kvchaos.simulation.scenarios import SCENARIOS

    _exclude(seeds=seeds, seed=seed, minutes=minutes, schedule=file)
    if bug is not None:
        require_known("bug", bug, sorted(BUGS))
    scenario = scenario or (BUGS[bug].scenario if bug is not None else "swarm")
    require_known("scenario", scenario, sorted(SCENARIOS))
    search = Search(scenario, bug, save, full)
    with Printer(Options.of(context).output) as printer:
        if file is not None:
            return replay(printer, _read(file), search, f"--schedule {file}")
        if seed is not None:
            return replay(printer, SCENARIOS[scenario](seed), search, f"--seed {seed}")
        if full:
            raise BadRequest("--full is for a replay: give --seed or --schedule")
        if minutes is not None:
            return run_many(printer, itertools.count(first), None, search, minutes=minutes)
        count = seeds or (SEEDS_WITH_BUG if bug else SEEDS)
        return run_many(printer, range(first, first + count), count, search)


def replay(printer: Printer, schedule: Schedule, search: Search, source: str) -> ExitCode:
    """One schedule: what happened, the verdict, the digest; shrunk if it breaks a promise, unless all is asked for."""
    from kvchaos.simulation.fleet import result_of
    from kvchaos.simulation.run import run
    from kvchaos.simulation.timeline import render_timeline

    outcome = run(schedule, bug=search.bug, keep_events=True)
    result = result_of(outcome)
    tally = Tally()
    tally.add(result)
    if printer.output is Output.JSON:
        for event in outcome.history.events:
            printer.json(event.row())
        printer.json(result.row())
    elif result.violations and not search.full:
        _explain(printer, schedule, result, search, source)
    else:
        everything = "" if search.full else " --full"
        _print(printer, render_timeline(outcome, command=search.command(source) + everything, full=search.full))
    if printer.output is not Output.JSON:
        printer.line(f"\n{tally.sentence()}")
        printer.line(f"digest {outcome.digest}")
    return _code(tally, search, alone=True)


def run_many(
    printer: Printer, numbers: Iterable[int], total: int | None, search: Search, *, minutes: float | None = None
) -> ExitCode:
    """Seeds on all cores, results in their order; the first that breaks a promise is told, the others are named."""
    from kvchaos.simulation.fleet import run_seeds
    from kvchaos.simulation.scenarios import SCENARIOS
    from kvchaos.simulation.timeline import sentence_of

    tally, began_s = Tally(), time.monotonic()
    with (
        progress_bar("seeds", total=total, unit="seeds") as advance,
        closing(run_seeds(numbers, scenario=search.scenario, bug=search.bug, total=total)) as results,
    ):
        for result in _until(results, began_s, minutes):
            tally.add(result)
            advance(tally.seeds, tally.seeds)
            if printer.output is Output.JSON:
                printer.json(result.row())
                printer.flush()
            if search.bug and tally.broken:
                break
    elapsed_s = time.monotonic() - began_s
    if printer.output is not Output.JSON and tally.broken:
        lowest = tally.broken[0]
        _explain(printer, SCENARIOS[search.scenario](lowest.seed), lowest, search, f"--seed {lowest.seed}")
        printer.line("")
        for other in tally.broken[1 : FAILURES_NAMED + 1]:
            printer.line(f"seed {other.seed}: {sentence_of(other.violations[0])[:120]}")
        if len(tally.broken) > FAILURES_NAMED + 1:
            printer.line(f"and {len(tally.broken) - FAILURES_NAMED - 1} more")
    if printer.output is not Output.JSON:
        printer.line(tally.sentence())
    printer.flush()
    rate = f"{tally.seeds / elapsed_s * 60:,.0f} seeds a minute, {tally.simulated_s / elapsed_s:,.0f} simulated seconds a second"
    note(f"{elapsed_s:.1f} s: {rate}")
    return _code(tally, search)


def _explain(printer: Printer, schedule: Schedule, result: SeedResult, search: Search, source: str) -> None:
    from kvchaos.simulation.report import explain
    from kvchaos.simulation.schedule import to_json
    from kvchaos.simulation.shrink import RUNS_MAX

    promise = result.violations[0].promise
    with progress_bar("shrinking", total=RUNS_MAX, unit="runs") as advance:
        command = search.command(source)
        report = explain(schedule, promise, bug=search.bug, command=command, on_run=lambda runs: advance(runs, runs))
    _print(printer, report.lines)
    if search.save is not None:
        search.save.write_text(to_json(report.schedule, bug=search.bug), encoding="utf-8")
        note(f"the shrunk schedule is in {search.save}")


def _until(results: Iterator[SeedResult], began_s: float, minutes: float | None) -> Iterator[SeedResult]:
    for result in results:
        yield result
        if minutes is not None and time.monotonic() - began_s > minutes * 60:
            return


def _code(tally: Tally, search: Search, *, alone: bool = False) -> ExitCode:
    """A planted bug must be found: a search that did not is no success."""
    code = tally.code()
    if code is ExitCode.INCONCLUSIVE:
        what = "too few operations were answered" if alone else f"too few operations were answered in {tally.inconclusive} seeds"
        note(f"inconclusive: {what}")
    if search.bug and not tally.broken:
        note(f"the planted bug {search.bug} was not found in {tally.seeds:,} seed{'' if tally.seeds == 1 else 's'}")
        return ExitCode.INCONCLUSIVE
    return code


def _print(printer: Printer, lines: Iterable[Text]) -> None:
    for style, text in lines:
        plain = not printer.terminal or style not in STYLES
        printer.line(text if plain else click.style(text, **STYLES[style]))  # type: ignore[arg-type]


def _list(context: click.Context, rows: dict[str, str]) -> None:
    with Printer(Options.of(context).output) as printer:
        width = max(map(len, rows))
        for name, sentence in rows.items():
            if printer.output is Output.JSON:
                printer.json({"name": name, "sentence": sentence})
            else:
                printer.line(f"{name:<{width}}  {sentence}")


def _exclude(**given: object) -> None:
    named = [f"--{name}" for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise BadRequest(f"{' and '.join(named)} exclude each other")


def _read(file: Path) -> Schedule:
    from kvchaos.simulation.schedule import from_json

    try:
        return from_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadRequest(f"{file} is no schedule: {error}") from error
