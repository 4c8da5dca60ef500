"""The Admin service: the ring and limits for clients, this node's own numbers for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kvproto.codec import encode_cluster, encode_status
from kvproto.columns import ClusterInfo, NodeStatus
from kvproto.v1 import admin_pb2, admin_pb2_grpc


class AdminService(admin_pb2_grpc.AdminServicer):
    """Encodes what it is given."""

    def __init__(self, describe: Callable[[], ClusterInfo], status: Callable[[], Awaitable[NodeStatus]]) -> None:
        self._describe = describe
        self._status = status

    async def Describe(self, request: admin_pb2.DescribeRequest, context: Any) -> admin_pb2.DescribeReply:
        """All a client needs to route."""
        return encode_cluster(self._describe())

    async def Status(self, request: admin_pb2.StatusRequest, context: Any) -> admin_pb2.StatusReply:
        """This node's own numbers."""
        return encode_status(await self._status())
