"""What is left of the throughput when three times as much is asked for: nodes under an open loop that does not wait for them.

    python -m tests.bench.goodput [--workload put] [--value-bytes 16000] [--times 1 2 3] [--seconds 8] [--processes 2]

Three nodes share one core and the load generators have the others, and values are large, so that it is the nodes that have too
little of it: a load generator that is the slower one measures itself. The most they can do is what a closed loop gets; then
operations begin at multiples of that rate, whatever becomes of those before. An operation is good that succeeded within its
timeout; those that were refused got an error that says so. Ends with 8 if less than 80 % is left at the highest multiple.
`--without` runs the nodes with `latency_target_ms = 0`: what the limit is good for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.processes import BenchError, cpu_seconds, free_ports, read_line, start, stop

NODES = 3
KEYS = 5_000
READY_TIMEOUT_S = 60.0
WARM_UP_S = 3.0
LEFT_MIN = 0.8
CLOSED_IN_FLIGHT = (64, 256)
OPEN_IN_FLIGHT_MAX = 30_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: what was asked for, what succeeded in time, the latencies of that, what failed by its code, and the cores the nodes
    used."""

    label: str
    asked_per_s: float
    good_per_s: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]
    node_cores: float

    def line(self) -> str:
        """For people."""
        failed = ", ".join(f"{code} {count:,}" for code, count in sorted(self.errors.items())) or "none"
        asked = f"{self.asked_per_s:,.0f}/s asked for, " if self.asked_per_s else ""
        return (
            f"{self.label}: {asked}{self.good_per_s:,.0f}/s good, p50 {self.p50_ms:.0f} ms, p99 {self.p99_ms:.0f} ms, "
            f"nodes on {self.node_cores:.2f} cores; failed: {failed}"
        )


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """What is started within runs on `cores` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Rig:
    """Three nodes on one core, and load generators on the others."""

    def __init__(self, folder: Path, *, load_options: Sequence[str], settings: str) -> None:
        """`load_options` are those of `kv`, beside the rate; `settings` stand in every node's file."""
        self._folder = folder
        self._load_options = load_options
        self._settings = settings
        self._addresses: list[str] = []
        self._pids: list[int] = []
        first, *others = sorted(os.sched_getaffinity(0))
        self._node_cores, self._client_cores = {first}, set(others) or {first}

    async def start(self, stack: AsyncExitStack) -> None:
        """Starts the nodes. Raises `BenchError`."""
        ports = free_ports(NODES)
        self._addresses = [f"127.0.0.1:{port}" for port in ports]
        for at, address in enumerate(self._addresses):
            peers = "\n".join(f'n{other} = "{to}"' for other, to in enumerate(self._addresses) if other != at)
            config = self._folder / f"n{at}.toml"
            config.write_text(f'node_id = "n{at}"\nlisten = "{address}"\ndata = "n{at}"\n{self._settings}\n[peers]\n{peers}\n')
            log = self._folder / f"n{at}.log"
            command = [sys.executable, "-P", "-m", "kvstore.commands.serve", "--config", str(config), "-o", "json"]
            with on_cores(self._node_cores):
                process = await start(command, log=log, talks=True)
            stack.push_async_callback(stop, process)
            self._pids.append(process.pid)
            await read_line(process, timeout_s=READY_TIMEOUT_S, what=f"n{at}", log=log)

    async def run(self, label: str, seconds: float, *, in_flight: int, rate_per_s: float = 0.0, load: bool = False) -> Measured:
        """One run of `kv bench`, open if there is a rate. Raises `BenchError`."""
        file = self._folder / "run.json"
        file.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "kvclient.cli.main",
            "bench",
            "run",
            *self._load_options,
            "--at",
            ",".join(self._addresses),
        ]
        command += ["--seconds", str(seconds), "--warm-up", str(WARM_UP_S), "--keys", str(KEYS), "--json", str(file)]
        command += ["--in-flight", str(in_flight)]
        command += ["--rate", str(rate_per_s)] if rate_per_s else []
        command += ["--load" if load else "--no-load"]
        log = self._folder / "bench.log"
        before_s, loop = cpu_seconds(self._pids), asyncio.get_running_loop()
        began_s = loop.time()
        with on_cores(self._client_cores):
            process = await start(command, log=log, environment={"GRPC_EXPERIMENTS": NO_EVENT_ENGINE})
        code = await process.wait()
        if not file.exists():
            raise BenchError(f"kv bench ended with {code}: {log.read_text(encoding='utf-8')[-500:]}")
        cores = (cpu_seconds(self._pids) - before_s) / (loop.time() - began_s)
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        latency = told["latency"].get("all") or next(iter(told["latency"].values()), {"p50_us": 0.0, "p99_us": 0.0})
        p50_ms, p99_ms = latency["p50_us"] / 1000, latency["p99_us"] / 1000
        return Measured(label, rate_per_s, told["ops_per_s"], p50_ms, p99_ms, told["errors"], cores)


NO_EVENT_ENGINE = "-event_engine_client,-event_engine_listener"


async def measure(folder: Path, arguments: argparse.Namespace) -> float:
    """Prints a line a run; the share of the most that is left at the highest multiple. Raises `BenchError`."""
    settings = "[limits]\nlatency_target_ms = 0" if arguments.without else ""
    options = {"workload": arguments.workload, "value-bytes": arguments.value_bytes}
    options |= {"processes": arguments.processes, "timeout": arguments.timeout}
    load_options = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    rig = Rig(folder, load_options=load_options, settings=settings)
    async with AsyncExitStack() as stack:
        await rig.start(stack)
        most = 0.0
        for at, in_flight in enumerate(CLOSED_IN_FLIGHT):
            closed = await rig.run(f"closed loop, {in_flight}", arguments.seconds, in_flight=in_flight, load=not at)
            print(closed.line(), flush=True)
            most = max(most, closed.good_per_s)
        left = 0.0
        for times in sorted(arguments.times):
            run = await rig.run(
                f"{times:g} times the most", arguments.seconds, in_flight=OPEN_IN_FLIGHT_MAX, rate_per_s=times * most
            )
            left = run.good_per_s / most
            print(f"{run.line()}; {left:.2f} of the most", flush=True)
    return left


def main(argv: Sequence[str] | None = None) -> int:
    """The command: a line a run on stdout. Ends with 8 if less than 80 % is left at the highest multiple, 0 otherwise."""
    parser = argparse.ArgumentParser(description="What is left of the throughput when more is asked for than there is.")
    parser.add_argument("--workload", default="put", choices=["put", "get", "mix"])
    parser.add_argument("--value-bytes", type=int, default=16_000, help="default 16,000")
    parser.add_argument("--times", type=float, nargs="+", default=[1.0, 2.0, 3.0], help="multiples of the most, default 1 2 3")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement, default 8")
    parser.add_argument("--processes", type=int, default=2, help="load generators, default 2")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds after which an operation is worthless, default 2")
    parser.add_argument("--without", action="store_true", help="nodes without a limit that follows from latency")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder:
        left = asyncio.run(measure(Path(folder), arguments))
    return 0 if left >= LEFT_MIN else 8


if __name__ == "__main__":
    sys.exit(main())
