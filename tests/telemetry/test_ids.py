"""One id leads from a client's error to the lines of every node that had to do with it: real clients, real nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from kvclient import AsyncClient
from kvproto.codec import decode_page, decode_replies, encode_batch, encode_scan
from kvproto.columns import ScanQuery
from kvproto.errors import KvError, QuorumUnreachable
from kvproto.v1 import key_value_pb2_grpc, peer_pb2, peer_pb2_grpc
from kvstore.config import TelemetryConfig
from kvstore.simulation.logs import caught_logs
from tests.support.cluster import gets, puts
from tests.support.nodes import Nodes

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADER = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    caught: list[dict[str, Any]] = []
    with caught_logs(lambda level, event, facts: caught.append({"event": event, **facts})):
        yield caught


@pytest.fixture
async def nodes(tmp_path: Path, lines: list[dict[str, Any]]) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path, telemetry=TelemetryConfig(slow_batch_ms=1)) as nodes:
        await nodes.start()
        for node in nodes.ids:
            nodes.local(node).coordinator._slow._threshold_s = 0.0  # every batch is a slow one
        yield nodes


async def test_a_clients_error_names_the_batch_that_the_log_speaks_of(nodes: Nodes, lines: list[dict[str, Any]]) -> None:
    async with AsyncClient(nodes.addresses["n1"]) as client:
        await client.put("k", b"v")
        await nodes.stop("n2")
        with pytest.raises(QuorumUnreachable) as refused:
            await client.put("k", b"v", level="all", timeout_s=1.0)
        with pytest.raises(KvError) as other:
            await client.put("k", b"v", level="all", timeout_s=1.0)
    assert len(refused.value.trace_id) == 32 and refused.value.trace_id != other.value.trace_id
    assert refused.value.numbers()["trace_id"] == refused.value.trace_id
    slow = [line for line in lines if line["event"] == "slow_batch"]
    assert slow and all(line["trace"][:16] == refused.value.trace_id[:16] for line in slow), "the client's own prefix"


async def test_a_traceparent_is_taken_from_unary_batches_and_scans(nodes: Nodes, lines: list[dict[str, Any]]) -> None:
    async with grpc.aio.insecure_channel(nodes.addresses["n1"]) as channel:
        stub = key_value_pb2_grpc.KeyValueStub(channel)
        reply = await stub.Batch(encode_batch(1, [puts({b"": b"v"}), puts({b"k": b"v"})]), metadata=HEADER)
        assert [one.error.trace_id for one in decode_replies(reply) if one.error is not None] == [TRACE]
        (page,) = [decode_page(page) async for page in stub.Scan(encode_scan(ScanQuery("nowhere")), metadata=HEADER)]
        assert page.error is not None and page.error.trace_id == TRACE
        slow = [line for line in lines if line["event"] == "slow_batch" and line["namespace"] == "default"]
        assert {line["trace"] for line in slow} == {TRACE}, "beside those of the nodes' own reads"


async def test_what_comes_without_an_id_is_given_one(nodes: Nodes) -> None:
    async with grpc.aio.insecure_channel(nodes.addresses["n1"]) as channel:
        stub = key_value_pb2_grpc.KeyValueStub(channel)
        told = [decode_replies(await stub.Batch(encode_batch(1, [gets(b"")])))[0].error for _ in range(2)]
        assert all(error is not None and len(error.trace_id) == 32 for error in told)
        assert told[0] is not None and told[1] is not None and told[0].trace_id != told[1].trace_id


async def test_the_id_reaches_the_replica(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    server = nodes.running["n2"].parts
    seen: list[bytes] = []
    replica = nodes.local("n2").replica
    merge = replica.merge
    from kvstore.api.exchange import Exchange

    answer = Exchange.answer

    def noting(self: Exchange, request: peer_pb2.PeerRequest, outbox: Any) -> None:
        seen.extend(request.trace_ids)
        answer(self, request, outbox)

    monkeypatch.setattr(Exchange, "answer", noting)
    assert server.server is not None and merge is not None
    async with grpc.aio.insecure_channel(nodes.addresses["n1"]) as channel:
        await key_value_pb2_grpc.KeyValueStub(channel).Batch(encode_batch(1, [puts({b"k": b"v"})]), metadata=HEADER)
    assert bytes.fromhex(TRACE) in seen


async def test_a_stranger_that_is_turned_away_is_told_of_a_few_times(nodes: Nodes, lines: list[dict[str, Any]]) -> None:
    async with grpc.aio.insecure_channel(nodes.addresses["n1"]) as channel:
        for number in range(30):
            request = peer_pb2.HelloRequest(cluster_id="other", node_id=f"x{number}")
            assert (await peer_pb2_grpc.PeerStub(channel).Hello(request)).HasField("error")
            await key_value_pb2_grpc.KeyValueStub(channel).Batch(encode_batch(1, [gets(b"k")], cluster_id="other"))
    for event, code in (("peer_turned_away", "WRONG_CLUSTER"), ("request_refused", "WRONG_CLUSTER")):
        told = [line for line in lines if line["event"] == event]
        assert len(told) == 10 and {line["code"] for line in told} == {code}
