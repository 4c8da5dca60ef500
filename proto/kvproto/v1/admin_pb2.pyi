from kvproto.v1 import key_value_pb2 as _key_value_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ("protocol",)
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    def __init__(self, protocol: _Optional[int] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("id", "address", "zone", "weight")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    zone: str
    weight: int
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., zone: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class Namespace(_message.Message):
    __slots__ = ("id", "name", "mode", "preset", "n", "n_asked", "r", "w", "ttl_ms", "policy", "r_is_exact", "w_is_exact", "created", "quota_operations_per_s", "quota_bytes_per_s", "storage", "durability", "max_bytes", "value_bytes_max")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    N_ASKED_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    R_IS_EXACT_FIELD_NUMBER: _ClassVar[int]
    W_IS_EXACT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    QUOTA_OPERATIONS_PER_S_FIELD_NUMBER: _ClassVar[int]
    QUOTA_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    mode: str
    preset: str
    n: int
    n_asked: int
    r: int
    w: int
    ttl_ms: int
    policy: str
    r_is_exact: bool
    w_is_exact: bool
    created: bool
    quota_operations_per_s: int
    quota_bytes_per_s: int
    storage: str
    durability: str
    max_bytes: int
    value_bytes_max: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., mode: _Optional[str] = ..., preset: _Optional[str] = ..., n: _Optional[int] = ..., n_asked: _Optional[int] = ..., r: _Optional[int] = ..., w: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., policy: _Optional[str] = ..., r_is_exact: bool = ..., w_is_exact: bool = ..., created: bool = ..., quota_operations_per_s: _Optional[int] = ..., quota_bytes_per_s: _Optional[int] = ..., storage: _Optional[str] = ..., durability: _Optional[str] = ..., max_bytes: _Optional[int] = ..., value_bytes_max: _Optional[int] = ...) -> None: ...

class CreateNamespaceRequest(_message.Message):
    __slots__ = ("name", "preset", "mode", "n", "r", "w", "ttl_ms", "policy", "storage", "durability", "quota_operations_per_s", "quota_bytes_per_s", "timeout_ms", "max_bytes", "value_bytes_max")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    QUOTA_OPERATIONS_PER_S_FIELD_NUMBER: _ClassVar[int]
    QUOTA_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    name: str
    preset: str
    mode: str
    n: int
    r: int
    w: int
    ttl_ms: int
    policy: str
    storage: str
    durability: str
    quota_operations_per_s: int
    quota_bytes_per_s: int
    timeout_ms: int
    max_bytes: int
    value_bytes_max: int
    def __init__(self, name: _Optional[str] = ..., preset: _Optional[str] = ..., mode: _Optional[str] = ..., n: _Optional[int] = ..., r: _Optional[int] = ..., w: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., policy: _Optional[str] = ..., storage: _Optional[str] = ..., durability: _Optional[str] = ..., quota_operations_per_s: _Optional[int] = ..., quota_bytes_per_s: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., max_bytes: _Optional[int] = ..., value_bytes_max: _Optional[int] = ...) -> None: ...

