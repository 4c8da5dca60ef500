"""What users feel of a failing node, and what watching for it costs: one line a question, with its bar.

    python -m tests.bench.with_failures [--only kill,pause,delay,idle] [--seconds 6]

kill: SIGKILL to one of three nodes under a closed loop of quorum reads and writes; throughput from 2 s on, and what has failed.
pause: SIGSTOP to one, under a paced load. delay: every message to and from one node takes 200 ms longer, through the fault plane.
idle: processor time of the nodes of an idle cluster of five. Latencies and throughputs are compared within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kvchaos.faults.link_state import Link
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvclient import AsyncClient
from kvclient.bench.loop import run
from kvproto.errors import KvError
from tests.bench.ours import start_cluster
from tests.bench.processes import cpu_seconds

KEYS = 3_000
IN_FLIGHT = 64
RATE_PER_S = 500.0
LEVEL = "quorum"
DELAY_MS = 200
NOTICED_S = 2.0
"""The bars on what follows a failure hold from here on; what happened before is told beside."""

RATE_SHARE_MIN, P99_TIMES_MAX, IDLE_CPU_MAX = 0.8, 3.0, 0.02
IDLE_S = 30.0


@dataclass(frozen=True, slots=True)
class Line:
    """One answer. `is_met` None: there is no bar."""

    name: str
    text: str
    is_met: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: "met: ", False: "MISSED: "}[self.is_met]
        return f"{self.name}: {verdict}{self.text}"


@dataclass(frozen=True, slots=True)
class Done:
    """One operation, in seconds of the timer."""

    began_s: float
    ended_s: float
    kind: str
    error: str = ""


class Load:
    """Quorum reads and writes of known keys through one client; `done` is what became of them."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.done: list[Done] = []

    async def prepare(self) -> None:
        """Every key is there."""
        for first in range(0, KEYS, 500):
            await self._client.put_many({f"key-{at}": b"x" * 100 for at in range(first, min(KEYS, first + 500))})

    async def operate(self, number: int) -> None:
        """One operation; every second one reads."""
        key, began_s, error = f"key-{number * 7919 % KEYS}", time.perf_counter(), ""
        kind = "get" if number % 2 else "put"
        try:
            if kind == "get":
                await self._client.get(key, level=LEVEL)
            else:
                await self._client.put(key, b"y" * 100, level=LEVEL)
        except KvError as failure:
            error = f"{failure.code.name} ({failure.message})"
        self.done.append(Done(began_s, time.perf_counter(), kind, error))

    async def closed(self, seconds: float) -> None:
        """`IN_FLIGHT` callers, one operation after the other."""
        until_s = time.perf_counter() + seconds

        async def call(caller: int) -> None:
            number = caller
            while time.perf_counter() < until_s:
                await self.operate(number)
                number += IN_FLIGHT + 1

        await asyncio.gather(*(call(caller) for caller in range(IN_FLIGHT)))

    async def paced(self, seconds: float) -> None:
        """`RATE_PER_S` operations, begun when they are due, whatever the others do."""
        began_s, calls = time.perf_counter(), set[asyncio.Task[None]]()
        for number in range(int(seconds * RATE_PER_S)):
            await asyncio.sleep(max(0.0, began_s + number / RATE_PER_S - time.perf_counter()))
            call = asyncio.get_running_loop().create_task(self.operate(number))
            calls.add(call)
            call.add_done_callback(calls.discard)
        await asyncio.gather(*calls)

    def between(self, first_s: float, last_s: float) -> list[Done]:
        """What began in this time."""
        return [one for one in self.done if first_s <= one.began_s < last_s]

    def rate(self, first_s: float, last_s: float) -> float:
        """Operations a second that ended well in this time."""
        return sum(first_s <= one.ended_s < last_s and not one.error for one in self.done) / (last_s - first_s)


def quantile_ms(done: Sequence[Done], share: float) -> float:
    """Latency; an operation that failed took for ever."""
    latencies = sorted(float("inf") if one.error else one.ended_s - one.began_s for one in done)
    return latencies[min(len(latencies) - 1, int(share * len(latencies)))] * 1000 if latencies else float("nan")


@asynccontextmanager
async def loaded(addresses: Sequence[str]) -> AsyncIterator[Load]:
    """A client with its keys loaded and its connections warm."""
    async with AsyncClient(",".join(addresses)) as client:
        load = Load(client)
        await load.prepare()
        await load.closed(1.0)
        load.done.clear()
        yield load


async def measure_kill(folder: Path, seconds: float) -> list[Line]:
    """SIGKILL to one of three nodes."""
    cluster = await start_cluster(folder / "kill", nodes=3)
    try:
        async with loaded(cluster.addresses) as load:
            began_s = time.perf_counter()
            work = asyncio.get_running_loop().create_task(load.closed(2 * seconds))
            await asyncio.sleep(seconds)
            os.kill(cluster.pids[2], signal.SIGKILL)
            killed_s = time.perf_counter()
            await work
        before = load.rate(began_s, killed_s)
        after = load.rate(killed_s + NOTICED_S, began_s + 2 * seconds)
        first = load.rate(killed_s, killed_s + NOTICED_S)
        failed = [one for one in load.done if one.error]
        later = [one for one in failed if one.began_s > killed_s]
        kinds = dict(Counter(one.error.partition(" (")[0] for one in failed))
        shares = f"{after / before:.2f} of it from {NOTICED_S:g} s on, {first / before:.2f} in the seconds before that"
        counts = f"{len(failed)} of {len(load.done)}, {len(later)} of them begun after the kill; {kinds or 'none'}"
        return [
            Line("kill, throughput", shares, after >= RATE_SHARE_MIN * before),
            Line("kill, failed operations", counts, not later),
        ]
    finally:
        await cluster.stop()


