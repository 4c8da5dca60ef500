"""`kv put`, `kv get`, `kv del`, `kv touch`: single operations, and reads of several keys at once."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from kvclient.cli import connection
from kvclient.cli.arguments import decode_base64, keys_offered, to_bytes, value_bytes
from kvclient.cli.exit_codes import ExitCode, exit_code_of, gravest
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import ErrorPrinter, Printer, note, print_receipt_notes, printable
from kvclient.cli.rows import entry_row, typed_lines, written_row
from kvproto.errors import BadRequest, KvError

if TYPE_CHECKING:
    from kvclient.cli.connection import Client, Entry, Written

_REPLICAS = click.IntRange(min=1)


@click.command(
    cls=Examples,
    short_help="Store a value under a key.",
    examples="""
kv put alice 'hello'
kv put photo - < photo.jpg   the value is what stdin holds
kv put session x --ttl 3600   gone after an hour
kv put cart both --context AQAB…   supersedes exactly what a get has shown
kv -n orders put 17 paid --if-absent   only if nobody was quicker
""",
)
@click.argument("key", shell_complete=keys_offered)
@click.argument("value")
@click.option("--ttl", "ttl_s", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Expire after this time.")
@click.option(
    "--context", metavar="C", help="Context of a read (base64): supersedes what that read saw. Empty: a sibling of everything."
)
@click.option("--if-absent", is_flag=True, help="Only if the key has no value (linearizable namespaces).")
@click.option("--if-version", metavar="V", help="Only if the key has this version (linearizable namespaces).")
@click.option("--w", "w", type=_REPLICAS, metavar="N", help="Replicas that must have stored it.")
@click.pass_context
def put(
    ctx: click.Context,
    key: str,
    value: str,
    ttl_s: float | None,
    context: str | None,
    if_absent: bool,
    if_version: str | None,
    w: int | None,
) -> int:
    """Store VALUE (or, with -, all of stdin) under KEY.

    Without a context a put overwrites what the coordinator holds; with the context of a read it supersedes exactly what was read.
    With a condition that does not hold it ends 4, says what is there, and has certainly not stored anything.
    """
    options = Options.of(ctx)
    known = None if context is None else decode_base64(context, what="--context")
    arguments = options.call(ttl_s=ttl_s, context=known, w=w, if_absent=if_absent or None, if_version=if_version)
    data = value_bytes(value)

    async def work(client: Client) -> int:
        namespace = client.namespace(options.namespace)
        written = await namespace.put(to_bytes(key), data, **arguments)
        print_written(options.output, "stored", to_bytes(key), written)
        return ExitCode.DONE

    return connection.run(options, work)


@click.command(
    cls=Examples,
    short_help="Print the value of one or more keys.",
    examples="""
kv get alice
kv get alice bob carol   a row for each
kv get photo -o raw > photo.jpg
kv get alice -o json | jq .version
""",
)
@click.argument("keys", nargs=-1, required=True, metavar="KEY…", shell_complete=keys_offered)
@click.option("--r", "r", type=_REPLICAS, metavar="N", help="Replicas that must have answered.")
@click.pass_context
def get(ctx: click.Context, keys: tuple[str, ...], r: int | None) -> int:
    """Print the value of KEY; of several keys, a row for each.

    Ends 3 if a key has no value, and 4 if one has siblings: each is then printed with its version. With -o raw the value's very
    bytes are printed, and nothing else.
    """
    options = Options.of(ctx)
    wanted = [to_bytes(key) for key in keys]

    async def work(client: Client) -> int:
        namespace = client.namespace(options.namespace)
        if len(wanted) == 1:
            found = {wanted[0]: await namespace.get(wanted[0], **options.call(r=r))}
            return print_entries(options.output, wanted, found, {})
        from kvclient.errors import BatchError

        try:
            entries = await namespace.get_many(wanted, **options.call(r=r))
            return print_entries(options.output, wanted, entries, {})
        except BatchError as error:
            return print_entries(options.output, wanted, error.results, error.errors)

    return connection.run(options, work)


@click.command(
    cls=Examples,
    name="del",
    short_help="Delete one or more keys.",
    examples="""
kv del alice
kv del alice bob carol
""",
)
@click.argument("keys", nargs=-1, required=True, metavar="KEY…", shell_complete=keys_offered)
@click.option("--context", metavar="C", help="Context of a read (base64): deletes what that read saw, and nothing newer.")
@click.option("--if-version", metavar="V", help="Only if the key has this version (linearizable namespaces).")
@click.option("--w", "w", type=_REPLICAS, metavar="N", help="Replicas that must have stored the deletion.")
@click.pass_context
def delete(ctx: click.Context, keys: tuple[str, ...], context: str | None, if_version: str | None, w: int | None) -> int:
    """Delete KEY…; deleting what is not there succeeds."""
    options = Options.of(ctx)
    wanted = [to_bytes(key) for key in keys]
    known = None if context is None else decode_base64(context, what="--context")
    for name, value in (("--context", known), ("--if-version", if_version)):
        if value is not None and len(wanted) > 1:
            raise BadRequest(f"{name} is of one key, but {len(wanted)} were given")

    async def work(client: Client) -> int:
        namespace = client.namespace(options.namespace)
        if len(wanted) == 1:
            written = await namespace.delete(wanted[0], **options.call(context=known, if_version=if_version, w=w))
            print_written(options.output, "deleted", wanted[0], written)
            return ExitCode.DONE
        from kvclient.errors import BatchError

        try:
            results, errors = await namespace.delete_many(wanted, **options.call(w=w)), {}
        except BatchError as error:
            results, errors = error.results, error.errors
        for key in wanted:
            if key in results:
                print_written(options.output, "deleted", key, results[key])
        return _print_errors(options.output, errors)

    return connection.run(options, work)


@click.command(
    cls=Examples,
    short_help="Give a key another time to live.",
    examples="""
