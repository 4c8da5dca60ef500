"""`kv namespace`: make, list, show and drop namespaces while the cluster runs."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import TYPE_CHECKING, Any

import click

from kvclient.cli import connection
from kvclient.cli.arguments import namespaces_offered
from kvclient.cli.asking import ask_again
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, note
from kvclient.cli.suggestions import SuggestingGroup

if TYPE_CHECKING:
    from kvclient.cli.connection import Client
    from kvproto.columns import NamespaceInfo

PRESETS = ("pa-el", "pa-ec", "pc-ec", "pc-el")
MODES = ("eventual", "linearizable")
POLICIES = ("siblings", "lww", "counter", "set", "map")
STORAGES, DURABILITIES = ("disk", "memory"), ("fsync", "os")
FIELDS = (
    "name",
    "id",
    "mode",
    "preset",
    "n",
    "n_asked",
    "r",
    "w",
    "ttl_s",
    "policy",
    "quota_operations_per_s",
    "quota_bytes_per_s",
    "storage",
    "durability",
    "max_bytes",
    "value_bytes_max",
)
UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


class Bytes(click.ParamType[int]):
    """A number of bytes, or of KiB, MiB, GiB or TiB: 65536 or 64KiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes. Raises `UsageError`."""
        if isinstance(value, int):
            return value
        number = str(value).rstrip("".join(sorted(ascii_letters)))
        unit = str(value)[len(number) :].upper()
        if not number.strip().isdecimal() or unit not in UNITS or not int(number):
            self.fail(f"{value!r} is no size: a number of bytes, or for example 64KiB, 256MiB or 2GiB", param, ctx)
        return int(number) * UNITS[unit]


@click.group(cls=SuggestingGroup, short_help="Make, list, show and drop namespaces.")
def namespace() -> None:
    """Namespaces while the cluster runs. All nodes agree on them: without a majority of them nothing is made or dropped."""


@namespace.command(
    "create",
    cls=Examples,
    short_help="Make a namespace.",
    examples="""
kv namespace create orders --preset pc-ec
kv namespace create hits --preset pa-el --policy counter
kv namespace create sessions --durability os
kv namespace create cache --storage memory --max-bytes 256MiB --ttl 3600
""",
)
@click.argument("name")
@click.option("--preset", type=click.Choice(PRESETS), help="What it gives and costs: kv dial --preset P. [default: pa-ec]")
@click.option("--mode", type=click.Choice(MODES), help="Of its writes; a preset has its own.")
@click.option("--n", "n", type=click.IntRange(1), metavar="N", help="Replicas of a key. [default: 3]")
@click.option("--r", "r", type=click.IntRange(1), metavar="N", help="Replicas that a read waits for. [default: the preset's]")
@click.option("--w", "w", type=click.IntRange(1), metavar="N", help="Replicas that a write waits for. [default: the preset's]")
@click.option(
    "--ttl", "ttl_s", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="How long keys live. [default: for ever]"
)
@click.option("--policy", type=click.Choice(POLICIES), help="What becomes of concurrent writes. [default: siblings]")
@click.option("--quota-operations", type=click.IntRange(1), metavar="N", help="Operations a second, of all clients together.")
@click.option("--quota-bytes", type=click.IntRange(1), metavar="N", help="Bytes a second, of all clients together.")
@click.option("--storage", type=click.Choice(STORAGES), help="Where records are; memory is a cache. [default: disk]")
@click.option("--max-bytes", type=Bytes(), metavar="SIZE", help="Of memory, on each node: 256MiB. Over it the least useful goes.")
@click.option("--durability", type=click.Choice(DURABILITIES), help="os: acknowledged when written, not synced. [default: fsync]")
@click.option("--value-bytes-max", type=Bytes(), metavar="SIZE", help="The longest value. [default: the cluster's]")
@click.pass_context
def create(ctx: click.Context, /, name: str, **wanted: Any) -> int:
    """Make the namespace NAME, on every node.

    What it is can never be changed afterwards; only a new one has other settings. Making the same again is no error.

    Ends 2 if there is another one of that name, 5 without a majority of the nodes (nothing was made), 6 if nobody can tell: run it
    again then.
    """
    options = Options.of(ctx)
    quotas = {"quota_operations": "quota_operations_per_s", "quota_bytes": "quota_bytes_per_s"}
    given = {quotas.get(what, what): value for what, value in wanted.items() if value is not None}

    async def work(client: Client) -> int:
        made = await client.admin.create_namespace(name, **given, **_patience(options))
        print_namespaces(options.output, [made], "created")
        return ExitCode.DONE

    return connection.run(options, work)


@namespace.command("list", cls=Examples, short_help="One row a namespace.", examples="kv -o json namespace list | jq .name")
@click.pass_context
def list_all(ctx: click.Context) -> int:
    """List every namespace with its settings; those of node.toml are `configured`."""
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        print_namespaces(options.output, await client.admin.namespaces(), "")
        return ExitCode.DONE

    return connection.run(options, work)


@namespace.command("show", cls=Examples, short_help="What one namespace is.", examples="kv namespace show orders")
@click.argument("name", shell_complete=namespaces_offered)
@click.pass_context
def show(ctx: click.Context, name: str) -> int:
    """Show the settings of the namespace NAME, and of one in memory what it takes on each node. Ends 2 if there is none."""
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        space = await client.admin.namespace(name)
        print_namespaces(options.output, [space], "", await uses_of(client, space))
        return ExitCode.DONE

    return connection.run(options, work)


@namespace.command(
    "drop",
    cls=Examples,
    short_help="Drop a namespace, with everything in it.",
    examples="""
