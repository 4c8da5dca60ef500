"""A node behind gRPC: the calls that are made of it one by one, and the channel; its batches are the streams' (batch_streams.py).

With a `security` a renewed certificate gets a new channel when the next connection begins, and a node that cannot be reached is
asked whether TLS is the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from kvclient.batch_streams import WORTH_FRAMES, BatchStreams
from kvclient.credentials import Security
from kvclient.errors import DeadlineExceeded, KvError, UnsupportedProtocol
from kvclient.grpc_errors import error_of
from kvclient.grpc_import import aio, grpc, open_channel
from kvclient.transport import Ring
from kvproto import PROTOCOL
from kvproto.admin_codec import decode_cluster, decode_loss_accepted, decode_namespace, decode_progress, decode_status, encode_wish
from kvproto.codec import decode_page, encode_scan
from kvproto.columns import (
    ClusterInfo,
    LossAccepted,
    NamespaceInfo,
    NamespaceWish,
    NodeStatus,
    RepairProgress,
    ScanPage,
    ScanQuery,
)
from kvproto.frames import FrameNet
from kvproto.v1 import admin_pb2, admin_pb2_grpc, key_value_pb2_grpc

UNARY_TIMEOUT_S = 5.0
RETIRE_GRACE_S = 5.0
"""How long calls under way may still use a channel that was made with certificates of before."""


class GrpcTransport:
    """One node, one channel, one stream; `frames`: how the stream may be had without gRPC, after `worth_frames` batches; None: not
    at all."""

    def __init__(
        self,
        address: str,
        ring: Ring,
        *,
        channel: Callable[[str], Any] = open_channel,
        security: Security | None = None,
        frames: FrameNet | None = None,
        worth_frames: int = WORTH_FRAMES,
    ) -> None:
        self._address = address
        self._ring = ring
        self._open_channel = channel
        self._security = security
        self._version = 0 if security is None else security.version()
        self._retiring: set[asyncio.Task[None]] = set()
        self._connect()
        self._streams = BatchStreams(
            address, ring, open_call=self._open_call, describe=self._describe, frames=frames, worth_frames=worth_frames
        )
        self.exchange = self._streams.exchange

    async def describe(self) -> ClusterInfo:
        """See `Transport.describe`."""
        self._renew()
        try:
            info = decode_cluster(await self._describe())
        except grpc.RpcError as error:
            raise await self._explained(error) from error
        if not info.members or info.protocol < 1:
            raise UnsupportedProtocol(f"{self._address} describes no ring that this client understands", subject=self._address)
        return info

    async def scan(self, query: ScanQuery) -> AsyncIterator[ScanPage]:
        """See `Transport.scan`."""
        ring = self._ring
        request = encode_scan(query, cluster_id=ring.cluster_id, ring_epoch=ring.epoch, trace_id=ring.next_trace())
        call = self._key_value.Scan(request)
        try:
            async for message in call:
                yield decode_page(message)
        except grpc.RpcError as error:
            raise error_of(self._address, error) from error
        finally:
            call.cancel()

    async def status(self) -> NodeStatus:
        """See `Transport.status`."""
        try:
            return decode_status(await self._admin.Status(admin_pb2.StatusRequest(), timeout=UNARY_TIMEOUT_S))
        except grpc.RpcError as error:
            raise error_of(self._address, error) from error

    async def repair(self, namespace: str, follow: int) -> RepairProgress:
        """See `Transport.repair`."""
        request = admin_pb2.RepairRequest(namespace=namespace, follow=follow)
        try:
            return decode_progress(await self._admin.Repair(request, timeout=UNARY_TIMEOUT_S))
        except grpc.RpcError as error:
            raise error_of(self._address, error) from error

    async def accept_loss(self, nodes: Sequence[str]) -> LossAccepted:
        """See `Transport.accept_loss`."""
        try:
            return decode_loss_accepted(
                await self._admin.AcceptLoss(admin_pb2.AcceptLossRequest(nodes=nodes), timeout=UNARY_TIMEOUT_S)
            )
        except grpc.RpcError as error:
            raise error_of(self._address, error) from error

    async def create_namespace(self, wish: NamespaceWish, timeout_s: float) -> NamespaceInfo:
        """See `Transport.create_namespace`."""
        return await self._change(self._admin.CreateNamespace(encode_wish(wish, int(timeout_s * 1000)), timeout=timeout_s))

    async def drop_namespace(self, name: str, timeout_s: float) -> NamespaceInfo:
        """See `Transport.drop_namespace`."""
        request = admin_pb2.DropNamespaceRequest(name=name, timeout_ms=int(timeout_s * 1000))
        return await self._change(self._admin.DropNamespace(request, timeout=timeout_s))

    async def _change(self, call: Any) -> NamespaceInfo:
        try:
            return decode_namespace(await call)
        except grpc.RpcError as error:
            if isinstance(error, aio.AioRpcError) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise DeadlineExceeded(f"{self._address} did not answer in time", may_have_applied=True) from error
            told = error_of(self._address, error)
            told.may_have_applied = not isinstance(told, UnsupportedProtocol)
            raise told from error

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._streams.close()
        await self._channel.close(None)
        for retiring in list(self._retiring):
            retiring.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _connect(self) -> None:
        self._channel = self._open_channel(self._address)
        self._key_value: Any = key_value_pb2_grpc.KeyValueStub(self._channel)
        self._admin: Any = admin_pb2_grpc.AdminStub(self._channel)

    def _renew(self) -> None:
        """Before something that may begin a connection: other certificates than those of our channel need another channel."""
        if self._security is None or self._streams.is_open or self._version == (version := self._security.version()):
            return
        self._version = version
        retiring = asyncio.get_running_loop().create_task(self._channel.close(RETIRE_GRACE_S), name=f"retire {self._address}")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
        self._connect()

    def _open_call(self) -> Any:
        self._renew()
        return self._key_value.Exchange()

    def _describe(self) -> Any:
        return self._admin.Describe(admin_pb2.DescribeRequest(protocol=PROTOCOL), timeout=UNARY_TIMEOUT_S)

    async def _explained(self, error: grpc.RpcError) -> KvError:
        """`error`, or what keeps TLS from connecting at all."""
        told = error_of(self._address, error)
        is_unavailable = isinstance(error, aio.AioRpcError) and error.code() is grpc.StatusCode.UNAVAILABLE
        if not is_unavailable or self._security is None or self._streams.is_open:
            return told
        return await self._security.explain(self._address) or told
