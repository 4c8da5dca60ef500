"""How a command ends: one sentence (or one JSON object) on stderr and an exit code of the public contract."""

from __future__ import annotations

import json
import sys
from enum import IntEnum

import click

from kvproto.errors import AvailabilityError, Code, KvError, StorageError

OUTPUTS = ("human", "json")


class Exit(IntEnum):
    """The exit codes these commands use; docs/operations.md has the whole list."""

    DONE = 0
    INTERNAL = 1
    REFUSED = 2
    UNAVAILABLE = 5
    UNKNOWN = 6
    BROKEN_PROMISE = 8
    INTERRUPTED = 130


def exit_code(error: KvError) -> Exit:
    """The code a command ends with after `error`."""
    if error.may_have_applied:
        return Exit.UNKNOWN
    if isinstance(error, (AvailabilityError, StorageError)):
        return Exit.UNAVAILABLE
    return Exit.INTERNAL if error.code is Code.INTERNAL else Exit.REFUSED


def report_error(error: KvError, *, output: str) -> None:
    """Writes the error to stderr; with `json` as the one object the contract states."""
    if output != "json":
        click.echo(f"error: {error.message}", err=True)
        return
    body = {"code": error.code.name, "message": error.message, "retryable": error.retryable, "may_have_applied": error.may_have_applied}
    click.echo(json.dumps({"error": body | error.numbers()}), err=True)


def print_event(event: dict[str, object]) -> None:
    """One JSON object on a line of stdout, at once: another program may be waiting for it."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def chosen_output(own: str | None) -> str:
    """`-o` given after the sub-command, else before it (`kv -o json dev`), else human."""
    context = click.get_current_context(silent=True)
    while own is None and context is not None:
        own = context.params.get("output")
        context = context.parent
    return "json" if own == "json" else "human"


output_option = click.option("-o", "--output", type=click.Choice(OUTPUTS), default=None, help="human (default) or json.")
