"""`kv scan`: keys and values in key order, printed as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvclient.cli import connection
from kvclient.cli.arguments import keys_offered, to_bytes
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, printable
from kvclient.cli.rows import entry_row, typed_lines

if TYPE_CHECKING:
    from kvclient.cli.connection import Client, ScannedEntry


@click.command(
    cls=Examples,
    short_help="List keys and values in key order.",
    examples="""
kv scan user: --limit 10
kv scan --start a --end b -o json
""",
)
@click.argument("prefix", default="", shell_complete=keys_offered)
@click.option("--start", metavar="KEY", shell_complete=keys_offered, help="First key, inclusive.")
@click.option("--end", metavar="KEY", shell_complete=keys_offered, help="Last key, exclusive.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many keys.")
@click.pass_context
def scan(ctx: click.Context, prefix: str, start: str | None, end: str | None, limit: int | None) -> int:
    """List the keys that begin with PREFIX (all, without one) and their values, in key order.

    A row is key, tab, value; with -o raw it is the value's bytes and a line end. A key with siblings has a row for each.
    """
    options = Options.of(ctx)
    bounds = {name: to_bytes(text) for name, text in (("prefix", prefix), ("start", start), ("end", end)) if text}

    async def work(client: Client) -> int:
        namespace = client.namespace(options.namespace)
        arguments: dict[str, Any] = bounds if limit is None else {**bounds, "limit": limit}
        with Printer(options.output) as printer:
            async for entry in namespace.scan(**arguments):
                _print_row(printer, entry)
        return ExitCode.DONE

    return connection.run(options, work)


def _print_row(printer: Printer, entry: ScannedEntry) -> None:
    if printer.output is Output.JSON:
        printer.json(entry_row(entry.key, entry))
        return
    for value in typed_lines(entry) if entry.policy else entry.values:
        if printer.output is Output.RAW:
            printer.raw(value + b"\n")
        else:
            printer.line(f"{printable(entry.key)}\t{printable(value)}")
