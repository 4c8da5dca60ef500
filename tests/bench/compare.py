"""The peer comparison: `python -m tests.bench.compare [--quick] [--rounds N] [--seconds S] [--sides LIST] [--json FILE] [--gate]`.

Starts three kvstore nodes, three etcd members and a LevelDB on one filesystem, each cluster with one client process of its own,
loads them with the same keys and measures them in alternating rounds; then the isolation lines on kvstore alone. Prints one table.
The side that is not being measured idles: it is not stopped, since nodes that wake from SIGSTOP suspect each other and elect anew.
Exit codes: 0; with --gate 8 if a bar is missed and 9 if a line could not be measured; 130 when interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import isolation, ours, throughput
from tests.bench.client_handle import ClientProcess, start_client
from tests.bench.etcd_build import find_etcd
from tests.bench.etcd_cluster import start_cluster as start_etcd
from tests.bench.facts import gather_facts
from tests.bench.lines import LINES, Pair, Row, decide_exit_code, decide_row
from tests.bench.processes import BenchError
from tests.bench.raw_leveldb import RawLevelDB
from tests.bench.table import render_table, report_json
from tests.bench.workload import Workload

SIDES = ("ours", "etcd", "raw")
LARGE_CLUSTER_NODES = 5
CORES_OF_OTHERS_MAX = 0.1


@dataclass(slots=True)
class Run:
    """One run: how long to measure, where, and what came of it so far."""

    folder: Path
    rounds: int
    seconds: float
    warm_up_s: float
    pairs: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    async def compare(self, sides: set[str]) -> None:
        """Every line that `sides` allow; what cannot be measured becomes a note."""
        async with AsyncExitStack() as stack:
            raw = RawLevelDB(self.folder / "raw", Workload()) if "raw" in sides else None
            if raw:
                stack.callback(raw.close)
            clusters: dict[str, throughput.Side] = {}
            kv: ours.KvCluster | None = None
            with self.noting():
                if "etcd" in sides:
                    clusters["etcd"] = await self.open_etcd(stack)
            with self.noting():
                if "ours" in sides:
                    kv, clusters["ours"] = await self.open_ours(stack, nodes=3, name="ours")
            await self.measure_throughput(clusters, raw)
            if kv:
                await self.isolate_three(kv, clusters["ours"].client)
        if kv:
            async with AsyncExitStack() as stack:
                with self.noting():
                    await self.isolate_five(stack)

    async def open_etcd(self, stack: AsyncExitStack) -> throughput.Side:
        """Three members, loaded. Raises `BenchError`."""
        binary = await asyncio.to_thread(find_etcd)
        self.facts["etcd"] = f"{binary.version}, three members, its defaults (fsync before ack)"
        cluster = await start_etcd(binary, self.folder / "etcd")
        stack.push_async_callback(cluster.stop)
        client = await self.open_client(stack, "etcd", cluster.addresses)
        progress("loading etcd")
        await client.load()
        return throughput.Side(client, cluster.pids)

    async def open_ours(self, stack: AsyncExitStack, *, nodes: int, name: str) -> tuple[ours.KvCluster, throughput.Side]:
        """`nodes` nodes, loaded. Raises `BenchError`."""
        cluster = await ours.start_cluster(self.folder / name, nodes=nodes)
        stack.push_async_callback(cluster.stop)
        client = await self.open_client(stack, "ours", cluster.addresses)
        progress(f"loading kvstore, {nodes} nodes")
        await client.load()
        return cluster, throughput.Side(client, cluster.pids)

    async def open_client(self, stack: AsyncExitStack, side: str, addresses: list[str]) -> ClientProcess:
        """A client process, ended with `stack`."""
        client = await start_client(side, addresses, log=self.folder / f"{side}-client.log")
        stack.push_async_callback(client.stop)
        return client

    async def measure_throughput(self, sides: dict[str, throughput.Side], raw: RawLevelDB | None) -> None:
        """The alternating rounds."""
        contention = throughput.Contention()
        for number in range(self.rounds):
            progress(f"round {number + 1} of {self.rounds}")
            done = await throughput.measure_round(
                sides, raw, number=number, seconds=self.seconds, warm_up_s=self.warm_up_s, contention=contention
            )
            self.notes.extend(done.problems)
            for name, pair in throughput.pairs_of(done).items():
                self.pairs[name].append(pair)
        if contention.seconds:
            idle, others = contention.idle_sides_s / contention.seconds, contention.other_programs_s / contention.seconds
            self.facts["contention"] = (
                f"the idle side used {idle:.2f} cores while the other was measured, other programs {others:.2f}"
            )
            if others > CORES_OF_OTHERS_MAX:
                self.notes.append("other programs were busy while this was measured: repeat it on a quiet machine")

    async def isolate_three(self, cluster: ours.KvCluster, client: ClientProcess) -> None:
        """The lines of one stalled replica and of a large value, each in as many rounds."""
        for number in range(self.rounds):
            progress(f"isolation, round {number + 1} of {self.rounds}")
            seed = f"{number}/isolation"
            node = number % len(cluster.pids)
            stalled = isolation.measure_stalled_replica(cluster, client, seconds=self.seconds, seed=seed, node=node)
            await self.isolate("stalled-replica", stalled)
            with self.noting():
                await cluster.wait_converged(timeout_s=isolation.CONVERGE_TIMEOUT_S)
            # Last: compacting the megabytes it wrote would disturb whatever came after it.
            await self.isolate("large-value", isolation.measure_large_value(client, seconds=self.seconds, seed=seed))

    async def isolate_five(self, stack: AsyncExitStack) -> None:
        """The line of the slow keys, on a cluster of its own. Raises `BenchError`."""
        cluster, side = await self.open_ours(stack, nodes=LARGE_CLUSTER_NODES, name="ours-five")
        self.notes.append(f"slow-key: {await isolation.prepare_slow_keys(cluster, side.client)}")
        for number in range(self.rounds):
            progress(f"slow keys, round {number + 1} of {self.rounds}")
            measured = isolation.measure_slow_key(side.client, seconds=self.seconds, seed=f"{number}/isolation")
            await self.isolate("slow-key", measured)

    async def isolate(self, line: str, measured: Awaitable[isolation.Outcome]) -> None:
        """Keeps an isolation round's pair and its note."""
        with self.noting():
            outcome = await measured
            self.pairs[line].append(outcome.pair)
            self.notes.append(f"{line}: {outcome.note}")

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """A side or a line that cannot be measured is noted once, and the run goes on with the others."""
        try:
            yield
        except BenchError as problem:
            if str(problem) not in self.notes:
                self.notes.append(str(problem))

    def rows(self) -> list[Row]:
        """Every line, decided."""
        return [decide_row(line, self.pairs[line.name]) for line in LINES]


