"""The gRPC transport by itself: what gRPC's own failures become."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from grpc import aio

from kvclient.errors import ClientClosed, DeadlineExceeded, KvError, NodeUnreachable, TooLarge, UnsupportedProtocol
from kvclient.grpc_transport import GrpcTransport
from kvclient.transport import Ring
from kvproto.columns import GroupReply, Kind, OperationGroup, ScanQuery
from kvproto.v1 import key_value_pb2
from tests.client.fake_server import FakeCluster
from tests.client.waiting import until


def put(value: bytes = b"v") -> OperationGroup:
    return OperationGroup(Kind.PUT, "default", [b"k"], values=[value], request_ids=bytes(16))


async def exchange(transport: GrpcTransport, *groups: OperationGroup) -> list[GroupReply]:
    """Sends one batch and gathers all parts of its answer."""
    done: asyncio.Future[list[GroupReply]] = asyncio.get_running_loop().create_future()
    parts: list[GroupReply] = []

    def on_reply(replies: list[GroupReply], last: bool) -> None:
        parts.extend(replies)
        if last:
            done.set_result(parts)

    transport.exchange(list(groups), on_reply)
    async with asyncio.timeout(10):
        return await done


async def error_of(transport: GrpcTransport, *groups: OperationGroup) -> KvError:
    (reply,) = await exchange(transport, *groups)
    assert reply.error is not None
    return reply.error


@pytest.fixture
async def transport(cluster: FakeCluster) -> AsyncIterator[GrpcTransport]:
    opened = GrpcTransport(cluster.nodes[0].address, Ring(lambda: None))
    yield opened
    await opened.close()


async def test_a_node_that_is_not_there_was_certainly_not_asked() -> None:
    transport = GrpcTransport("127.0.0.1:1", Ring(lambda: None))
    error = await error_of(transport, put())
    assert isinstance(error, NodeUnreachable) and error.subject == "127.0.0.1:1" and error.retryable
    with pytest.raises(NodeUnreachable):
        await transport.describe()
    with pytest.raises(NodeUnreachable):
        await transport.status()
    with pytest.raises(NodeUnreachable):
        await anext(transport.scan(ScanQuery("default")))
    await transport.close()


async def test_a_stream_that_ends_leaves_what_was_handed_over_unknown(cluster: FakeCluster, transport: GrpcTransport) -> None:
    cluster.nodes[0].break_before = 1
    error = await error_of(transport, put())
    assert isinstance(error, NodeUnreachable) and error.may_have_applied
    assert (await exchange(transport, put()))[0].error is None, "the next batch opens a new stream"


async def test_several_batches_in_flight_get_each_its_own_answer(cluster: FakeCluster, transport: GrpcTransport) -> None:
    cluster.nodes[0].answer_in_parts = True
    await asyncio.gather(*(exchange(transport, put(b"%d" % number), put(b"x")) for number in range(30)))
    assert cluster.store.executions == 1, "all with one request id"


async def test_a_batch_larger_than_a_message_is_refused_without_breaking_the_stream(transport: GrpcTransport) -> None:
    error = await error_of(transport, put(bytes(65 * 1024 * 1024)))
    assert isinstance(error, TooLarge) and not error.may_have_applied and error.actual > error.limit
    assert (await exchange(transport, put()))[0].error is None


@pytest.fixture
async def stranger() -> AsyncIterator[GrpcTransport]:
    """A transport to a gRPC server that serves nothing of ours."""
    server = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    opened = GrpcTransport(f"127.0.0.1:{port}", Ring(lambda: None))
    yield opened
    await opened.close()
    await server.stop(0)


async def test_a_server_that_speaks_something_else_is_no_node(stranger: GrpcTransport) -> None:
    with pytest.raises(UnsupportedProtocol):
        await stranger.describe()
    error = await error_of(stranger, put())
    # Which of the two is a race inside gRPC: a write that finds the stream ended hides why it ended, see below.
    if isinstance(error, UnsupportedProtocol):
        assert not error.retryable
    else:
        assert isinstance(error, NodeUnreachable) and error.may_have_applied and "while a batch was being written" in str(error)


async def test_closing_answers_what_is_open_and_refuses_what_comes_after(cluster: FakeCluster, transport: GrpcTransport) -> None:
    node = cluster.nodes[0]
    node.hold = asyncio.Event()
    waiting = asyncio.create_task(exchange(transport, put()))
    await asyncio.sleep(0)
    await transport.close()
    (reply,) = await waiting
    assert isinstance(reply.error, ClientClosed)
    assert isinstance(await error_of(transport, put()), ClientClosed)
    await transport.close()


class StreamInHand:
    """A call that ends when the test says so, and a channel that gives out such calls."""

    status, details = grpc.StatusCode.UNAVAILABLE, "gone"

    def __init__(self) -> None:
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.replies: asyncio.Queue[key_value_pb2.BatchReply] = asyncio.Queue()
        self.sent: list[key_value_pb2.BatchRequest] = []

    async def read(self) -> key_value_pb2.BatchReply:
        while self.replies.empty() and not self.broken.done():
            await asyncio.sleep(0)
        if self.broken.done():
            raise aio.AioRpcError(self.status, aio.Metadata(), aio.Metadata(), self.details, self.details)
        return self.replies.get_nowait()

    async def write(self, message: key_value_pb2.BatchRequest) -> None:
        self.sent.append(message)
        self.replies.put_nowait(key_value_pb2.BatchReply(batch_id=message.batch_id, last=True))

    async def done_writing(self) -> None:
        if not self.broken.done():
            self.broken.set_result(None)

    def cancel(self) -> None:
        """Nobody listens."""


class ChannelInHand:
    def __init__(self) -> None:
        self.streams: list[StreamInHand] = []

    def stream_stream(self, method: str, **_: object) -> Callable[[], StreamInHand]:
        def call() -> StreamInHand:
            self.streams.append(StreamInHand())
            return self.streams[-1]

        return call

    def unary_unary(self, method: str, **_: object) -> None: ...

    def unary_stream(self, method: str, **_: object) -> None: ...

    async def close(self, grace: float | None) -> None: ...


async def test_bug_what_was_submitted_while_a_stream_ended_was_failed_with_it_and_the_next_stream_went_unheard() -> None:
    """1. A stream breaks. 2. While its writer is being cancelled another batch is submitted, which opens the next stream. 3. The
    end of the first stream failed that batch too, and replaced the table that the second stream's reader had in hand: whatever
    the second stream answered from then on was ignored, and every operation on it timed out."""
    channel = ChannelInHand()
    transport = GrpcTransport("n1:1", Ring(lambda: None), channel=lambda address: channel)
    await exchange(transport, put())
    told: dict[int, list[GroupReply]] = {}
    while transport._streams.is_open:
        if not channel.streams[0].broken.done():
            channel.streams[0].broken.set_result(None)
        await asyncio.sleep(0)
    transport.exchange([put()], lambda replies, last: told.setdefault(1, []).extend(replies))
    await until(lambda: len(channel.streams) == 2)
    await until(lambda: 1 in told)
    assert told[1] == [], "the second stream answered it"
    assert await exchange(transport, put()) == []
    await transport.close()


async def test_bug_a_write_that_met_the_end_of_its_stream_was_an_internal_error_from_core() -> None:
    """1. A node ends a stream. 2. A batch is written before that is read. 3. grpc.aio forgets the node's status and says INTERNAL,
    "Internal error from Core"; so did we, and nobody could know what had happened or whether to try again."""
    channel = ChannelInHand()
    transport = GrpcTransport("n1:1", Ring(lambda: None), channel=lambda address: channel)
    await exchange(transport, put())
    stream = channel.streams[0]
    stream.status, stream.details = grpc.StatusCode.INTERNAL, "Internal error from Core"
    told = asyncio.create_task(error_of(transport, put()))
    await asyncio.sleep(0)
    stream.broken.set_result(None)
    error = await told
    assert isinstance(error, NodeUnreachable) and error.retryable
    assert "the stream ended while a batch was being written" in str(error)
    await transport.close()


async def test_bug_batches_that_nobody_waited_for_held_up_those_behind_them() -> None:
    """1. A node does not take a batch, so that others wait behind it. 2. Their deadlines pass. 3. All of them were written all the
    same, and whatever came next waited for that, until its own deadline had passed."""
    channel = ChannelInHand()
    transport = GrpcTransport("n1:1", Ring(lambda: None), channel=lambda address: channel)
    await exchange(transport, put())
    stream = channel.streams[0]
    taken, write = asyncio.Event(), stream.write

    async def slow_write(message: key_value_pb2.BatchRequest) -> None:
        await taken.wait()
        await write(message)

    stream.write = slow_write  # type: ignore[method-assign]
    told: dict[str, list[GroupReply]] = {}

    def send(name: str, timeout_ms: int) -> None:
        group = put()
        group.timeouts_ms = (timeout_ms,)
        transport.exchange([group], lambda replies, last: told.setdefault(name, []).extend(replies))

    send("taken", 60_000)
    send("late", 1)
    send("in time", 60_000)
    await asyncio.sleep(0.01)
    taken.set()
    await until(lambda: len(told) == 3)
    assert told["taken"] == told["in time"] == []
    (late,) = told["late"]
    assert isinstance(late.error, DeadlineExceeded) and not late.error.may_have_applied
    assert len(stream.sent) == 3, "the first one, and two of these"
    await transport.close()
