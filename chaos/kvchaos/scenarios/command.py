"""`kv chaos list`, `run` and `pacelc`: faults on real clusters, every promise checked, one verdict a setting.

Results go to stdout, progress to stderr. Ends with 8 when a promise was broken, and with 9 when a fault was not seen to take or too
little happened to judge by.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvchaos.processes import FaultFailed
from kvchaos.scenarios.pulse import RATES
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, console, note
from kvclient.cli.suggestions import require_known
from kvproto.errors import BadRequest

if TYPE_CHECKING:
    from kvchaos.scenarios.columns import Column
    from kvchaos.scenarios.scenario import Scenario
    from kvchaos.scenarios.stage import Result

LINE_INTERVAL_S = 5.0
TARGETS = ("kvstore", "etcd", "redis")
MARKS = {"ok": ("ok", "green"), "broken": ("BROKEN", "red"), "inconclusive": ("unclear", "yellow")}


@click.command("list", cls=Examples, short_help="The scenarios, and what each promises.", examples="kv chaos list -o json")
@click.pass_context
def list_command(context: click.Context) -> int:
    """List the scenarios with what each setting promises while the fault lasts: on the side of n1, and on the other."""
    from kvchaos.scenarios.catalogue import NOT_BUILT, SCENARIOS
    from kvchaos.scenarios.columns import COLUMNS
    from kvchaos.scenarios.scenario import FAR, NEAR

    with Printer(Options.of(context).output) as printer:
        for number in sorted([*SCENARIOS, *NOT_BUILT], key=lambda id: int(id[1:])):
            if number in NOT_BUILT:
                missing = {"id": number, "not_built": NOT_BUILT[number]}
                printer.json(missing) if printer.output is Output.JSON else printer.line(
                    f"{number:<4} not built: {NOT_BUILT[number]}"
                )
                continue
            scenario = SCENARIOS[number]
            cells = {column.name: [str(scenario.cell(column.name, side)) for side in (NEAR, FAR)] for column in COLUMNS}
            if printer.output is Output.JSON:
                printer.json({"id": scenario.id, "title": scenario.title, "promised": cells})
                continue
            told = "   ".join(f"{name} {near if near == far else f'{near} | {far}'}" for name, (near, far) in cells.items())
            printer.line(f"{scenario.id:<4} {scenario.title}")
            printer.line(f"     {told}")
    return ExitCode.DONE


@click.command(
    "run",
    cls=Examples,
    short_help="Run scenarios and print a verdict for each setting.",
    examples="""
