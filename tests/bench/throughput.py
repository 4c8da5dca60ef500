"""The throughput and latency rounds: all sides take turns within each measurement, in alternating order.

Sides by name: `ours`, `ours-defaults` (the same nodes through a client process with the library's defaults), `etcd`, `redis` (a
primary with two replicas), `redis-alone`, and `raw`, LevelDB without a server.
"""

from __future__ import annotations

import math
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.catalogue import COMPARISONS, Load, Source
from tests.bench.client_handle import ClientProcess, Figures
from tests.bench.lines import Line, Pair
from tests.bench.processes import BenchError, cpu_seconds, machine_busy_seconds
from tests.bench.raw_leveldb import RawLevelDB


@dataclass(slots=True)
class Side:
    """A cluster that is up and loaded: its client process, its servers' process ids, and where clients reach them."""

    client: ClientProcess
    pids: Sequence[int]
    addresses: Sequence[str] = ()

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


def plan_round(lines: Iterable[Line], sides: Iterable[str]) -> dict[Load, list[str]]:
    """What has to be measured for `lines`: each load once, on those of `sides` that a line needs it of. Raw LevelDB is no part."""
    plan: dict[Load, list[str]] = {}
    present = set(sides)
    for line in lines:
        comparison = COMPARISONS.get(line.name)
        for source in () if comparison is None else (comparison.ours, comparison.other):
            at = plan.setdefault(source.load, [])
            if source.side in present and source.side not in at:
                at.append(source.side)
    return {load: sorted(at) for load, at in plan.items() if at}


async def measure_round(
    sides: Mapping[str, Side],
    raw: RawLevelDB | None,
    *,
    lines: Sequence[Line],
    number: int,
    seconds: float,
    warm_up_s: float,
    contention: Contention,
) -> Round:
    """Every load that `lines` need, `seconds` each; within a load all sides get the same operations."""
    done = Round()
    if raw:
        done.raw_puts_per_s = raw.measure_puts_per_s(seconds=seconds, seed=f"{number}/raw")
    for at, (load, names) in enumerate(plan_round(lines, sides).items()):
        turn = (number + at) % len(names)
        for name in names[turn:] + names[:turn]:
            seed = f"{number}/{load.kind}/{load.in_flight}"
            # A side with two clients has the servers of the other: what they use is its own.
            idle = [side for side in sides.values() if side.pids != sides[name].pids]
            measurement = sides[name].client.closed(
                kind=load.kind, seed=seed, in_flight=load.in_flight, seconds=seconds, warm_up_s=warm_up_s
            )
            try:
                done.figures[name][load] = await contention.watch(sides[name], idle, measurement)
            except BenchError as problem:
                done.problems.append(f"{load.kind} at {load.in_flight}: {problem}")
    return done


def pairs_of(done: Round, lines: Iterable[Line]) -> dict[str, Pair]:
    """The round's pair for each of `lines` that this module measures."""

    def figure(source: Source, kind: str) -> float:
        if source.side == "raw":
            return done.raw_puts_per_s
        figures = done.figures[source.side].get(source.load)
        if figures is None:
            return math.nan
        return figures.rate_per_s if kind == "rate" else figures.p50_ms or math.nan

    pairs = {}
    for line in lines:
        if comparison := COMPARISONS.get(line.name):
            ours, other = (figure(source, comparison.figure) for source in (comparison.ours, comparison.other))
            pairs[line.name] = Pair(ours * comparison.factor, other)
    return pairs
