"""The batch, as plain columns: what clients, coordinators and the embedded store pass around, free of protobuf and grpc.

`kvproto.codec` turns these into messages; in-process transports pass them as they are. Columns are parallel to
`keys`; an empty column means its default, and a column of one entry where a scalar is natural (`ttls_ms`, `timeouts_ms`) stands
for all. See key_value.proto for the meaning of each field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from kvproto.errors import KvError

VERSION_BYTES = 20
REQUEST_ID_BYTES = 16


class Kind(IntEnum):
    """What the operations of a group do."""

    GET = 1
    PUT = 2
    DELETE = 3
    TOUCH = 80
    INCREMENT = 90
    ADD = 91
    REMOVE = 92
    ASSIGN = 93
    DISCARD = 94


class Cell(IntEnum):
    """What one value of a key with a policy is; the numbers are those of `kvstore.core.policies.operations.Kind`."""

    REGISTER = 1
    COUNTER = 2
    ELEMENT = 3


class Level(IntEnum):
    """Consistency asked for; EXPLICIT goes with r and w, BOUNDED with a bound. Those of linearizable namespaces are in
    `LINEARIZABLE_LEVELS`, those of eventual ones in `EVENTUAL_LEVELS`; PRESET is in both."""

    PRESET = 0
    ONE = 1
    QUORUM = 2
    ALL = 3
    EXPLICIT = 4
    LINEARIZABLE = 5
    TIMELINE = 6
    BOUNDED = 7
    ATOMIC = 8
    ZONE_QUORUM = 9


LINEARIZABLE_LEVELS = frozenset((Level.PRESET, Level.LINEARIZABLE, Level.TIMELINE, Level.BOUNDED))
EVENTUAL_LEVELS = frozenset(Level) - LINEARIZABLE_LEVELS | {Level.PRESET}


class Sloppy(IntEnum):
    """Whether stand-ins count towards a level of an eventual namespace; UNSPECIFIED: only presets are sloppy."""

    UNSPECIFIED = 0
    YES = 1
    NO = 2


@dataclass(slots=True)
class OperationGroup:
    """Operations of one kind, namespace and set of options; `timeouts_ms` is what was left of each deadline when it was sent.
    `conditions` as in `kvproto.conditions`; `seen`: what a session has seen of each key; `bound_ms` goes with BOUNDED.

    `ids_ahead_ms` does not travel: how far the clock that stamped the request ids is ahead of this process's event loop's clock;
    None: not known.
    """

    kind: Kind
    namespace: str
    keys: Sequence[bytes]
    values: Sequence[bytes] = ()
    contexts: Sequence[bytes] = ()
    request_ids: bytes = b""
    ttls_ms: Sequence[int] = ()
    timeouts_ms: Sequence[int] = ()
    level: Level = Level.PRESET
    r: int = 0
    w: int = 0
    explain: bool = False
    attempt: int = 0
    fields: Sequence[bytes] = ()
    amounts: Sequence[int] = ()
    conditions: Sequence[bytes] = ()
    seen: Sequence[bytes] = ()
    bound_ms: int = 0
    sloppy: Sloppy = Sloppy.UNSPECIFIED
    ids_ahead_ms: int | None = None


@dataclass(slots=True, frozen=True)
class Receipt:
    """What was achieved; shared by every operation it is equally true of. `needed`, `n`, `n_asked` count replicas."""

    level: Level = Level.PRESET
    needed: int = 0
    n: int = 0
    n_asked: int = 0
    acknowledged: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    durable: bool = False
    degraded: bool = False
    hinted: bool = False
    hedged: bool = False
    ring_epoch: int = 0
    coordinator: str = ""
    server_time_ms: int = 0
    explanation: tuple[str, ...] = ()


@dataclass(slots=True)
class GroupReply:
    """The answer to some operations of one group: columns, or one error for all of them. `positions` None: all, in order.

    A `ConditionFailed` comes with `counts`, `values`, `versions` and `expires_ms` of what is there; other errors come alone."""

    group: int
    positions: Sequence[int] | None = None
    counts: Sequence[int] = ()
    values: Sequence[bytes] = ()
    versions: bytes = b""
    contexts: Sequence[bytes] = ()
    expires_ms: Sequence[int] = ()
    receipt: Receipt | None = None
    error: KvError | None = None
    kinds: bytes = b""
    fields: Sequence[bytes] = ()
    alone: bool = False
    """Of writes: nobody but the sender has lately written anything that the coordinator is a home replica of."""


@dataclass(slots=True)
class ScanQuery:
    """A scan's range and options: `start` inclusive, `end` and `after` exclusive, b"" and 0 mean none."""

    namespace: str
    prefix: bytes = b""
    start: bytes = b""
    end: bytes = b""
    after: bytes = b""
    limit: int = 0
    level: Level = Level.PRESET
    r: int = 0
    timeout_ms: int = 5000
    keys_only: bool = False
    bound_ms: int = 0
    sloppy: Sloppy = Sloppy.UNSPECIFIED


@dataclass(slots=True)
class ScanPage:
    """Some keys in order, with columns as in `GroupReply`; `error` ends the scan, what came before it stands."""

    keys: Sequence[bytes] = ()
    counts: Sequence[int] = ()
    values: Sequence[bytes] = ()
    versions: bytes = b""
    contexts: Sequence[bytes] = ()
    expires_ms: Sequence[int] = ()
    receipt: Receipt | None = None
    error: KvError | None = None
    kinds: bytes = b""
    fields: Sequence[bytes] = ()


@dataclass(slots=True, frozen=True)
class MemberInfo:
    """A ring member as clients see it."""

    id: str
    address: str
    zone: str = ""
    weight: int = 1