class DropNamespaceRequest(_message.Message):
    __slots__ = ("name", "timeout_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    timeout_ms: int
    def __init__(self, name: _Optional[str] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class NamespaceReply(_message.Message):
    __slots__ = ("error", "namespace", "catalog_revision")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CATALOG_REVISION_FIELD_NUMBER: _ClassVar[int]
    error: _key_value_pb2.Error
    namespace: Namespace
    catalog_revision: int
    def __init__(self, error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ..., namespace: _Optional[_Union[Namespace, _Mapping]] = ..., catalog_revision: _Optional[int] = ...) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("cluster_id", "node_id", "protocol", "version", "ring_epoch", "ring_hash", "partitions", "members", "owners_per_partition", "owners", "namespaces", "key_bytes_max", "value_bytes_max", "server_time_ms", "retry_window_ms", "catalog_revision", "listen_port", "frames_port", "incarnation")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RING_HASH_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    OWNERS_PER_PARTITION_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    KEY_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    RETRY_WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_REVISION_FIELD_NUMBER: _ClassVar[int]
    LISTEN_PORT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PORT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    node_id: str
    protocol: int
    version: str
    ring_epoch: int
    ring_hash: int
    partitions: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    owners_per_partition: int
    owners: bytes
    namespaces: _containers.RepeatedCompositeFieldContainer[Namespace]
    key_bytes_max: int
    value_bytes_max: int
    server_time_ms: int
    retry_window_ms: int
    catalog_revision: int
    listen_port: int
    frames_port: int
    incarnation: int
    def __init__(self, cluster_id: _Optional[str] = ..., node_id: _Optional[str] = ..., protocol: _Optional[int] = ..., version: _Optional[str] = ..., ring_epoch: _Optional[int] = ..., ring_hash: _Optional[int] = ..., partitions: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., owners_per_partition: _Optional[int] = ..., owners: _Optional[bytes] = ..., namespaces: _Optional[_Iterable[_Union[Namespace, _Mapping]]] = ..., key_bytes_max: _Optional[int] = ..., value_bytes_max: _Optional[int] = ..., server_time_ms: _Optional[int] = ..., retry_window_ms: _Optional[int] = ..., catalog_revision: _Optional[int] = ..., listen_port: _Optional[int] = ..., frames_port: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PeerState(_message.Message):
    __slots__ = ("id", "state", "queued")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: str
    queued: int
    def __init__(self, id: _Optional[str] = ..., state: _Optional[str] = ..., queued: _Optional[int] = ...) -> None: ...

class PeerOpinion(_message.Message):
    __slots__ = ("id", "state", "incarnation", "since_s", "flaps", "latency_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SINCE_S_FIELD_NUMBER: _ClassVar[int]
    FLAPS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: str
    incarnation: int
    since_s: float
    flaps: int
    latency_ms: float
    def __init__(self, id: _Optional[str] = ..., state: _Optional[str] = ..., incarnation: _Optional[int] = ..., since_s: _Optional[float] = ..., flaps: _Optional[int] = ..., latency_ms: _Optional[float] = ...) -> None: ...

class MemoryUse(_message.Message):
    __slots__ = ("namespace", "keys", "bytes", "max_bytes", "evictions")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    keys: int
    bytes: int
    max_bytes: int
    evictions: int
    def __init__(self, namespace: _Optional[str] = ..., keys: _Optional[int] = ..., bytes: _Optional[int] = ..., max_bytes: _Optional[int] = ..., evictions: _Optional[int] = ...) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("node_id", "address", "zone", "state", "ring_epoch", "keys", "hints_pending", "hints_dropped", "oldest_hint_s", "divergent_partitions", "quarantined", "version", "peers", "commits", "commit_records", "read_repairs", "overloaded", "uptime_s", "rebuilding", "trees_unknown", "differences", "repaired", "set_aside", "rounds", "incarnation", "health", "opinions", "memory")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    HINTS_PENDING_FIELD_NUMBER: _ClassVar[int]
    HINTS_DROPPED_FIELD_NUMBER: _ClassVar[int]
    OLDEST_HINT_S_FIELD_NUMBER: _ClassVar[int]
    DIVERGENT_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_RECORDS_FIELD_NUMBER: _ClassVar[int]
    READ_REPAIRS_FIELD_NUMBER: _ClassVar[int]
    OVERLOADED_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    REBUILDING_FIELD_NUMBER: _ClassVar[int]
    TREES_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    SET_ASIDE_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    OPINIONS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    address: str
    zone: str
    state: str
    ring_epoch: int
    keys: int
    hints_pending: int
    hints_dropped: int
    oldest_hint_s: float
    divergent_partitions: int
    quarantined: int
    version: str
    peers: _containers.RepeatedCompositeFieldContainer[PeerState]
    commits: int
    commit_records: int
    read_repairs: int
    overloaded: int
    uptime_s: float
    rebuilding: str
    trees_unknown: int
    differences: int
    repaired: int
    set_aside: int
    rounds: _containers.RepeatedCompositeFieldContainer[RepairRound]
    incarnation: int
    health: int
    opinions: _containers.RepeatedCompositeFieldContainer[PeerOpinion]
    memory: _containers.RepeatedCompositeFieldContainer[MemoryUse]
    def __init__(self, node_id: _Optional[str] = ..., address: _Optional[str] = ..., zone: _Optional[str] = ..., state: _Optional[str] = ..., ring_epoch: _Optional[int] = ..., keys: _Optional[int] = ..., hints_pending: _Optional[int] = ..., hints_dropped: _Optional[int] = ..., oldest_hint_s: _Optional[float] = ..., divergent_partitions: _Optional[int] = ..., quarantined: _Optional[int] = ..., version: _Optional[str] = ..., peers: _Optional[_Iterable[_Union[PeerState, _Mapping]]] = ..., commits: _Optional[int] = ..., commit_records: _Optional[int] = ..., read_repairs: _Optional[int] = ..., overloaded: _Optional[int] = ..., uptime_s: _Optional[float] = ..., rebuilding: _Optional[str] = ..., trees_unknown: _Optional[int] = ..., differences: _Optional[int] = ..., repaired: _Optional[int] = ..., set_aside: _Optional[int] = ..., rounds: _Optional[_Iterable[_Union[RepairRound, _Mapping]]] = ..., incarnation: _Optional[int] = ..., health: _Optional[int] = ..., opinions: _Optional[_Iterable[_Union[PeerOpinion, _Mapping]]] = ..., memory: _Optional[_Iterable[_Union[MemoryUse, _Mapping]]] = ...) -> None: ...

class RepairRound(_message.Message):
    __slots__ = ("namespace", "peer", "age_s", "differences")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    peer: str
    age_s: float
    differences: int
    def __init__(self, namespace: _Optional[str] = ..., peer: _Optional[str] = ..., age_s: _Optional[float] = ..., differences: _Optional[int] = ...) -> None: ...

class RepairRequest(_message.Message):
    __slots__ = ("namespace", "follow")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    follow: int
    def __init__(self, namespace: _Optional[str] = ..., follow: _Optional[int] = ...) -> None: ...

class RepairReply(_message.Message):
    __slots__ = ("number", "over", "partitions", "compared", "differing", "differences", "repaired", "unknown", "unreachable", "elapsed_s", "node_id", "error")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    DIFFERING_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_S_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    number: int
    over: bool
    partitions: int
    compared: int
    differing: int
    differences: int
    repaired: int
    unknown: int
    unreachable: _containers.RepeatedScalarFieldContainer[str]
    elapsed_s: float
    node_id: str
    error: _key_value_pb2.Error
    def __init__(self, number: _Optional[int] = ..., over: bool = ..., partitions: _Optional[int] = ..., compared: _Optional[int] = ..., differing: _Optional[int] = ..., differences: _Optional[int] = ..., repaired: _Optional[int] = ..., unknown: _Optional[int] = ..., unreachable: _Optional[_Iterable[str]] = ..., elapsed_s: _Optional[float] = ..., node_id: _Optional[str] = ..., error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ...) -> None: ...

class AcceptLossRequest(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class AcceptLossReply(_message.Message):
    __slots__ = ("node_id", "waiting", "error")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    waiting: int
    error: _key_value_pb2.Error
    def __init__(self, node_id: _Optional[str] = ..., waiting: _Optional[int] = ..., error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ...) -> None: ...
