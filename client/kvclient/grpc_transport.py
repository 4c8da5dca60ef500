"""A node behind gRPC: one `Exchange` stream for all batches, opened with the first and again after it broke.

An open stream costs less than half of a unary call even for one operation (docs/performance.md). Replies are matched by batch id.
When the stream breaks, every batch on it is answered with `NodeUnreachable`, which says for each whether it had been handed to
gRPC: if not, it was certainly not applied. With a `security` a renewed certificate gets a new channel when the next connection
begins, and a node that cannot be reached is asked whether TLS is the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kvclient.errors import ClientClosed, DeadlineExceeded, KvError, NodeUnreachable, TooLarge, UnsupportedProtocol
from kvclient.grpc_import import aio, begin_use, grpc
from kvclient.transport import OnReply, Ring
from kvproto import PROTOCOL
from kvproto.codec import (
    decode_cluster,
    decode_loss_accepted,
    decode_namespace,
    decode_page,
    decode_progress,
    decode_replies,
    decode_status,
    encode_batch,
    encode_scan,
    encode_wish,
)
from kvproto.columns import (
    ClusterInfo,
    GroupReply,
    LossAccepted,
    NamespaceInfo,
    NamespaceWish,
    NodeStatus,
    OperationGroup,
    RepairProgress,
    ScanPage,
    ScanQuery,
)
from kvproto.options import CHANNEL_OPTIONS, MESSAGE_BYTES_MAX
from kvproto.outbox import Outbox
from kvproto.steady import FarClock
from kvproto.v1 import admin_pb2, admin_pb2_grpc, key_value_pb2, key_value_pb2_grpc

if TYPE_CHECKING:
    from kvclient.credentials import Security

UNARY_TIMEOUT_S = 5.0
LEAVE_S = 0.05
RETIRE_GRACE_S = 5.0
"""How long calls under way may still use a channel that was made with certificates of before."""

FOREVER = float("inf")

_EOF: Any = vars(aio)["EOF"]  # the type stubs do not know it

# What grpc.aio says for good when a write finds that the other side has ended the stream: the status that the other side sent, if
# it has not been read before, is lost. The next stream is told it again.
_HIDDEN_REASON = "Internal error from Core"


class _Sent:
    """A batch that was not answered completely."""

    __slots__ = ("groups", "handed_over", "on_reply", "trace", "until_s")

    def __init__(self, groups: int, on_reply: OnReply, trace: bytes, until_s: float) -> None:
        self.groups = groups
        self.until_s = until_s  # nobody waits for it any longer
        self.trace = trace
        self.on_reply = on_reply
        self.handed_over = False


def open_channel(address: str) -> Any:
    """A `grpc.aio.Channel` to `address`; the seam at which simulation puts its own."""
    begin_use()
    return aio.insecure_channel(address, options=CHANNEL_OPTIONS)


class GrpcTransport:
    """One node, one channel, one stream."""

    def __init__(
        self,
        address: str,
        ring: Ring,
        *,
        channel: Callable[[str], Any] = open_channel,
        security: Security | None = None,
    ) -> None:
        self._address = address
        self._ring = ring
        self._open_channel = channel
        self._security = security
        self._version = 0 if security is None else security.version()
        self._retiring: set[asyncio.Task[None]] = set()
        self._connect()
        self._batches: dict[int, _Sent] = {}
        self._outbox: Outbox[tuple[_Sent, key_value_pb2.BatchRequest]] | None = None  # of the stream that is open
        self._stream: asyncio.Task[None] | None = None
        self._call: Any = None  # of the stream that is open
        self._far = FarClock()  # of the node, as far as it was heard on the stream that is open
        self._next_id = 1
        self._closed = False

    def exchange(self, groups: list[OperationGroup], on_reply: OnReply) -> None:
        """See `Transport.exchange`."""
        batch_id, self._next_id = self._next_id, self._next_id + 1
        ring = self._ring
        trace = ring.next_trace()
        now_s = asyncio.get_running_loop().time()
        message = encode_batch(
            batch_id,
            groups,
            cluster_id=ring.cluster_id,
            ring_epoch=ring.epoch,
            trace_id=trace,
            sent_ms=ring.now_ms(),
            receiver_ms=self._far.at_least_ms(now_s),
        )
        left_ms = max([max(group.timeouts_ms, default=FOREVER) for group in groups], default=FOREVER)
        sent = _Sent(len(groups), on_reply, trace, now_s + left_ms / 1000)
        if self._closed:
            _answer(sent, ClientClosed("the client was closed"))
            return
        if message.ByteSize() > MESSAGE_BYTES_MAX:  # would break the stream, and with it everybody's batches
            _answer(sent, TooLarge("a batch is larger than a message may be", limit=MESSAGE_BYTES_MAX, actual=message.ByteSize()))
            return
        self._batches[batch_id] = sent
        if self._outbox is None:
            self._outbox = self._open_stream()
        self._outbox.send((sent, message))

    async def describe(self) -> ClusterInfo:
        """See `Transport.describe`."""
        request = admin_pb2.DescribeRequest(protocol=PROTOCOL)
        self._renew()
        try:
            info = decode_cluster(await self._admin.Describe(request, timeout=UNARY_TIMEOUT_S))
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
            raise self._error_of(error) from error
        finally:
            call.cancel()

    async def status(self) -> NodeStatus:
        """See `Transport.status`."""
        try:
            return decode_status(await self._admin.Status(admin_pb2.StatusRequest(), timeout=UNARY_TIMEOUT_S))
        except grpc.RpcError as error:
            raise self._error_of(error) from error

    async def repair(self, namespace: str, follow: int) -> RepairProgress:
        """See `Transport.repair`."""
        request = admin_pb2.RepairRequest(namespace=namespace, follow=follow)
        try:
            return decode_progress(await self._admin.Repair(request, timeout=UNARY_TIMEOUT_S))
        except grpc.RpcError as error:
            raise self._error_of(error) from error

    async def accept_loss(self, nodes: Sequence[str]) -> LossAccepted:
        """See `Transport.accept_loss`."""
        try:
            return decode_loss_accepted(
                await self._admin.AcceptLoss(admin_pb2.AcceptLossRequest(nodes=nodes), timeout=UNARY_TIMEOUT_S)
            )
        except grpc.RpcError as error:
            raise self._error_of(error) from error

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
            told = self._error_of(error)
            told.may_have_applied = not isinstance(told, UnsupportedProtocol)
            raise told from error

    async def close(self) -> None:
        """See `Transport.close`."""
        self._closed = True
        self._fail_all(ClientClosed("the client was closed"))
        await self._take_leave()
        if self._outbox is not None:
            self._outbox.abort()
        if self._stream is not None:
            self._stream.cancel()
            await asyncio.gather(self._stream, return_exceptions=True)
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
        if self._security is None or self._stream is not None or self._version == (version := self._security.version()):
            return
        self._version = version
        retiring = asyncio.get_running_loop().create_task(self._channel.close(RETIRE_GRACE_S), name=f"retire {self._address}")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
        self._connect()

    async def _take_leave(self) -> None:
        """Lets the node end the stream, for a moment. Of one that is cancelled gRPC has more to say later, and says it, where each
        `asyncio.run` has its own loop, to a loop that is closed: "Event loop is closed" on the next loop's account."""
        stream, outbox = self._stream, self._outbox
        if stream is None or outbox is None:
            return
        with suppress(TimeoutError, asyncio.InvalidStateError, grpc.RpcError):
            async with asyncio.timeout(LEAVE_S):
                outbox.close()
                await outbox.written()
                await self._call.done_writing()
                await asyncio.wait([stream])

    def _open_stream(self) -> Outbox[tuple[_Sent, key_value_pb2.BatchRequest]]:
        self._renew()
        call = self._call = self._key_value.Exchange()

        loop = asyncio.get_running_loop()

        async def write(handed: tuple[_Sent, key_value_pb2.BatchRequest]) -> None:
            sent, message = handed
            if loop.time() >= sent.until_s:
                # It waited for the stream for too long. Written all the same it would hold up what comes after it, until nothing
                # is in time any more.
                if self._batches.pop(message.batch_id, None) is not None:
                    _answer(sent, DeadlineExceeded("the deadline passed before the node took it", subject=self._address))
                return
            sent.handed_over = True
            await call.write(message)

        # What a write raises needs no telling: the reader sees the same end, and says why.
        outbox: Outbox[tuple[_Sent, key_value_pb2.BatchRequest]] = Outbox(write)
        self._stream = loop.create_task(self._run_stream(call, outbox), name=f"stream {self._address}")
        return outbox

    async def _run_stream(self, call: Any, outbox: Outbox[tuple[_Sent, key_value_pb2.BatchRequest]]) -> None:
        """The life of one stream: reads until it ends, answers what was left over."""
        cause: KvError = ClientClosed("the client was closed")
        try:
            cause = await self._read(call)
        except grpc.RpcError as error:
            cause = self._error_of(error)
            cause.__cause__ = error
        finally:
            # Whatever is submitted from now on belongs to the next stream.
            self._stream = self._outbox = None
            self._far = FarClock()
            outbox.abort()
            call.cancel()
            self._fail_all(cause)

    async def _read(self, call: Any) -> KvError:
        """Passes replies on until the stream ends; returns what its end means for the batches left over."""
        batches, ring, now_s = self._batches, self._ring, asyncio.get_running_loop().time
        while True:
            message = await call.read()
            if message is _EOF:
                code = await call.code()
                return self._error_of_status(code, await call.details() or "the stream ended")
            self._far.heard(message.now_ms, now_s())
            if message.ring_epoch > ring.epoch:
                ring.seen(message.ring_epoch)
            if message.catalog_revision > ring.catalog_revision:
                ring.seen_catalog(message.catalog_revision)
            sent = batches.get(message.batch_id)
            if sent is None:
                continue
            if message.last:
                del batches[message.batch_id]
            sent.on_reply(decode_replies(message), message.last)

    def _fail_all(self, cause: KvError) -> None:
        batches = list(self._batches.values())
        self._batches.clear()  # in place: the reader of a stream holds on to it
        for sent in batches:
            trace_id = sent.trace.hex() if sent.handed_over else ""
            error = type(cause)(cause.message, may_have_applied=sent.handed_over, subject=cause.subject, trace_id=trace_id)
            _answer(sent, error)

    async def _explained(self, error: grpc.RpcError) -> KvError:
        """`error`, or what keeps TLS from connecting at all."""
        told = self._error_of(error)
        is_unavailable = isinstance(error, aio.AioRpcError) and error.code() is grpc.StatusCode.UNAVAILABLE
        if not is_unavailable or self._security is None or self._stream is not None:
            return told
        return await self._security.explain(self._address) or told

    def _error_of(self, error: grpc.RpcError) -> KvError:
        if isinstance(error, aio.AioRpcError):
            return self._error_of_status(error.code(), error.details() or "")
        return self._error_of_status(grpc.StatusCode.UNKNOWN, str(error))

    def _error_of_status(self, code: grpc.StatusCode, details: str) -> KvError:
        """A status of gRPC itself, which is about the way to the node or about what it speaks, never about an operation."""
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return UnsupportedProtocol(f"{self._address} does not serve kvproto.v1: {details}", subject=self._address)
        if code is grpc.StatusCode.INTERNAL and details == _HIDDEN_REASON:
            details = "the stream ended while a batch was being written"
        return NodeUnreachable(f"{self._address}: {code.name.lower()}: {details}", subject=self._address)


def _answer(sent: _Sent, error: KvError) -> None:
    """Ends a batch with an error for each of its groups."""
    sent.on_reply([GroupReply(group=index, error=error) for index in range(sent.groups)], True)
