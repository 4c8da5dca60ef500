"""`kv chaos check` and `kv chaos export`: histories of runs, judged again and exported. What judges is imported when it is needed.

Ends with 8 when a promise was broken, and with 9 when it cannot be told whether one was.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer
from kvproto.errors import BadRequest

if TYPE_CHECKING:
    from kvchaos.checkers.violations import Violation
    from kvchaos.history import History

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    "export",
    cls=Examples,
    short_help="Print a history in a format of other tools.",
    examples="kv chaos export results/F1-pa-ec.jsonl --edn",
)
@click.argument("file", type=FILE)
@click.option("--edn", "is_edn", is_flag=True, help="As EDN, for Jepsen's Knossos and Elle (the only format so far).")
@click.option("--key", metavar="KEY", help="Only the calls on this key, with bare values, as Knossos reads them.")
@click.pass_context
def export(context: click.Context, file: Path, is_edn: bool, key: str | None) -> ExitCode:
    """Print the history FILE in a format of other tools."""
    from kvchaos.edn import edn_lines

    if not is_edn:
        raise BadRequest("say which format: --edn")
    history = _read(file)
    if key is not None and not any(event.key == key for event in history.events):
        raise BadRequest(f"{file} has no call on the key {key!r}")
    with Printer(Options.of(context).output) as printer:
        for line in edn_lines(history, key=key):
            printer.line(line)
    return ExitCode.DONE


@click.command(
    "check",
    cls=Examples,
    short_help="Judge a history again.",
    examples="""
kv chaos check results/F1-pa-ec.jsonl
kv chaos check results/F1-strict.jsonl --promise strict
""",
)
@click.argument("file", type=FILE)
@click.option(
    "--promise", "promises", metavar="NAME", multiple=True, help="What to judge by (default: what the file's header says)."
)
@click.pass_context
def check(context: click.Context, file: Path, promises: tuple[str, ...]) -> ExitCode:
    """Judge the history FILE again."""
    from kvchaos.checkers.judge import judge
    from kvchaos.checkers.linearizability.verdicts import UNDECIDED

    history = _read(file)
    if promises:
        history.header["promises"] = list(promises)
    try:
        found = judge(history)
    except (ValueError, KeyError) as error:
        raise BadRequest(f"{file} cannot be judged: {error}") from error
    with Printer(Options.of(context).output) as printer:
        for violation in found:
            _print(printer, violation)
        if printer.output is not Output.JSON:
            calls = sum(event.type == "invoke" for event in history.events)
            printer.line(f"{calls:,} calls, {len(found)} violation{'' if len(found) == 1 else 's'}")
    if not found:
        return ExitCode.DONE
    return ExitCode.INCONCLUSIVE if all(one.promise == UNDECIDED for one in found) else ExitCode.PROMISE_BROKEN


def _print(printer: Printer, violation: Violation) -> None:
    if printer.output is Output.JSON:
        printer.json({"promise": violation.promise, "key": violation.key, "text": violation.text, "events": violation.events})
    else:
        printer.line(f"BROKEN  {violation.sentence()}")
        printer.line(f"        events {', '.join(map(str, violation.events))}" if violation.events else "")


def _read(file: Path) -> History:
    from kvchaos.history import read_history

    try:
        return read_history(file)
    except (ValueError, OSError) as error:
        raise BadRequest(f"{file} is no history: {error}") from error
