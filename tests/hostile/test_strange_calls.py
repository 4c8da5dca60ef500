"""Calls over proper gRPC that are wrong all the same: unknown methods, undecodable and oversized messages, other versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from kvclient import AsyncClient
from kvclient.credentials import PlainText, Security, TlsCredentials
from kvclient.errors import UnsupportedProtocol
from kvproto import PROTOCOL
from kvproto.codec import decode_error
from kvproto.columns import MemberInfo
from kvproto.errors import BadRequest, KvError
from kvproto.options import MESSAGE_BYTES_MAX
from kvproto.v1 import admin_pb2, admin_pb2_grpc, key_value_pb2, key_value_pb2_grpc, peer_pb2, peer_pb2_grpc
from tests.hostile.conftest import Port
from tests.support.nodes import free_ports

UNARY = ("KeyValue/Batch", "Peer/Hello", "Peer/Page", "Admin/Describe", "Admin/Status")
STREAMS = ("KeyValue/Exchange", "Peer/Exchange")
GARBAGE = b"\xff" * 8
END: Any = vars(aio)["EOF"]  # the type stubs do not know it


@pytest.fixture
async def channel(port: Port) -> AsyncIterator[aio.Channel]:
    """As a node connects, which may call everything."""
    if port.pki is None:
        security: Security = PlainText()
    else:
        tls = port.pki.client("insider")
        node = port.pki.node("n1")
        security = TlsCredentials(type(tls)(ca=tls.ca, cert=node.cert, key=node.key))
    channel = security.channel(port.address)
    yield channel
    await channel.close()


async def code_of(call: Any) -> grpc.StatusCode:
    """How the call ends, whatever it answers before."""
    async with asyncio.timeout(20):
        code: grpc.StatusCode = await call.code()
    return code


@pytest.mark.parametrize("method", UNARY)
async def test_bug_a_message_that_cannot_be_decoded_was_told_as_a_defect_of_the_node(port: Port, channel: Any, method: str) -> None:
    """gRPC decodes it before the service is called: UNKNOWN to the caller, and a traceback in the log each time."""
    assert await code_of(channel.unary_unary(f"/kvproto.v1.{method}")(GARBAGE)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_scan_that_cannot_be_decoded_is_refused_as_such(port: Port, channel: Any) -> None:
    assert await code_of(channel.unary_stream("/kvproto.v1.KeyValue/Scan")(GARBAGE)) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", STREAMS)
async def test_bug_a_stream_with_a_message_that_cannot_be_decoded_ended_as_if_all_were_well(
    port: Port, channel: Any, method: str
) -> None:
    """1. The reader of the stream died of the message. 2. The stream ended with OK, its batches unanswered. 3. The log had a task
    whose exception was never retrieved."""
    call = channel.stream_stream(f"/kvproto.v1.{method}")()
    await call.write(GARBAGE)
    assert await code_of(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_broken_message_ends_its_own_stream_and_no_other_of_the_connection(port: Port, channel: Any) -> None:
    good = key_value_pb2_grpc.KeyValueStub(channel).Exchange()
    batch = key_value_pb2.BatchRequest(
        batch_id=1, groups=[key_value_pb2.OperationGroup(kind=key_value_pb2.KIND_GET, namespace="default", keys=[b"k"])]
    )
    await good.write(batch)
    assert (await good.read()).last
    bad = channel.stream_stream("/kvproto.v1.KeyValue/Exchange")()
    await bad.write(GARBAGE)
    assert await code_of(bad) is grpc.StatusCode.INVALID_ARGUMENT
    await good.write(batch)
    assert (await good.read()).last
    good.cancel()


@pytest.mark.parametrize("method", ["kvproto.v1.KeyValue/Nonsense", "kvproto.v2.KeyValue/Batch", "x/y"])
async def test_a_method_that_does_not_exist(port: Port, channel: Any, method: str) -> None:
    assert await code_of(channel.unary_unary(f"/{method}")(b"")) is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_larger_than_messages_may_be(port: Port, channel: Any) -> None:
    """Our own channel does not even send it; one without that limit is told by the node."""
    message = bytes(MESSAGE_BYTES_MAX + 1)
    call = channel.unary_unary("/kvproto.v1.KeyValue/Batch")(message)
    assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
    if port.pki is None:
        large: Any = aio.insecure_channel(port.address, options=[("grpc.max_send_message_length", -1)])
        assert await code_of(large.unary_unary("/kvproto.v1.KeyValue/Batch")(message)) is grpc.StatusCode.RESOURCE_EXHAUSTED
        await large.close()


@pytest.mark.parametrize("protocol", [0, PROTOCOL, 99])
async def test_a_caller_of_another_version_is_told_ours_and_served_as_far_as_it_is_understood(
    port: Port, channel: Any, protocol: int
) -> None:
    """What a caller says is the highest version it speaks; 0 says nothing. A newer one can speak ours."""
    admin, store = admin_pb2_grpc.AdminStub(channel), key_value_pb2_grpc.KeyValueStub(channel)
    assert (await admin.Describe(admin_pb2.DescribeRequest(protocol=protocol))).protocol == PROTOCOL
    known = key_value_pb2.OperationGroup(kind=key_value_pb2.KIND_GET, namespace="default", keys=[b"k"])
    unknown = key_value_pb2.OperationGroup(kind=77, namespace="default", keys=[b"k"])  # type: ignore[arg-type]
    reply = await store.Batch(key_value_pb2.BatchRequest(protocol=protocol, groups=[known]))
    assert list(reply.replies[0].values) == [b"v"]
    reply = await store.Batch(key_value_pb2.BatchRequest(protocol=protocol, groups=[unknown]))
    assert isinstance(decode_error(reply.replies[0].error), BadRequest)
    hello = peer_pb2.HelloRequest(protocol=protocol, cluster_id="test", node_id="n1", settings="{}")
    answer = await peer_pb2_grpc.PeerStub(channel).Hello(hello)
    assert answer.protocol == PROTOCOL and answer.HasField("error"), "n1 is somebody else"


class OtherVersion(admin_pb2_grpc.AdminServicer):
    """A node of another version, as far as a client asks."""

    def __init__(self, reply: admin_pb2.DescribeReply) -> None:
        self.reply = reply

    async def Describe(self, request: admin_pb2.DescribeRequest, context: Any) -> admin_pb2.DescribeReply:
        return self.reply


async def connect_to(servicer: admin_pb2_grpc.AdminServicer | None) -> KvError | None:
    """What a client says of a server with this Admin service, or none at all."""
    (number,) = free_ports(1)
    server = aio.server()
    if servicer is not None:
        admin_pb2_grpc.add_AdminServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{number}")
    await server.start()
    client = AsyncClient(f"127.0.0.1:{number}", timeout_s=30)
    try:
        async with asyncio.timeout(10):
            await client.connect()
    except KvError as error:
        return error
    finally:
        await client.close()
        await server.stop(0)
    return None


async def test_a_server_that_is_another_one_is_named_within_moments() -> None:
    assert isinstance(await connect_to(None), UnsupportedProtocol), "some gRPC server, but not of ours"
    assert isinstance(await connect_to(OtherVersion(admin_pb2.DescribeReply())), UnsupportedProtocol), "says nothing we know"


async def test_a_server_of_a_newer_version_that_still_describes_its_ring_is_used() -> None:
    member = MemberInfo("n1", "127.0.0.1:1")
    reply = admin_pb2.DescribeReply(
        protocol=99,
        cluster_id="c",
        ring_epoch=1,
        partitions=1,
        owners_per_partition=1,
        owners=bytes(2),
        members=[admin_pb2.Member(id=member.id, address=member.address)],
    )
    assert await connect_to(OtherVersion(reply)) is None
