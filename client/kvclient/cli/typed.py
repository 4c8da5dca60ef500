"""`kv incr`, `kv sadd`, `kv hset` and their like: counters, sets and maps, in namespaces whose policy has them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from kvclient.cli import connection
from kvclient.cli.arguments import decode_base64, keys_offered, to_bytes, value_bytes
from kvclient.cli.data import print_written
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, note, print_receipt_notes, printable, receipt_row, text_or_base64
from kvclient.cli.rows import members_row, written_row

if TYPE_CHECKING:
    from kvclient.cli.connection import Client, Namespace, Written

_REPLICAS = click.IntRange(min=1)
_NUMBERS = {"ignore_unknown_options": True}  # so that -5 is a number

_key = click.argument("key", shell_complete=keys_offered)
_amount = click.argument("by", type=int, default=1, metavar="[N]")
_members = click.argument("members", nargs=-1, required=True, metavar="MEMBER…")
_field = click.option("--field", metavar="F", help="The field of a map (namespaces with policy map).")
_w = click.option("--w", "w", type=_REPLICAS, metavar="N", help="Replicas that must have stored it.")
_r = click.option("--r", "r", type=_REPLICAS, metavar="N", help="Replicas that must have answered.")
_min = click.option("--min", "low", type=int, metavar="N", help="Not if less would come of it (linearizable namespaces).")
_max = click.option("--max", "high", type=int, metavar="N", help="Not if more would come of it (linearizable namespaces).")
_ttl = click.option(
    "--ttl", "ttl_s", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Expire after this time."
)
_context = click.option("--context", metavar="C", help="Context of a read (base64): takes what that read saw, and nothing newer.")


@click.command(
    cls=Examples,
    context_settings=_NUMBERS,
    short_help="Add to a counter and print what it holds.",
    examples="""
kv -n hits incr page/1
kv -n hits incr page/1 10
kv -n carts incr alice 2 --field visits   a counter in a map
kv -n orders decr stock/pears --min 0   ends 4 when there are none left
""",
)
@_key
@_amount
@_field
@_min
@_max
@_w
@click.pass_context
def incr(ctx: click.Context, key: str, by: int, field: str | None, low: int | None, high: int | None, w: int | None) -> int:
    """Add N, by default 1, to the counter KEY, and print what it holds then.

    It is counted once or not at all. If it ends 6, it is not known which: read the counter before you try again. In a linearizable
    namespace any key is a counter; with a bound that would be passed it ends 4, and has certainly not counted.
    """
    return _count(ctx, key, by, {"field": _named(field), "min": low, "max": high, "w": w})


@click.command(
    cls=Examples,
    context_settings=_NUMBERS,
    short_help="Take from a counter and print what it holds.",
    examples="""
kv -n hits decr page/1
kv -n hits decr stock/pears 3
""",
)
@_key
@_amount
@_field
@_min
@_max
@_w
@click.pass_context
def decr(ctx: click.Context, key: str, by: int, field: str | None, low: int | None, high: int | None, w: int | None) -> int:
    """Take N, by default 1, from the counter KEY, and print what it holds then; see `kv incr`."""
    return _count(ctx, key, -by, {"field": _named(field), "min": low, "max": high, "w": w})


@click.command(
    cls=Examples,
    short_help="Add members to a set.",
    examples="""
kv -n tags sadd photo/1 beach summer
kv -n tags sadd online alice --ttl 60   alone gone after a minute
kv -n carts sadd alice pears --field items   a set in a map
""",
)
@_key
@_members
@_field
@_ttl
@_w
@click.pass_context
def sadd(ctx: click.Context, key: str, members: tuple[str, ...], field: str | None, ttl_s: float | None, w: int | None) -> int:
    """Add every MEMBER to the set KEY. An addition wins over a removal that has not seen it."""

    def add(space: Namespace, options: dict[str, Any]) -> Awaitable[Written]:
        return space.add(to_bytes(key), *map(to_bytes, members), **options)

    return _write(ctx, f"added to {printable(to_bytes(key))}", key, add, {"field": _named(field), "ttl_s": ttl_s, "w": w})


@click.command(
    cls=Examples,
    short_help="Remove members from a set.",
    examples="""
kv -n tags srem photo/1 beach
""",
)
@_key
@_members
@_field
@_context
@_w
@click.pass_context
def srem(ctx: click.Context, key: str, members: tuple[str, ...], field: str | None, context: str | None, w: int | None) -> int:
    """Remove every MEMBER from the set KEY; removing what is not in it succeeds."""

    def remove(space: Namespace, options: dict[str, Any]) -> Awaitable[Written]:
        return space.remove(to_bytes(key), *map(to_bytes, members), **options)

    known = None if context is None else decode_base64(context, what="--context")
    return _write(ctx, f"removed from {printable(to_bytes(key))}", key, remove, {"field": _named(field), "context": known, "w": w})


@click.command(
    cls=Examples,
    short_help="Print the members of a set, one a line.",
    examples="""
kv -n tags smembers photo/1
kv -n carts smembers alice --field items
""",
)
@_key
@_field
@_r
@click.pass_context
def smembers(ctx: click.Context, key: str, field: str | None, r: int | None) -> int:
    """Print the members of the set KEY in order, one a line. A set that is empty, or was never added to, has none and ends 0."""
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        space = client.namespace(options.namespace)
        found = await space.members(to_bytes(key), **_quiet(options.call(field=_named(field), r=r)))
        with Printer(options.output) as printer:
            if options.output is Output.JSON:
                printer.json({**text_or_base64("key", to_bytes(key)), **members_row(found)})
            else:
                print_lines(printer, sorted(found))
        return ExitCode.DONE

    return connection.run(options, work)


@click.command(
    cls=Examples,
    short_help="Tell whether something is in a set.",
    examples="""
