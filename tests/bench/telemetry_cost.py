"""What counting costs: two clusters that differ in `[telemetry] metrics` alone take turns, and the ratio of each round is printed.

    python -m tests.bench.telemetry_cost [--rounds 5] [--seconds 3] [--against PYTHON]

Throughput is what users feel; processor time of the nodes per operation says the same with less noise where other programs run
beside. With `--against` the other side's nodes run on another environment's interpreter and with its defaults, such as that of an
older version. `measure` is for others to call."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.client_handle import ClientProcess, start_client
from tests.bench.processes import cpu_seconds, free_ports, read_line, start, stop

NODES = 3
IN_FLIGHT = 256
KINDS = ("put", "get")
READY_TIMEOUT_S = 60.0
WARM_UP_S = 0.1
SLICE_S = 0.3
COST_MAX = 0.03
"""The most of the throughput that may go into counting."""


@dataclass(frozen=True, slots=True)
class Side:
    """One cluster and its client."""

    client: ClientProcess
    pids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Counting against not counting, of one kind of operation: throughput, and processor time of the nodes per operation; one of
    each a round."""

    kind: str
    throughput: Sequence[float]
    cpu_per_operation: Sequence[float]

    def line(self) -> str:
        """For people: medians, and the least and most of the rounds."""

        def shown(ratios: Sequence[float]) -> str:
            return f"{statistics.median(ratios):.3f} [{min(ratios):.3f} to {max(ratios):.3f}]"

        return (
            f"{self.kind}-{IN_FLIGHT}: throughput {shown(self.throughput)}, node CPU per operation {shown(self.cpu_per_operation)}"
        )


async def start_nodes(stack: AsyncExitStack, folder: Path, python: str, settings: str) -> Side:
    """A loaded cluster of `NODES` nodes, each run by `python` with `settings` at the end of its file. Raises `BenchError`."""
    folder.mkdir(parents=True)
    ports = free_ports(2 * NODES)
    addresses = [f"127.0.0.1:{port}" for port in ports[:NODES]]
    processes: list[Process] = []
    for at, address in enumerate(addresses):
        peers = "\n".join(f'n{other} = "{to}"' for other, to in enumerate(addresses) if other != at)
        config = folder / f"n{at}.toml"
        config.write_text(
            f'node_id = "n{at}"\nlisten = "{address}"\nhttp = "127.0.0.1:{ports[NODES + at]}"\ndata = "n{at}"\n'
            f"{settings}\n[peers]\n{peers}\n"
        )
        log = folder / f"n{at}.log"
        command = [python, "-P", "-m", "kvstore.commands.serve", "--config", str(config), "-o", "json"]
        process = await start(command, log=log, talks=True)
        stack.push_async_callback(stop, process)
        processes.append(process)
        await read_line(process, timeout_s=READY_TIMEOUT_S, what=f"n{at}", log=log)
    client = await start_client("ours", addresses, log=folder / "client.log")
    stack.push_async_callback(client.stop)
    await client.load()
    return Side(client, [process.pid for process in processes])


async def measure(folder: Path, *, rounds: int = 5, seconds: float = 3.0, against: str | None = None) -> list[Ratio]:
    """The ratio for each kind of operation in each round, with data below `folder`: the median of slices in which the sides take
    turns, so that what the machine does otherwise meets both. Each round has clusters of its own, and the side that is started
    first changes: of two that are the same, that one was slower by a few percent. Raises `BenchError`."""
    throughputs: Mapping[str, list[float]] = defaultdict(list)
    cpu: Mapping[str, list[float]] = defaultdict(list)
    settings = {"on": (sys.executable, ""), "off": (against or sys.executable, "" if against else "[telemetry]\nmetrics = false")}
    for number in range(rounds):
        async with AsyncExitStack() as stack:
            names = ("on", "off") if number % 2 else ("off", "on")
            sides = {name: await start_nodes(stack, folder / f"{number}-{name}", *settings[name]) for name in names}
            for kind in KINDS:
                rates, costs = await _slices(sides, kind, f"{number}/{kind}", max(1, round(seconds / SLICE_S)))
                throughputs[kind].append(statistics.median(rates))
                cpu[kind].append(statistics.median(costs))
    return [Ratio(kind, throughputs[kind], cpu[kind]) for kind in KINDS]


async def _slices(sides: Mapping[str, Side], kind: str, seed: str, count: int) -> tuple[list[float], list[float]]:
    """On against off in each of `count` slices: throughput, and processor time per operation."""
    rates: list[float] = []
    costs: list[float] = []
    for number in range(count):
        rate: dict[str, float] = {}
        cost_s: dict[str, float] = {}
        for name in ("on", "off") if number % 2 else ("off", "on"):
            side, load = sides[name], {"kind": kind, "seed": f"{seed}/{number}", "in_flight": IN_FLIGHT, "warm_up_s": 0.0}
            # Apart from the measurement: what warming up costs is counted in neither.
            await side.client.closed(**load, seconds=WARM_UP_S)
            before_s = cpu_seconds(side.pids)
            figures = await side.client.closed(**load, seconds=SLICE_S)
            rate[name] = figures.rate_per_s
            cost_s[name] = (cpu_seconds(side.pids) - before_s) / figures.answered
        rates.append(rate["on"] / rate["off"])
        costs.append(cost_s["on"] / cost_s["off"])
    return rates, costs


def main() -> int:
    """The command: one line a kind of operation on stdout. Ends with 8 if counting costs more than it may, 0 otherwise."""
    parser = argparse.ArgumentParser(description="What counting costs, from alternating rounds; one line a kind of operation.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each side and kind in a round, in slices of 0.3; default 3")
    parser.add_argument(
        "--against", metavar="PYTHON", help="an interpreter whose kvstore runs the other side; default: metrics off"
    )
    parser.add_argument("--json", action="store_true", help="every round's ratios, as one object a line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder:
        work = measure(Path(folder), rounds=arguments.rounds, seconds=arguments.seconds, against=arguments.against)
        ratios = asyncio.run(work)
    for ratio in ratios:
        facts = {"kind": ratio.kind, "throughput": ratio.throughput, "cpu_per_operation": ratio.cpu_per_operation}
        print(json.dumps(facts) if arguments.json else ratio.line())
    too_much = any(statistics.median(ratio.throughput) < 1 - COST_MAX for ratio in ratios)
    return 8 if too_much else 0


if __name__ == "__main__":
    sys.exit(main())
