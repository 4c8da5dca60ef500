"""A node: one stream for all batches, opened with the first and again after it broke, and gRPC calls for everything else.

An open stream costs less than half of a unary call even for one operation (docs/performance.md). Replies are matched by batch
id. Whoever sends many batches sends them as frames soon (kvproto/frames.py), where the node takes them and nothing stands in
between; what was on its way is still answered on the stream before. When a stream breaks, every batch on it is answered with
`NodeUnreachable`, which says for each whether it had been handed to gRPC or the socket: if not, it was certainly not applied.
With a `security` a renewed certificate gets a new channel when the next connection begins, and a node that cannot be reached is
asked whether TLS is the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

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
from kvproto.frames import Connection, FrameNet
from kvproto.greeting import address_of_frames, dial_frames
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

FRAMES_TIMEOUT_S = 0.5
WORTH_FRAMES = 16
"""Batches on one stream, before it is worth another connection: a command sends fewer."""
SOUGHT_EVERY_S = 10.0

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


class _Stream:
    """One open stream, and the batches on it that are not answered completely. `far` is the node's clock as heard on it; `over`
    ends it at once, `leave` lets the node end it."""

    __slots__ = ("batches", "far", "is_over", "leave", "outbox", "over", "over_grpc")

    def __init__(self, *, over_grpc: bool) -> None:
        self.over_grpc = over_grpc
        self.batches: dict[int, _Sent] = {}
        self.far = FarClock()
        self.is_over = False
        self.outbox: Outbox[tuple[_Sent, key_value_pb2.BatchRequest]]
        self.over: Callable[[], None] = _nothing
        self.leave: Callable[[], Awaitable[object]]


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
        self._frames = frames
        self._worth_frames = worth_frames
        self._version = 0 if security is None else security.version()
        self._retiring: set[asyncio.Task[None]] = set()
        self._connect()
        self._stream: _Stream | None = None  # on which batches leave
        self._older: dict[_Stream, None] = {}  # replaced, and not over yet
        self._readers: dict[asyncio.Task[None], None] = {}
        self._seeking: asyncio.Task[None] | None = None
        self._sent = 0  # batches, over the stream that is open
        self._sought_s = -SOUGHT_EVERY_S
        self._next_id = 1
        self._closed = False

    def exchange(self, groups: list[OperationGroup], on_reply: OnReply) -> None:
        """See `Transport.exchange`."""
        batch_id, self._next_id = self._next_id, self._next_id + 1
        ring, stream = self._ring, self._stream
        trace = ring.next_trace()
        now_s = asyncio.get_running_loop().time()
        message = encode_batch(
            batch_id,
            groups,
            cluster_id=ring.cluster_id,
            ring_epoch=ring.epoch,
            trace_id=trace,
            sent_ms=ring.now_ms(),
            receiver_ms=0 if stream is None else stream.far.at_least_ms(now_s),
        )
        left_ms = max([max(group.timeouts_ms, default=FOREVER) for group in groups], default=FOREVER)
        sent = _Sent(len(groups), on_reply, trace, now_s + left_ms / 1000)
        if self._closed:
            _answer(sent, ClientClosed("the client was closed"))
            return
        if message.ByteSize() > MESSAGE_BYTES_MAX:  # would break the stream, and with it everybody's batches
            _answer(sent, TooLarge("a batch is larger than a message may be", limit=MESSAGE_BYTES_MAX, actual=message.ByteSize()))
            return
        if stream is None:
            stream = self._stream = self._open_stream()
        stream.batches[batch_id] = sent
        stream.outbox.send((sent, message))
        self._sent += 1
        if self._frames is not None and self._sent >= self._worth_frames and stream.over_grpc:
            self._seek(self._frames, now_s)

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
        streams = self._streams()
        for stream in streams:
            _fail_all(stream, ClientClosed("the client was closed"))
        if self._seeking is not None:
            self._seeking.cancel()
            await asyncio.gather(self._seeking, return_exceptions=True)
        for stream in streams:
            await self._take_leave(stream)
        for stream in self._streams():
            stream.over()
        readers = list(self._readers)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
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

    def _streams(self) -> list[_Stream]:
        return [*self._older, *([] if self._stream is None else [self._stream])]

    async def _take_leave(self, stream: _Stream) -> None:
        """Lets the node end the stream, for a moment. Of one that is cancelled gRPC has more to say later, and says it, where each
        `asyncio.run` has its own loop, to a loop that is closed: "Event loop is closed" on the next loop's account."""
        with suppress(TimeoutError, asyncio.InvalidStateError, grpc.RpcError):
            async with asyncio.timeout(LEAVE_S):
                await _leave(stream)
                if readers := list(self._readers):
                    await asyncio.wait(readers)

    def _over(self, stream: _Stream, cause: KvError) -> None:
        """`stream` has ended: whatever is submitted from now on belongs to the next one. Idempotent."""
        if stream.is_over:
            return
        stream.is_over = True
        self._older.pop(stream, None)
        if self._stream is stream:
            self._stream, self._sent = None, 0
        stream.outbox.abort()
        stream.over()
        _fail_all(stream, cause)

    def _hear(self, stream: _Stream, message: key_value_pb2.BatchReply) -> None:
        """Passes a reply on."""
        ring = self._ring
        stream.far.heard(message.now_ms, asyncio.get_running_loop().time())
        if message.ring_epoch > ring.epoch:
            ring.seen(message.ring_epoch)
        if message.catalog_revision > ring.catalog_revision:
            ring.seen_catalog(message.catalog_revision)
        sent = stream.batches.get(message.batch_id)
        if sent is None:
            return
        if message.last:
            del stream.batches[message.batch_id]
        sent.on_reply(decode_replies(message), message.last)

    def _outbox_of(self, stream: _Stream, write: Callable[[Any], Coroutine[Any, Any, object]]) -> Outbox[Any]:
        loop = asyncio.get_running_loop()

        async def write_in_time(handed: tuple[_Sent, key_value_pb2.BatchRequest]) -> None:
            sent, message = handed
            if loop.time() >= sent.until_s:
                # It waited for the stream for too long. Written all the same it would hold up what comes after it, until nothing
                # is in time any more.
                if stream.batches.pop(message.batch_id, None) is not None:
                    _answer(sent, DeadlineExceeded("the deadline passed before the node took it", subject=self._address))
                return
            sent.handed_over = True
            await write(message)

        return Outbox(write_in_time)

    # --- over gRPC

    def _open_stream(self) -> _Stream:
        self._renew()
        call = self._key_value.Exchange()
        stream = _Stream(over_grpc=True)
        # What a write raises needs no telling: the reader sees the same end, and says why.
        stream.outbox = self._outbox_of(stream, lambda message: call.write(message))  # noqa: PLW0108 - as it is by then
        stream.over, stream.leave = call.cancel, call.done_writing
        reader = asyncio.get_running_loop().create_task(self._run_stream(stream, call), name=f"stream {self._address}")
        self._readers[reader] = None
        reader.add_done_callback(lambda reader: self._readers.pop(reader, None))
        return stream

    async def _run_stream(self, stream: _Stream, call: Any) -> None:
        """The life of one stream: reads until it ends, answers what was left over."""
        cause: KvError = ClientClosed("the client was closed")
        try:
            while (message := await call.read()) is not _EOF:
                self._hear(stream, message)
            cause = self._error_of_status(await call.code(), await call.details() or "the stream ended")
        except grpc.RpcError as error:
            cause = self._error_of(error)
            cause.__cause__ = error
        finally:
            self._over(stream, cause)

    # --- as frames

    def _seek(self, net: FrameNet, now_s: float) -> None:
        """Has the next batches leave as frames, if they can: half the processor time, and worth it for whoever sends many."""
        if self._seeking is None and now_s - self._sought_s >= SOUGHT_EVERY_S:
            self._sought_s = now_s
            self._seeking = asyncio.get_running_loop().create_task(self._change_to_frames(net), name=f"frames {self._address}")

    async def _change_to_frames(self, net: FrameNet) -> None:
        try:
            said = await self._admin.Describe(admin_pb2.DescribeRequest(protocol=PROTOCOL), timeout=UNARY_TIMEOUT_S)
            address = address_of_frames(self._address, said.listen_port, said.frames_port)
            if not address:
                return
            connection = await dial_frames(
                net, address, node=said.node_id, incarnation=said.incarnation, timeout_s=FRAMES_TIMEOUT_S
            )
            before, self._stream = self._stream, self._stream_of(connection)
            if before is not None:
                self._older[before] = None
                await _leave(before)  # it still answers what is on its way
        except (grpc.RpcError, OSError, TimeoutError, asyncio.InvalidStateError):
            return  # gRPC goes on
        finally:
            self._seeking = None

    def _stream_of(self, connection: Connection) -> _Stream:
        stream = _Stream(over_grpc=False)

        async def write(message: key_value_pb2.BatchRequest) -> None:
            await connection.write(message.SerializeToString())

        async def leave() -> None:
            connection.close()

        def take(frame: bytes) -> None:
            try:
                message = key_value_pb2.BatchReply.FromString(frame)
            except DecodeError:
                lost("it sent what is no reply")
                return
            self._hear(stream, message)

        def lost(reason: str) -> None:
            self._over(stream, NodeUnreachable(f"{self._address}: unavailable: {reason}", subject=self._address))

        stream.outbox = self._outbox_of(stream, write)
        stream.over, stream.leave = connection.close, leave
        connection.take, connection.lost = take, lost
        return stream

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


async def _leave(stream: _Stream) -> None:
    """Writes what waits, and lets the node end the stream."""
    stream.outbox.close()
    await stream.outbox.written()
    await stream.leave()


def _fail_all(stream: _Stream, cause: KvError) -> None:
    batches, stream.batches = list(stream.batches.values()), {}
    for sent in batches:
        trace_id = sent.trace.hex() if sent.handed_over else ""
        error = type(cause)(cause.message, may_have_applied=sent.handed_over, subject=cause.subject, trace_id=trace_id)
        _answer(sent, error)


def _nothing() -> None:
    """Nothing is open."""


def _answer(sent: _Sent, error: KvError) -> None:
    """Ends a batch with an error for each of its groups."""
    sent.on_reply([GroupReply(group=index, error=error) for index in range(sent.groups)], True)
