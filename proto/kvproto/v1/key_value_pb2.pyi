from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_GET: _ClassVar[Kind]
    KIND_PUT: _ClassVar[Kind]
    KIND_DELETE: _ClassVar[Kind]
    KIND_TOUCH: _ClassVar[Kind]
    KIND_INCREMENT: _ClassVar[Kind]
    KIND_ADD: _ClassVar[Kind]
    KIND_REMOVE: _ClassVar[Kind]
    KIND_ASSIGN: _ClassVar[Kind]
    KIND_DISCARD: _ClassVar[Kind]

class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEVEL_UNSPECIFIED: _ClassVar[Level]
    LEVEL_ONE: _ClassVar[Level]
    LEVEL_QUORUM: _ClassVar[Level]
    LEVEL_ALL: _ClassVar[Level]
    LEVEL_EXPLICIT: _ClassVar[Level]
    LEVEL_LINEARIZABLE: _ClassVar[Level]
    LEVEL_TIMELINE: _ClassVar[Level]
    LEVEL_BOUNDED: _ClassVar[Level]
    LEVEL_ATOMIC: _ClassVar[Level]
    LEVEL_ZONE_QUORUM: _ClassVar[Level]

class Sloppy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SLOPPY_UNSPECIFIED: _ClassVar[Sloppy]
    SLOPPY_YES: _ClassVar[Sloppy]
    SLOPPY_NO: _ClassVar[Sloppy]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_CODE_UNSPECIFIED: _ClassVar[ErrorCode]
    BAD_REQUEST: _ClassVar[ErrorCode]
    TOO_LARGE: _ClassVar[ErrorCode]
    UNKNOWN_NAMESPACE: _ClassVar[ErrorCode]
    WRONG_MODE: _ClassVar[ErrorCode]
    QUORUM_UNREACHABLE: _ClassVar[ErrorCode]
    DEADLINE_EXCEEDED: _ClassVar[ErrorCode]
    OVERLOADED: _ClassVar[ErrorCode]
    WRONG_EPOCH: _ClassVar[ErrorCode]
    WRONG_CLUSTER: _ClassVar[ErrorCode]
    SETTINGS_MISMATCH: _ClassVar[ErrorCode]
    DUPLICATE_NODE: _ClassVar[ErrorCode]
    STORAGE_FAILED: _ClassVar[ErrorCode]
    RECORD_LOST: _ClassVar[ErrorCode]
    RETRY_WINDOW_PASSED: _ClassVar[ErrorCode]
    NOT_OWNER: _ClassVar[ErrorCode]
    UNAVAILABLE: _ClassVar[ErrorCode]
    INTERNAL: _ClassVar[ErrorCode]
    UNSUPPORTED_PROTOCOL: _ClassVar[ErrorCode]
    SHUTTING_DOWN: _ClassVar[ErrorCode]
    CLUSTER_REFUSED: _ClassVar[ErrorCode]
    NOT_ALLOWED: _ClassVar[ErrorCode]
    QUOTA_EXCEEDED: _ClassVar[ErrorCode]
    CONDITION_FAILED: _ClassVar[ErrorCode]
    BEHIND_SESSION: _ClassVar[ErrorCode]
    NAMESPACE_EXISTS: _ClassVar[ErrorCode]
    NAMESPACE_CONFIGURED: _ClassVar[ErrorCode]
KIND_UNSPECIFIED: Kind
KIND_GET: Kind
KIND_PUT: Kind
KIND_DELETE: Kind
KIND_TOUCH: Kind
KIND_INCREMENT: Kind
KIND_ADD: Kind
KIND_REMOVE: Kind
KIND_ASSIGN: Kind
KIND_DISCARD: Kind
LEVEL_UNSPECIFIED: Level
LEVEL_ONE: Level
LEVEL_QUORUM: Level
LEVEL_ALL: Level
LEVEL_EXPLICIT: Level
LEVEL_LINEARIZABLE: Level
LEVEL_TIMELINE: Level
LEVEL_BOUNDED: Level
LEVEL_ATOMIC: Level
LEVEL_ZONE_QUORUM: Level
SLOPPY_UNSPECIFIED: Sloppy
SLOPPY_YES: Sloppy
SLOPPY_NO: Sloppy
ERROR_CODE_UNSPECIFIED: ErrorCode
BAD_REQUEST: ErrorCode
TOO_LARGE: ErrorCode
UNKNOWN_NAMESPACE: ErrorCode
WRONG_MODE: ErrorCode
QUORUM_UNREACHABLE: ErrorCode
DEADLINE_EXCEEDED: ErrorCode
OVERLOADED: ErrorCode
WRONG_EPOCH: ErrorCode
WRONG_CLUSTER: ErrorCode
SETTINGS_MISMATCH: ErrorCode
DUPLICATE_NODE: ErrorCode
STORAGE_FAILED: ErrorCode
RECORD_LOST: ErrorCode
RETRY_WINDOW_PASSED: ErrorCode
NOT_OWNER: ErrorCode
UNAVAILABLE: ErrorCode
INTERNAL: ErrorCode
UNSUPPORTED_PROTOCOL: ErrorCode
SHUTTING_DOWN: ErrorCode
CLUSTER_REFUSED: ErrorCode
NOT_ALLOWED: ErrorCode
QUOTA_EXCEEDED: ErrorCode
CONDITION_FAILED: ErrorCode
BEHIND_SESSION: ErrorCode
NAMESPACE_EXISTS: ErrorCode
NAMESPACE_CONFIGURED: ErrorCode