kv touch session --ttl 3600   it lives for another hour
kv touch session --ttl 0   it never expires
""",
)
@click.argument("key", shell_complete=keys_offered)
@click.option(
    "--ttl", "ttl_s", type=click.FloatRange(min=0), metavar="SECONDS", required=True, help="Expire after this time; 0: never."
)
@click.option("--if-version", metavar="V", help="Only if the key has this version (linearizable namespaces).")
@click.option("--w", "w", type=_REPLICAS, metavar="N", help="Replicas that must have stored it.")
@click.pass_context
def touch(ctx: click.Context, key: str, ttl_s: float, if_version: str | None, w: int | None) -> int:
    """Let the value of KEY live for so long from now on; its value and version stay as they are.

    Ends 3 if KEY has no value.
    """
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        done = await client.namespace(options.namespace).touch(to_bytes(key), ttl_s, **options.call(if_version=if_version, w=w))
        if not done.siblings:
            note(f"kv: {printable(to_bytes(key))} has no value")
            return ExitCode.NOT_FOUND
        print_written(options.output, "touched", to_bytes(key), done)
        return ExitCode.DONE

    return connection.run(options, work)


def print_entries(output: Output, wanted: list[bytes], entries: Mapping[bytes, Entry], errors: Mapping[bytes, KvError]) -> int:
    """Prints what was read of the keys `wanted`, in that order, and the errors; returns the exit code they add up to."""
    codes: set[ExitCode] = set()
    with Printer(output) as printer:
        for key in wanted:
            if key in entries:
                codes.add(_print_entry(printer, key, entries[key], alone=len(wanted) == 1))
    if failed := _print_errors(output, errors):
        return failed
    return next((code for code in (ExitCode.NOT_FOUND, ExitCode.CONDITION) if code in codes), ExitCode.DONE)


def _print_errors(output: Output, errors: Mapping[bytes, KvError]) -> ExitCode:
    printer = ErrorPrinter(output)
    for key, error in errors.items():
        printer.print_error(error, key=key)
    return gravest({exit_code_of(error) for error in errors.values()})


def _print_entry(printer: Printer, key: bytes, entry: Entry, *, alone: bool) -> ExitCode:
    siblings = len(entry.values) > 1 and not entry.policy
    if printer.output is Output.JSON:
        printer.json(entry_row(key, entry))
    else:
        print_receipt_notes(entry.receipt)
        if entry.policy:
            _print_typed(printer, key, entry, alone=alone)
        elif siblings:
            _print_siblings(printer, key, entry)
        elif alone:
            _print_alone(printer, key, entry)
        else:
            _print_in_row(printer, key, entry)
    if not entry.found:
        return ExitCode.NOT_FOUND
    return ExitCode.CONDITION if siblings else ExitCode.DONE


def _print_typed(printer: Printer, key: bytes, entry: Entry, *, alone: bool) -> None:
    """A counter's number, a set's members one a line, a map's fields as field=value; with several keys each line names its key."""
    begin = b"" if alone else (printable(key).encode("utf-8", "surrogateescape") + b"\t")
    for line in typed_lines(entry):
        if printer.output is not Output.RAW and (printer.terminal or not alone):
            printer.line(f"{begin.decode('utf-8', 'surrogateescape')}{printable(line)}")
        else:
            printer.raw(begin + line + b"\n")


def _print_alone(printer: Printer, key: bytes, entry: Entry) -> None:
    if not entry.found:
        note(f"kv: {printable(key)} has no value")
    elif printer.output is Output.RAW:
        printer.raw(entry.values[0])
    elif printer.terminal:
        printer.line(printable(entry.values[0], one_line=False))
    else:
        printer.raw(entry.values[0] + b"\n")


def _print_in_row(printer: Printer, key: bytes, entry: Entry) -> None:
    if not entry.found:
        note(f"kv: {printable(key)} has no value")
    if printer.output is Output.RAW:
        printer.raw((entry.values[0] if entry.found else b"") + b"\n")
    else:
        printer.line(f"{printable(key)}\t{printable(entry.values[0]) if entry.found else '(not found)'}")


def _print_siblings(printer: Printer, key: bytes, entry: Entry) -> None:
    name = printable(key)
    note(f"{name} has {len(entry.values)} siblings: values written without knowing of each other")
    for version, value in zip(entry.versions, entry.values, strict=True):
        printer.line(f"{name}\t{version}\t{printable(value)}")
    printer.flush()
    context = base64.b64encode(entry.context).decode()
    note(f"resolve them with: kv put {shlex.quote(name)} VALUE --context {context}")


def print_written(output: Output, verb: str, key: bytes, written: Written, *, names_key: bool = True) -> None:
    """Prints that `key` was written; `names_key`: behind the verb, which says it else."""
    with Printer(output) as printer:
        if output is Output.JSON:
            printer.json(written_row(key, written))
            return
        print_receipt_notes(written.receipt)
        if output is Output.RAW:
            printer.line(written.version)
            return
        receipt = written.receipt
        kept = "on disk" if receipt.durable else "not synced"
        what = f"{verb} {printable(key)}" if names_key else verb
        printer.line(f"{what} ({len(receipt.acknowledged)} of {receipt.n} replicas, {kept})")
    if written.siblings > 1:
        note(f"{printable(key)} now has {written.siblings} siblings: see kv get {shlex.quote(printable(key))}")
