"""The KeyValue service: clients' batches, unary or on a stream, and scans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from kvproto import PROTOCOL
from kvproto.codec import decode_groups, decode_scan, encode_error, encode_page, encode_replies
from kvproto.columns import GroupReply
from kvproto.errors import BadRequest, KvError, WrongCluster
from kvproto.outbox import Outbox
from kvproto.v1 import key_value_pb2, key_value_pb2_grpc
from kvstore.api.large_replies import in_messages, in_one_message
from kvstore.api.malformed import refuse
from kvstore.cluster.view import RingHolder
from kvstore.coordinator.coordinator import Coordinator
from kvstore.telemetry.limiter import BoundedLog
from kvstore.telemetry.trace import TraceIds

STREAM_BATCHES_MAX = 64
"""Batches of one stream that may be unanswered; the stream is not read beyond."""


END: Any = vars(grpc.aio)["EOF"]  # the type stubs do not know it


class KeyValueService(key_value_pb2_grpc.KeyValueServicer):
    """Decodes, hands to the coordinator, encodes."""

    def __init__(self, coordinator: Coordinator, ring: RingHolder, cluster_id: str, *, traces: TraceIds, logs: BoundedLog) -> None:
        self._traces = traces
        self._logs = logs
        self._coordinator = coordinator
        self._ring = ring
        self._cluster_id = cluster_id
        self._answering: set[asyncio.Task[None]] = set()

    async def Batch(self, request: key_value_pb2.BatchRequest, context: Any) -> key_value_pb2.BatchReply:
        """One batch, answered when all of it is decided."""
        trace = self._traces.id_of(request.trace_id, context.invocation_metadata())
        parts: list[GroupReply] = []
        complete = asyncio.Event()

        def reply(replies: list[GroupReply], last: bool) -> None:
            parts.extend(replies)
            if last:
                complete.set()

        # A read that found a stale replica goes on listening after its reply: that must not reach the client.
        task = asyncio.get_running_loop().create_task(self._execute(request, reply, trace), name="batch")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        task.add_done_callback(lambda _: complete.set())
        try:
            await complete.wait()
        except asyncio.CancelledError:
            task.cancel()
            raise
        epoch = self._ring.view.ring.epoch
        return encode_replies(request.batch_id, in_one_message(parts), last=True, ring_epoch=epoch, trace_id=trace)

    async def Exchange(self, request_iterator: Any, context: Any) -> None:
        """Batches in, replies in parts out. One task writes, this one; the reader stops while too much is unanswered."""
        outbox: Outbox[key_value_pb2.BatchReply] = Outbox(context.write)
        malformed: list[DecodeError] = []
        reader = asyncio.get_running_loop().create_task(self._read(context, outbox, malformed), name="exchange-reader")
        try:
            await outbox.written()
        finally:
            outbox.abort()
            reader.cancel()
        if malformed:
            await refuse(context)

    async def Scan(self, request: key_value_pb2.ScanRequest, context: Any) -> AsyncIterator[key_value_pb2.ScanReply]:
        """Pages in key order; an error is the last message."""
        trace = self._traces.id_of(request.trace_id, context.invocation_metadata())
        refusal = self._refusal(request.cluster_id)
        if refusal is not None:
            self._tell(refusal, trace)
            yield key_value_pb2.ScanReply(error=encode_error(refusal, trace))
            return
        async for page in self._coordinator.scan(decode_scan(request), trace=trace):
            yield encode_page(page, trace)

    async def _read(self, context: Any, outbox: Outbox[key_value_pb2.BatchReply], malformed: list[DecodeError]) -> None:
        running: set[asyncio.Task[None]] = set()
        room = asyncio.Semaphore(STREAM_BATCHES_MAX)
        loop = asyncio.get_running_loop()

        def finished(task: asyncio.Task[None]) -> None:
            running.discard(task)
            room.release()

        try:
            while (request := await context.read()) is not END:
                await room.acquire()
                await outbox.room()
                task = loop.create_task(self._answer(request, outbox))
                running.add(task)
                task.add_done_callback(finished)
            for task in list(running):
                await asyncio.wait({task})
        except DecodeError as error:  # whatever follows would be guesswork: the stream ends here
            malformed.append(error)
        finally:
            outbox.close()
            for task in running:
                task.cancel()

    async def _answer(self, request: key_value_pb2.BatchRequest, outbox: Outbox[key_value_pb2.BatchReply]) -> None:
        batch_id, view, trace = request.batch_id, self._ring.view, self._traces.id_of(request.trace_id)

        def reply(replies: list[GroupReply], last: bool) -> None:
            *before, rest = in_messages(replies)
            for some in before:
                outbox.send(encode_replies(batch_id, some, last=False, ring_epoch=view.ring.epoch, trace_id=trace))
            outbox.send(encode_replies(batch_id, rest, last=last, ring_epoch=view.ring.epoch, trace_id=trace))

        await self._execute(request, reply, trace)

    async def _execute(self, request: key_value_pb2.BatchRequest, reply: Any, trace: bytes) -> None:
        try:
            refusal = self._refusal(request.cluster_id)
            if refusal is not None:
                raise refusal
            groups = decode_groups(request)
        except KvError as error:
            self._tell(error, trace)
            reply([GroupReply(index, error=error) for index in range(len(request.groups))], True)
            return
        except ValueError as error:
            refused = BadRequest(f"a kind of operation that protocol {PROTOCOL} does not have: {error}", subject="kind")
            self._tell(refused, trace)
            reply([GroupReply(index, error=refused) for index in range(len(request.groups))], True)
            return
        if not groups:
            reply([], True)
            return
        await self._coordinator.execute(groups, reply, hops=request.hops, trace=trace)

    def _tell(self, refusal: KvError, trace: bytes) -> None:
        """A client that is wrong about what it talks to: told to the operator too, who may have set it up."""
        self._logs.tell("warning", "request_refused", trace=trace.hex(), code=refusal.code.name, reason=refusal.message)

    def _refusal(self, cluster_id: str) -> KvError | None:
        if cluster_id and cluster_id != self._cluster_id:
            return WrongCluster(f"this is cluster {self._cluster_id!r}, not {cluster_id!r}", subject=self._cluster_id)
        return None
