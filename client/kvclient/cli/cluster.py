"""`kv status` and `kv ring`: the cluster as its nodes see it, and who owns what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from kvclient.cli import connection
from kvclient.cli.arguments import keys_offered, to_bytes
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.opinions import doubts, judged, opinion_rows, seen_as
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, note
from kvproto.errors import AvailabilityError

if TYPE_CHECKING:
    from kvclient.cli.connection import Client
    from kvproto.columns import ClusterInfo, NodeStatus

POLL_INTERVAL_S = 0.2
POLL_TIMEOUT_S = 2.0  # a node that takes longer to say how it is has not converged
STATUS_FIELDS = (
    "id",
    "address",
    "zone",
    "state",
    "ring_epoch",
    "keys",
    "hints_pending",
    "hints_dropped",
    "oldest_hint_s",
    "divergent_partitions",
    "quarantined",
    "version",
)
REPAIR_FIELDS = ("rebuilding", "trees_unknown", "differences", "repaired", "set_aside")
REGISTERS_LOST = "registers lost"
"""Why a node is rebuilding whose records are whole."""
OPINION_FIELDS = ("state", "incarnation", "since_s", "flaps", "latency_ms")


@click.command(
    cls=Examples,
    short_help="One row a node: state, epoch, hints, divergence.",
    examples="""
kv status
kv status --peers
kv status --wait converged --timeout 60
kv status -o json | jq -r 'select(.state != "alive") | .id'
""",
)
@click.option("--peers", is_flag=True, help="What each node thinks of each other: a row an opinion.")
@click.option("--wait", type=click.Choice(["converged"]), help="Wait until this holds, at most --timeout seconds; else end 5.")
@click.pass_context
def status(ctx: click.Context, wait: str | None, peers: bool) -> int:
    """Show what every node says of itself, and what the others say of it.

    Dropped hints, the oldest hint's age, divergent partitions and quarantined records have columns where there are any, and so has
    how the others see a node that they avoid. A node that does not answer is dead; one that most of the others avoid is slow or
    suspect.

    Converged: every node is alive, all have the same ring epoch, no hint is left, and every partition was compared with every other
    replica of it just now and is equal. A node that is rebuilding has lost records and does not count for reads until it has them.
    Two nodes that have lost their registers never converge: when all else has, that ends 5 and says what to do.
    """
    options = Options.of(ctx)

    show = print_peers if peers else print_status

    async def work(client: Client) -> int:
        if wait is None:
            rows = judged(await client.admin.status())
            show(options.output, rows)
            note_lost_registers(rows)
            return ExitCode.DONE
        rows, converged = await wait_converged(client, options.patience_s)
        show(options.output, rows)
        note_lost_registers(rows)
        if not converged and is_hopeless(rows):
            note(f"kv: waiting is no use: {'; '.join(obstacles(rows))}")
        elif not converged:
            note(f"kv: not converged within {options.patience_s:g} s: {'; '.join(obstacles(rows))}")
        return ExitCode.DONE if converged else ExitCode.UNAVAILABLE

    return connection.run(options, work)


@click.command(
    cls=Examples,
    short_help="Who owns what: shares of the ring, owners of a key.",
    examples="""
kv ring
kv ring --key alice
""",
)
@click.option(
    "--key", metavar="K", shell_complete=keys_offered, help="Only this key: its partition, and its owners in order of preference."
)
@click.pass_context
def ring(ctx: click.Context, key: str | None) -> int:
    """Show each member's share of the partitions, or who owns one key."""
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        cluster = await client.admin.describe()
        if key is None:
            print_ring(options.output, cluster)
        else:
            print_owners(options.output, cluster, to_bytes(key))
        return ExitCode.DONE

    return connection.run(options, work)


async def wait_converged(client: Client, timeout_s: float) -> tuple[list[NodeStatus], bool]:
    """Asks again and again until the nodes have converged, or never will, or the time is over; returns the last rows, and whether
    they have. A cluster that cannot be reached has not converged yet."""
    rows: list[NodeStatus] = []
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    rows = judged(await client.admin.status(timeout_s=POLL_TIMEOUT_S))
                    if not obstacles(rows) or is_hopeless(rows):
                        return rows, not obstacles(rows)
                except AvailabilityError:
                    rows = []
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        return rows, False


def obstacles(rows: list[NodeStatus]) -> list[str]:
    """What keeps these nodes from having converged, in words; empty: nothing. A slow node holds the same data as a fast one."""
    if not rows:
        return ["no node answers"]
    found = [f"{row.node_id} is {row.state}" for row in rows if row.state not in {"alive", "slow"}]
    epochs = sorted({row.ring_epoch for row in rows if row.state != "dead"})
    if len(epochs) > 1:
        found.append(f"ring epochs {', '.join(map(str, epochs))}")
    found += [f"{row.node_id} has {row.hints_pending} hints" for row in rows if row.hints_pending]
    found += [f"{row.node_id} is rebuilding" for row in rows if row.rebuilding and not row.rebuilding.startswith(REGISTERS_LOST)]
    lost = without_registers(rows)
    if len(lost) == 1:
        found.append(f"{lost[0]} has lost its registers and is being admitted again")
    elif lost:
        found.append(f"{' and '.join(lost)} have lost their registers")
    found += [f"{row.node_id}: {row.rebuilding}" for row in rows if row.rebuilding.startswith(f"{REGISTERS_LOST},")]
    found += [f"{row.node_id} has {row.trees_unknown} hash trees to rebuild" for row in rows if row.trees_unknown]
    found += [f"{row.node_id} has {row.divergent_partitions} divergent partitions" for row in rows if row.divergent_partitions]
    return found


