"""`kv demo`: what the store does, shown on real data in about a minute; every claim on the screen is checked.

Starts a local cluster of three nodes in a temporary directory and leaves nothing behind, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import click

from kvproto.errors import KvError
from kvproto.options import EVENT_ENGINE_OFF, GRPC_SILENT
from kvstore.commands.demo_data import first_characters
from kvstore.commands.demo_steps import (
    Scene,
    cut_in_two,
    load_and_kill,
    look_up,
    measure_latency,
    read_back,
    scan_prefix,
    update_concurrently,
)
from kvstore.commands.local_cluster import LocalCluster
from kvstore.commands.local_layout import plan_layout
from kvstore.commands.outcomes import Exit, exit_code, report_error
from kvstore.commands.stage import Stage
from kvstore.commands.waiting import STOP_SIGNALS, done_before, stop_on_signals
from kvstore.event_loop import new_event_loop
from kvstore.runtime import system_random

NAMES_MIN = 1_000


@click.command()
@click.option("--names", type=click.IntRange(min=NAMES_MIN), help="Store only so many names. Default: all, about 150,000.")
@click.option("--cut/--no-cut", default=True, help="Whether to end with a cluster that is cut in two, which takes a minute more.")
def demo(names: int | None, cut: bool) -> None:
    """Show what the store does: real data, a killed node, siblings, latency, four presets through one cut. Under three minutes;
    leaves nothing running."""
    os.environ.setdefault("GRPC_EXPERIMENTS", EVENT_ENGINE_OFF)
    os.environ.setdefault("GRPC_VERBOSITY", GRPC_SILENT)
    # Children are exec'ed at once; without this gRPC would complain on the screen about every node started while it is in use.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            code: int = runner.run(run_demo(Stage(), names=names, with_cut=cut))
    except KvError as error:
        report_error(error, output="human")
        code = exit_code(error)
    sys.exit(int(code))


async def run_demo(stage: Stage, *, names: int | None, with_cut: bool) -> Exit:
    """Runs every step on a new cluster. `PROMISE_BROKEN` when a claim did not hold, `INTERRUPTED` when told to stop."""
    asked_to_stop = stop_on_signals(STOP_SIGNALS)
    began_s = asyncio.get_running_loop().time()
    with tempfile.TemporaryDirectory(prefix="kv-demo-") as folder:
        layout = plan_layout(Path(folder), nodes=3, base_port=0, preset=None, rng=system_random())
        cluster = LocalCluster(layout, on_death=lambda death: stage.bad(death.sentence()))
        broken: list[str] = []
        try:
            finished = await done_before(asked_to_stop, _show(stage, cluster, first_characters(names), broken, with_cut=with_cut))
        finally:
            await cluster.stop()
    if not finished:
        stage.say("interrupted; every node has been stopped")
        return Exit.INTERRUPTED
    _print_end(stage, broken, seconds=asyncio.get_running_loop().time() - began_s)
    return Exit.PROMISE_BROKEN if broken else Exit.DONE


async def _show(stage: Stage, cluster: LocalCluster, names: dict[str, bytes], broken: list[str], *, with_cut: bool) -> None:
    from kvclient import AsyncClient

    stage.title("kvstore: three nodes on this machine, real data, real crashes")
    stage.step(
        "Three nodes",
        shows="Three processes share one ring; every key lives on all three of them.",
        how="kv dev --data DIR",
    )
    await cluster.start()
    for row in cluster.rows():
        stage.say(f"{row['id']}  {row['address']}  pid {row['pid']}")
    async with AsyncClient(cluster.addresses) as client:
        scene = Scene(stage, cluster, client, names, broken=broken)
        await load_and_kill(scene)
        await read_back(scene)
        await look_up(scene)
        await scan_prefix(scene)
        await update_concurrently(scene, lambda: AsyncClient(cluster.addresses))
        await measure_latency(scene)
    if with_cut:
        await cluster.stop()
        await cut_in_two(scene)


def _print_end(stage: Stage, broken: list[str], *, seconds: float) -> None:
    stage.console.print()
    if broken:
        stage.bad(f"{len(broken)} claims did not hold: {'; '.join(broken)}")
    stage.say(f"{seconds:.0f} seconds. All nodes have been stopped and their data removed.")
    stage.say("Next: kv dev   and beside it   kv put greeting hello; kv get greeting")


if __name__ == "__main__":
    demo()
