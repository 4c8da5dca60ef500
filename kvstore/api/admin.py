"""The Admin service: the ring and limits for clients, this node's own numbers for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from kvproto.admin_codec import decode_wish, encode_cluster, encode_loss_accepted, encode_namespace, encode_progress, encode_status
from kvproto.codec import encode_error
from kvproto.columns import ClusterInfo, LossAccepted, NamespaceInfo, NamespaceWish, NodeStatus, RepairProgress
from kvproto.errors import KvError
from kvproto.v1 import admin_pb2, admin_pb2_grpc

TIMEOUT_MS, TIMEOUT_MS_MAX = 5000, 60_000

Made = tuple[NamespaceInfo, int]
"""A namespace, and the version of the catalog in which it is made, or dropped."""


class AdminService(admin_pb2_grpc.AdminServicer):
    """Encodes what it is given."""

    def __init__(
        self,
        describe: Callable[[], ClusterInfo],
        status: Callable[[], Awaitable[NodeStatus]],
        repair: Callable[[str, int], RepairProgress],
        accept_loss: Callable[[Collection[str]], LossAccepted],
        create: Callable[[NamespaceWish, float], Awaitable[Made]],
        drop: Callable[[str, float], Awaitable[Made]],
        reached: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0),
    ) -> None:
        """`reached`: the ports of gRPC and of frames (0: none are taken), and which process it is."""
        self._reached = reached
        self._create = create
        self._drop = drop
        self._repair = repair
        self._accept_loss = accept_loss
        self._describe = describe
        self._status = status

    async def Describe(self, request: admin_pb2.DescribeRequest, context: Any) -> admin_pb2.DescribeReply:
        """All a client needs to route."""
        reply = encode_cluster(self._describe())
        reply.listen_port, reply.frames_port, reply.incarnation = self._reached()
        return reply

    async def Status(self, request: admin_pb2.StatusRequest, context: Any) -> admin_pb2.StatusReply:
        """This node's own numbers."""
        return encode_status(await self._status())

    async def Repair(self, request: admin_pb2.RepairRequest, context: Any) -> admin_pb2.RepairReply:
        """Begins to compare with every peer, or tells how far that is."""
        try:
            return encode_progress(self._repair(request.namespace, request.follow))
        except KvError as error:
            return admin_pb2.RepairReply(error=encode_error(error))

    async def AcceptLoss(self, request: admin_pb2.AcceptLossRequest, context: Any) -> admin_pb2.AcceptLossReply:
        """Does not wait for others that have lost their registers."""
        try:
            return encode_loss_accepted(self._accept_loss(request.nodes))
        except KvError as error:
            return admin_pb2.AcceptLossReply(error=encode_error(error))

    async def CreateNamespace(self, request: admin_pb2.CreateNamespaceRequest, context: Any) -> admin_pb2.NamespaceReply:
        """A namespace from now on, on every node."""
        return await _answer(self._create(decode_wish(request), _timeout_s(request.timeout_ms)))

    async def DropNamespace(self, request: admin_pb2.DropNamespaceRequest, context: Any) -> admin_pb2.NamespaceReply:
        """Gone from now on, on every node."""
        return await _answer(self._drop(request.name, _timeout_s(request.timeout_ms)))


async def _answer(made: Awaitable[Made]) -> admin_pb2.NamespaceReply:
    try:
        return encode_namespace(*await made)
    except KvError as error:
        return admin_pb2.NamespaceReply(error=encode_error(error))


def _timeout_s(timeout_ms: int) -> float:
    return min(timeout_ms or TIMEOUT_MS, TIMEOUT_MS_MAX) / 1000
