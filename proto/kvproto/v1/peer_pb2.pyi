from kvproto.v1 import key_value_pb2 as _key_value_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReapStep(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REAP_STEP_UNSPECIFIED: _ClassVar[ReapStep]
    REAP_STEP_CONFIRM: _ClassVar[ReapStep]
    REAP_STEP_PREPARE: _ClassVar[ReapStep]
    REAP_STEP_REAP: _ClassVar[ReapStep]

class DetectorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DETECTOR_KIND_UNSPECIFIED: _ClassVar[DetectorKind]
    DETECTOR_KIND_PING: _ClassVar[DetectorKind]
    DETECTOR_KIND_PING_REQUEST: _ClassVar[DetectorKind]
    DETECTOR_KIND_ACK: _ClassVar[DetectorKind]
    DETECTOR_KIND_NACK: _ClassVar[DetectorKind]
    DETECTOR_KIND_GOSSIP: _ClassVar[DetectorKind]

class MemberState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_STATE_UNSPECIFIED: _ClassVar[MemberState]
    MEMBER_STATE_ALIVE: _ClassVar[MemberState]
    MEMBER_STATE_SUSPECT: _ClassVar[MemberState]
    MEMBER_STATE_DEAD: _ClassVar[MemberState]
REAP_STEP_UNSPECIFIED: ReapStep
REAP_STEP_CONFIRM: ReapStep
REAP_STEP_PREPARE: ReapStep
REAP_STEP_REAP: ReapStep
DETECTOR_KIND_UNSPECIFIED: DetectorKind
DETECTOR_KIND_PING: DetectorKind
DETECTOR_KIND_PING_REQUEST: DetectorKind
DETECTOR_KIND_ACK: DetectorKind
DETECTOR_KIND_NACK: DetectorKind
DETECTOR_KIND_GOSSIP: DetectorKind
MEMBER_STATE_UNSPECIFIED: MemberState
MEMBER_STATE_ALIVE: MemberState
MEMBER_STATE_SUSPECT: MemberState
MEMBER_STATE_DEAD: MemberState

class HelloRequest(_message.Message):
    __slots__ = ("cluster_id", "node_id", "incarnation", "protocol", "ring_epoch", "ring_hash", "settings", "advertise", "zone", "actor", "lease", "expects", "remembered_actor", "remembered_lease", "catalog_revision")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RING_HASH_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    EXPECTS_FIELD_NUMBER: _ClassVar[int]
    REMEMBERED_ACTOR_FIELD_NUMBER: _ClassVar[int]
    REMEMBERED_LEASE_FIELD_NUMBER: _ClassVar[int]
    CATALOG_REVISION_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    node_id: str
    incarnation: int
    protocol: int
    ring_epoch: int
    ring_hash: int
    settings: str
    advertise: str
    zone: str
    actor: bytes
    lease: int
    expects: str
    remembered_actor: bytes
    remembered_lease: int
    catalog_revision: int
    def __init__(self, cluster_id: _Optional[str] = ..., node_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., protocol: _Optional[int] = ..., ring_epoch: _Optional[int] = ..., ring_hash: _Optional[int] = ..., settings: _Optional[str] = ..., advertise: _Optional[str] = ..., zone: _Optional[str] = ..., actor: _Optional[bytes] = ..., lease: _Optional[int] = ..., expects: _Optional[str] = ..., remembered_actor: _Optional[bytes] = ..., remembered_lease: _Optional[int] = ..., catalog_revision: _Optional[int] = ...) -> None: ...

class HelloReply(_message.Message):
    __slots__ = ("node_id", "incarnation", "protocol", "ring_epoch", "ring_hash", "zone", "remembered_actor", "remembered_lease", "error", "advertise", "now_ms", "catalog_revision", "lived_ms", "listen_port", "frames_port")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RING_HASH_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    REMEMBERED_ACTOR_FIELD_NUMBER: _ClassVar[int]
    REMEMBERED_LEASE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_REVISION_FIELD_NUMBER: _ClassVar[int]
    LIVED_MS_FIELD_NUMBER: _ClassVar[int]
    LISTEN_PORT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PORT_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    incarnation: int
    protocol: int
    ring_epoch: int
    ring_hash: int
    zone: str
    remembered_actor: bytes
    remembered_lease: int
    error: _key_value_pb2.Error
    advertise: str
    now_ms: int
    catalog_revision: int
    lived_ms: int
    listen_port: int
    frames_port: int
    def __init__(self, node_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., protocol: _Optional[int] = ..., ring_epoch: _Optional[int] = ..., ring_hash: _Optional[int] = ..., zone: _Optional[str] = ..., remembered_actor: _Optional[bytes] = ..., remembered_lease: _Optional[int] = ..., error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ..., advertise: _Optional[str] = ..., now_ms: _Optional[int] = ..., catalog_revision: _Optional[int] = ..., lived_ms: _Optional[int] = ..., listen_port: _Optional[int] = ..., frames_port: _Optional[int] = ...) -> None: ...

class PeerRequest(_message.Message):
    __slots__ = ("batch_id", "ring_epoch", "ring_hash", "sent_ms", "timeout_ms", "store_keys", "store_records", "fetch_keys", "fetch_digests", "store_checksum", "hints", "trace_ids", "sent_steady_ms", "writers", "register_asks")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RING_HASH_FIELD_NUMBER: _ClassVar[int]
    SENT_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STORE_KEYS_FIELD_NUMBER: _ClassVar[int]
    STORE_RECORDS_FIELD_NUMBER: _ClassVar[int]
    FETCH_KEYS_FIELD_NUMBER: _ClassVar[int]
    FETCH_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    STORE_CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    TRACE_IDS_FIELD_NUMBER: _ClassVar[int]
    SENT_STEADY_MS_FIELD_NUMBER: _ClassVar[int]
    WRITERS_FIELD_NUMBER: _ClassVar[int]
    REGISTER_ASKS_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    ring_epoch: int
    ring_hash: int
    sent_ms: int
    timeout_ms: int
    store_keys: _containers.RepeatedScalarFieldContainer[bytes]
    store_records: _containers.RepeatedScalarFieldContainer[bytes]
    fetch_keys: _containers.RepeatedScalarFieldContainer[bytes]
    fetch_digests: bytes
    store_checksum: int
    hints: _containers.RepeatedCompositeFieldContainer[HintRun]
    trace_ids: _containers.RepeatedScalarFieldContainer[bytes]
    sent_steady_ms: int
    writers: _containers.RepeatedScalarFieldContainer[bytes]
    register_asks: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, batch_id: _Optional[int] = ..., ring_epoch: _Optional[int] = ..., ring_hash: _Optional[int] = ..., sent_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., store_keys: _Optional[_Iterable[bytes]] = ..., store_records: _Optional[_Iterable[bytes]] = ..., fetch_keys: _Optional[_Iterable[bytes]] = ..., fetch_digests: _Optional[bytes] = ..., store_checksum: _Optional[int] = ..., hints: _Optional[_Iterable[_Union[HintRun, _Mapping]]] = ..., trace_ids: _Optional[_Iterable[bytes]] = ..., sent_steady_ms: _Optional[int] = ..., writers: _Optional[_Iterable[bytes]] = ..., register_asks: _Optional[_Iterable[bytes]] = ...) -> None: ...

