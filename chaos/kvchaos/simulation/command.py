"""`kv sim`: thousands of simulated clusters from seeds, every promise checked, every failure shrunk and told.

Results go to stdout and are the same bytes in every process; rates, times and the progress bar go to stderr. Ends with 8 when a
promise was broken, 9 when too little happened to judge, or a planted bug was not found.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.progress_bar import progress_bar

ACKNOWLEDGED_PER_SEED_MIN = 5
SEEDS_WITH_BUG = 500
FAILURES_NAMED = 20


@dataclass(slots=True)
class Tally:
    """What the seeds so far have come to."""

    seeds: int = 0
    acknowledged: int = 0
    simulated_s: float = 0.0
    failing: list[tuple[int, str]] = field(default_factory=list)


@click.group()
def sim() -> None:
    """Run whole clusters in one process on virtual time, with every fault there is, and check every promise."""


@sim.command()
def bugs() -> None:
    """List the planted bugs: each must be found."""
    from kvchaos.simulation.bugs import BUGS

    width = max(map(len, BUGS))
    for name in sorted(BUGS):
        click.echo(f"{name:<{width}}  {BUGS[name].sentence}")


@sim.command()
def scenarios() -> None:
    """List the scenarios."""
    from kvchaos.simulation.scenarios import DESCRIPTIONS

    width = max(map(len, DESCRIPTIONS))
    for name, sentence in DESCRIPTIONS.items():
        click.echo(f"{name:<{width}}  {sentence}")


@sim.command("run")
@click.option(
    "--seeds", type=click.IntRange(min=1), help="How many seeds. Default: 100; with a bug, until it is found, at most 500."
)
@click.option("--from", "first", type=click.IntRange(min=0), default=0, show_default=True, help="The first seed.")
@click.option("--seed", type=click.IntRange(min=0), help="Replay one seed, with the timeline of what broke.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="As many seeds as that time allows.")
@click.option("--scenario", default="swarm", show_default=True, help="Draw schedules from this scenario.")
@click.option("--bug", help="Plant this bug; it must be found.")
@click.option(
    "--schedule", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Replay a schedule from a file."
)
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the shrunk schedule that breaks to this file.")
@click.option("--history", type=click.Path(dir_okay=False, path_type=Path), help="Write the history of a replay to this file.")
@click.option("--processes", type=click.IntRange(min=1), help="How many processes. Default: one for each core.")
def run_command(
    seeds: int | None,
    first: int,
    seed: int | None,
    minutes: float | None,
    scenario: str,
    bug: str | None,
    file: Path | None,
    save: Path | None,
    history: Path | None,
    processes: int | None,
) -> None:
    """Run seeds, or replay one."""
    from kvchaos.simulation.bugs import BUGS
    from kvchaos.simulation.scenarios import SCENARIOS

    for name, known, what in ((bug, BUGS, "bug"), (scenario, SCENARIOS, "scenario")):
        if name is not None and name not in known:
            raise click.UsageError(f"no such {what}: {name}; there are {', '.join(sorted(known))}")
    if seed is not None or file is not None:
        code = replay(seed, file, scenario=scenario, bug=bug, save=save, history=history)
    else:
        count = seeds or (SEEDS_WITH_BUG if bug else 100)
        numbers: Iterator[int] = iter(range(first, first + count)) if minutes is None else itertools.count(first)
        total = None if minutes is not None else count
        code = search(numbers, total, minutes, scenario=scenario, bug=bug, save=save, processes=processes)
    sys.stdout.flush()
    sys.exit(int(code))


def replay(
    seed: int | None, file: Path | None, *, scenario: str, bug: str | None, save: Path | None, history: Path | None
) -> ExitCode:
    """One schedule, by its seed or from a file."""
    from kvchaos.simulation.report import explain
    from kvchaos.simulation.run import run
    from kvchaos.simulation.scenarios import SCENARIOS
    from kvchaos.simulation.schedule import from_json, to_json

    if file is not None:
        try:
            schedule = from_json(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise click.UsageError(f"{file}: {error}") from error
    else:
        schedule = SCENARIOS[scenario](seed or 0)
    outcome = run(schedule, bug=bug)
    if history is not None:
        outcome.history.write(history)
    click.echo(
        f"seed {schedule.seed}: {schedule.nodes} nodes, {len(schedule.operations)} operations, {len(schedule.faults)} faults, "
        f"{outcome.acknowledged} answered, {outcome.simulated_s:.3f} simulated seconds, digest {outcome.digest}"
    )
    if outcome.is_ok:
        click.echo(f"every promise held: {', '.join(schedule.promises)}")
        return ExitCode.INCONCLUSIVE if bug else ExitCode.DONE
    report = explain(schedule, bug=bug, command=_command(schedule.seed, file, scenario, bug))
    assert report is not None, "a schedule that broke something breaks it again"
    click.echo("\n".join(report.lines))
    if save is not None:
        save.write_text(to_json(report.schedule, bug=bug), encoding="utf-8")
    return ExitCode.PROMISE_BROKEN


def search(
    numbers: Iterator[int],
    total: int | None,
    minutes: float | None,
    *,
    scenario: str,
    bug: str | None,
    save: Path | None,
    processes: int | None,
) -> ExitCode:
    """Seeds on all cores; the first that fails is explained, the others are named."""
    from kvchaos.simulation.fleet import run_seeds

    tally, began_s = Tally(), time.monotonic()
    with progress_bar("seeds", total=total, unit="seeds") as advance:
        for result in run_seeds(numbers, scenario=scenario, bug=bug, processes=processes):
            tally.seeds += 1
            tally.acknowledged += result.acknowledged
            tally.simulated_s += result.simulated_s
            advance(tally.seeds, tally.seeds)
            if result.violations:
                tally.failing.append((result.seed, result.violations[0].sentence().splitlines()[0]))
                if bug:
                    break
            if minutes is not None and time.monotonic() - began_s > minutes * 60:
                break
    elapsed_s = time.monotonic() - began_s
    click.echo(
        f"{tally.seeds:,} seeds in {elapsed_s:.1f} s: {tally.seeds / elapsed_s * 60:,.0f} seeds a minute, "
        f"{tally.simulated_s / elapsed_s:,.0f} simulated seconds a second",
        err=True,
    )
    click.echo(f"{tally.seeds} seeds, {tally.acknowledged} calls answered, {len(tally.failing)} seeds broke a promise")
    for number, sentence in tally.failing[:FAILURES_NAMED]:
        click.echo(f"  seed {number}: {sentence[:160]}")
    if tally.failing:
        return replay(tally.failing[0][0], None, scenario=scenario, bug=bug, save=save, history=None)
    if bug:
        click.echo(f"the planted bug {bug} was not found")
        return ExitCode.INCONCLUSIVE
    return ExitCode.DONE if tally.acknowledged >= ACKNOWLEDGED_PER_SEED_MIN * tally.seeds else ExitCode.INCONCLUSIVE


def _command(seed: int, file: Path | None, scenario: str, bug: str | None) -> str:
    source = f"--schedule {file}" if file is not None else f"--seed {seed}"
    named = f" --scenario {scenario}" if scenario != "swarm" and file is None else ""
    return f"kv sim run {source}{named}" + (f" --bug {bug}" if bug else "")


if __name__ == "__main__":
    sim()
