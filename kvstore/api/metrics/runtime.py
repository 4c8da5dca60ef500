"""The process and what it is: versions, the event loop, threads, and log lines that were held back."""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterator

import grpc
from prometheus_client.core import InfoMetricFamily, Metric

from kvstore import __version__
from kvstore.api.metrics.families import Row, counter, gauge, histogram
from kvstore.config import NodeConfig
from kvstore.telemetry.node import Telemetry


def collect_runtime(config: NodeConfig, engine: str, telemetry: Telemetry, expires_at_ms: int | None) -> Iterator[Metric]:
    """`engine`: what it calls itself. `expires_at_ms`: of the node's certificate; None: there is none."""
    versions = {"version": __version__, "python": platform.python_version(), "grpcio": grpc.__version__, "engine": engine}
    yield InfoMetricFamily("kv_build", "What runs here.", value=versions)
    identity = {"node": config.node_id, "cluster": config.cluster.id, "zone": config.zone}
    yield InfoMetricFamily("kv_node", "Which node this is.", value=identity)
    if telemetry.loop_lag is not None:
        lag = [((), telemetry.loop_lag)]
        yield histogram("kv_loop_lag_seconds", "How late the event loop was, asked ten times a second.", (), lag)
    yield gauge("kv_threads", "Python threads of the process.", (), [((), threading.active_count())])
    held_back: list[Row] = [((event,), number) for event, number in sorted(dict(telemetry.logs.suppressed).items())]
    yield counter("kv_log_suppressed", "Log lines held back, by event.", ("event",), held_back)
    if expires_at_ms is not None:
        expires = [((), expires_at_ms / 1000)]
        yield gauge("kv_certificate_expiry_timestamp_seconds", "When the node's certificate expires, Unix time.", (), expires)
