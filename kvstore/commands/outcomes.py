"""How these commands end: one sentence (or one JSON object) on stderr and an exit code of the public contract.

What the `kv` command already decides (classes of errors to codes, the shape of an error) is taken from there, but only when it is
needed: `serve` must choose gRPC's settings before anything can import grpc.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine, Mapping
from enum import IntEnum
from typing import Any

import click

from kvproto.errors import KvError

OUTPUTS = ("human", "json")


class Exit(IntEnum):
    """The exit codes that are decided here; a test keeps them equal to those of `kvclient.cli.exit_codes`."""

    DONE = 0
    INTERNAL = 1
    REFUSED = 2
    UNAVAILABLE = 5
    PROMISE_BROKEN = 8
    INTERRUPTED = 130


def exit_code(error: KvError) -> int:
    """The code a command ends with after `error`."""
    from kvclient.cli.exit_codes import exit_code_of

    return exit_code_of(error)


def report_error(error: KvError, *, output: str) -> None:
    """Writes the error to stderr: one clear sentence, with `json` the one object the contract states."""
    from kvclient.cli.options import Output
    from kvclient.cli.output import ErrorPrinter

    ErrorPrinter(Output(output)).print_error(error)


def print_event(event: Mapping[str, object]) -> None:
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


def run_command(work: Callable[[], Coroutine[Any, Any, int]], *, output: str) -> None:
    """Runs a command's coroutine to its end and leaves the process with its exit code, or with the one of its error."""
    import asyncio

    try:
        code = asyncio.run(work())
    except KvError as error:
        report_error(error, output=output)
        code = exit_code(error)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    sys.exit(int(code))


output_option = click.option("-o", "--output", type=click.Choice(OUTPUTS), default=None, help="human (default) or json.")