class BatchRequest(_message.Message):
    __slots__ = ("batch_id", "protocol", "cluster_id", "ring_epoch", "hops", "groups", "trace_id", "sent_ms", "receiver_ms")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SENT_MS_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_MS_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    protocol: int
    cluster_id: str
    ring_epoch: int
    hops: int
    groups: _containers.RepeatedCompositeFieldContainer[OperationGroup]
    trace_id: bytes
    sent_ms: int
    receiver_ms: int
    def __init__(self, batch_id: _Optional[int] = ..., protocol: _Optional[int] = ..., cluster_id: _Optional[str] = ..., ring_epoch: _Optional[int] = ..., hops: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[OperationGroup, _Mapping]]] = ..., trace_id: _Optional[bytes] = ..., sent_ms: _Optional[int] = ..., receiver_ms: _Optional[int] = ...) -> None: ...

class OperationGroup(_message.Message):
    __slots__ = ("kind", "namespace", "keys", "values", "contexts", "request_ids", "ttls_ms", "timeouts_ms", "level", "r", "w", "explain", "attempt", "fields", "amounts", "conditions", "seen", "bound_ms", "sloppy")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    TTLS_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUTS_MS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    BOUND_MS_FIELD_NUMBER: _ClassVar[int]
    SLOPPY_FIELD_NUMBER: _ClassVar[int]
    kind: Kind
    namespace: str
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    contexts: _containers.RepeatedScalarFieldContainer[bytes]
    request_ids: bytes
    ttls_ms: _containers.RepeatedScalarFieldContainer[int]
    timeouts_ms: _containers.RepeatedScalarFieldContainer[int]
    level: Level
    r: int
    w: int
    explain: bool
    attempt: int
    fields: _containers.RepeatedScalarFieldContainer[bytes]
    amounts: _containers.RepeatedScalarFieldContainer[int]
    conditions: _containers.RepeatedScalarFieldContainer[bytes]
    seen: _containers.RepeatedScalarFieldContainer[bytes]
    bound_ms: int
    sloppy: Sloppy
    def __init__(self, kind: _Optional[_Union[Kind, str]] = ..., namespace: _Optional[str] = ..., keys: _Optional[_Iterable[bytes]] = ..., values: _Optional[_Iterable[bytes]] = ..., contexts: _Optional[_Iterable[bytes]] = ..., request_ids: _Optional[bytes] = ..., ttls_ms: _Optional[_Iterable[int]] = ..., timeouts_ms: _Optional[_Iterable[int]] = ..., level: _Optional[_Union[Level, str]] = ..., r: _Optional[int] = ..., w: _Optional[int] = ..., explain: bool = ..., attempt: _Optional[int] = ..., fields: _Optional[_Iterable[bytes]] = ..., amounts: _Optional[_Iterable[int]] = ..., conditions: _Optional[_Iterable[bytes]] = ..., seen: _Optional[_Iterable[bytes]] = ..., bound_ms: _Optional[int] = ..., sloppy: _Optional[_Union[Sloppy, str]] = ...) -> None: ...

class BatchReply(_message.Message):
    __slots__ = ("batch_id", "replies", "last", "ring_epoch", "now_ms", "catalog_revision")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_REVISION_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    replies: _containers.RepeatedCompositeFieldContainer[GroupReply]
    last: bool
    ring_epoch: int
    now_ms: int
    catalog_revision: int
    def __init__(self, batch_id: _Optional[int] = ..., replies: _Optional[_Iterable[_Union[GroupReply, _Mapping]]] = ..., last: bool = ..., ring_epoch: _Optional[int] = ..., now_ms: _Optional[int] = ..., catalog_revision: _Optional[int] = ...) -> None: ...