class HintRun(_message.Message):
    __slots__ = ("first", "count", "target")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    target: str
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ..., target: _Optional[str] = ...) -> None: ...

class PeerReply(_message.Message):
    __slots__ = ("batch_id", "last", "error", "stored", "refused", "refused_codes", "fetched", "differing", "records", "lost", "queue_ms", "rebuilding", "register_positions", "register_replies", "fetched_below")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_CODES_FIELD_NUMBER: _ClassVar[int]
    FETCHED_FIELD_NUMBER: _ClassVar[int]
    DIFFERING_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    REBUILDING_FIELD_NUMBER: _ClassVar[int]
    REGISTER_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    REGISTER_REPLIES_FIELD_NUMBER: _ClassVar[int]
    FETCHED_BELOW_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    last: bool
    error: _key_value_pb2.Error
    stored: bool
    refused: _containers.RepeatedScalarFieldContainer[int]
    refused_codes: _containers.RepeatedScalarFieldContainer[int]
    fetched: bool
    differing: _containers.RepeatedScalarFieldContainer[int]
    records: _containers.RepeatedScalarFieldContainer[bytes]
    lost: _containers.RepeatedScalarFieldContainer[int]
    queue_ms: int
    rebuilding: bool
    register_positions: _containers.RepeatedScalarFieldContainer[int]
    register_replies: _containers.RepeatedScalarFieldContainer[bytes]
    fetched_below: int
    def __init__(self, batch_id: _Optional[int] = ..., last: bool = ..., error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ..., stored: bool = ..., refused: _Optional[_Iterable[int]] = ..., refused_codes: _Optional[_Iterable[int]] = ..., fetched: bool = ..., differing: _Optional[_Iterable[int]] = ..., records: _Optional[_Iterable[bytes]] = ..., lost: _Optional[_Iterable[int]] = ..., queue_ms: _Optional[int] = ..., rebuilding: bool = ..., register_positions: _Optional[_Iterable[int]] = ..., register_replies: _Optional[_Iterable[bytes]] = ..., fetched_below: _Optional[int] = ...) -> None: ...

