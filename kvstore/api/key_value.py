"""The KeyValue service: clients' batches, unary or on a stream, and scans. What they make the node hold is charged (intake.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from kvproto import PROTOCOL
from kvproto.codec import decode_groups, decode_scan, encode_error, encode_page, encode_replies, with_large_replies
from kvproto.columns import GroupReply
from kvproto.errors import BadRequest, DeadlineExceeded, KvError, Overloaded, TooLarge, WrongCluster
from kvproto.large_messages import LARGE_BYTES, LargeMessage, are_large, whole
from kvproto.outbox import Outbox
from kvproto.v1 import key_value_pb2, key_value_pb2_grpc
from kvstore.api.admitted import Admitted, is_too_late
from kvstore.api.large_replies import ANSWER_BYTES_MAX, held_bytes, in_messages, in_one_message
from kvstore.api.malformed import refuse
from kvstore.api.metered import Reply, within_quotas
from kvstore.cluster.view import RingHolder
from kvstore.config import NodeLimits
from kvstore.coordinator.allowance import Allowance
from kvstore.coordinator.coordinator import ROUND_OPERATIONS_MAX, Coordinator
from kvstore.coordinator.intake import Call, Intake, make_intake
from kvstore.coordinator.quotas import Quotas
from kvstore.core.transit import Transit
from kvstore.telemetry.limiter import BoundedLog
from kvstore.telemetry.trace import TraceIds
from kvstore.transport.security import PlainText, Security

STREAM_BATCHES_MAX = 64
"""Batches of one stream that may be unanswered; the stream is not read beyond."""

OPERATIONS_MAX = NodeLimits().batch_operations_max

SCAN_BYTES = 6 * 1024 * 1024
"""What a scan holds: a page of each node, their merge, and the message that is written."""

Replies = Outbox[key_value_pb2.BatchReply | LargeMessage[key_value_pb2.BatchReply]]

END: Any = vars(grpc.aio)["EOF"]  # the type stubs do not know it


class KeyValueService(key_value_pb2_grpc.KeyValueServicer):
    """Decodes, hands to the coordinator, encodes. Without an `intake` it has one with the default limits."""

    def __init__(
        self,
        coordinator: Coordinator,
        ring: RingHolder,
        cluster_id: str,
        *,
        traces: TraceIds,
        logs: BoundedLog,
        intake: Intake | None = None,
        quotas: Quotas | None = None,
        security: Security | None = None,
        operations_max: int = OPERATIONS_MAX,
    ) -> None:
        self._security = security or PlainText()
        self._traces = traces
        self._logs = logs
        self._coordinator = coordinator
        self._ring = ring
        self._cluster_id = cluster_id
        self._intake = intake or make_intake("", NodeLimits())
        self._quotas = quotas or Quotas({}, lambda: 1)
        self._operations_max = operations_max
        self._answering: set[asyncio.Task[None]] = set()

    async def Batch(self, request: key_value_pb2.BatchRequest, context: Any) -> key_value_pb2.BatchReply:
        """One batch, answered when all of it is decided."""
        trace = self._traces.id_of(request.trace_id, context.invocation_metadata())
        left_s = context.time_remaining()
        if left_s is not None and left_s <= 0:
            self._intake.expired += sum([len(group.keys) for group in request.groups])
            late = DeadlineExceeded("the deadline had passed when the request came: it was not executed")
            return self._refused(request, late, trace)
        try:
            call = self._intake.join(context.peer())
        except Overloaded as error:
            return self._refused(request, error, trace)
        context.add_done_callback(lambda _: call.end())  # gRPC holds the answer until the client has read it
        try:
            work = self._admit(request, call)
        except KvError as error:
            await call.turn(1)  # an answer without any work is no reason to come first
            return self._refused(request, error, trace)
        gathered = _Gathered(call)
        await call.turn(min(work.operations, ROUND_OPERATIONS_MAX))
        # A read that found a stale replica goes on listening after its reply: that must not reach the client.
        inside = request.hops > 0 and self._security.why_not_peer(context) is None
        executing = self._execute(request, gathered.take, trace, work, gathered, inside=inside)
        task = asyncio.get_running_loop().create_task(executing, name="batch")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        task.add_done_callback(lambda _: gathered.complete.set())
        try:
            await gathered.complete.wait()
        except asyncio.CancelledError:
            task.cancel()
            raise
        return whole(self._encode(request.batch_id, in_one_message(gathered.parts), trace, last=True))

    async def Exchange(self, request_iterator: Any, context: Any) -> None:
        """Batches in, replies in parts out. One task writes, this one; the reader stops while too much is unanswered or unread."""
        try:
            call = self._intake.join(context.peer())
        except Overloaded as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, error.message)
            return
        outbox: Replies = Outbox(context.write, on_written=call.release)
        malformed: list[DecodeError] = []
        reader = asyncio.get_running_loop().create_task(self._read(context, outbox, call, malformed), name="exchange-reader")
        try:
            await outbox.written()
        finally:
            outbox.abort()
            reader.cancel()
            call.end()
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
        try:
            call = self._intake.join(context.peer())
        except Overloaded as error:
            yield key_value_pb2.ScanReply(error=encode_error(error, trace))
            return
        context.add_done_callback(lambda _: call.end())
        try:
            call.check_room()
        except Overloaded as error:
            yield key_value_pb2.ScanReply(error=encode_error(error, trace))
            return
        query, quota = decode_scan(request), self._quotas.of.get(request.namespace)
        over = quota.refusal(1, asyncio.get_running_loop().time()) if quota is not None else None
        if over is not None:
            yield key_value_pb2.ScanReply(error=encode_error(over, trace))
            return
        call.charge(SCAN_BYTES)
        async for page in self._coordinator.scan(query, trace=trace):
            told = encode_page(page, trace)
            if quota is not None:
                quota.take(len(told.keys), told.ByteSize())
            yield told

    async def _read(self, context: Any, outbox: Replies, call: Call, malformed: list[DecodeError]) -> None:
        running: set[asyncio.Task[None]] = set()
        transit = Transit()
        room = asyncio.Semaphore(STREAM_BATCHES_MAX)
        loop = asyncio.get_running_loop()

        def finished(task: asyncio.Task[None]) -> None:
            running.discard(task)
            room.release()

        try:
            while True:
                # What was read is held: so the next message is not read before there is room for it.
                await room.acquire()
                await outbox.room()
                if not call.may_read:
                    await call.until_may_read()
                if (request := await context.read()) is END:
                    break
                try:
                    waited_s = transit.waited_s(request.sent_ms, loop.time())
                    work = self._admit(request, call, waited_s, getattr(context, "read_bytes", 0))
                except KvError as error:
                    await call.turn(1)
                    outbox.send(self._refused(request, error, self._traces.id_of(request.trace_id)))
                    room.release()
                    continue
                await call.turn(min(work.operations, ROUND_OPERATIONS_MAX))
                task = loop.create_task(self._answer(request, outbox, call, work, _takes_large(context)))
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

    async def _answer(
        self, request: key_value_pb2.BatchRequest, outbox: Replies, call: Call, work: Admitted, takes_large: bool
    ) -> None:
        batch_id, trace = request.batch_id, self._traces.id_of(request.trace_id)

        def send(replies: list[GroupReply], last: bool) -> None:
            size_bytes = held_bytes(replies)
            call.charge(size_bytes)
            told = self._encode(batch_id, replies, trace, last=last, size_bytes=size_bytes if takes_large else 0)
            outbox.send(told, size_bytes)

        def reply(replies: list[GroupReply], last: bool) -> None:
            *before, rest = in_messages(replies)
            for some in before:
                send(some, False)
            send(rest, last)

        await self._execute(request, reply, trace, work, _Paced(call, outbox))

    def _admit(self, request: key_value_pb2.BatchRequest, call: Call, waited_s: float = 0.0, size_bytes: int = 0) -> Admitted:
        """Charges `request`, which waited to be read, to `call`. Raises the `KvError` that answers all of it: nothing was charged,
        nothing executed, and nothing but the number of its operations was looked at."""
        refusal = self._refusal(request.cluster_id)
        if refusal is not None:
            raise refusal
        operations = self._count(request)
        if waited_s and is_too_late(request, waited_s):
            self._intake.expired += operations
            raise DeadlineExceeded("the deadline had passed when the request was read: it was not executed")
        return Admitted(request, call, operations, waited_s, size_bytes)

    async def _execute(
        self,
        request: key_value_pb2.BatchRequest,
        reply: Reply,
        trace: bytes,
        work: Admitted,
        allowance: Allowance,
        *,
        inside: bool = False,
    ) -> None:
        """Answers what was admitted. `inside`: a node has handed it on."""

        def tell(replies: list[GroupReply], last: bool) -> None:
            work.tell(replies)
            reply(replies, last)

        try:
            try:
                groups = decode_groups(request)
            except ValueError as error:
                refused = BadRequest(f"a kind of operation that protocol {PROTOCOL} does not have: {error}", subject="kind")
                self._tell(refused, trace)
                reply([GroupReply(index, error=refused) for index in self._indices(request)], True)
                return
            answer: Reply = tell
            if self._quotas.of and not request.hops:  # whoever forwarded it has charged it
                groups, answer = within_quotas(self._quotas, request, groups, tell, asyncio.get_running_loop().time())
                if not groups:
                    return
            await self._coordinator.execute(
                groups, answer, hops=request.hops, trace=trace, allowance=allowance, came_s=work.came_s, inside=inside
            )
        finally:
            work.end()

    def _count(self, request: key_value_pb2.BatchRequest) -> int:
        """The operations of a request. Raises `TooLarge` if these are more than one batch may have."""
        groups, limit = request.groups, self._operations_max
        operations = len(groups)
        if operations <= limit:
            operations = sum([max(1, len(group.keys)) for group in groups])
        if operations > limit:
            raise TooLarge(
                f"a batch of {operations} operations, at most {limit} are taken at once: send several",
                limit=limit,
                actual=operations,
                subject="batch",
            )
        return operations

    def _indices(self, request: key_value_pb2.BatchRequest) -> range:
        """The groups that a refusal answers one by one; a request of nothing but groups is no reason for an answer as long."""
        return range(min(len(request.groups), self._operations_max))

    def _refused(self, request: key_value_pb2.BatchRequest, error: KvError, trace: bytes) -> key_value_pb2.BatchReply:
        if not isinstance(error, Overloaded | DeadlineExceeded):
            self._tell(error, trace)
        replies = [GroupReply(index, error=error) for index in self._indices(request)]
        return whole(self._encode(request.batch_id, replies, trace, last=True))

    def _encode(
        self, batch_id: int, replies: list[GroupReply], trace: bytes, *, last: bool, size_bytes: int = 0
    ) -> key_value_pb2.BatchReply | LargeMessage[key_value_pb2.BatchReply]:
        """`size_bytes`: of the values, where large ones may stand beside the message."""
        view, now_ms = self._ring.view, int(asyncio.get_running_loop().time() * 1000)
        are_beside = size_bytes >= LARGE_BYTES and are_large([value for reply in replies for value in reply.values])
        told = [] if are_beside else replies
        message = encode_replies(batch_id, told, last=last, ring_epoch=view.ring.epoch, trace_id=trace, now_ms=now_ms)
        if view.catalog.revision:
            message.catalog_revision = view.catalog.revision
        return with_large_replies(message, replies, trace) if are_beside else message

    def _tell(self, refusal: KvError, trace: bytes) -> None:
        """A client that is wrong about what it talks to: told to the operator too, who may have set it up."""
        self._logs.tell("warning", "request_refused", trace=trace.hex(), code=refusal.code.name, reason=refusal.message)

    def _refusal(self, cluster_id: str) -> KvError | None:
        if cluster_id and cluster_id != self._cluster_id:
            return WrongCluster(f"this is cluster {self._cluster_id!r}, not {cluster_id!r}", subject=self._cluster_id)
        return None


class _Paced:
    """What a batch on a stream may make the node hold: it goes on when what it said before was taken."""

    __slots__ = ("_call", "_outbox", "charge", "release", "turn")

    def __init__(self, call: Call, outbox: Replies) -> None:
        self._call = call
        self._outbox = outbox
        self.charge = call.charge
        self.release = call.release
        self.turn = call.turn

    @property
    def has_room(self) -> bool:
        """As of the connection."""
        return self._call.has_room

    async def room(self) -> None:
        """Waits for the client to read."""
        await self._outbox.room()
        await self._call.room()


def _takes_large(context: Any) -> bool:
    """Whether large values may stand beside what is written to it (`LargeMessage`)."""
    return getattr(context, "takes_large_messages", False)


class _Gathered:
    """The answer of a unary batch, which leaves as a whole: nothing is gained by waiting with it half made."""

    __slots__ = ("_call", "_size_bytes", "charge", "complete", "parts", "release", "turn")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._size_bytes = 0
        self.charge = call.charge
        self.release = call.release
        self.turn = call.turn
        self.parts: list[GroupReply] = []
        self.complete = asyncio.Event()

    def take(self, replies: list[GroupReply], last: bool) -> None:
        """Another part."""
        size_bytes = held_bytes(replies)
        self._size_bytes += size_bytes
        self._call.charge(size_bytes)
        self.parts.extend(replies)
        if last:
            self.complete.set()

    @property
    def has_room(self) -> bool:
        """As of the connection."""
        return self._call.has_room

    async def room(self) -> None:
        """Raises `TooLarge` when the message is full, `Overloaded` when the connection holds its share."""
        if self._size_bytes >= ANSWER_BYTES_MAX:
            raise TooLarge(
                f"the answer has {self._size_bytes} bytes already: ask for fewer keys at once",
                limit=ANSWER_BYTES_MAX,
                actual=self._size_bytes,
                subject="reply",
            )
        self._call.check_room()
