"""A million keys into a fresh cluster: whether loading slows down as the store fills, and what a node's memory comes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.catalogue import MEMORY_MB_MAX
from tests.bench.client_handle import ClientProcess
from tests.bench.lines import Pair
from tests.bench.processes import BenchError

KEYS = 1_000_000
STEP_KEYS = 100_000
MIXED_S = 20.0
MIXED_IN_FLIGHT = 128


@dataclass(frozen=True, slots=True)
class Filling:
    """The pairs of the three lines, and a sentence with the rate of every step and the memory at the end of each."""

    pairs: dict[str, Pair]
    note: str


async def measure_million(
    client: ClientProcess, pids: Sequence[int], *, progress: Callable[[str], None], keys: int = KEYS, mixed_s: float = MIXED_S
) -> Filling:
    """Loads `keys` new keys in ten steps and then puts and gets them for `mixed_s`. Raises `BenchError`.

    Memory is the resident set of the largest node; where the system does not tell it, those lines are not measured.
    """
    step = keys // 10
    rates: list[float] = []
    sizes_mb: list[float] = []
    for first in range(0, keys, step):
        try:
            rates.append(await client.fill(first=first, keys=step))
        except BenchError as problem:
            raise BenchError(f"a million keys: {_said(rates, sizes_mb) or 'nothing'}, and then {problem}") from None
        sizes_mb.append(largest_mb(pids))
        progress(f"a million keys: {first + step:,}, {rates[-1]:,.0f} a second, {sizes_mb[-1]:,.0f} MB")
    mixed = await client.filled_mix(keys=keys, in_flight=MIXED_IN_FLIGHT, seconds=mixed_s)
    after_mb = largest_mb(pids)
    pairs = {
        "load-speed": Pair(rates[-1], rates[0]),
        "load-memory": Pair(max(sizes_mb), MEMORY_MB_MAX),
        "mixed-memory": Pair(after_mb, sizes_mb[-1]),
    }
    return Filling(
        pairs, f"{_said(rates, sizes_mb)}; after {mixed_s:g} s of {mixed:,.0f} puts and gets a second {after_mb:,.0f} MB"
    )


def _said(rates: Sequence[float], sizes_mb: Sequence[float]) -> str:
    return ", ".join(f"{rate:,.0f}/s {size:,.0f} MB" for rate, size in zip(rates, sizes_mb, strict=True))


def largest_mb(pids: Sequence[int]) -> float:
    """The largest resident set of the processes, in 10^6 bytes; NaN where there is no /proc or none of them is left."""
    return max((resident_mb(pid) for pid in pids), default=math.nan)


def resident_mb(pid: int) -> float:
    """The resident set of one process, in 10^6 bytes; NaN if it cannot be told."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return math.nan
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return math.nan