@dataclass(slots=True, frozen=True)
class NamespaceInfo:
    """A namespace as clients see it; `n` is effective, `n_asked` what was configured. `r_is_exact`, `w_is_exact`: they were given,
    so the preset's reads or writes are met or refused."""

    id: int
    name: str
    mode: str
    preset: str
    n: int
    n_asked: int
    r: int
    w: int
    ttl_ms: int = 0
    policy: str = "siblings"
    r_is_exact: bool = False
    w_is_exact: bool = False
    created: bool = False
    """At run time; else it is configured."""
    quota_operations_per_s: int = 0
    quota_bytes_per_s: int = 0
    storage: str = "disk"
    durability: str = "fsync"
    max_bytes: int = 0
    """Of memory, on each node."""
    value_bytes_max: int = 0
    """0: the cluster's."""

    @property
    def is_durable(self) -> bool:
        """Whether what is acknowledged was synced to a disk."""
        return self.storage != "memory" and self.durability == "fsync"


@dataclass(slots=True, frozen=True, kw_only=True)
class NamespaceWish:
    """What a namespace that is to be made is asked to be; "" and 0 leave it to what fits. Quotas are what all clients together may
    use of it a second."""

    name: str
    preset: str = ""
    mode: str = ""
    n: int = 0
    r: int = 0
    w: int = 0
    ttl_ms: int = 0
    policy: str = ""
    storage: str = ""
    durability: str = ""
    quota_operations_per_s: int = 0
    quota_bytes_per_s: int = 0
    max_bytes: int = 0
    value_bytes_max: int = 0


@dataclass(slots=True, frozen=True)
class ClusterInfo:
    """All a client needs to route and to know the limits. `owners` is partitions × `owners_per_partition` indices into `members`
    (2 bytes big-endian each), in preference order."""

    cluster_id: str
    node_id: str
    version: str
    ring_epoch: int
    ring_hash: int
    partitions: int
    members: tuple[MemberInfo, ...]
    owners_per_partition: int
    owners: bytes
    namespaces: tuple[NamespaceInfo, ...]
    key_bytes_max: int
    value_bytes_max: int
    server_time_ms: int
    retry_window_ms: int
    protocol: int = 1
    catalog_revision: int = 0
    """Of the namespaces made at run time, as far as the node knows."""

    def preference_list(self, partition: int) -> tuple[int, ...]:
        """Indices into `members` of the partition's home replicas, the coordinator by convention first."""
        width = 2 * self.owners_per_partition
        row = self.owners[partition * width : (partition + 1) * width]
        return tuple(int.from_bytes(row[at : at + 2], "big") for at in range(0, width, 2))


@dataclass(slots=True, frozen=True)
class MemoryUse:
    """What a namespace in memory takes on one node; `evictions` counts since the node's start."""

    namespace: str
    keys: int
    bytes: int
    max_bytes: int
    evictions: int


@dataclass(slots=True, frozen=True)
class RepairRound:
    """When the records of a namespace were last compared with a peer's, and how many keys differed."""

    namespace: str
    peer: str
    age_s: float
    differences: int


@dataclass(slots=True)
class RepairProgress:
    """How far a node is with comparing its records, and repairing them: a row of `kv repair`.

    `partitions` counts each once for every peer that shares it; of them `compared` are done with, `differing` differed, and
    `unknown` could not be compared. `differences` and `repaired` are keys. `unreachable`: peers that did not answer.
    """

    node_id: str
    number: int = 0
    over: bool = False
    partitions: int = 0
    compared: int = 0
    differing: int = 0
    differences: int = 0
    repaired: int = 0
    unknown: int = 0
    unreachable: tuple[str, ...] = ()
    elapsed_s: float = 0.0


@dataclass(slots=True, frozen=True)
class LossAccepted:
    """What a node makes of being told that other nodes have lost their registers for good: `waiting` groups, of a partition and a
    linearizable namespace each, are admitted again without them; 0: it has lost none itself, and waits for nobody."""

    node_id: str
    waiting: int = 0


@dataclass(slots=True, frozen=True)
class PeerOpinion:
    """What one node thinks of another. `state` is alive, slow, suspect or dead, in the other's `incarnation`, for `since_s`;
    `latency_ms` 0: not known."""

    id: str
    state: str
    incarnation: int = 0
    since_s: float = 0.0
    flaps: int = 0
    latency_ms: float = 0.0


@dataclass(slots=True, frozen=True)
class NodeStatus:
    """One node's own numbers: a row of `kv status`."""

    node_id: str
    address: str
    zone: str
    state: str
    ring_epoch: int
    keys: int
    version: str
    hints_pending: int = 0
    hints_dropped: int = 0
    oldest_hint_s: float = 0.0
    divergent_partitions: int = 0
    quarantined: int = 0
    peers: tuple[tuple[str, str, int], ...] = field(default=())  # id, state of the link, queued
    commits: int = 0
    commit_records: int = 0
    read_repairs: int = 0
    overloaded: int = 0
    uptime_s: float = 0.0
    rebuilding: str = ""
    """Why what it holds is no vote; "" if it is whole."""
    trees_unknown: int = 0
    differences: int = 0
    repaired: int = 0
    rounds: tuple[RepairRound, ...] = field(default=())
    incarnation: int = 0
    health: int = 0
    set_aside: int = 0
    """Records that it alone held when it came back after a long absence; they are in files in its data directory."""
    opinions: tuple[PeerOpinion, ...] = field(default=())
    memory: tuple[MemoryUse, ...] = field(default=())
    """A row for each namespace in memory."""
