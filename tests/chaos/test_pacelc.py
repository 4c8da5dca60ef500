"""The PACELC table, measured through real Toxiproxy: each setting stands in its quadrant, by ratios that distance makes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from kvchaos.report.freshness import freshness_of
from kvchaos.scenarios.pacelc import measure

pytestmark = pytest.mark.timeout(240, func_only=True)

NEAR_RTT = 0.5
"""Less than half a round trip: nobody else was waited for."""
ONE_RTT = (1.0, 1.95)
"""Below two: a busy machine adds to the one that is injected, and a second one would show."""


def served(outcomes: dict[str, int]) -> float:
    return outcomes["ok"] / sum(outcomes.values())


async def test_every_setting_stands_in_its_quadrant(toxiproxy_server: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        found = await measure(seed=20261126, root=tmp_path)
    row = found.row()
    assert found.split.failure == ""
    said = [
        f"{told.column}: {sentence}" for told in found.split.columns for sentence in (*told.verdict.broken, *told.verdict.lacking)
    ]
    assert said == []
    presets: dict[str, dict[str, Any]] = row["presets"]
    for name, told in presets.items():
        assert told["lost"] == 0 and served(told["majority"]) >= 0.99, (name, told)
    for name in ("pa-el", "pa-ec"):
        assert served(presets[name]["minority"]) >= 0.99, "available"
        assert presets[name]["stale_share"] > 0, "what is available on both sides cannot be current on both"
    for name in ("strict", "pc-ec"):
        assert served(presets[name]["minority"]) == 0.0 and presets[name]["stale_share"] == 0.0, "consistent"
    for kind in ("read", "write"):
        assert presets["pa-el"]["p50_rtt"][kind] < NEAR_RTT, "latency"
        for name in ("pa-ec", "strict"):
            assert ONE_RTT[0] <= presets[name]["p50_rtt"][kind] <= ONE_RTT[1], "consistency, for a round trip"
    assert presets["pc-el"]["p50_rtt"]["read"] < NEAR_RTT, "latency: a home replica near the client answers alone"
    for told in (presets["pc-ec"]["p50_rtt"]["read"], presets["pc-ec"]["p50_rtt"]["write"], presets["pc-el"]["p50_rtt"]["write"]):
        assert told >= ONE_RTT[0], "consistency, for a round trip"
    assert set(found.apart) == {"pa-el"}, "with r + w above n no read is stale"
    apart = freshness_of(found.apart["pa-el"])
    assert apart is not None and len(apart.reads) >= 30
    middle = apart.median
    curve = [(each.at_ms, each.count, each.fresh, each.predicted) for each in apart.bins]
    if os.environ.get("KV_TIER") == "long":  # beside other tests a write waits for the processor, which no prediction knows
        # Five points, or as near as so few reads can tell.
        assert middle.low - 0.05 <= middle.predicted <= middle.high + 0.05, curve
    early = [read for read in apart.reads if read.after_ms < apart.rtt_ms / 4]
    late = [read for read in apart.reads if read.after_ms > apart.rtt_ms * 3 / 4]
    assert len(early) >= 10 and len(late) >= 10, "the curve has both of its ends"
    assert sum(read.fresh for read in early) <= len(early) / 4, "no write is there before its link has carried it"
