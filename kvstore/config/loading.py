"""From a TOML file to a `NodeConfig`, or to one error that lists every problem at once.

The file is described in docs/operations.md; each `_read_…` function reads one table of it. Paths in the file are relative to the
file, so that starting a node from another folder does not give it a new, empty data directory.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from kvproto.errors import UserError
from kvproto.partitions import PARTITIONS_MAX
from kvstore.config.checks import check_node
from kvstore.config.table import Problems, Table
from kvstore.config.values import (
    AUTO,
    DEFAULT_NAMESPACE,
    DEFAULT_NAMESPACE_ID,
    LINEARIZABLE,
    MIB,
    NAMESPACE_ID_MAX,
    ClusterConfig,
    MembershipConfig,
    NamespaceConfig,
    NodeConfig,
    NodeLimits,
    TelemetryConfig,
    TlsConfig,
    mode_of,
)
from kvstore.core.catalog.settings import (
    DURABILITIES,
    MEMORY,
    MEMORY_BYTES_MAX,
    NAME,
    NAME_RULE,
    NONE,
    STORAGES,
    durability_of,
)
from kvstore.core.membership.suspicion import TIMINGS
from kvstore.telemetry.logs import LEVELS

MODES = ("eventual", "linearizable")
PRESETS = ("pa-el", "pa-ec", "pc-ec", "pc-el")
POLICIES = ("siblings", "lww", "counter", "set", "map", "merge")
REPLICAS_MAX = 9

_TABLES = {
    "cluster": ClusterConfig,
    "limits": NodeLimits,
    "membership": MembershipConfig,
    "telemetry": TelemetryConfig,
    "tls": TlsConfig,
}
KNOWN_PATHS = tuple(field.name for field in fields(NodeConfig)) + tuple(
    f"{table}.{field.name}" for table, cls in _TABLES.items() for field in fields(cls)
)


class ConfigError(UserError):
    """The node does not start; `problems` holds each as `key: what is wrong and the nearest valid name`."""

    def __init__(self, problems: list[str], *, source: str) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{source} has {count}; the node does not start:", *(f"  {line}" for line in problems)]))
        self.problems = problems
        self.subject = source


def load_config(path: str | Path) -> NodeConfig:
    """Reads and checks a node's file; raises `ConfigError` with every problem, or with why it cannot be read."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError([f"{source}: no such file; kv dev writes one for each node it starts"], source=str(source)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{source}: cannot be read ({error})"], source=str(source)) from error
    return parse_config(text, source=str(source), base=source.resolve().parent)