def without_registers(rows: list[NodeStatus]) -> list[str]:
    """The nodes that have lost their registers, have no vote in linearizable namespaces, and wait for all others."""
    return [row.node_id for row in rows if row.rebuilding == REGISTERS_LOST]


def is_hopeless(rows: list[NodeStatus]) -> bool:
    """Whether nothing comes of waiting any more: all else has converged, and two nodes need each other's vote to vote again."""
    return len(without_registers(rows)) > 1 and len(obstacles(rows)) == 1


def note_lost_registers(rows: list[NodeStatus]) -> None:
    """On stderr, that linearizable namespaces refuse for good where it is so."""
    if len(without_registers(rows)) > 1:
        note(
            f"kv: {' and '.join(without_registers(rows))} have lost their registers and wait for each other: what they share of "
            "linearizable namespaces, and of the list of namespaces, is refused until one of their disks is given up for good: "
            f"kv repair --accept-loss {without_registers(rows)[0]} (docs/registers.md). All else goes on"
        )


def status_row(row: NodeStatus) -> dict[str, Any]:
    """One node's promised fields, and how far it is with repair."""
    values = {name: getattr(row, "node_id" if name == "id" else name) for name in (*STATUS_FIELDS, *REPAIR_FIELDS)}
    rounds = [{"namespace": last.namespace, "peer": last.peer, "age_s": round(last.age_s, 1)} for last in row.rounds]
    return {**values, "rounds": rounds}


def status_object(row: NodeStatus) -> dict[str, Any]:
    """One node as JSON: with what it thinks of each other one."""
    peers = [{"id": one.id, **{name: getattr(one, name) for name in OPINION_FIELDS}} for one in row.opinions]
    return {**status_row(row), "incarnation": row.incarnation, "health": row.health, "peers": peers}


def print_status(output: Output, rows: list[NodeStatus]) -> None:
    """A JSON object, a line with tabs, or a row of a table for each node."""
    if output is Output.HUMAN:
        from kvclient.cli.tables import status_table

        doubted = doubts(rows)
        status_table([{**status_row(row), "seen_as": seen_as(doubted.get(row.node_id, {}))} for row in rows])
        return
    with Printer(output) as printer:
        for row in rows:
            if output is Output.JSON:
                printer.json(status_object(row))
            else:
                values = status_row(row)  # by position: what is promised, and nothing more
                printer.line("\t".join(str(values[name]) for name in STATUS_FIELDS))


def print_peers(output: Output, rows: list[NodeStatus]) -> None:
    """A JSON object, a line with tabs, or a row of a table for each opinion."""
    opinions = opinion_rows(rows)
    if output is Output.HUMAN:
        from kvclient.cli.tables import peers_table

        peers_table(opinions)
        return
    with Printer(output) as printer:
        for row in opinions:
            if output is Output.JSON:
                printer.json(row)
            else:
                printer.line("\t".join(str(value) for value in row.values()))


def ring_rows(cluster: ClusterInfo) -> list[dict[str, Any]]:
    """Each member with the partitions it coordinates by convention (`first`), those it has a replica of, and its share of all."""
    first, replicas = [0] * len(cluster.members), [0] * len(cluster.members)
    for partition in range(cluster.partitions):
        owners = cluster.preference_list(partition)
        first[owners[0]] += 1
        for owner in owners:
            replicas[owner] += 1
    return [
        {
            "id": member.id,
            "address": member.address,
            "zone": member.zone,
            "weight": member.weight,
            "partitions": replicas[at],
            "partitions_first": first[at],
            "share": round(replicas[at] / max(1, sum(replicas)), 4),
            "ring_epoch": cluster.ring_epoch,
        }
        for at, member in enumerate(cluster.members)
    ]


def print_ring(output: Output, cluster: ClusterInfo) -> None:
    """The members and their shares; to people as bars."""
    rows = ring_rows(cluster)
    if output is Output.HUMAN:
        from kvclient.cli.tables import ring_table

        title = f"{cluster.partitions} partitions, {cluster.owners_per_partition} replicas each, ring epoch {cluster.ring_epoch}"
        ring_table(rows, title=title)
        return
    with Printer(output) as printer:
        for row in rows:
            if output is Output.JSON:
                printer.json(row)
            else:
                printer.line("\t".join(str(value) for value in row.values()))


def print_owners(output: Output, cluster: ClusterInfo, key: bytes) -> None:
    """A key's partition and owners, the node that coordinates it first."""
    from kvclient.cli.output import printable, text_or_base64
    from kvproto.partitions import partition_of, partition_shift

    partition = partition_of(key, partition_shift(cluster.partitions))
    owners = [cluster.members[at] for at in cluster.preference_list(partition)]
    with Printer(output) as printer:
        if output is Output.JSON:
            row = {"partition": partition, "owners": [owner.id for owner in owners], "ring_epoch": cluster.ring_epoch}
            printer.json({**text_or_base64("key", key), **row})
        elif output is Output.RAW:
            printer.line("\n".join(owner.id for owner in owners))
        else:
            names = ", ".join(f"{owner.id} ({owner.address})" for owner in owners)
            printer.line(f"{printable(key)} is in partition {partition}, owned by {names}; ring epoch {cluster.ring_epoch}")