class PageRequest(_message.Message):
    __slots__ = ("ring_epoch", "ring_hash", "namespace", "start", "end", "count_max", "bytes_max", "timeout_ms")
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RING_HASH_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    COUNT_MAX_FIELD_NUMBER: _ClassVar[int]
    BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    ring_epoch: int
    ring_hash: int
    namespace: int
    start: bytes
    end: bytes
    count_max: int
    bytes_max: int
    timeout_ms: int
    def __init__(self, ring_epoch: _Optional[int] = ..., ring_hash: _Optional[int] = ..., namespace: _Optional[int] = ..., start: _Optional[bytes] = ..., end: _Optional[bytes] = ..., count_max: _Optional[int] = ..., bytes_max: _Optional[int] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class PageReply(_message.Message):
    __slots__ = ("keys", "records", "more", "lost", "error", "rebuilding")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REBUILDING_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    records: _containers.RepeatedScalarFieldContainer[bytes]
    more: bool
    lost: _containers.RepeatedScalarFieldContainer[bytes]
    error: _key_value_pb2.Error
    rebuilding: bool
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ..., records: _Optional[_Iterable[bytes]] = ..., more: bool = ..., lost: _Optional[_Iterable[bytes]] = ..., error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ..., rebuilding: bool = ...) -> None: ...

class CompareRequest(_message.Message):
    __slots__ = ("ring_epoch", "ring_hash", "sent_ms", "asker", "urgent", "roots", "nodes", "leaves", "records")
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RING_HASH_FIELD_NUMBER: _ClassVar[int]
    SENT_MS_FIELD_NUMBER: _ClassVar[int]
    ASKER_FIELD_NUMBER: _ClassVar[int]
    URGENT_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    ring_epoch: int
    ring_hash: int
    sent_ms: int
    asker: str
    urgent: bool
    roots: RootsQuestion
    nodes: NodesQuestion
    leaves: LeavesQuestion
    records: RecordsQuestion
    def __init__(self, ring_epoch: _Optional[int] = ..., ring_hash: _Optional[int] = ..., sent_ms: _Optional[int] = ..., asker: _Optional[str] = ..., urgent: bool = ..., roots: _Optional[_Union[RootsQuestion, _Mapping]] = ..., nodes: _Optional[_Union[NodesQuestion, _Mapping]] = ..., leaves: _Optional[_Union[LeavesQuestion, _Mapping]] = ..., records: _Optional[_Union[RecordsQuestion, _Mapping]] = ...) -> None: ...

class RootsQuestion(_message.Message):
    __slots__ = ("prefixes",)
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    prefixes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, prefixes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class NodesQuestion(_message.Message):
    __slots__ = ("prefix", "depth", "levels", "nodes")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    depth: int
    levels: int
    nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, prefix: _Optional[bytes] = ..., depth: _Optional[int] = ..., levels: _Optional[int] = ..., nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class LeavesQuestion(_message.Message):
    __slots__ = ("prefix", "depth", "leaves")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    depth: int
    leaves: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, prefix: _Optional[bytes] = ..., depth: _Optional[int] = ..., leaves: _Optional[_Iterable[int]] = ...) -> None: ...

class RecordsQuestion(_message.Message):
    __slots__ = ("prefix", "hashes", "start")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    hashes: _containers.RepeatedScalarFieldContainer[int]
    start: bytes
    def __init__(self, prefix: _Optional[bytes] = ..., hashes: _Optional[_Iterable[int]] = ..., start: _Optional[bytes] = ...) -> None: ...

class CompareReply(_message.Message):
    __slots__ = ("error", "roots", "nodes", "rows", "records", "unsure")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    UNSURE_FIELD_NUMBER: _ClassVar[int]
    error: _key_value_pb2.Error
    roots: bytes
    nodes: NodesAnswer
    rows: bytes
    records: RecordsAnswer
    unsure: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ..., roots: _Optional[bytes] = ..., nodes: _Optional[_Union[NodesAnswer, _Mapping]] = ..., rows: _Optional[bytes] = ..., records: _Optional[_Union[RecordsAnswer, _Mapping]] = ..., unsure: _Optional[_Iterable[int]] = ...) -> None: ...

