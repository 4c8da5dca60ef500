"""What clients asked of the node and what became of it: rate, errors and duration, and what quorums had to do with it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from kvproto.columns import Kind, Level
from kvstore.api.metrics.families import Row, counter, gauge, histogram
from kvstore.local_node import LocalNode
from kvstore.telemetry.meters import CallMeter, OperationMeter, RequestMeter

KINDS = {kind: kind.name.lower() for kind in Kind}
LEVELS = {level: level.name.lower() for level in Level}


def collect_requests(local: LocalNode, meter: RequestMeter) -> Iterator[Metric]:
    """Everything a coordinator counts."""
    by_labels = dict(_meters(meter))
    labels = ("operation", "level")
    yield counter(
        "kv_operations",
        "Operations answered here, for clients and for nodes that forwarded; a scan counts once a page.",
        (*labels, "outcome"),
        [((*names, outcome), number) for names, one in by_labels.items() for outcome, number in _outcomes(one)],
    )
    yield histogram(
        "kv_operation_duration_seconds",
        "From the arrival of an operation's batch to its answer.",
        labels,
        [(names, one.durations) for names, one in by_labels.items()],
    )
    yield histogram("kv_batch_operations", "Operations of a batch, as it came.", (), [((), meter.batch_sizes)])
    yield histogram("kv_batch_duration_seconds", "From a batch's arrival to its last answer.", (), [((), meter.batch_durations)])
    in_flight, limit = local.coordinator.in_flight, local.config.limits.in_flight_max
    yield gauge("kv_operations_in_flight", "Operations taken and not answered yet.", (), [((), in_flight)])
    yield gauge("kv_operations_in_flight_limit", "Beyond it operations are shed.", (), [((), limit)])
    yield counter("kv_operations_shed", "Operations refused as overloaded.", (), [((), local.coordinator.overloaded)])
    intake = local.serving.intake
    yield gauge("kv_in_flight_bytes", "Held for requests under way and their answers.", (), [((), intake.held_bytes)])
    yield gauge("kv_in_flight_limit_bytes", "A connection holds at most a share of it.", (), [((), intake.bytes_max)])
    yield gauge("kv_client_connections", "Connections that have calls.", (), [((), intake.connections)])
    yield counter("kv_intake_refused", "Operations and connections refused because too much was held.", (), [((), intake.refused)])
    yield from _collect_admission(local)
    forwarded = [((), meter.forwarded)]
    yield counter("kv_operations_forwarded", "Operations sent on to a home replica, where they count again.", (), forwarded)
    yield from _collect_quorums(local, meter)


def _collect_admission(local: LocalNode) -> Iterator[Metric]:
    intake, limit = local.serving.intake, local.serving.intake.limit
    yield gauge("kv_admission_limit_operations", "Operations that may be under way; follows from latency.", (), [((), limit.limit)])
    yield gauge("kv_admission_operations", "Operations of clients that are.", (), [((), intake.operations)])
    yield gauge("kv_admission_latency_seconds", "What even the quickest batch waited of late.", (), [((), limit.latency_s)])
    yield gauge(
        "kv_admission_pressure_ratio", "The same in parts of what is aimed at; above 1 is too much.", (), [((), limit.pressure)]
    )
    yield counter("kv_admission_refused", "Operations refused because too many were under way.", (), [((), intake.shed)])
    expired: list[Row] = [
        (("intake",), intake.expired),
        (("turn",), local.coordinator.expired),
        (("replica",), local.replica.expired),
    ]
    yield counter("kv_admission_expired", "Operations dropped unexecuted: their deadline had passed.", ("where",), expired)
    quotas = sorted(local.serving.quotas.of.items())
    for _, quota in quotas:
        quota.share()
    limits: list[Row] = [((name, what), bucket.rate) for name, quota in quotas for what, bucket in quota.buckets.items()]
    yield gauge(
        "kv_quota_limit",
        "This node's part of a namespace's quota, a second: more while others are thought dead.",
        ("namespace", "unit"),
        limits,
    )
    used: list[Row] = [((name, what), bucket.taken) for name, quota in quotas for what, bucket in quota.buckets.items()]
    yield counter("kv_quota_used", "Operations or bytes that were charged to it.", ("namespace", "unit"), used)
    refused: list[Row] = [((name, what), number) for name, quota in quotas for what, number in quota.refused.items()]
    yield counter("kv_quota_refused", "Operations refused because it was used up.", ("namespace", "unit"), refused)


def _collect_quorums(local: LocalNode, meter: RequestMeter) -> Iterator[Metric]:
    yield histogram(
        "kv_replica_acks",
        "Replicas that had answered when an operation's answer left.",
        ("operation",),
        [((KINDS[kind],), acks) for kind, acks in meter.acknowledged.items()],
    )
    failures: list[Row] = [((KINDS[kind], why), number) for (kind, why), number in list(meter.quorum_failures.items())]
    yield counter("kv_quorum_failures", "Operations whose level was not reached, by why.", ("operation", "reason"), failures)
    yield histogram("kv_siblings", "Values of a key that was read; 0: it was not found.", (), [((), meter.siblings)])
    yield counter("kv_stale_reads", "Keys of which a read saw a replica that was behind.", (), [((), meter.stale)])
    yield counter("kv_hedged_reads", "Keys asked of further replicas because the first were slow.", (), [((), meter.hedged)])
    repairs: list[Row] = [(("done",), local.serving.read_repair.repaired), (("dropped",), local.serving.read_repair.dropped)]
    yield counter("kv_read_repairs", "Records sent to replicas that a read saw to be behind.", ("outcome",), repairs)


def collect_calls(meter: CallMeter) -> Iterator[Metric]:
    """gRPC calls, under the names of go-grpc-prometheus: stock dashboards and etcd's alerts know them."""
    labels = ("grpc_type", "grpc_service", "grpc_method")
    methods = list(meter.methods.items())
    started: list[Row] = [(names, one.started) for names, one in methods]
    yield counter("grpc_server_started", "Calls started; a stream is one.", labels, started)
    handled: list[Row] = [((*names, code), number) for names, one in methods for code, number in list(one.handled.items())]
    yield counter("grpc_server_handled", "Calls ended, by status code.", (*labels, "grpc_code"), handled)
    durations = [(names, one.durations) for names, one in methods]
    yield histogram(
        "grpc_server_handling_seconds", "How long a call took; a stream lasts as long as its client.", labels, durations
    )


def _outcomes(meter: OperationMeter) -> list[tuple[str, int]]:
    return [("ok", meter.ok), *((code.name.lower(), count) for code, count in list(meter.failed.items()))]


def _meters(meter: RequestMeter) -> Iterator[tuple[tuple[str, str], OperationMeter]]:
    """Those of operations that were asked for, and of every kind at its preset's level: a rate needs a first value."""
    for kind, meters in meter.operations.items():
        for level, one in zip(Level, meters, strict=True):
            if level is Level.PRESET or one.durations.count:
                yield (KINDS[kind], LEVELS[level]), one
    for level, one in zip(Level, meter.scan_pages, strict=True):
        if level is Level.PRESET or one.durations.count:
            yield ("scan", LEVELS[level]), one
