"""`kv dial`: what a setting promises, survives and costs, before anybody depends on it."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import click

from kvclient.cli import connection
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer
from kvclient.dial import PRESETS, Advice, Kept, Legs, Level, Setting, advise
from kvclient.dial.words import lines, row
from kvproto.errors import BadRequest, UnknownNamespace

if TYPE_CHECKING:
    from kvclient.cli.connection import Client

READS = tuple(level.value for level in (Level.ATOMIC, Level.LINEARIZABLE, Level.TIMELINE, Level.BOUNDED))


@click.command(
    cls=Examples,
    short_help="What a consistency setting promises, survives and costs.",
    examples="""
kv dial --preset pa-ec
kv dial --preset pa-el --r 2 --w 2   exact numbers of a call
kv dial --preset pa-el --round-trip-ms 20
kv dial -n orders --measured   a namespace of the running cluster
""",
)
@click.option("--preset", type=click.Choice(tuple(PRESETS)), help="Of the namespace. Without: that of -n/--namespace, asked for.")
@click.option("--n", "n", type=int, metavar="N", help="Replicas of a key (3).")
@click.option("--r", "r", type=int, metavar="N", help="Replicas that a read waits for, exactly.")
@click.option("--w", "w", type=int, metavar="N", help="Replicas that a write waits for, exactly.")
@click.option("--read", type=click.Choice(READS), help="The level of reads.")
@click.option("--sloppy/--no-sloppy", default=None, help="Whether stand-ins, or fewer, may do.")
@click.option("--storage", type=click.Choice(("disk", "memory")), help="Where the namespace has its records. [default: disk]")
@click.option("--durability", type=click.Choice(("fsync", "os")), help="Whether writes are synced before they are acknowledged.")
@click.option("--zones", type=click.IntRange(min=0), default=0, metavar="N", help="How many zones the nodes lie in.")
@click.option(
    "--round-trip-ms", type=click.FloatRange(min=0, min_open=True), metavar="MS", help="Between nodes: tells how old reads get."
)
@click.option("--measured", is_flag=True, help="Take the round trip that the nodes of the cluster measure.")
@click.pass_context
def dial(
    ctx: click.Context,
    preset: str | None,
    n: int | None,
    r: int | None,
    w: int | None,
    read: str | None,
    sloppy: bool | None,
    storage: str | None,
    durability: str | None,
    zones: int,
    round_trip_ms: float | None,
    measured: bool,
) -> int:
    """Tell in plain words what reads and writes promise, what they go through, and what they cost.

    It needs no cluster, unless --preset is left out or --measured is given. What a call may change of its namespace's preset are
    the numbers of replicas and the level; the mode, and with it eventual or linearizable, is the namespace's for good.
    """
    options = Options.of(ctx)
    if measured and round_trip_ms is not None:
        raise BadRequest("--round-trip-ms and --measured both say how far the nodes are from each other: give one of them")
    level = None if read is None else Level(read)
    if preset is not None and not measured:
        kept = _kept(storage or "disk", durability or "fsync")
        _print(options, _advice(preset, 3 if n is None else n, r, w, level, sloppy, kept, zones, round_trip_ms))
        return ExitCode.DONE

    async def work(client: Client) -> int:
        its = ("disk", "fsync")
        from_cluster = (await _asked(client, options.namespace)) if preset is None else (preset, 3, r, w, its)
        chosen, replicas, its_r, its_w, its = from_cluster
        kept = _kept(storage or its[0], durability or its[1])
        r_and_w = (_first(r, its_r), _first(w, its_w))
        distance_ms = await _round_trip_ms(client) if measured else round_trip_ms
        _print(options, _advice(chosen, _first(n, replicas), *r_and_w, level, sloppy, kept, zones, distance_ms))
        return ExitCode.DONE

    return connection.run(options, work)


def _advice(
    preset: str,
    n: int,
    r: int | None,
    w: int | None,
    read: Level | None,
    sloppy: bool | None,
    kept: Kept,
    zones: int,
    round_trip_ms: float | None,
) -> Advice:
    setting = Setting.of(preset, n=n, r=r, w=w, read=read, sloppy=sloppy, kept=kept)
    return advise(setting, zones=zones, legs=None if round_trip_ms is None else Legs.of_round_trip(round_trip_ms))


def _kept(storage: str, durability: str) -> Kept:
    if storage == "memory":
        return Kept.MEMORY
    return Kept.UNSYNCED if durability == "os" else Kept.SYNCED


async def _asked(client: Client, namespace: str) -> tuple[str, int, int | None, int | None, tuple[str, str]]:
    """Preset, n, the r and w that the namespace's own settings ask for, its storage and durability. Raises `UnknownNamespace`."""
    found = {each.name: each for each in (await client.admin.describe()).namespaces}
    if namespace not in found:
        names = ", ".join(sorted(found)) or "none at all"
        raise UnknownNamespace(f"no namespace {namespace!r}: there are {names}", subject=namespace)
    info = found[namespace]
    r, w = info.r if info.r_is_exact else None, info.w if info.w_is_exact else None
    return info.preset, info.n, r, w, (info.storage, info.durability)


def _first(given: int | None, otherwise: Any) -> Any:
    """What was given, also if it is 0: that is for `Setting` to refuse."""
    return otherwise if given is None else given


async def _round_trip_ms(client: Client) -> float:
    """The median of what nodes measure between each other. Raises `BadRequest` where nobody has measured anything yet."""
    rows = await client.admin.status()
    measured = [opinion.latency_ms for node in rows for opinion in node.opinions if opinion.latency_ms]
    if not measured:
        raise BadRequest("the nodes have not measured how far they are from each other yet: give --round-trip-ms")
    return median(measured)


def _print(options: Options, advice: Advice) -> None:
    with Printer(options.output) as printer:
        if options.output is Output.HUMAN:
            for line in lines(advice):
                printer.line(line)
        else:
            printer.json(row(advice))
