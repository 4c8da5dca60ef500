"""What counting costs. The measurement belongs beside the switch it uses and is not here yet: the line says so.

`measure` is what run.py calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import BenchError


@dataclass(frozen=True, slots=True)
class Ratio:
    """Counting against not counting, of one kind of operation: throughput, a figure a round."""

    kind: str
    throughput: Sequence[float]


async def measure(folder: Path, *, rounds: int = 5, seconds: float = 3.0) -> list[Ratio]:
    """The ratio for each kind of operation, from alternating rounds with data below `folder`. Raises `BenchError`."""
    raise BenchError("telemetry: its measurement is not there yet")
