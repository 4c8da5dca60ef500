"""A million keys into a fresh cluster: whether loading slows down as the store fills, and what a node's memory comes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.catalogue import MEMORY_MB_MAX
from tests.bench.client_handle import ClientProcess
from tests.bench.lines import Pair
from tests.bench.processes import BenchError, cpu_seconds

KEYS = 1_000_000
MIXED_S = 20.0
MIXED_IN_FLIGHT = 128


@dataclass(frozen=True, slots=True)
class Memory:
    """In 10^6 bytes: the resident set, and of it what is the process's own; the rest is pages of LevelDB's tables and of programs,
    which the system takes back when it needs them."""

    resident_mb: float
    own_mb: float

    def __str__(self) -> str:
        return f"{self.resident_mb:,.0f} MB ({self.own_mb:,.0f} its own)"


@dataclass(frozen=True, slots=True)
class Filling:
    """The pairs of the three lines, and a sentence on every step."""

    pairs: dict[str, Pair]
    note: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of the load came to: keys a second, processor time of all nodes for a key, and the largest node's memory."""

    rate: float
    cpu_us_per_key: float
    memory: Memory

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s {self.cpu_us_per_key:.0f} µs {self.memory}"


async def measure_million(
    client: ClientProcess, pids: Sequence[int], *, progress: Callable[[str], None], keys: int = KEYS, mixed_s: float = MIXED_S
) -> Filling:
    """Loads `keys` new keys in ten steps and then puts and gets them for `mixed_s`. Raises `BenchError`.

    Memory is the resident set of the largest node; where the system does not tell it, those lines are not measured. Processor time
    tells what a step costs even where other programs run beside.
    """
    count = keys // 10
    steps: list[Step] = []
    for first in range(0, keys, count):
        before_s = cpu_seconds(pids)
        try:
            rate = await client.fill(first=first, keys=count)
        except BenchError as problem:
            raise BenchError(f"a million keys: {_said(steps) or 'nothing'}, and then {problem}") from None
        steps.append(Step(rate, (cpu_seconds(pids) - before_s) * 1e6 / count, largest(pids)))
        progress(f"a million keys: {first + count:,}, {steps[-1]}")
    mixed = await client.filled_mix(keys=keys, in_flight=MIXED_IN_FLIGHT, seconds=mixed_s)
    after = largest(pids)
    pairs = {
        "load-speed": Pair(steps[-1].rate, steps[0].rate),
        "load-memory": Pair(steps[-1].memory.resident_mb, MEMORY_MB_MAX),
        "load-peak": Pair(max(step.memory.resident_mb for step in steps), steps[-1].memory.resident_mb),
        # Its own: reads at random bring in the pages of all tables, which the system takes back when it needs them.
        "mixed-memory": Pair(after.own_mb, steps[-1].memory.own_mb),
    }
    return Filling(pairs, f"{_said(steps)}; after {mixed_s:g} s of {mixed:,.0f} puts and gets a second {after}")


def _said(steps: Sequence[Step]) -> str:
    return ", ".join(map(str, steps))


def largest(pids: Sequence[int]) -> Memory:
    """Of the process with the largest resident set; NaN where there is no /proc or none of them is left."""
    sizes = [size for size in map(memory_of, pids) if not math.isnan(size.resident_mb)]
    return max(sizes, key=lambda size: size.resident_mb, default=Memory(math.nan, math.nan))


def memory_of(pid: int) -> Memory:
    """What one process has in memory; NaN if it cannot be told."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return Memory(math.nan, math.nan)
    lines = (line.partition(":") for line in text.splitlines())
    kilobytes = {name: int(value.split()[0]) for name, _, value in lines if name in {"VmRSS", "RssAnon"}}
    resident, own = (kilobytes.get(name, math.nan) * 1024 / 1e6 for name in ("VmRSS", "RssAnon"))
    return Memory(resident, own)