class GroupReply(_message.Message):
    __slots__ = ("group", "positions", "counts", "values", "versions", "contexts", "expires_ms", "receipt", "error", "kinds", "fields", "alone")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    ALONE_FIELD_NUMBER: _ClassVar[int]
    group: int
    positions: _containers.RepeatedScalarFieldContainer[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    versions: bytes
    contexts: _containers.RepeatedScalarFieldContainer[bytes]
    expires_ms: _containers.RepeatedScalarFieldContainer[int]
    receipt: Receipt
    error: Error
    kinds: bytes
    fields: _containers.RepeatedScalarFieldContainer[bytes]
    alone: bool
    def __init__(self, group: _Optional[int] = ..., positions: _Optional[_Iterable[int]] = ..., counts: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[bytes]] = ..., versions: _Optional[bytes] = ..., contexts: _Optional[_Iterable[bytes]] = ..., expires_ms: _Optional[_Iterable[int]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., kinds: _Optional[bytes] = ..., fields: _Optional[_Iterable[bytes]] = ..., alone: bool = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("level", "needed", "n", "n_asked", "acknowledged", "zones", "durable", "degraded", "hinted", "hedged", "ring_epoch", "coordinator", "server_time_ms", "explanation")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    N_ASKED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    ZONES_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    HINTED_FIELD_NUMBER: _ClassVar[int]
    HEDGED_FIELD_NUMBER: _ClassVar[int]
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    level: Level
    needed: int
    n: int
    n_asked: int
    acknowledged: _containers.RepeatedScalarFieldContainer[str]
    zones: _containers.RepeatedScalarFieldContainer[str]
    durable: bool
    degraded: bool
    hinted: bool
    hedged: bool
    ring_epoch: int
    coordinator: str
    server_time_ms: int
    explanation: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, level: _Optional[_Union[Level, str]] = ..., needed: _Optional[int] = ..., n: _Optional[int] = ..., n_asked: _Optional[int] = ..., acknowledged: _Optional[_Iterable[str]] = ..., zones: _Optional[_Iterable[str]] = ..., durable: bool = ..., degraded: bool = ..., hinted: bool = ..., hedged: bool = ..., ring_epoch: _Optional[int] = ..., coordinator: _Optional[str] = ..., server_time_ms: _Optional[int] = ..., explanation: _Optional[_Iterable[str]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "retryable", "may_have_applied", "needed", "received", "contacted", "retry_after_ms", "limit", "actual", "subject", "trace_id")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    MAY_HAVE_APPLIED_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    CONTACTED_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    retryable: bool
    may_have_applied: bool
    needed: int
    received: int
    contacted: int
    retry_after_ms: int
    limit: int
    actual: int
    subject: str
    trace_id: bytes
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ..., retryable: bool = ..., may_have_applied: bool = ..., needed: _Optional[int] = ..., received: _Optional[int] = ..., contacted: _Optional[int] = ..., retry_after_ms: _Optional[int] = ..., limit: _Optional[int] = ..., actual: _Optional[int] = ..., subject: _Optional[str] = ..., trace_id: _Optional[bytes] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("namespace", "prefix", "start", "end", "after", "limit", "level", "r", "timeout_ms", "cluster_id", "protocol", "ring_epoch", "keys_only", "trace_id", "bound_ms", "sloppy")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    BOUND_MS_FIELD_NUMBER: _ClassVar[int]
    SLOPPY_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    prefix: bytes
    start: bytes
    end: bytes
    after: bytes
    limit: int
    level: Level
    r: int
    timeout_ms: int
    cluster_id: str
    protocol: int
    ring_epoch: int
    keys_only: bool
    trace_id: bytes
    bound_ms: int
    sloppy: Sloppy
    def __init__(self, namespace: _Optional[str] = ..., prefix: _Optional[bytes] = ..., start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., after: _Optional[bytes] = ..., limit: _Optional[int] = ..., level: _Optional[_Union[Level, str]] = ..., r: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., cluster_id: _Optional[str] = ..., protocol: _Optional[int] = ..., ring_epoch: _Optional[int] = ..., keys_only: bool = ..., trace_id: _Optional[bytes] = ..., bound_ms: _Optional[int] = ..., sloppy: _Optional[_Union[Sloppy, str]] = ...) -> None: ...

class ScanReply(_message.Message):
    __slots__ = ("keys", "counts", "values", "versions", "contexts", "expires_ms", "receipt", "error", "kinds", "fields")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    counts: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    versions: bytes
    contexts: _containers.RepeatedScalarFieldContainer[bytes]
    expires_ms: _containers.RepeatedScalarFieldContainer[int]
    receipt: Receipt
    error: Error
    kinds: bytes
    fields: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., counts: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[bytes]] = ..., versions: _Optional[bytes] = ..., contexts: _Optional[_Iterable[bytes]] = ..., expires_ms: _Optional[_Iterable[int]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., kinds: _Optional[bytes] = ..., fields: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FramesHello(_message.Message):
    __slots__ = ("node_id", "expects", "incarnation")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    expects: str
    incarnation: int
    def __init__(self, node_id: _Optional[str] = ..., expects: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...