async def measure_paced(name: str, load: Load, seconds: float, act: Callable[[], Awaitable[None]]) -> list[Line]:
    """Latencies of the paced load without, and with what `act` does."""
    began_s = time.perf_counter()
    await load.paced(seconds)
    acted_s = time.perf_counter()
    await act()
    await load.paced(NOTICED_S + seconds)
    ended_s = time.perf_counter()
    without, noticing = load.between(began_s, acted_s), load.between(acted_s, acted_s + NOTICED_S)
    after = load.between(acted_s + NOTICED_S, ended_s)
    lines = []
    for kind in ("get", "put", ""):
        p50, p99 = ((quantile_ms(of(without, kind), q), quantile_ms(of(after, kind), q)) for q in (0.5, 0.99))
        text = f"p50 {p50[0]:.1f} -> {p50[1]:.1f} ms, p99 {p99[0]:.1f} -> {p99[1]:.1f} ms ({p99[1] / p99[0]:.1f} times)"
        lines.append(Line(f"{name}, {kind or 'all'}", text, None if kind else p99[1] <= P99_TIMES_MAX * p99[0]))
    worst = max((one.ended_s - one.began_s for one in noticing), default=0.0)
    failed = Counter(one.error.partition(" (")[0] for one in [*noticing, *after] if one.error)
    text = f"p50 {quantile_ms(noticing, 0.5):.1f} ms, p99 {quantile_ms(noticing, 0.99):.1f} ms, longest {worst * 1000:.0f} ms"
    return [*lines, Line(f"{name}, the first {NOTICED_S:g} s", f"{text}; failed: {dict(failed) or 'none'}")]


def of(done: Sequence[Done], kind: str) -> list[Done]:
    """Those of a kind; all of them for ""."""
    return [one for one in done if kind in ("", one.kind)]


async def measure_pause(folder: Path, seconds: float) -> list[Line]:
    """SIGSTOP to one of three nodes."""
    cluster = await start_cluster(folder / "pause", nodes=3)
    try:
        async with loaded(cluster.addresses) as load:

            async def pause() -> None:
                cluster.pause([2])

            return await measure_paced("pause", load, seconds, pause)
    finally:
        await cluster.stop()


async def measure_delay(folder: Path, seconds: float) -> list[Line]:
    """Everything to and from one of three nodes is late, for clients as well."""
    (folder / "delay").mkdir(parents=True)
    async with ProxiedCluster(folder / "delay") as cluster:
        async with AsyncClient(cluster.addresses(), address_map=cluster.address_map()) as client:
            load = Load(client)
            await load.prepare()
            await load.closed(1.0)
            load.done.clear()
            links = [Link(source, "n3") for source in ("n1", "n2", cluster.sites[0])] + [
                Link("n3", other) for other in ("n1", "n2")
            ]

            async def delay() -> None:
                for link in links:
                    await cluster.plane.delay(link, DELAY_MS // 2)

            lines = await measure_paced("delay", load, seconds, delay)
        await cluster.plane.verify()
        await cluster.plane.heal()
        await cluster.plane.verify()
        return lines


async def measure_idle(folder: Path, seconds: float) -> list[Line]:
    """Five nodes that nobody asks anything."""
    cluster = await start_cluster(folder / "idle", nodes=5)
    try:
        await cluster.wait_converged(timeout_s=30.0)
        before, began_s = [cpu_seconds([pid]) for pid in cluster.pids], time.perf_counter()
        await asyncio.sleep(IDLE_S)
        elapsed_s = time.perf_counter() - began_s
        shares = [(cpu_seconds([pid]) - used) / elapsed_s for pid, used in zip(cluster.pids, before, strict=True)]
        text = f"{max(shares):.2%} of a core for the busiest of five idle nodes, {min(shares):.2%} for the idlest"
        return [Line("idle", text, max(shares) <= IDLE_CPU_MAX)]
    finally:
        await cluster.stop()


MEASUREMENTS = {"kill": measure_kill, "pause": measure_pause, "delay": measure_delay, "idle": measure_idle}


async def measure(names: Sequence[str], seconds: float) -> list[Line]:
    """The lines of the measurements `names`, printed as they come."""
    lines = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="kvstore-failures-") as folder:
            for line in await MEASUREMENTS[name](Path(folder), seconds):
                print(line, flush=True)
                lines.append(line)
    return lines


def main() -> int:
    """The command. Ends with 8 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="measurements by name, separated by commas")
    parser.add_argument("--seconds", type=float, default=6.0, help="before the failure, and after it was noticed")
    arguments = parser.parse_args()
    lines = run(measure(arguments.only.split(","), arguments.seconds))
    return 8 if any(line.is_met is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
