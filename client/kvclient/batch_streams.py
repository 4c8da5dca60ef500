"""The batches to one node: a stream that is opened with the first and again after it broke, over gRPC and soon as frames.

An open stream costs less than half of a unary call even for one operation (docs/performance.md). Replies are matched by batch id.
Whoever sends many batches sends them as frames soon (kvproto/frames.py), where the node takes them and nothing stands in between;
what was on its way is still answered on the stream before. When a stream breaks, every batch on it is answered with
`NodeUnreachable`, which says for each whether it had been handed to gRPC or the socket: if not, it was certainly not applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from kvclient.errors import ClientClosed, DeadlineExceeded, KvError, NodeUnreachable, TooLarge
from kvclient.grpc_errors import error_of, error_of_status
from kvclient.grpc_import import aio, grpc
from kvclient.transport import OnReply, Ring
from kvproto.codec import decode_replies, encode_batch, with_large_groups
from kvproto.columns import GroupReply, OperationGroup
from kvproto.frames import Connection, FrameNet
from kvproto.greeting import address_of_frames, dial_frames
from kvproto.large_messages import LARGE_BYTES, LargeMessage, are_large, whole, write_frame
from kvproto.options import MESSAGE_BYTES_MAX
from kvproto.outbox import Outbox
from kvproto.steady import FarClock
from kvproto.v1 import key_value_pb2

LEAVE_S = 0.05
FRAMES_TIMEOUT_S = 0.5
WORTH_FRAMES = 16
"""Batches on one stream, before it is worth another connection: a command sends fewer."""
SOUGHT_EVERY_S = 10.0

FOREVER = float("inf")

Request = key_value_pb2.BatchRequest | LargeMessage[key_value_pb2.BatchRequest]

_EOF: Any = vars(aio)["EOF"]  # the type stubs do not know it


class _Sent:
    """A batch that was not answered completely."""

    __slots__ = ("groups", "handed_over", "on_reply", "trace", "until_s")

    def __init__(self, groups: int, on_reply: OnReply, trace: bytes, until_s: float) -> None:
        self.groups = groups
        self.until_s = until_s  # nobody waits for it any longer
        self.trace = trace
        self.on_reply = on_reply
        self.handed_over = False


class _Stream:
    """One open stream, and the batches on it that are not answered completely. `far` is the node's clock as heard on it; `over`
    ends it at once, `leave` lets the node end it."""

    __slots__ = ("batches", "far", "is_over", "leave", "outbox", "over", "over_grpc")

    def __init__(self, *, over_grpc: bool) -> None:
        self.over_grpc = over_grpc
        self.batches: dict[int, _Sent] = {}
        self.far = FarClock()
        self.is_over = False
        self.outbox: Outbox[tuple[_Sent, int, Request]]
        self.over: Callable[[], None] = _nothing
        self.leave: Callable[[], Awaitable[object]]


class BatchStreams:
    """See the module. `open_call` begins an `Exchange`, `describe` asks the node who it is; `frames`: how a stream may be had
    without gRPC, after `worth_frames` batches; None: not at all."""

    def __init__(
        self,
        address: str,
        ring: Ring,
        *,
        open_call: Callable[[], Any],
        describe: Callable[[], Awaitable[Any]],
        frames: FrameNet | None,
        worth_frames: int = WORTH_FRAMES,
    ) -> None:
        self._address = address
        self._ring = ring
        self._open_call = open_call
        self._describe = describe
        self._frames = frames
        self._worth_frames = worth_frames
        self._stream: _Stream | None = None  # on which batches leave
        self._older: dict[_Stream, None] = {}  # replaced, and not over yet
        self._readers: dict[asyncio.Task[None], None] = {}
        self._seeking: asyncio.Task[None] | None = None
        self._sent = 0  # batches, over the stream that is open
        self._sought_s = -SOUGHT_EVERY_S
        self._next_id = 1
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        """Whether there is a stream."""
        return self._stream is not None

    def exchange(self, groups: list[OperationGroup], on_reply: OnReply) -> None:
        """See `Transport.exchange`."""
        batch_id, self._next_id = self._next_id, self._next_id + 1
        ring, stream = self._ring, self._stream
        trace = ring.next_trace()
        now_s = asyncio.get_running_loop().time()
        size_bytes = sum(map(_about_bytes, groups))
        over_frames = stream is not None and not stream.over_grpc
        are_beside = over_frames and size_bytes >= LARGE_BYTES and are_large([value for group in groups for value in group.values])
        message = encode_batch(
            batch_id,
            () if are_beside else groups,
            cluster_id=ring.cluster_id,
            ring_epoch=ring.epoch,
            trace_id=trace,
            sent_ms=ring.now_ms(),
            receiver_ms=0 if stream is None else stream.far.at_least_ms(now_s),
        )
        left_ms = max([max(group.timeouts_ms, default=FOREVER) for group in groups], default=FOREVER)
        sent = _Sent(len(groups), on_reply, trace, now_s + left_ms / 1000)
        if self._is_closed:
            _answer(sent, _closed())
            return
        outgoing: Request = with_large_groups(message, groups) if are_beside else message
        # It would break the stream, and with it everybody's batches. Only one that may be too large is encoded to find out.
        if size_bytes > MESSAGE_BYTES_MAX // 2 and (size_bytes := _size_of(outgoing)) > MESSAGE_BYTES_MAX:
            _answer(sent, TooLarge("a batch is larger than a message may be", limit=MESSAGE_BYTES_MAX, actual=size_bytes))
            return
        if stream is None:
            stream = self._stream = self._open_stream()
        stream.batches[batch_id] = sent
        stream.outbox.send((sent, batch_id, outgoing))
        self._sent += 1
        if self._frames is not None and self._sent >= self._worth_frames and stream.over_grpc:
            self._seek(self._frames, now_s)

    async def close(self) -> None:
        """Ends every batch with `ClientClosed`, and every stream."""
        self._is_closed = True
        streams = self._streams()
        for stream in streams:
            _fail_all(stream, _closed())
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

        async def write_in_time(handed: tuple[_Sent, int, Request]) -> None:
            sent, batch_id, message = handed
            if loop.time() >= sent.until_s:
                # It waited for the stream for too long. Written all the same it would hold up what comes after it, until nothing
                # is in time any more.
                if stream.batches.pop(batch_id, None) is not None:
                    _answer(sent, DeadlineExceeded("the deadline passed before the node took it", subject=self._address))
                return
            sent.handed_over = True
            await write(message)

        return Outbox(write_in_time)

    # --- over gRPC

    def _open_stream(self) -> _Stream:
        call = self._open_call()
        stream = _Stream(over_grpc=True)
        # What a write raises needs no telling: the reader sees the same end, and says why.
        stream.outbox = self._outbox_of(stream, lambda message: call.write(whole(message)))
        stream.over, stream.leave = call.cancel, call.done_writing
        reader = asyncio.get_running_loop().create_task(self._run_stream(stream, call), name=f"stream {self._address}")
        self._readers[reader] = None
        reader.add_done_callback(lambda reader: self._readers.pop(reader, None))
        return stream

    async def _run_stream(self, stream: _Stream, call: Any) -> None:
        """The life of one stream: reads until it ends, answers what was left over."""
        cause: KvError = _closed()
        try:
            while (message := await call.read()) is not _EOF:
                self._hear(stream, message)
            cause = error_of_status(self._address, await call.code(), await call.details() or "the stream ended")
        except grpc.RpcError as error:
            cause = error_of(self._address, error)
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
            said = await self._describe()
            address = address_of_frames(self._address, said.listen_port, said.frames_port)
            if not address:
                return
            connection = await dial_frames(
                net, address, node=said.node_id, incarnation=said.incarnation, timeout_s=FRAMES_TIMEOUT_S
            )
            before, self._stream = self._stream, self._stream_of(connection)
            if before is not None:
                self._stream.far = before.far  # it is the same process
                self._older[before] = None
                await _leave(before)  # it still answers what is on its way
        except (grpc.RpcError, OSError, TimeoutError, asyncio.InvalidStateError):
            return  # gRPC goes on
        finally:
            self._seeking = None

    def _stream_of(self, connection: Connection) -> _Stream:
        stream = _Stream(over_grpc=False)

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

        stream.outbox = self._outbox_of(stream, partial(write_frame, connection))
        stream.over, stream.leave = connection.close, leave
        connection.take, connection.lost = take, lost
        return stream


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


def _size_of(message: Request) -> int:
    return message.size_bytes() if isinstance(message, LargeMessage) else message.ByteSize()


def _about_bytes(group: OperationGroup) -> int:
    """What a group takes in a message, but for some bytes for each operation."""
    size_bytes = sum(map(len, group.keys)) + sum(map(len, group.values))
    for column in (group.contexts, group.fields, group.conditions, group.seen):
        if column:
            size_bytes += sum(map(len, column))
    return size_bytes


def _closed() -> ClientClosed:
    return ClientClosed("the client was closed")


def _nothing() -> None:
    """Nothing is open."""


def _answer(sent: _Sent, error: KvError) -> None:
    """Ends a batch with an error for each of its groups."""
    sent.on_reply([GroupReply(group=index, error=error) for index in range(sent.groups)], True)