def progress(text: str) -> None:
    """A line on stderr: stdout carries the table alone."""
    print(text, file=sys.stderr, flush=True)


async def run(arguments: argparse.Namespace) -> int:
    """Measures, prints and returns the exit code."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    sides = set(arguments.sides.split(","))
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-", dir=arguments.data) as folder:
        quick = arguments.quick
        measured = Run(
            Path(folder),
            rounds=arguments.rounds or (1 if quick else 3),
            seconds=arguments.seconds or (1.0 if quick else 3.0),
            warm_up_s=0.3 if quick else 0.7,
        )
        measured.facts.update(gather_facts(Path(folder), rounds=measured.rounds, seconds=measured.seconds))
        await measured.compare(sides)
    rows = measured.rows()
    print(render_table(rows, facts=measured.facts, notes=measured.notes), end="")
    if arguments.json:
        arguments.json.write_text(json.dumps(report_json(rows, facts=measured.facts, notes=measured.notes), indent=2) + "\n")
    return decide_exit_code(rows, gate=arguments.gate)


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Compares kvstore with etcd and raw LevelDB on this machine; prints one table.")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s a measurement: does it run, not how fast is it")
    parser.add_argument("--rounds", type=int, help="alternating rounds, default 3")
    parser.add_argument("--seconds", type=float, help="of each measurement, default 3")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"comma-separated, of {', '.join(SIDES)}")
    parser.add_argument("--data", type=Path, help="folder for every side's data, removed at the end; default: the temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--gate", action="store_true", help="end with 8 if a bar is missed, 9 if a line could not be measured")
    arguments = parser.parse_args()
    if unknown := set(arguments.sides.split(",")) - set(SIDES):
        parser.error(f"--sides: {', '.join(sorted(unknown))} is not one of {', '.join(SIDES)}")
    try:
        return asyncio.run(run(arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