kv namespace drop orders
kv namespace drop orders --yes   in scripts
""",
)
@click.argument("name", shell_complete=namespaces_offered)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def drop(ctx: click.Context, name: str, yes: bool) -> int:
    """Drop the namespace NAME, with every key in it, for ever.

    It is refused by name at once; what nodes hold of it is erased in the background. On a terminal it asks for the name first,
    elsewhere it needs --yes. Ends 2 if there is none, or if it is part of node.toml; 5 and 6 as for create.
    """
    options = Options.of(ctx)
    if not yes:
        ask_again(
            name,
            what=f"dropping {name!r} deletes every key in it",
            question=f"This deletes every key of {name!r} for ever. Type its name",
            instead="nothing was dropped",
            subject="name",
        )

    async def work(client: Client) -> int:
        was = await client.admin.drop_namespace(name, **_patience(options))
        print_namespaces(options.output, [was], "dropped")
        return ExitCode.DONE

    return connection.run(options, work)


def _patience(options: Options) -> dict[str, float]:
    return {} if options.timeout_s is None else {"timeout_s": options.timeout_s}


def row_of(info: NamespaceInfo) -> dict[str, Any]:
    """One namespace as JSON."""
    values = {name: info.ttl_ms / 1000 if name == "ttl_s" else getattr(info, name) for name in FIELDS}
    return {**values, "configured": not info.created}


async def uses_of(client: Client, space: NamespaceInfo) -> list[dict[str, Any]]:
    """What a namespace in memory takes, a row for each node that answers."""
    if space.storage != "memory":
        return []
    return [
        {"node": row.node_id, "keys": use.keys, "bytes": use.bytes, "max_bytes": use.max_bytes, "evictions": use.evictions}
        for row in await client.admin.status()
        for use in row.memory
        if use.namespace == space.name
    ]


def print_namespaces(output: Output, spaces: list[NamespaceInfo], done: str, uses: Sequence[dict[str, Any]] = ()) -> None:
    """A JSON object, a line with tabs, or a row of a table for each; `done` is what was done to it, in a note. `uses`: what the
    only one takes of each node's memory."""
    rows = [row_of(space) for space in spaces]
    if uses and output is Output.JSON:
        rows = [{**rows[0], "memory": list(uses)}]
    if output is Output.HUMAN:
        from kvclient.cli.tables import memory_table, namespaces_table

        namespaces_table(rows)
        if uses:
            memory_table(uses)
        if done:
            note(f"kv: {done} {rows[0]['name']!r}")
        return
    with Printer(output) as printer:
        for row in rows:
            if output is Output.JSON:
                printer.json(row)
            else:
                printer.line("\t".join(str(value) for value in row.values()))
