"""What a run came to: one JSON object, or the rows of a table."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

from kvclient.bench.histogram import Latencies
from kvclient.bench.open_loop import NOT_BEGUN
from kvclient.bench.worker import Measured

ALL = "all"
FAILED_SHARE_MAX = 0.001
"""With more failures than this a run says little: failing is often faster, or slower, than doing."""


def report(settings: dict[str, Any], measured: Measured, *, overhead_ns: float) -> dict[str, Any]:
    """The run's settings, throughput, errors by code, and for each kind of operation its percentiles and its HDR histogram (and for
    `all` of them together, where there are several). `measured_s` is less than `seconds` if the run was interrupted."""
    return {
        **settings,
        "measured_s": round(measured.seconds, 3),
        "interrupted": measured.interrupted,
        "ops": measured.completed,
        "ops_per_s": round(measured.completed / measured.seconds, 1) if measured.seconds else 0.0,
        "errors": measured.errors,
        "failed_share": round(failed_share(measured), 6),
        "degraded": measured.degraded,
        "latency": {
            kind: {"ops": latencies.count, **latencies.summary(), "hdr": latencies.encode()}
            for kind, latencies in _by_kind(measured).items()
        },
        "generator": {
            "overhead_ns_per_op": round(overhead_ns),
            "ops_per_s_max": round(1e9 / overhead_ns),
            "uvloop": importlib.util.find_spec("uvloop") is not None,
            "grpcio": _version("grpcio"),
            "grpc_experiments": os.environ.get("GRPC_EXPERIMENTS", ""),
            "python": platform.python_version(),
        },
    }


def failed_share(measured: Measured) -> float:
    """Of the operations begun inside the window, or due in it, the share that failed."""
    failed = sum(measured.errors.values())
    return failed / (failed + measured.completed) if failed else 0.0


def warnings(row: dict[str, Any]) -> list[str]:
    """What a person has to know before believing a report's figures."""
    said = []
    if row["interrupted"]:
        said.append(f"interrupted: these figures are of {row['measured_s']:g} s")
    if row["failed_share"] > FAILED_SHARE_MAX:
        failed = sum(row["errors"].values())
        said.append(f"{failed:,} operations failed, {row['failed_share']:.1%} of all: the figures say little about the others")
    if row["degraded"] > FAILED_SHARE_MAX * row["ops"]:
        said.append(f"{row['degraded']:,} answers, with the warm-up's, were degraded: of fewer replicas than the preset asks for")
    if not_begun := row["errors"].get(NOT_BEGUN):
        said.append(f"{not_begun:,} operations that were due had not begun at the end: the store does not keep up with this rate")
    return said


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
