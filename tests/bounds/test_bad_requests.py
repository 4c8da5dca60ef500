"""Requests that are wrong, by bare gRPC and by the client: each gets a typed error that says why, and the node goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from kvclient import AsyncClient, BatchError
from kvproto.codec import decode_error, decode_page, decode_replies, encode_batch, encode_scan
from kvproto.columns import GroupReply, Kind, Level, OperationGroup, ScanQuery
from kvproto.errors import (
    AvailabilityError,
    BadRequest,
    DeadlineExceeded,
    KvError,
    SettingsMismatch,
    TooLarge,
    UnknownNamespace,
    WrongCluster,
)
from kvproto.options import MESSAGE_BYTES_MAX
from kvproto.v1 import key_value_pb2, key_value_pb2_grpc, peer_pb2, peer_pb2_grpc
from kvstore.coordinator import intake
from tests.support.nodes import SETTINGS, Nodes
from tests.support.waiting import until

MIB = 1 << 20
PUT = OperationGroup(Kind.PUT, "default", [b"k"], values=[b"v"])
GET = OperationGroup(Kind.GET, "default", [b"k"])


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path, ["n1"]) as nodes:
        await nodes.start()
        yield nodes
        await until(lambda: nodes.local("n1").serving.intake.held_bytes == 0 and nodes.local("n1").coordinator.in_flight == 0)
        nodes.running["n1"].check()


@pytest.fixture
async def stub(nodes: Nodes) -> AsyncIterator[Any]:
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(nodes.addresses["n1"], options=options) as channel:
        yield key_value_pb2_grpc.KeyValueStub(channel)
        (reply,) = decode_replies(await key_value_pb2_grpc.KeyValueStub(channel).Batch(encode_batch(1, [GET])))
        assert reply.error is None, "it serves on"


@pytest.fixture
async def client(nodes: Nodes) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(nodes.addresses["n1"]) as client:
        yield client
        await client.put("still", b"here")
        assert (await client.get("still")).value == b"here"


async def told(stub: Any, request: key_value_pb2.BatchRequest) -> list[GroupReply]:
    """What a unary call is answered, which is what a batch on a stream is answered too."""
    unary = decode_replies(await stub.Batch(request))
    call = stub.Exchange()
    await call.write(request)
    streamed: list[GroupReply] = []
    while True:
        message = await call.read()
        streamed += decode_replies(message)
        if message.last:
            break
    await call.done_writing()
    assert outcomes(unary) == outcomes(streamed)
    return unary


def outcomes(replies: list[GroupReply]) -> list[tuple[int, list[int], str]]:
    return sorted((reply.group, list(reply.positions or ()), type(reply.error).__name__) for reply in replies)


async def refusal(stub: Any, group: OperationGroup) -> KvError:
    """The error with which a group is refused as a whole, or its only operation."""
    (reply,) = await told(stub, encode_batch(1, [group]))
    assert reply.error is not None and not reply.error.may_have_applied
    return reply.error


# By bare gRPC.


@pytest.mark.parametrize(
    ("group", "error", "subject"),
    [
        (replace(PUT, keys=[b""]), BadRequest, "key"),
        (replace(PUT, keys=[bytes(4097)]), TooLarge, "key"),
        (replace(PUT, values=[bytes(MIB + 1)]), TooLarge, "value"),
        (replace(PUT, values=[]), BadRequest, "values"),
        (replace(PUT, values=[b"1", b"2"]), BadRequest, "values"),
        (replace(GET, values=[b"1"]), BadRequest, "values"),
        (replace(PUT, request_ids=b"short"), BadRequest, "request_ids"),
        (replace(PUT, contexts=[b"\x09nonsense"]), BadRequest, "context"),
        (replace(PUT, ttls_ms=[2**64 - 1]), BadRequest, "ttls_ms"),  # what a negative one looks like
        (replace(PUT, ttls_ms=[1, 2]), BadRequest, "ttls_ms"),
        (replace(GET, keys=[]), BadRequest, ""),
        (replace(GET, namespace="nowhere"), UnknownNamespace, "nowhere"),
        (replace(GET, namespace=""), UnknownNamespace, ""),
        (replace(GET, level=Level.EXPLICIT, r=4), BadRequest, "r"),
        (replace(GET, level=Level.EXPLICIT, r=0), BadRequest, "r"),
        (replace(PUT, level=Level.EXPLICIT, w=2), BadRequest, "w"),
    ],
)
async def test_a_wrong_group_is_refused(stub: Any, group: OperationGroup, error: type[KvError], subject: str) -> None:
    refused = await refusal(stub, group)
    assert type(refused) is error and refused.subject == subject and refused.message
    assert not refused.retryable


async def test_what_is_right_about_a_group_is_done_all_the_same(stub: Any) -> None:
    mixed = replace(PUT, keys=[b"k", b"", bytes(4097), b"m"], values=[b"1"] * 4)
    replies = await told(stub, encode_batch(1, [mixed]))
    refused = {at: type(reply.error) for reply in replies if reply.error for at in reply.positions or ()}
    assert refused == {1: BadRequest, 2: TooLarge}
    assert [list(reply.positions or ()) for reply in replies if not reply.error] == [[0, 3]]


@pytest.mark.parametrize("kind", [0, 4, 99])
async def test_a_kind_of_operation_that_does_not_exist(stub: Any, kind: int) -> None:
    request = encode_batch(1, [GET, PUT])
    request.groups[1].kind = kind  # type: ignore[assignment]
    replies = await told(stub, request)
    assert [type(reply.error) for reply in replies] == [BadRequest, BadRequest], "nothing of it was executed"


async def test_an_empty_batch_is_answered_with_nothing(stub: Any) -> None:
    assert await told(stub, encode_batch(1, [])) == []


async def test_another_cluster(stub: Any) -> None:
    (reply,) = await told(stub, encode_batch(1, [PUT], cluster_id="other"))
    assert isinstance(reply.error, WrongCluster) and reply.error.subject == SETTINGS.id
    pages = [decode_page(page) async for page in stub.Scan(encode_scan(ScanQuery("default"), cluster_id="other"))]
    assert [type(page.error) for page in pages] == [WrongCluster]


async def test_more_operations_than_one_batch_may_have(stub: Any) -> None:
    error = await refusal(stub, replace(GET, keys=[b"%d" % at for at in range(10_000)]))
    assert isinstance(error, TooLarge)
    assert (error.subject, error.limit, error.actual) == ("batch", 4096, 10_000)


async def test_nothing_but_groups_is_no_way_to_an_answer_without_end(stub: Any) -> None:
    request = key_value_pb2.BatchRequest(batch_id=1, groups=[key_value_pb2.OperationGroup()] * 20_000)
    replies = await told(stub, request)
    assert len(replies) == 4096 and {type(reply.error) for reply in replies} == {TooLarge}


async def test_a_deadline_in_the_past_is_never_executed(nodes: Nodes, stub: Any) -> None:
    late = replace(PUT, keys=[b"late", b"in time"], values=[b"1", b"2"], timeouts_ms=[0, 5000])
    replies = await told(stub, encode_batch(1, [late]))
    (refused,) = [reply for reply in replies if reply.error]
    assert list(refused.positions or ()) == [0] and isinstance(refused.error, DeadlineExceeded)
    assert not refused.error.may_have_applied
    answer = await nodes.run("n1", replace(GET, keys=[b"late", b"in time"]))
    assert not answer[0].values and answer[1].value == b"2"


async def test_a_call_whose_own_deadline_has_passed_is_never_executed(nodes: Nodes, stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Batch(encode_batch(1, [replace(PUT, keys=[b"late"])]), timeout=-1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    answer = await nodes.run("n1", replace(GET, keys=[b"late"]))
    assert not answer[0].values


async def test_a_message_over_the_limit_ends_its_call_and_no_other(nodes: Nodes, stub: Any) -> None:
    other = stub.Exchange()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Batch(encode_batch(1, [replace(PUT, values=[bytes(MESSAGE_BYTES_MAX + 1)])]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (caught.value.details() or "")
    await other.write(encode_batch(1, [GET]))
    assert (await other.read()).last
    await other.done_writing()


async def test_what_is_no_message_at_all(nodes: Nodes) -> None:
    async with grpc.aio.insecure_channel(nodes.addresses["n1"]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/kvproto.v1.KeyValue/Batch", None, None)(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/kvproto.v1.KeyValue/Bath", None, None)(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "settings",
    ["", "no JSON", "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, '{"partitions": ' + "9" * 5000 + "}", " " * (1 << 21)],
)
async def test_a_greeting_with_settings_that_are_none(nodes: Nodes, settings: str) -> None:
    async with grpc.aio.insecure_channel(nodes.addresses["n1"]) as channel:
        reply = await peer_pb2_grpc.PeerStub(channel).Hello(
            peer_pb2.HelloRequest(cluster_id=SETTINGS.id, node_id="n9", settings=settings, protocol=1)
        )
    error = decode_error(reply.error)
    assert isinstance(error, SettingsMismatch | TooLarge) and error.subject in ("n9", "settings")


# By the client, which refuses most of it before it is sent.


async def refused_by(client: AsyncClient, operation: Any) -> KvError:
    with pytest.raises(KvError) as caught:
        await operation
    assert not caught.value.may_have_applied
    return caught.value


async def test_the_client_refuses_what_no_node_would_take(client: AsyncClient) -> None:
    for operation, error in [
        (client.put("", b"v"), BadRequest),
        (client.get(""), BadRequest),
        (client.put("k" * 4097, b"v"), TooLarge),
        (client.put("k", bytes(MIB + 1)), TooLarge),
        (client.put("k", b"v", ttl_s=-1), BadRequest),
        (client.put("k", b"v", ttl_s=4e9), BadRequest),
        (client.put("k", b"v", w=4), BadRequest),
        (client.get("k", r=2), BadRequest),
        (client.put("k", b"v", context=b"\x09nonsense"), BadRequest),
        (client.namespace("nowhere").get("k"), UnknownNamespace),
        (client.get("k", timeout_s=0), BadRequest),
        (client.put("late", b"v", timeout_s=-1), BadRequest),
    ]:
        assert type(await refused_by(client, operation)) is error
    assert not (await client.get("late")).found


async def test_ten_thousand_keys_at_once_go_in_batches_by_themselves(client: AsyncClient) -> None:
    keys = [f"{at:05}" for at in range(10_000)]
    await client.put_many({key: key.encode() for key in keys}, timeout_s=60)
    found = await client.get_many(keys, timeout_s=60)
    assert [found[key].value for key in keys] == [key.encode() for key in keys]


async def test_one_wrong_key_among_many_keeps_all_of_them_here(client: AsyncClient) -> None:
    assert isinstance(await refused_by(client, client.put_many({"a": b"1", "": b"2"})), BadRequest)
    assert not (await client.get("a")).found
    assert await client.get_many([]) == {}


async def test_many_keys_of_an_unknown_namespace(client: AsyncClient) -> None:
    with pytest.raises(BatchError) as caught:
        await client.namespace("nowhere").get_many(["a", "b"])
    assert {type(error) for error in caught.value.errors.values()} == {UnknownNamespace}


async def test_a_client_of_another_cluster(nodes: Nodes, client: AsyncClient) -> None:
    client.membership._ring.cluster_id = "other"
    assert isinstance(await refused_by(client, client.put("k", b"v")), WrongCluster)
    client.membership._ring.cluster_id = SETTINGS.id


async def test_a_client_beyond_the_connections_that_a_node_takes_is_told_so(
    nodes: Nodes, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than its deadline: so it is told at once, and has all of that deadline to be refused the first time.
    monkeypatch.setattr(intake, "REFUSED_RETRY_AFTER_S", 3_600.0)
    nodes.local("n1").serving.intake.connections_max = 1
    await client.put("first", b"in")
    async with AsyncClient(nodes.addresses["n1"]) as second:
        with pytest.raises(AvailabilityError, match="takes no more than 1"):
            await second.put("second", b"out", timeout_s=60)
    assert not (await client.get("second")).found