kv -n tags sismember photo/1 beach && echo yes
""",
)
@_key
@click.argument("member")
@_field
@_r
@click.pass_context
def sismember(ctx: click.Context, key: str, member: str, field: str | None, r: int | None) -> int:
    """End 0 if MEMBER is in the set KEY, 3 if it is not; print true or false."""
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        space = client.namespace(options.namespace)
        held = await space.contains(to_bytes(key), to_bytes(member), **_quiet(options.call(field=_named(field), r=r)))
        with Printer(options.output) as printer:
            if options.output is Output.JSON:
                printer.json({**text_or_base64("key", to_bytes(key)), **text_or_base64("member", to_bytes(member)), "found": held})
            else:
                printer.line("true" if held else "false")
        return ExitCode.DONE if held else ExitCode.NOT_FOUND

    return connection.run(options, work)


@click.command(
    cls=Examples,
    short_help="Store a value in a field of a map.",
    examples="""
kv -n carts hset alice city Oslo
kv -n carts hset alice photo - < photo.jpg   the value is what stdin holds
""",
)
@_key
@click.argument("field")
@click.argument("value")
@_ttl
@_w
@click.pass_context
def hset(ctx: click.Context, key: str, field: str, value: str, ttl_s: float | None, w: int | None) -> int:
    """Store VALUE (or, with -, all of stdin) in FIELD of the map KEY. Of concurrent values the latest is read."""
    data = value_bytes(value)

    def store(space: Namespace, options: dict[str, Any]) -> Awaitable[Written]:
        return space.put_field(to_bytes(key), to_bytes(field), data, **options)

    return _write(ctx, f"stored {printable(to_bytes(field))} of {printable(to_bytes(key))}", key, store, {"ttl_s": ttl_s, "w": w})


@click.command(
    cls=Examples,
    short_help="Print the value of a field of a map.",
    examples="""
kv -n carts hget alice city
kv -n carts get alice   all fields
""",
)
@_key
@click.argument("field")
@_r
@click.pass_context
def hget(ctx: click.Context, key: str, field: str, r: int | None) -> int:
    """Print the value of FIELD of the map KEY; ends 3 if it has none. `kv get` prints every field, counters and sets as well."""
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        value = await client.namespace(options.namespace).get_field(to_bytes(key), to_bytes(field), **_quiet(options.call(r=r)))
        with Printer(options.output) as printer:
            if options.output is Output.JSON:
                row = {"value": None} if value is None else text_or_base64("value", value)
                names = {**text_or_base64("key", to_bytes(key)), **text_or_base64("field", to_bytes(field))}
                printer.json({**names, "found": value is not None, **row})
            elif value is None:
                note(f"kv: {printable(to_bytes(key))} has no value in {printable(to_bytes(field))}")
            elif options.output is Output.RAW:
                printer.raw(value)
            else:
                print_lines(printer, [value])
        return ExitCode.NOT_FOUND if value is None else ExitCode.DONE

    return connection.run(options, work)


@click.command(
    cls=Examples,
    short_help="Delete a field of a map.",
    examples="""
kv -n carts hdel alice city
""",
)
@_key
@click.argument("field")
@_context
@_w
@click.pass_context
def hdel(ctx: click.Context, key: str, field: str, context: str | None, w: int | None) -> int:
    """Delete FIELD of the map KEY, be it a value, a counter or a set; deleting what is not there succeeds."""

    def delete(space: Namespace, options: dict[str, Any]) -> Awaitable[Written]:
        return space.delete_field(to_bytes(key), to_bytes(field), **options)

    known = None if context is None else decode_base64(context, what="--context")
    return _write(
        ctx, f"deleted {printable(to_bytes(field))} of {printable(to_bytes(key))}", key, delete, {"context": known, "w": w}
    )


def print_lines(printer: Printer, values: Sequence[bytes]) -> None:
    """One value a line: on a terminal such that it cannot be steered, else the very bytes."""
    for value in values:
        if printer.output is not Output.RAW and printer.terminal:
            printer.line(printable(value))
        else:
            printer.raw(value + b"\n")


def _count(ctx: click.Context, key: str, by: int, arguments: dict[str, Any]) -> int:
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        space = client.namespace(options.namespace)
        done = await space.increment(to_bytes(key), by, **options.call(**arguments))
        with Printer(options.output) as printer:
            if options.output is Output.JSON:
                printer.json({**written_row(to_bytes(key), done), "number": done.value, "receipt": receipt_row(done.receipt)})
            else:
                print_receipt_notes(done.receipt)
                printer.line(str(done.value))
        return ExitCode.DONE

    return connection.run(options, work)


def _write(
    ctx: click.Context,
    verb: str,
    key: str,
    act: Callable[[Namespace, dict[str, Any]], Awaitable[Written]],
    arguments: dict[str, Any],
) -> int:
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        written = await act(client.namespace(options.namespace), options.call(**arguments))
        print_written(options.output, verb, to_bytes(key), written, names_key=False)
        return ExitCode.DONE

    return connection.run(options, work)


def _named(field: str | None) -> bytes | None:
    return None if field is None else to_bytes(field)


def _quiet(arguments: dict[str, Any]) -> dict[str, Any]:
    """Without what only calls have that return a receipt."""
    if arguments.pop("explain", None):
        print("kv: --explain is for kv get, whose answer has a receipt", file=sys.stderr)
    return arguments
