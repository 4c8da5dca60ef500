"""The throughput and latency rounds: kvstore, etcd and raw LevelDB take turns within each measurement, in alternating order."""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.bench.client_handle import ClientProcess, Figures
from tests.bench.lines import REPLICAS, Pair
from tests.bench.processes import BenchError, cpu_seconds, machine_busy_seconds
from tests.bench.raw_leveldb import RawLevelDB


class Load(NamedTuple):
    """One closed loop: kind of operation (workload.Workload.operation) and how many callers."""

    kind: str
    in_flight: int


LOADS = (Load("put", 1), Load("get", 1), Load("put", 64), Load("put", 256), Load("get", 256), Load("many", 1))


@dataclass(slots=True)
class Side:
    """A cluster that is up and loaded: its client process and its servers' process ids."""

    client: ClientProcess
    pids: Sequence[int]

    @property
    def cpu_seconds(self) -> float:
        """CPU time its servers and its client process have used so far."""
        return cpu_seconds([*self.pids, self.client.pid])


@dataclass(slots=True)
class Contention:
    """CPU time that was used beside the side being measured, while one was: by the sides that idle, and by other programs."""

    seconds: float = 0.0
    idle_sides_s: float = 0.0
    other_programs_s: float = 0.0

    async def watch(self, side: Side, idle: Sequence[Side], measurement: Awaitable[Figures]) -> Figures:
        """Awaits `measurement` of `side` and adds up what ran beside it. Raises what the measurement raises."""
        begin = time.perf_counter()
        before = [machine_busy_seconds(), side.cpu_seconds, sum(one.cpu_seconds for one in idle), cpu_seconds([os.getpid()])]
        figures = await measurement
        after = [machine_busy_seconds(), side.cpu_seconds, sum(one.cpu_seconds for one in idle), cpu_seconds([os.getpid()])]
        machine, measured, idling, own = (now - then for now, then in zip(after, before, strict=True))
        self.seconds += time.perf_counter() - begin
        self.idle_sides_s += idling
        self.other_programs_s += max(0.0, machine - measured - idling - own)
        return figures


@dataclass(slots=True)
class Round:
    """What one round measured; what is missing in it could not be measured."""

    figures: dict[str, dict[Load, Figures]] = field(default_factory=lambda: defaultdict(dict))
    raw_puts_per_s: float = math.nan
    problems: list[str] = field(default_factory=list)


async def measure_round(
    sides: Mapping[str, Side], raw: RawLevelDB | None, *, number: int, seconds: float, warm_up_s: float, contention: Contention
) -> Round:
    """Every load on every side, and raw LevelDB, `seconds` each; within a load both sides get the same operations."""
    done = Round()
    if raw:
        done.raw_puts_per_s = raw.measure_puts_per_s(seconds=seconds, seed=f"{number}/raw")
    for at, load in enumerate(LOADS):
        for name in sorted(sides, reverse=bool((number + at) % 2)):
            seed = f"{number}/{load.kind}/{load.in_flight}"
            idle = [side for other, side in sides.items() if other != name]
            measurement = sides[name].client.closed(
                kind=load.kind, seed=seed, in_flight=load.in_flight, seconds=seconds, warm_up_s=warm_up_s
            )
            try:
                done.figures[name][load] = await contention.watch(sides[name], idle, measurement)
            except BenchError as problem:
                done.problems.append(f"{load.kind} at {load.in_flight}: {problem}")
    return done


def pairs_of(done: Round) -> dict[str, Pair]:
    """The round's pair for each line of lines.LINES that this module measures."""

    def rates(load: Load) -> Pair:
        return Pair(*(at.rate_per_s if (at := done.figures[side].get(load)) else math.nan for side in ("ours", "etcd")))

    def medians(load: Load) -> Pair:
        return Pair(*(at.p50_ms or math.nan if (at := done.figures[side].get(load)) else math.nan for side in ("ours", "etcd")))

    puts = rates(Load("put", 256))
    return {
        "put-256": puts,
        "put-64": rates(Load("put", 64)),
        "put-256-raw": Pair(puts.ours * REPLICAS, done.raw_puts_per_s),
        "get-256": rates(Load("get", 256)),
        "put-1": medians(Load("put", 1)),
        "get-1": medians(Load("get", 1)),
        "put-many": rates(Load("many", 1)),
    }