class NodesAnswer(_message.Message):
    __slots__ = ("unknown", "depth", "nodes")
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    unknown: bool
    depth: int
    nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, unknown: bool = ..., depth: _Optional[int] = ..., nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class RecordsAnswer(_message.Message):
    __slots__ = ("store_keys", "records", "more_from")
    STORE_KEYS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    MORE_FROM_FIELD_NUMBER: _ClassVar[int]
    store_keys: _containers.RepeatedScalarFieldContainer[bytes]
    records: _containers.RepeatedScalarFieldContainer[bytes]
    more_from: bytes
    def __init__(self, store_keys: _Optional[_Iterable[bytes]] = ..., records: _Optional[_Iterable[bytes]] = ..., more_from: _Optional[bytes] = ...) -> None: ...

class OweRequest(_message.Message):
    __slots__ = ("node_id", "partitions")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    partitions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, node_id: _Optional[str] = ..., partitions: _Optional[_Iterable[int]] = ...) -> None: ...

class OweReply(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: _key_value_pb2.Error
    def __init__(self, error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ...) -> None: ...

class ReapRequest(_message.Message):
    __slots__ = ("ring_epoch", "ring_hash", "step", "store_keys", "digests", "stamp")
    RING_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RING_HASH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STORE_KEYS_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    ring_epoch: int
    ring_hash: int
    step: ReapStep
    store_keys: _containers.RepeatedScalarFieldContainer[bytes]
    digests: bytes
    stamp: int
    def __init__(self, ring_epoch: _Optional[int] = ..., ring_hash: _Optional[int] = ..., step: _Optional[_Union[ReapStep, str]] = ..., store_keys: _Optional[_Iterable[bytes]] = ..., digests: _Optional[bytes] = ..., stamp: _Optional[int] = ...) -> None: ...

class ReapReply(_message.Message):
    __slots__ = ("against", "now_ms", "stamp", "error")
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    against: _containers.RepeatedScalarFieldContainer[int]
    now_ms: int
    stamp: int
    error: _key_value_pb2.Error
    def __init__(self, against: _Optional[_Iterable[int]] = ..., now_ms: _Optional[int] = ..., stamp: _Optional[int] = ..., error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ...) -> None: ...

class MemberClaim(_message.Message):
    __slots__ = ("member", "state", "incarnation", "by")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    member: str
    state: MemberState
    incarnation: int
    by: str
    def __init__(self, member: _Optional[str] = ..., state: _Optional[_Union[MemberState, str]] = ..., incarnation: _Optional[int] = ..., by: _Optional[str] = ...) -> None: ...

class DetectorMessage(_message.Message):
    __slots__ = ("cluster_id", "sender", "kind", "sequence", "target", "claims", "sync", "answer", "catalog_revision")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    SYNC_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    CATALOG_REVISION_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    sender: str
    kind: DetectorKind
    sequence: int
    target: str
    claims: _containers.RepeatedCompositeFieldContainer[MemberClaim]
    sync: bool
    answer: bool
    catalog_revision: int
    def __init__(self, cluster_id: _Optional[str] = ..., sender: _Optional[str] = ..., kind: _Optional[_Union[DetectorKind, str]] = ..., sequence: _Optional[int] = ..., target: _Optional[str] = ..., claims: _Optional[_Iterable[_Union[MemberClaim, _Mapping]]] = ..., sync: bool = ..., answer: bool = ..., catalog_revision: _Optional[int] = ...) -> None: ...

class DetectorReply(_message.Message):
    __slots__ = ("messages", "error")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[DetectorMessage]
    error: _key_value_pb2.Error
    def __init__(self, messages: _Optional[_Iterable[_Union[DetectorMessage, _Mapping]]] = ..., error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ...) -> None: ...

class CatalogRequest(_message.Message):
    __slots__ = ("cluster_id", "sender", "revision", "catalog")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CATALOG_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    sender: str
    revision: int
    catalog: bytes
    def __init__(self, cluster_id: _Optional[str] = ..., sender: _Optional[str] = ..., revision: _Optional[int] = ..., catalog: _Optional[bytes] = ...) -> None: ...

class CatalogReply(_message.Message):
    __slots__ = ("error", "revision", "catalog")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CATALOG_FIELD_NUMBER: _ClassVar[int]
    error: _key_value_pb2.Error
    revision: int
    catalog: bytes
    def __init__(self, error: _Optional[_Union[_key_value_pb2.Error, _Mapping]] = ..., revision: _Optional[int] = ..., catalog: _Optional[bytes] = ...) -> None: ...
