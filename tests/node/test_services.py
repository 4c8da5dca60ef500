"""A node's gRPC services as any client sees them: batches on a stream, unary and scans, and what is refused on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kvproto.admin_codec import decode_cluster, decode_status
from kvproto.codec import decode_error, decode_page, decode_replies, encode_batch, encode_scan
from kvproto.columns import ScanQuery
from kvproto.errors import BadRequest, UnknownNamespace, WrongCluster, WrongEpoch
from kvproto.v1 import admin_pb2, admin_pb2_grpc, key_value_pb2, key_value_pb2_grpc, peer_pb2, peer_pb2_grpc
from tests.support.cluster import gets, puts
from tests.support.nodes import Nodes


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path, ["n1"]) as nodes:
        await nodes.start()
        yield nodes


@pytest.fixture
async def channel(nodes: Nodes) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(nodes.addresses["n1"]) as channel:
        yield channel


async def replies_to(call: Any, batch_id: int) -> list[Any]:
    """The replies of one batch, read to its last part."""
    replies: list[Any] = []
    while True:
        message = await call.read()
        assert message.batch_id == batch_id and message.ring_epoch == 1
        replies += decode_replies(message)
        if message.last:
            return replies


async def test_batches_on_a_stream_are_answered_until_the_client_ends_it(channel: Any) -> None:
    call = key_value_pb2_grpc.KeyValueStub(channel).Exchange()
    await call.write(encode_batch(7, [puts({b"a": b"1", b"b": b"2"})]))
    assert (await replies_to(call, 7))[0].error is None
    await call.write(encode_batch(8, [gets(b"a", b"b", b"c"), gets(b"b")]))
    first, second = sorted(await replies_to(call, 8), key=lambda reply: reply.group)
    assert (list(first.counts), list(first.values)) == ([1, 1, 0], [b"1", b"2"]) and list(second.values) == [b"2"]
    await call.write(encode_batch(9, []))
    assert await replies_to(call, 9) == []
    await call.done_writing()
    assert (await call.read()) is vars(grpc.aio)["EOF"]
    assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_that_its_client_drops_ends_quietly(nodes: Nodes, channel: Any) -> None:
    call = key_value_pb2_grpc.KeyValueStub(channel).Exchange()
    await call.write(encode_batch(1, [puts({b"a": b"1"})]))
    await replies_to(call, 1)
    call.cancel()
    assert (await nodes.run("n1", gets(b"a")))[0].value == b"1"


async def test_a_unary_batch_is_answered_whole(channel: Any) -> None:
    stub = key_value_pb2_grpc.KeyValueStub(channel)
    reply = await stub.Batch(encode_batch(3, [puts({b"a": b"1", b"": b"2"}), gets(b"x")]))
    assert reply.batch_id == 3 and reply.last and len(decode_replies(reply)) == 3


async def test_another_cluster_is_refused_everywhere(channel: Any) -> None:
    stub = key_value_pb2_grpc.KeyValueStub(channel)
    (reply,) = decode_replies(await stub.Batch(encode_batch(1, [gets(b"a")], cluster_id="other")))
    assert isinstance(reply.error, WrongCluster) and reply.error.subject == "test"
    pages = [decode_page(page) async for page in stub.Scan(encode_scan(ScanQuery("default"), cluster_id="other"))]
    assert isinstance(pages[0].error, WrongCluster)
    (reply,) = decode_replies(await stub.Batch(encode_batch(1, [gets(b"a")], cluster_id="test")))
    assert reply.error is None


async def test_a_kind_that_this_version_does_not_know_is_refused(channel: Any) -> None:
    request = encode_batch(1, [gets(b"a")])
    request.groups[0].kind = 99  # type: ignore[assignment]
    (reply,) = decode_replies(await key_value_pb2_grpc.KeyValueStub(channel).Batch(request))
    assert isinstance(reply.error, BadRequest) and reply.error.subject == "kind"


async def test_scans_stream_pages_and_end_with_their_error(nodes: Nodes, channel: Any) -> None:
    await nodes.run("n1", puts({b"%02d" % at: b"v" for at in range(30)}))
    stub = key_value_pb2_grpc.KeyValueStub(channel)
    pages = [decode_page(page) async for page in stub.Scan(encode_scan(ScanQuery("default", prefix=b"1")))]
    assert [key for page in pages for key in page.keys] == [b"1%d" % at for at in range(10)]
    (page,) = [decode_page(page) async for page in stub.Scan(encode_scan(ScanQuery("nowhere")))]
    assert isinstance(page.error, UnknownNamespace)


async def test_a_node_describes_the_ring_and_counts_its_own_work(nodes: Nodes, channel: Any) -> None:
    await nodes.run("n1", puts({b"a": b"1"}))
    stub = admin_pb2_grpc.AdminStub(channel)
    info = decode_cluster(await stub.Describe(admin_pb2.DescribeRequest()))
    assert (info.cluster_id, info.node_id, info.partitions) == ("test", "n1", 8)
    assert [member.address for member in info.members] == [nodes.addresses["n1"]]
    status = decode_status(await stub.Status(admin_pb2.StatusRequest()))
    assert (status.node_id, status.keys, status.state) == ("n1", 1, "alive") and status.commits >= 2


async def test_health_says_serving(channel: Any) -> None:
    reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="kvproto.v1.KeyValue"))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_peers_of_another_ring_are_told_which_one_this_node_goes_by(channel: Any) -> None:
    stub = peer_pb2_grpc.PeerStub(channel)
    page = await stub.Page(peer_pb2.PageRequest(ring_epoch=9, ring_hash=9, namespace=1, count_max=1, bytes_max=1))
    error = decode_error(page.error)
    assert isinstance(error, WrongEpoch) and (error.limit, error.actual) == (1, 9)
    call = stub.Exchange()
    await call.write(peer_pb2.PeerRequest(batch_id=5, ring_epoch=9, store_keys=[b"k"], store_records=[b"r"]))
    reply = await call.read()
    assert (reply.batch_id, reply.last) == (5, True) and isinstance(decode_error(reply.error), WrongEpoch)
    call.cancel()


async def test_a_reply_carries_the_epoch_by_which_it_was_made(channel: Any) -> None:
    reply = await key_value_pb2_grpc.KeyValueStub(channel).Batch(key_value_pb2.BatchRequest(batch_id=1))
    assert reply.ring_epoch == 1 and reply.last and not reply.replies
