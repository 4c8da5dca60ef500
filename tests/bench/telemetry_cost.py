"""What telemetry costs: the same load on nodes with it and on nodes without.

The measurement belongs beside the switch it uses; until nodes have one, the line says so.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench.lines import Pair
from tests.bench.processes import BenchError


async def measure_telemetry_cost(folder: Path, *, seconds: float, warm_up_s: float, seed: str) -> Pair:
    """Operations a second with telemetry, and without, measured one after the other on clusters with their data below `folder`.

    Raises `BenchError` if it cannot be measured.
    """
    raise BenchError("telemetry: nodes have no switch for it yet")
