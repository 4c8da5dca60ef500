"""`kv repair`: has every node compare its records with its peers' now, and shows how far that is; or, with --accept-loss, has nodes
that wait for each other's lost registers go on without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvclient.cli import connection
from kvclient.cli.asking import ask_again
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, note
from kvclient.cli.progress_bar import progress_bar
from kvclient.errors import BadRequest

if TYPE_CHECKING:
    from kvclient.cli.connection import Client
    from kvproto.columns import RepairProgress

FIELDS = ("id", "partitions", "compared", "differing", "differences", "repaired", "unknown", "unreachable", "elapsed_s")


@click.command(
    cls=Examples,
    short_help="Compare replicas now, and repair what differs.",
    examples="""
kv repair
kv repair --all
kv -o json repair --namespace users | jq .repaired
kv repair --accept-loss n2 --yes        n2 and n3 have both lost their disks
""",
)
@click.option("--all", "every", is_flag=True, help="Every namespace, not only the one of --namespace.")
@click.option(
    "--accept-loss",
    "lost",
    multiple=True,
    metavar="NODE",
    help="NODE has lost its disk for good: others that lost theirs do not wait for its registers. May be repeated.",
)
@click.option("--yes", is_flag=True, help="With --accept-loss: do not ask.")
@click.pass_context
def repair(ctx: click.Context, every: bool, lost: tuple[str, ...], yes: bool) -> int:
    """Compare the replicas of a namespace and bring together what differs.

    Nodes do this by themselves all the time; this does it now, one node after the other, and says what it found. Each compares with
    every peer: equal partitions cost a few bytes, so a second run is quick.

    Ends 5 when something could not be compared: a node did not answer, or is still rebuilding its hash trees.

    With --accept-loss nothing is compared. Two of three replicas of a linearizable namespace that have lost their disks wait for
    each other, because each may have acknowledged what the third has not heard of. Who knows that one of the disks will not come
    back says so: the other node is admitted again by what is left, and then that one by both. Writes that only the lost disks had
    are gone, and no client is told. Ends 2 if NODE is no node, 5 if no node waits.
    """
    options = Options.of(ctx)
    if lost:
        return _accept_loss(options, lost, yes)

    async def work(client: Client) -> int:
        namespace = "" if every else options.namespace
        rows = await run_everywhere(client, namespace)
        print_rows(options.output, rows)
        left = what_is_left(rows)
        if left:
            note(f"kv: not all of it is repaired: {'; '.join(left)}")
        return ExitCode.UNAVAILABLE if left else ExitCode.DONE

    return connection.run(options, work)


def _accept_loss(options: Options, lost: tuple[str, ...], yes: bool) -> int:
    lost = tuple(dict.fromkeys(lost))
    names = " and ".join(lost)
    if not yes:
        ask_again(
            names,
            what=f"what only {names} had is given up",
            question=f"Acknowledged writes that only {names} and the nodes that wait had are given up for ever. Type the name",
            instead="nothing was given up",
            subject="accept-loss",
        )

    async def work(client: Client) -> int:
        rows = await client.admin.status()
        has = {row.node_id for row in rows if row.state != "dead" and not row.rebuilding and not row.quarantined}
        if wrong := sorted(has.intersection(lost)):
            text = f"{' and '.join(wrong)} answers and has its registers: there is no loss to accept"
            raise BadRequest(text, subject="accept-loss")
        accepted = await client.admin.accept_loss(*lost)
        with Printer(options.output) as printer:
            for row in accepted:
                if options.output is Output.JSON:
                    printer.json({"id": row.node_id, "without": list(lost), "waiting": row.waiting})
                else:
                    printer.line(f"{row.node_id} goes on without {names}: {row.waiting} groups of registers are admitted again")
        if not accepted:
            note(f"kv: no node waits for {names}: none that answers has lost its registers, or knows yet that it has (kv status)")
        return ExitCode.DONE if accepted else ExitCode.UNAVAILABLE

    return connection.run(options, work)


async def run_everywhere(client: Client, namespace: str) -> list[RepairProgress]:
    """Has one node after the other do it, with a bar over all of them; a row each."""
    nodes = len((await client.admin.describe()).members)
    done: dict[str, RepairProgress] = {}
    with progress_bar("repair", total=100 * nodes, unit="keys repaired") as advance:

        def on_progress(row: RepairProgress) -> None:
            done[row.node_id] = row
            shares = [1.0 if one.over else one.compared / max(1, one.partitions) for one in done.values()]
            advance(int(100 * sum(shares)), sum(one.repaired for one in done.values()))

        rows: list[RepairProgress] = await client.admin.repair(namespace, on_progress=on_progress)
    return rows


def what_is_left(rows: list[RepairProgress]) -> list[str]:
    """What was not compared or not repaired, in words; empty: nothing."""
    found = [f"{row.node_id} has not compared with {', '.join(row.unreachable)}" for row in rows if row.unreachable]
    found += [f"{row.node_id} could not compare {row.unknown} partitions" for row in rows if row.unknown]
    found += [f"{row.node_id} has not repaired {gap} keys" for row in rows if (gap := row.differences - row.repaired) > 0]
    return found


def row_of(row: RepairProgress) -> dict[str, Any]:
    """One node as JSON."""
    values = {name: getattr(row, "node_id" if name == "id" else name) for name in FIELDS}
    return {**values, "unreachable": list(row.unreachable), "elapsed_s": round(row.elapsed_s, 3)}


def print_rows(output: Output, rows: list[RepairProgress]) -> None:
    """A JSON object, a line with tabs, or a row of a table for each node."""
    if output is Output.HUMAN:
        from kvclient.cli.tables import repair_table

        repair_table([row_of(row) for row in rows])
        return
    with Printer(output) as printer:
        for row in map(row_of, rows):
            if output is Output.JSON:
                printer.json(row)
            else:
                values = {**row, "unreachable": ",".join(row["unreachable"])}
                printer.line("\t".join(str(value) for value in values.values()))
