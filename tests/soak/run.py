"""A mixed workload at 64 in flight on a `kv dev` cluster of three, one node of which is restarted every minute.

    python -m tests.soak.run --minutes 10

Counted as an error is whatever the client raises after its own retries: with two of three nodes up none is expected, and none is
allowed. Every read is held against what was acknowledged, and at the end every key. n1 is never restarted, so that its memory can
be watched for long; the others take turns. Ends with 0, 8 (a promise was broken, an operation failed, or memory grew) or 9 (too
little happened, or the cluster did not do as told).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kvchaos.processes import FaultFailed, ProcessPlane
from kvproto.errors import KvError
from kvproto.options import EVENT_ENGINE_OFF
from tests.soak.load import Load
from tests.soak.memory import MemoryWatch

IN_FLIGHT = 64
RESTART_EVERY_S = 60.0
WARM_UP_S = 90.0
SLOPE_SPAN_S = 180.0
SLOPE_MIB_PER_MINUTE_MAX = 3.0
"""Of a node that has been up for longer than the warm-up, in which caches and the allocator fill. A leak of one small object an
operation would be ten times as much."""
OPERATIONS_A_SECOND_MIN = 50
PROMISE_BROKEN = 8
INCONCLUSIVE = 9


@dataclass(slots=True)
class Report:
    """What a soak did and found."""

    seconds: float = 0.0
    restarts: int = 0
    operations: int = 0
    keys: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    p99_ms: tuple[float, float] = (0.0, 0.0)
    growth: dict[str, float] = field(default_factory=dict)
    largest_mib: dict[str, int] = field(default_factory=dict)

    def violations(self) -> list[str]:
        """Every promise that was broken, in a sentence each."""
        grown = [
            f"{name} grows by {slope:.1f} MiB a minute" for name, slope in self.growth.items() if slope > SLOPE_MIB_PER_MINUTE_MAX
        ]
        return [*self.broken, *(f"{count} times {error}" for error, count in self.errors.items()), *grown]

    @property
    def is_conclusive(self) -> bool:
        """Whether enough happened to judge."""
        return self.restarts > 0 and self.operations >= OPERATIONS_A_SECOND_MIN * self.seconds

    def lines(self) -> list[str]:
        """For a person."""
        growth = ", ".join(f"{name} {slope:+.2f}" for name, slope in self.growth.items()) or "too short to tell"
        return [
            f"{self.operations:,} operations in {self.seconds:.0f} s, {self.restarts} restarts",
            f"{sum(self.errors.values())} errors, {len(self.broken)} wrong answers, {self.keys:,} keys verified",
            f"p99 {self.p99_ms[0]:.1f} ms at the start, {self.p99_ms[1]:.1f} ms at the end",
            f"memory, MiB a minute after {WARM_UP_S:.0f} s: {growth}; largest: {self.largest_mib}",
            *self.violations()[:20],
        ]


async def soak(
    root: Path,
    *,
    seconds: float,
    restart_every_s: float = RESTART_EVERY_S,
    restarts_min: int = 0,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Runs it on a new cluster below `root`. Raises `FaultFailed` when the cluster does not do as told."""
    from kvclient import AsyncClient

    loop = asyncio.get_running_loop()
    report = Report()
    async with ProcessPlane(root) as plane, AsyncClient(plane.addresses) as client:
        watch = MemoryWatch(lambda: {node: plane.pid(node) for node in plane.node_ids} | {"client": os.getpid()})
        load = Load(client, workers=IN_FLIGHT, rng=random.Random(seed))
        begun_s = loop.time()
        others = plane.node_ids[1:]
        try:
            while (left_s := begun_s + seconds - loop.time()) > 0 or report.restarts < restarts_min:
                await asyncio.sleep(restart_every_s if left_s <= 0 else min(restart_every_s, left_s))
                if left_s > restart_every_s or left_s <= 0:
                    await plane.restart(others[report.restarts % len(others)])
                    report.restarts += 1
                minutes = (loop.time() - begun_s) / 60
                recent_s = loop.time() - restart_every_s
                say(
                    f"{minutes:5.1f} min  {load.operations:>11,} operations  {sum(load.errors.values())} errors  "
                    f"p99 {load.percentile_ms(0.99, recent_s, loop.time()):.1f} ms  {watch.largest_mib()}"
                )
            ended_s = loop.time()
            await load.stop()
            report.keys = await load.verify()
        finally:
            await watch.stop()
        window_s = min(restart_every_s, seconds / 3)
        report.seconds = ended_s - begun_s
        report.operations, report.errors, report.broken = load.operations, dict(load.errors), load.broken
        report.p99_ms = (
            load.percentile_ms(0.99, begun_s, begun_s + window_s),
            load.percentile_ms(0.99, ended_s - window_s, ended_s),
        )
        growth = watch.growth(warm_up_s=WARM_UP_S, least_s=SLOPE_SPAN_S)
        report.growth = {name: slope for name, slope in growth.items() if name != "client"}  # which keeps every latency
        report.largest_mib = watch.largest_mib()
    return report


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("GRPC_EXPERIMENTS", EVENT_ENGINE_OFF)
    with tempfile.TemporaryDirectory(prefix="kv-soak-") as folder:
        try:
            report = asyncio.run(soak(Path(folder), seconds=60 * chosen.minutes, seed=chosen.seed, say=_say))
        except (FaultFailed, TimeoutError, KvError) as error:
            print(f"inconclusive: {type(error).__name__}: {error}")
            return INCONCLUSIVE
    print("\n".join(report.lines()))
    if report.violations():
        return PROMISE_BROKEN
    return 0 if report.is_conclusive else INCONCLUSIVE


if __name__ == "__main__":
    sys.exit(main())