kv chaos run F1
kv chaos run F1 F8 --preset pa-ec
kv chaos run --all --seed 7 --out results
kv chaos run --target redis --out results
""",
)
@click.argument("ids", nargs=-1, metavar="[SCENARIO]…")
@click.option("--all", "everything", is_flag=True, help="Every scenario there is.")
@click.option("--preset", "presets", multiple=True, metavar="P", help="Only this column: a preset, or strict. May be repeated.")
@click.option("--seed", type=click.IntRange(0), help="What clients do, and when; drawn and printed by default.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where results.json, histories and index.html go.",
)
@click.option("--target", type=click.Choice(TARGETS), default=TARGETS[0], help="Another store, under the scenario that it has.")
@click.option("--bug", metavar="NAME", help="Nodes with a planted bug, which must be found: kv sim bugs.")
@click.pass_context
def run_command(
    context: click.Context,
    ids: Sequence[str],
    everything: bool,
    presets: Sequence[str],
    seed: int | None,
    out: Path | None,
    target: str,
    bug: str | None,
) -> int:
    """Run the scenarios of these ids, one after the other, each on a cluster of its own.

    Clients on both sides write and read through all settings while the fault is made, lasts and is healed; then replicas have to
    agree, every key is read once more, and the histories are checked. Ctrl-C ends the cluster as well.
    """
    from kvchaos.report.making import make_page_beside
    from kvchaos.scenarios.results import summary, write_results

    if target != TARGETS[0]:
        if ids or everything or presets or bug:
            raise BadRequest(f"{target} has one scenario of its own: neither ids nor --all, --preset or --bug")
        return _run_target(Options.of(context), target, random.SystemRandom().getrandbits(32) if seed is None else seed, out)
    scenarios, columns = _chosen(ids, everything), _columns(presets)
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    if bug is not None:
        _require_bug(bug)
    note(f"seed {seed}")
    results = []
    with Printer(Options.of(context).output) as printer:
        for scenario in scenarios:
            with _progress(f"{scenario.id} {scenario.title}") as say:
                result = _run(scenario, columns, seed, say, bug or "")
            results.append(result)
            if printer.output is Output.JSON:
                printer.json(summary(result))
            else:
                _print(printer, scenario, result)
            printer.flush()
        if out is not None:
            write_results(out, results)
            make_page_beside(out)
    return max((_code(result) for result in results), key=(ExitCode.DONE, ExitCode.INCONCLUSIVE, ExitCode.PROMISE_BROKEN).index)


@click.command(
    "split",
    cls=Examples,
    short_help="One split on one screen: what each preset does on each side.",
    examples="kv chaos split",
)
@click.option("--seed", type=click.IntRange(0), help="What clients do, and when; drawn and printed by default.")
@click.pass_context
def split_command(context: click.Context, seed: int | None) -> int:
    """Cut one running cluster in two, and show what each preset does on each side: before, during and after.

    Every preset is a namespace of the same three nodes; the cut is made by Toxiproxy, and seen before anything is claimed.
    """
    from kvchaos.scenarios.catalogue import SCENARIOS
    from kvchaos.scenarios.columns import COLUMNS
    from kvchaos.scenarios.results import summary
    from kvchaos.scenarios.split_screen import lines

    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    note(f"seed {seed}")
    with _progress("split") as say:
        result = _run(SCENARIOS["F1"], [column for column in COLUMNS if column.level == "preset"], seed, say, "")
    with Printer(Options.of(context).output) as printer:
        if printer.output is Output.JSON:
            printer.json(summary(result))
        else:
            for line in lines(result) if not result.failure else (result.failure,):
                printer.line(line)
    return _code(result)


@click.command(
    "pacelc",
    cls=Examples,
    short_help="Measure the PACELC table: every setting in a partition, and else.",
    examples="kv chaos pacelc --out results",
)
@click.option("--seed", type=click.IntRange(0), help="What clients do, and when; drawn and printed by default.")
@click.option(
    "--out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Where pacelc.json, histories and index.html go."
)
@click.option("--split", "with_split", is_flag=True, help="First what each preset did on each side, as kv chaos split shows it.")
@click.pass_context
def pacelc_command(context: click.Context, seed: int | None, out: Path | None, with_split: bool) -> int:
    """Measure what each setting does in a partition (P: available or consistent), and else (E: latency or consistency).

    Latencies are multiples of the round trip between nodes, which is made 80 ms by Toxiproxy; the partition is that of scenario F1.
    """
    from kvchaos.report.making import make_page_beside
    from kvchaos.scenarios import split_screen
    from kvchaos.scenarios.pacelc import lines, measure, write

    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    note(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="kv-pacelc-") as folder, _progress("pacelc") as say:
        found = asyncio.run(measure(seed=seed, root=Path(folder), say=say))
    with Printer(Options.of(context).output) as printer:
        if found.split.failure:
            note(f"kv: {found.split.failure}")
        elif printer.output is Output.JSON:
            printer.json(found.row())
        else:
            for line in [*split_screen.lines(found.split), ""] if with_split else []:
                printer.line(line)
            for line in lines(found.row()):
                printer.line(line)
    if out is not None:
        write(out, found)
        make_page_beside(out)
    return _code(found.split)


def _require_bug(bug: str) -> None:
    from kvchaos.simulation.bugs import BUGS

    require_known("bug", bug, sorted(BUGS))


def _run(
    scenario: Scenario,
    columns: Sequence[Column],
    seed: int,
    say: Callable[[str, str], None],
    bug: str,
) -> Result:
    from kvchaos.scenarios.stage import run

    with tempfile.TemporaryDirectory(prefix=f"kv-chaos-{scenario.id}-") as folder:
        return asyncio.run(run(scenario, seed=seed, root=Path(folder) / "cluster", columns=columns, say=say, bug=bug))


def _run_target(options: Options, target: str, seed: int, out: Path | None) -> ExitCode:
    from kvchaos.targets.failures import TargetFailed
    from kvchaos.targets.scenarios import break_target, write_histories

    note(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix=f"kv-chaos-{target}-") as folder, _progress(target) as say:
        try:
            result = asyncio.run(break_target(target, Path(folder) / target, seed=seed, say=lambda phase: say(phase, "")))
        except (TargetFailed, FaultFailed) as failure:
            note(f"kv: {failure}")
            return ExitCode.INCONCLUSIVE
    with Printer(options.output) as printer:
        if printer.output is Output.JSON:
            told = {"target": target, "version": result.version, "seed": seed, "answered": result.answered}
            printer.json({**told, "broken": result.broken, "lacking": result.lacking})
        else:
            for line in (result.sentence(), *(f"     {sentence}" for sentence in (*result.broken, *result.lacking))):
                printer.line(line)
    if out is not None:
        for path in write_histories(result, out):
            note(f"history: {path}")
    if result.broken:
        return ExitCode.PROMISE_BROKEN
    return ExitCode.INCONCLUSIVE if result.lacking else ExitCode.DONE


def _chosen(ids: Sequence[str], everything: bool) -> list[Scenario]:
    from kvchaos.scenarios.catalogue import NOT_BUILT, SCENARIOS

    if everything == bool(ids):
        raise BadRequest("give the ids of scenarios, or --all: kv chaos list shows them")
    for each in ids:
        if each in NOT_BUILT:
            raise BadRequest(f"{each} is not built: {NOT_BUILT[each]}")
        require_known("scenario", each, SCENARIOS)
    return list(SCENARIOS.values()) if everything else [SCENARIOS[each] for each in ids]


def _columns(presets: Sequence[str]) -> list[Column]:
    from kvchaos.scenarios.columns import COLUMNS

    known = {column.name: column for column in COLUMNS}
    for each in presets:
        require_known("column", each, known)
    return [known[each] for each in presets] or list(COLUMNS)


def _code(result: Result) -> ExitCode:
    words = {told.verdict.word for told in result.columns}
    if "broken" in words or result.failure_breaks:
        return ExitCode.PROMISE_BROKEN
    return ExitCode.INCONCLUSIVE if result.failure or "inconclusive" in words else ExitCode.DONE


def _print(printer: Printer, scenario: Scenario, result: Result) -> None:
    if result.failure:
        printer.line(f"{scenario.id:<4} {_word(printer, 'broken' if result.failure_breaks else 'inconclusive')}  {result.failure}")
        return
    words = "   ".join(f"{told.column} {_word(printer, told.verdict.word)}" for told in result.columns)
    agreed = "replicas did not agree" if result.converged_s is None else f"agreed after {result.converged_s:.1f} s"
    printer.line(f"{scenario.id:<4} {words}   {agreed}   {scenario.title}")
    for told in result.columns:
        for sentence in (*told.verdict.broken, *told.verdict.lacking):
            printer.line(f"     {told.column}: {sentence}")
    if any(told.verdict.word != "ok" for told in result.columns):
        printer.line(f"     again: {result.replay}")


def _word(printer: Printer, word: str) -> str:
    text, colour = MARKS[word]
    return click.style(text, fg=colour) if printer.terminal else text


def _told_rarely(name: str) -> Callable[[str, str], None]:
    """A line for whatever happens, and now and then one of how clients fare."""
    told: dict[str, float] = {}

    def say(phase: str, text: str) -> None:
        now_s = time.monotonic()
        if RATES not in text or now_s - told.get(phase, float("-inf")) >= LINE_INTERVAL_S:
            told[phase] = now_s
            note(f"{name} {phase}{': ' if text else ''}{text}")

    return say


@contextmanager
def _progress(title: str) -> Iterator[Callable[[str, str], None]]:
    """What is going on, on one line that goes when it is over; where there is no terminal, a line a phase."""
    to = console(stderr=True)
    if not to.is_terminal:
        yield _told_rarely(title.partition(" ")[0])
        return
    with to.status(title) as status:
        yield lambda phase, text: status.update(f"{title} · {phase}{': ' if text else ''}{text}")
