"""The settings as values, with what follows from them: quorums, fingerprints and differences. Pure.

Presets and their R and W: consistency.md, section 2. Effective n: a namespace asks for n replicas and gets min(n, nodes).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xxhash import xxh3_64_intdigest

from kvstore.core.catalog.catalog import CLUSTER_NAMESPACE_ID
from kvstore.core.catalog.settings import MEMORY
from kvstore.telemetry.logs import LEVEL_DEFAULT

DEFAULT_NAMESPACE = "default"
DEFAULT_NAMESPACE_ID = 1
# 0 is what an unset field of a message reads as; from the nodes' own namespace on, ids are given at run time.
NAMESPACE_ID_MAX = CLUSTER_NAMESPACE_ID - 1

MIB = 1 << 20

JsonValue = str | int | float | bool | None | dict[str, "JsonValue"]


EVENTUAL, LINEARIZABLE = "eventual", "linearizable"


def mode_of(preset: str) -> str:
    """The mode whose preset it is (consistency.md, section 2)."""
    return LINEARIZABLE if preset.startswith("pc-") else EVENTUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceConfig:
    """How one namespace keeps its keys. `r` and `w` None: what the preset gives; set: exact, met or refused. `merge`: with that
    policy, the function as `package.module:name`, and `samples`, the values that its laws are tried on (text). A quota is what all
    clients together may use of it a second, 0: as much as there is; each node grants an equal part. `max_bytes`: of memory, on each
    node; `value_bytes_max` 0: the cluster's."""

    id: int = DEFAULT_NAMESPACE_ID
    name: str = DEFAULT_NAMESPACE
    mode: str = "eventual"
    preset: str = "pa-ec"
    n: int = 3
    r: int | None = None
    w: int | None = None
    ttl_s: float | None = None
    policy: str = "siblings"
    merge: str = ""
    samples: tuple[str, ...] = ()
    storage: str = "disk"
    durability: str = "fsync"
    quota_operations_per_s: int = 0
    quota_bytes_per_s: int = 0
    max_bytes: int = 0
    value_bytes_max: int = 0

    @property
    def written_under(self) -> str:
        """What the bytes of its keys depend on: the policy, or that they are registers, or in memory alone."""
        if self.mode == LINEARIZABLE or self.storage == MEMORY:
            return LINEARIZABLE if self.mode == LINEARIZABLE else MEMORY
        return self.policy

    def effective_n(self, nodes: int) -> int:
        """Replicas a key really has in a ring of `nodes` nodes."""
        return min(self.n, nodes)

    def read_quorum(self, nodes: int) -> int:
        """Answers a read waits for: explicit `r`, else 1 (pa-el) or a majority of the effective n (pa-ec)."""
        return self.r if self.r is not None else self._preset_quorum(nodes)

    def write_quorum(self, nodes: int) -> int:
        """Acknowledgements a write waits for: explicit `w`, else 1 (pa-el) or a majority of the effective n (pa-ec)."""
        return self.w if self.w is not None else self._preset_quorum(nodes)

    def _preset_quorum(self, nodes: int) -> int:
        return 1 if self.preset == "pa-el" else self.effective_n(nodes) // 2 + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Everything that must be equal on every node of a cluster; compared at Hello by `canonical_json`."""

    id: str = "default"
    partitions: int = 256
    replicas: int = 3
    key_bytes_max: int = 4096
    value_bytes_max: int = MIB
    siblings_max: int = 100
    retry_window_s: float = 10.0
    retry_ids_max: int = 32
    tombstone_grace_s: float = 24 * 3600.0
    timeline_bound_s: float = 1.0
    zones: Mapping[str, str] = field(default_factory=dict)
    namespaces: Mapping[str, NamespaceConfig] = field(default_factory=lambda: {DEFAULT_NAMESPACE: NamespaceConfig()})

    def canonical_json(self) -> str:
        """The same text for the same settings on every node, whatever order a file lists them in."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    def fingerprint(self) -> int:
        """64 bits of `canonical_json`: equal settings have equal fingerprints."""
        return xxh3_64_intdigest(self.canonical_json().encode())

    def differences(self, other_json: str) -> list[str]:
        """Each setting in which the other node's `canonical_json` differs, by name, with both values; empty: none.

        Text that is no JSON object yields one line that says so, never an exception: it came from another process.
        """
        try:
            other = json.loads(other_json)
            theirs = _flatten(other) if isinstance(other, dict) else None
        except (ValueError, RecursionError):  # the latter: nested deeper than the interpreter's stack
            theirs = None
        if theirs is None:
            return ["the other node's settings cannot be read"]
        ours = _flatten(json.loads(self.canonical_json()))
        return [
            f"{path} is {_shown(ours, path)} here and {_shown(theirs, path)} there"
            for path in sorted(ours.keys() | theirs.keys())
            if path not in ours or path not in theirs or ours[path] != theirs[path]
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLimits:
    """Bounds of this node's memory and queues (docs/bounds.md); past one clients wait or get `Overloaded`, never unbounded memory.

    `in_flight_bytes_max` is what all requests under way may hold, with their answers; `connections_max` counts clients' connections
    that have calls, `batch_operations_max` the operations of one message. What is under way is held so low that nothing waits for
    much longer than `latency_target_ms`; 0: up to `in_flight_max`. Every `repair_interval_s` on average records are compared with
    each peer's; 0: only after a loss, and when asked to.
    """

    record_cache_bytes: int = 64 * MIB
    block_cache_bytes: int = 32 * MIB
    write_buffer_bytes: int = 64 * MIB
    in_flight_max: int = 65_536
    in_flight_bytes_max: int = 256 * MIB
    batch_operations_max: int = 4096
    connections_max: int = 4096
    latency_target_ms: int = 500
    hints_max: int = 200_000
    hints_bytes_max: int = 1024 * MIB
    hint_age_s_max: float = 3 * 3600.0
    repair_interval_s: float = 10.0


AUTO, OFF = "auto", "off"
"""Of `NodeConfig.frames`, beside an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """What the node tells of itself. Without `metrics` nothing is counted and /metrics is not served; a batch that takes
    `slow_batch_ms` is logged with who was slow, 0: none is."""

    metrics: bool = True
    log_level: str = LEVEL_DEFAULT
    slow_batch_ms: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipConfig:
    """How soon silent nodes are suspected: `timing` is lan, local (one machine) or wan. Not a setting of the cluster, so that it
    can be changed node by node; nodes that differ for long judge each other less well."""

    timing: str = "lan"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Absolute paths of PEM files. `cert` and `key` are this node's, `ca` signs its peers, `client_ca` (else `ca`) its clients."""

    cert: Path
    key: Path
    ca: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node. Addresses are host:port; `http` "" is off; `peers` maps each other node's id to where this node dials it.

    `frames` is where peers bring their batches without gRPC (docs/adr/0029): an address, `auto` (a free port beside `listen`, which
    peers are told) or `off`; `peer_frames` where this node dials that of others, if that is not what they say.
    """

    node_id: str
    listen: str
    data: Path
    advertise: str = ""
    http: str = ""
    zone: str = ""
    insecure: bool = False
    frames: str = AUTO
    peers: Mapping[str, str] = field(default_factory=dict)
    peer_frames: Mapping[str, str] = field(default_factory=dict)
    tls: TlsConfig | None = None
    limits: NodeLimits = field(default_factory=NodeLimits)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    membership: MembershipConfig = field(default_factory=MembershipConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ids of every node of the cluster, this one included, sorted."""
        return tuple(sorted((self.node_id, *self.peers)))

    @property
    def others(self) -> tuple[str, ...]:
        """Ids of every other node, sorted."""
        return tuple(sorted(self.peers))

    def zone_of(self, node_id: str) -> str:
        """The zone the ring plans with: `[cluster.zones]` only, because every node must plan the same ring. "" is none."""
        return self.cluster.zones.get(node_id, "")


def _flatten(value: JsonValue, path: str = "cluster") -> dict[str, JsonValue]:
    # An empty table is a leaf, so that "no zones here, three there" still names something on both sides.
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {leaf: item for key, child in value.items() for leaf, item in _flatten(child, f"{path}.{key}").items()}


def _shown(settings: Mapping[str, JsonValue], path: str) -> str:
    if path not in settings or settings[path] == {}:
        return "not set"
    return json.dumps(settings[path])
