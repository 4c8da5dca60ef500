"""Bars for a run, so that a script or a pipeline can fail on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvclient.bench.report import FAILED_SHARE_MAX


@dataclass(frozen=True, slots=True)
class Gate:
    """One bar and what a run came to; `sentence` says both."""

    name: str
    bar: float
    actual: float
    met: bool
    sentence: str


def judge(row: Mapping[str, Any], *, min_rate: float | None, max_p99_ms: float | None) -> list[Gate]:
    """The bars that were given, against a report. The p99 is of every kind of operation: none may be slower."""
    gates = []
    if min_rate is not None:
        rate = row["ops_per_s"]
        gates.append(
            Gate("min_rate", min_rate, rate, rate >= min_rate, f"{rate:,.0f} operations a second, at least {min_rate:,.0f}")
        )
    if max_p99_ms is not None:
        p99_ms = max((part["p99_us"] / 1_000 for part in row["latency"].values()), default=0.0)
        said = f"a p99 of {p99_ms:.3f} ms, at most {max_p99_ms:g}"
        gates.append(Gate("max_p99_ms", max_p99_ms, p99_ms, p99_ms <= max_p99_ms, said))
    return gates


def is_conclusive(row: Mapping[str, Any]) -> bool:
    """Whether a report can be judged at all: it ran to its end, and next to nothing failed."""
    return not row["interrupted"] and row["failed_share"] <= FAILED_SHARE_MAX