def parse_config(text: str, *, source: str = "node.toml", base: Path) -> NodeConfig:
    """As `load_config`, from text; relative paths in it start at `base`. Touches no file but those that [tls] names."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"not valid TOML: {error}"], source=source) from error
    problems = Problems(KNOWN_PATHS)
    config = _read_node(Table(values, "", problems), base)
    check_node(config, problems)
    if problems.lines:
        raise ConfigError(problems.lines, source=source)
    return config


def _read_node(top: Table, base: Path) -> NodeConfig:
    node_id = _name(top, "node_id", required=True)
    listen = top.text("listen", required=True)
    data = top.text("data", required=True)
    config = NodeConfig(
        node_id=node_id,
        listen=listen,
        advertise=top.text("advertise", listen),
        http=top.text("http"),
        data=base / data,
        zone=top.text("zone"),
        insecure=top.flag("insecure", default=False),
        frames=top.text("frames", AUTO),
        peers=_read_strings(top.table("peers")),
        peer_frames=_read_strings(top.table("peer_frames")),
        tls=_read_tls(top.optional_table("tls"), base),
        limits=_read_limits(top.table("limits")),
        telemetry=_read_telemetry(top.table("telemetry")),
        membership=_read_membership(top.table("membership")),
        cluster=_read_cluster(top.table("cluster")),
    )
    top.finish()
    return config


def _read_strings(table: Table) -> Mapping[str, str]:
    """A table whose keys are node ids and whose values are text."""
    return {node: table.text(node, required=True) for node in table.names()}


def _read_tls(table: Table | None, base: Path) -> TlsConfig | None:
    if table is None:
        return None
    paths: dict[str, Path] = {}
    for name in ("cert", "key", "ca", "client_ca"):
        text = table.text(name, required=name != "client_ca")
        if not text:
            continue
        paths[name] = base / text
        try:
            paths[name].open("rb").close()
        except OSError as error:
            table.problem(name, f"cannot be read: {error.strerror or error} ({paths[name]})")
    table.finish()
    return TlsConfig(
        cert=paths.get("cert", base), key=paths.get("key", base), ca=paths.get("ca", base), client_ca=paths.get("client_ca")
    )


def _read_limits(table: Table) -> NodeLimits:
    default = NodeLimits()
    limits = NodeLimits(
        record_cache_bytes=table.integer("record_cache_bytes", default.record_cache_bytes, minimum=0, maximum=1 << 40),
        block_cache_bytes=table.integer("block_cache_bytes", default.block_cache_bytes, minimum=MIB, maximum=1 << 40),
        write_buffer_bytes=table.integer("write_buffer_bytes", default.write_buffer_bytes, minimum=MIB, maximum=1 << 30),
        in_flight_max=table.integer("in_flight_max", default.in_flight_max, minimum=1, maximum=1 << 24),
        in_flight_bytes_max=table.integer("in_flight_bytes_max", default.in_flight_bytes_max, minimum=8 * MIB, maximum=1 << 40),
        batch_operations_max=table.integer("batch_operations_max", default.batch_operations_max, minimum=2048, maximum=65_536),
        connections_max=table.integer("connections_max", default.connections_max, minimum=1, maximum=1 << 20),
        latency_target_ms=table.integer("latency_target_ms", default.latency_target_ms, minimum=0, maximum=60_000),
        hints_max=table.integer("hints_max", default.hints_max, minimum=0, maximum=1 << 24),
        hints_bytes_max=table.integer("hints_bytes_max", default.hints_bytes_max, minimum=0, maximum=1 << 50),
        hint_age_s_max=float(table.integer("hint_age_s_max", int(default.hint_age_s_max), minimum=1, maximum=1 << 31)),
        repair_interval_s=table.number("repair_interval_s", default.repair_interval_s, minimum=0.0, maximum=1e6),
    )
    table.finish()
    return limits


def _read_membership(table: Table) -> MembershipConfig:
    timing = table.choice("timing", MembershipConfig().timing, available=sorted(TIMINGS))
    table.finish()
    return MembershipConfig(timing=timing)


def _read_telemetry(table: Table) -> TelemetryConfig:
    default = TelemetryConfig()
    telemetry = TelemetryConfig(
        metrics=table.flag("metrics", default=default.metrics),
        log_level=table.choice("log_level", default.log_level, available=tuple(LEVELS)),
        slow_batch_ms=table.integer("slow_batch_ms", default.slow_batch_ms, minimum=0, maximum=3_600_000),
    )
    table.finish()
    return telemetry


def _read_cluster(table: Table) -> ClusterConfig:
    default = ClusterConfig()
    replicas = table.integer("replicas", default.replicas, minimum=1, maximum=REPLICAS_MAX)
    cluster = ClusterConfig(
        id=_name(table, "id", default=default.id),
        partitions=table.integer("partitions", default.partitions, minimum=1, maximum=PARTITIONS_MAX),
        replicas=replicas,
        key_bytes_max=table.integer("key_bytes_max", default.key_bytes_max, minimum=1, maximum=65_536),
        value_bytes_max=table.integer("value_bytes_max", default.value_bytes_max, minimum=1, maximum=64 * MIB),
        siblings_max=table.integer("siblings_max", default.siblings_max, minimum=2, maximum=10_000),
        retry_window_s=table.number("retry_window_s", default.retry_window_s, minimum=1.0, maximum=3600.0),
        retry_ids_max=table.integer("retry_ids_max", default.retry_ids_max, minimum=1, maximum=1024),
        tombstone_grace_s=table.number("tombstone_grace_s", default.tombstone_grace_s, minimum=2.0, maximum=3.2e7),
        timeline_bound_s=table.number("timeline_bound_s", default.timeline_bound_s, minimum=0.1, maximum=3600.0),
        zones=_read_strings(table.table("zones")),
        namespaces=_read_namespaces(table.table("namespaces"), replicas),
    )
    table.finish()
    return cluster


def _read_namespaces(table: Table, replicas: int) -> dict[str, NamespaceConfig]:
    """`default` is always there and is 1; the others count from 2 in the order of their names, unless they state their `id`."""
    named = {name: table.table(name) for name in table.names()}
    stated = {name: one.integer_or_none("id", minimum=1, maximum=NAMESPACE_ID_MAX) for name, one in named.items()}
    taken = {id for id in stated.values() if id is not None} | {DEFAULT_NAMESPACE_ID}
    free = (id for id in range(DEFAULT_NAMESPACE_ID + 1, NAMESPACE_ID_MAX) if id not in taken)
    default = NamespaceConfig(n=min(NamespaceConfig().n, replicas))
    namespaces = {DEFAULT_NAMESPACE: default}
    for name in sorted(named):
        if not NAME.fullmatch(name):
            table.problem(name, f"not a name for a namespace: {NAME_RULE}")
        id = stated[name] or (DEFAULT_NAMESPACE_ID if name == DEFAULT_NAMESPACE else next(free))
        namespaces[name] = _read_namespace(named[name], replace(default, name=name, id=id))
    return namespaces


def _read_namespace(table: Table, default: NamespaceConfig) -> NamespaceConfig:
    # Each decides the other, unless both are stated.
    mode = table.choice("mode", default.mode, available=MODES) if table.text("mode") else ""
    preset = table.choice("preset", "pc-ec" if mode == LINEARIZABLE else default.preset, available=PRESETS)
    mode = mode or mode_of(preset)
    namespace = replace(
        default,
        mode=mode,
        preset=preset,
        n=table.integer("n", default.n, minimum=1, maximum=REPLICAS_MAX),
        r=table.integer_or_none("r", minimum=1, maximum=REPLICAS_MAX),
        w=table.integer_or_none("w", minimum=1, maximum=REPLICAS_MAX),
        ttl_s=table.number_or_none("ttl_s", minimum=0.001, maximum=3.2e9),
        policy=table.choice("policy", default.policy, available=POLICIES),
        merge=table.text("merge"),
        samples=table.texts("samples"),
        storage=(storage := table.choice("storage", default.storage, available=STORAGES)),
        durability=table.choice("durability", durability_of(storage, ""), available=_durabilities(storage)),
        max_bytes=table.integer("max_bytes", 0, minimum=0, maximum=MEMORY_BYTES_MAX),
        value_bytes_max=table.integer("value_bytes_max", 0, minimum=0, maximum=64 * MIB),
        quota_operations_per_s=table.integer("quota_operations_per_s", default.quota_operations_per_s, minimum=0, maximum=1 << 40),
        quota_bytes_per_s=table.integer("quota_bytes_per_s", default.quota_bytes_per_s, minimum=0, maximum=1 << 50),
    )
    table.finish()
    return namespace


def _durabilities(storage: str) -> tuple[str, ...]:
    return (NONE, *DURABILITIES) if storage == MEMORY else DURABILITIES


def _name(table: Table, name: str, *, default: str = "", required: bool = False) -> str:
    value = table.text(name, default, required=required)
    if value and not NAME.fullmatch(value):
        table.problem(name, f"{value!r} is not a name: {NAME_RULE}")
    return value
