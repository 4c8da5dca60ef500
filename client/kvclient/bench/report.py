"""What a run came to: one JSON object, or the rows of a table."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

from kvclient.bench.histogram import Latencies
from kvclient.bench.worker import Measured

ALL = "all"


def report(settings: dict[str, Any], measured: Measured, *, overhead_ns: float) -> dict[str, Any]:
    """The run's settings, throughput, errors by code, and for each kind of operation its percentiles and its HDR histogram (and for
    `all` of them together, where there are several)."""
    return {
        **settings,
        "ops": measured.completed,
        "ops_per_s": round(measured.completed / measured.seconds, 1),
        "errors": measured.errors,
        "latency": {
            kind: {"ops": latencies.count, **latencies.summary(), "hdr": latencies.encode()}
            for kind, latencies in _by_kind(measured).items()
        },
        "generator": {
            "overhead_ns_per_op": round(overhead_ns),
            "uvloop": importlib.util.find_spec("uvloop") is not None,
            "grpcio": _version("grpcio"),
            "grpc_experiments": os.environ.get("GRPC_EXPERIMENTS", ""),
            "python": platform.python_version(),
        },
    }


def table_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A report's rows for `latency_table`; the rate of a kind is its part of the run's."""
    total = sum(part["ops"] for kind, part in row["latency"].items() if kind != ALL)
    return [
        {"kind": kind, **part, "ops_per_s": row["ops_per_s"] * (1.0 if kind == ALL else part["ops"] / total if total else 0.0)}
        for kind, part in row["latency"].items()
    ]


def _by_kind(measured: Measured) -> dict[str, Latencies]:
    if len(measured.latencies) < 2:
        return measured.latencies
    together = Latencies()
    for latencies in measured.latencies.values():
        together.merge(latencies)
    return {**measured.latencies, ALL: together}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
