"""What the Admin service tells, to messages and back, for both ends of the wire; batches and scans are codec.py's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from kvproto.codec import decode_error
from kvproto.columns import (
    ClusterInfo,
    LossAccepted,
    MemberInfo,
    MemoryUse,
    NamespaceInfo,
    NamespaceWish,
    NodeStatus,
    PeerOpinion,
    RepairProgress,
    RepairRound,
)
from kvproto.v1 import admin_pb2


def _same_fields(source: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names}


_MEMBER = ("id", "address", "zone", "weight")
_OPINION = ("id", "state", "incarnation", "since_s", "flaps", "latency_ms")
_NAMESPACE = (
    ("id", "name", "mode", "preset", "n", "n_asked", "r", "w", "ttl_ms", "policy")
    + ("r_is_exact", "w_is_exact", "created", "quota_operations_per_s", "quota_bytes_per_s")
    + ("storage", "durability", "max_bytes", "value_bytes_max")
)  # fmt: skip
_WISH = tuple(field.name for field in fields(NamespaceWish))
_CLUSTER = (
    ("cluster_id", "node_id", "version", "ring_epoch", "ring_hash", "partitions", "owners_per_partition", "owners")
    + ("key_bytes_max", "value_bytes_max", "server_time_ms", "retry_window_ms", "protocol", "catalog_revision")
)  # fmt: skip
_STATUS = (
    ("node_id", "address", "zone", "state", "ring_epoch", "keys", "version", "hints_pending", "hints_dropped", "oldest_hint_s")
    + ("divergent_partitions", "quarantined", "commits", "commit_records", "read_repairs", "overloaded", "uptime_s")
    + ("rebuilding", "trees_unknown", "differences", "repaired", "incarnation", "health", "set_aside")
)  # fmt: skip
_MEMORY = ("namespace", "keys", "bytes", "max_bytes", "evictions")
_ROUND = ("namespace", "peer", "age_s", "differences")
_PROGRESS = (
    ("node_id", "number", "over", "partitions", "compared", "differing", "differences", "repaired", "unknown", "elapsed_s")
)  # fmt: skip


def encode_cluster(info: ClusterInfo) -> admin_pb2.DescribeReply:
    """The ring, limits and namespaces as a message."""
    return admin_pb2.DescribeReply(
        members=[admin_pb2.Member(**_same_fields(member, _MEMBER)) for member in info.members],
        namespaces=[admin_pb2.Namespace(**_same_fields(space, _NAMESPACE)) for space in info.namespaces],
        **_same_fields(info, _CLUSTER),
    )


def decode_cluster(message: admin_pb2.DescribeReply) -> ClusterInfo:
    """The ring, limits and namespaces of a message."""
    return ClusterInfo(
        members=tuple(MemberInfo(**_same_fields(member, _MEMBER)) for member in message.members),
        namespaces=tuple(map(_namespace, message.namespaces)),
        **_same_fields(message, _CLUSTER),
    )


def _namespace(message: admin_pb2.Namespace) -> NamespaceInfo:
    info = NamespaceInfo(**_same_fields(message, _NAMESPACE))
    # A node of an earlier version says neither: it has nothing else.
    return replace(info, storage=info.storage or "disk", durability=info.durability or "fsync")


def encode_wish(wish: NamespaceWish, timeout_ms: int) -> admin_pb2.CreateNamespaceRequest:
    """What a namespace that is to be made is asked to be."""
    return admin_pb2.CreateNamespaceRequest(timeout_ms=timeout_ms, **_same_fields(wish, _WISH))


def decode_wish(message: admin_pb2.CreateNamespaceRequest) -> NamespaceWish:
    """What a namespace that is to be made is asked to be."""
    return NamespaceWish(**_same_fields(message, _WISH))


def encode_namespace(info: NamespaceInfo, revision: int) -> admin_pb2.NamespaceReply:
    """A namespace that was made or dropped, and the version of the catalog in which it is so."""
    return admin_pb2.NamespaceReply(namespace=admin_pb2.Namespace(**_same_fields(info, _NAMESPACE)), catalog_revision=revision)


def decode_namespace(message: admin_pb2.NamespaceReply) -> NamespaceInfo:
    """The namespace that was made or dropped. Raises the node's error."""
    if message.HasField("error"):
        raise decode_error(message.error)
    return _namespace(message.namespace)


def encode_status(status: NodeStatus) -> admin_pb2.StatusReply:
    """A node's own numbers as a message."""
    peers = [admin_pb2.PeerState(id=name, state=state, queued=queued) for name, state, queued in status.peers]
    rounds = [admin_pb2.RepairRound(**_same_fields(last, _ROUND)) for last in status.rounds]
    opinions = [admin_pb2.PeerOpinion(**_same_fields(opinion, _OPINION)) for opinion in status.opinions]
    memory = [admin_pb2.MemoryUse(**_same_fields(use, _MEMORY)) for use in status.memory]
    return admin_pb2.StatusReply(peers=peers, rounds=rounds, opinions=opinions, memory=memory, **_same_fields(status, _STATUS))


def decode_status(message: admin_pb2.StatusReply) -> NodeStatus:
    """A node's own numbers."""
    peers = tuple((peer.id, peer.state, peer.queued) for peer in message.peers)
    rounds = tuple(RepairRound(**_same_fields(last, _ROUND)) for last in message.rounds)
    opinions = tuple(PeerOpinion(**_same_fields(opinion, _OPINION)) for opinion in message.opinions)
    memory = tuple(MemoryUse(**_same_fields(use, _MEMORY)) for use in message.memory)
    return NodeStatus(peers=peers, rounds=rounds, opinions=opinions, memory=memory, **_same_fields(message, _STATUS))


def encode_progress(progress: RepairProgress) -> admin_pb2.RepairReply:
    """How far a repair is, as a message."""
    return admin_pb2.RepairReply(unreachable=progress.unreachable, **_same_fields(progress, _PROGRESS))


def encode_loss_accepted(accepted: LossAccepted) -> admin_pb2.AcceptLossReply:
    """What a node makes of others' loss, as a message."""
    return admin_pb2.AcceptLossReply(node_id=accepted.node_id, waiting=accepted.waiting)


def decode_loss_accepted(message: admin_pb2.AcceptLossReply) -> LossAccepted:
    """What a node makes of others' loss. Raises the node's error."""
    if message.HasField("error"):
        raise decode_error(message.error)
    return LossAccepted(message.node_id, message.waiting)


def decode_progress(message: admin_pb2.RepairReply) -> RepairProgress:
    """How far a repair is. Raises the node's error."""
    if message.HasField("error"):
        raise decode_error(message.error)
    return RepairProgress(unreachable=tuple(message.unreachable), **_same_fields(message, _PROGRESS))
