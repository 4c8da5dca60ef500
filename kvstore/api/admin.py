"""The Admin service: the ring and limits for clients, this node's own numbers for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kvproto.codec import encode_cluster, encode_error, encode_progress, encode_status
from kvproto.columns import ClusterInfo, NodeStatus, RepairProgress
from kvproto.errors import KvError
from kvproto.v1 import admin_pb2, admin_pb2_grpc


class AdminService(admin_pb2_grpc.AdminServicer):
    """Encodes what it is given."""

    def __init__(
        self,
        describe: Callable[[], ClusterInfo],
        status: Callable[[], Awaitable[NodeStatus]],
        repair: Callable[[str, int], RepairProgress],
    ) -> None:
        self._repair = repair
        self._describe = describe
        self._status = status

    async def Describe(self, request: admin_pb2.DescribeRequest, context: Any) -> admin_pb2.DescribeReply:
        """All a client needs to route."""
        return encode_cluster(self._describe())

    async def Status(self, request: admin_pb2.StatusRequest, context: Any) -> admin_pb2.StatusReply:
        """This node's own numbers."""
        return encode_status(await self._status())

    async def Repair(self, request: admin_pb2.RepairRequest, context: Any) -> admin_pb2.RepairReply:
        """Begins to compare with every peer, or tells how far that is."""
        try:
            return encode_progress(self._repair(request.namespace, request.follow))
        except KvError as error:
            return admin_pb2.RepairReply(error=encode_error(error))
