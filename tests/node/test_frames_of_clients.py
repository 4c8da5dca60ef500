"""A client that sends many batches sends them as frames: what it notices of the change, and of nodes that end or take none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvclient import AsyncClient, batch_streams
from kvclient.batch_streams import WORTH_FRAMES
from kvclient.grpc_transport import GrpcTransport
from kvproto.frames import HEADER_BYTES
from kvproto.v1 import key_value_pb2
from kvstore.api import frame_server
from kvstore.config import OFF, ClusterConfig, NamespaceConfig
from kvstore.node import Node
from tests.node.test_frames_between_nodes import Guest, forwarder, guest_of, hello_to
from tests.support.nodes import Nodes
from tests.support.waiting import until

SETTINGS = ClusterConfig(
    id="test", partitions=8, namespaces={"hits": NamespaceConfig(name="hits", id=2, policy="counter"), "default": NamespaceConfig()}
)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path, settings=SETTINGS) as nodes:
        yield nodes


def clients_of(node: Node) -> int:
    """How many send frames to it."""
    assert node.parts.frames is not None
    return sum(guest.is_client for guest in node.parts.frames.guests)


async def work(client: AsyncClient, batches: int = 2 * WORTH_FRAMES) -> None:
    """So many batches to every node."""
    for number in range(batches):
        await asyncio.gather(*(client.put(f"k{number}-{key}", b"v") for key in range(8)))


async def test_who_sends_many_batches_sends_frames(nodes: Nodes) -> None:
    await nodes.start()
    async with AsyncClient(nodes.addresses["n1"]) as client:
        await client.put("k", b"v")
        assert not any(map(clients_of, nodes.running.values())), "a command needs no second connection"
        await work(client)
        await until(lambda: all(clients_of(node) == 1 for node in nodes.running.values()))
        await work(client)
        assert (await client.get("k")).value == b"v"
    await until(lambda: not any(map(clients_of, nodes.running.values())))


async def test_no_operation_fails_or_is_done_twice_while_the_stream_changes(nodes: Nodes) -> None:
    await nodes.start()
    async with AsyncClient(nodes.addresses["n1"], timeout_s=30) as client:
        hits, done = client.namespace("hits"), 0

        async def count(key: str) -> None:
            nonlocal done
            while not all(clients_of(node) == 1 for node in nodes.running.values()) or done < 2000:
                await hits.increment(key)
                done += 1

        await asyncio.gather(*(count(f"c{key}") for key in range(16)))
        assert sum([(await hits.get(f"c{key}", level="all")).number for key in range(16)]) == done


async def test_a_node_that_ends_is_found_again_over_grpc_and_sends_frames_again(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_streams, "SOUGHT_EVERY_S", 0.0)
    await nodes.start()
    async with AsyncClient(",".join(nodes.addresses.values()), timeout_s=30) as client:
        await work(client)
        await until(lambda: clients_of(nodes.running["n2"]) == 1)
        working = asyncio.create_task(work(client, 200))
        await nodes.stop("n2")
        await nodes.start("n2")
        await working
        while clients_of(nodes.running["n2"]) != 1:
            await work(client, 4)


async def test_a_node_without_frames_or_behind_a_proxy_is_sent_none(nodes: Nodes) -> None:
    nodes.running["n1"] = Node(nodes.config("n1", frames=OFF, peers={}))
    await nodes.running["n1"].start()
    async with AsyncClient(nodes.addresses["n1"]) as client:
        await work(client)
    await nodes.stop("n1")
    nodes.running["n1"] = Node(nodes.config("n1", peers={}))
    await nodes.running["n1"].start()
    async with (
        forwarder(lambda: nodes.addresses["n1"]) as between,
        AsyncClient(between, address_map={"n1": between}) as client,
    ):
        await work(client)
        assert not clients_of(nodes.running["n1"]), "nothing goes past the proxy"


async def test_more_clients_than_there_may_be_go_on_over_grpc(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_server.FrameServer, "_clients", lambda self: 1_000_000)
    await nodes.start()
    async with AsyncClient(nodes.addresses["n1"]) as client:
        await work(client)
        await work(client)
    assert not any(map(clients_of, nodes.running.values()))


async def test_what_is_no_request_ends_the_connection_and_no_other(nodes: Nodes) -> None:
    await nodes.start()
    node = nodes.running["n1"]
    async with AsyncClient(nodes.addresses["n1"]) as client, guest_of(node) as guest:
        await work(client)
        guest.say(hello_to(node, node_id=""))
        assert key_value_pb2.FramesHello.FromString(await guest.hear() or b"").node_id == "n1"
        guest.say(key_value_pb2.BatchRequest(batch_id=1, groups=[]).SerializeToString())
        guest.say(b"\xff\xff\xff")
        while await guest.hear() is not None:
            pass
        await work(client)


async def test_who_never_reads_his_answers_is_not_read_himself(nodes: Nodes) -> None:
    """Values of 1 MB, asked for again and again: what the node holds for it is bounded, and others are served."""
    await nodes.start()
    node = nodes.running["n1"]
    async with AsyncClient(nodes.addresses["n1"], timeout_s=30) as client:
        await client.put("large", bytes(1_000_000), level="all")
        reader, writer = await asyncio.open_connection("127.0.0.1", node.parts.frames.port if node.parts.frames else 0, limit=4096)
        guest = Guest(reader, writer)
        guest.say(hello_to(node, node_id=""))
        assert await guest.hear() is not None
        get = key_value_pb2.OperationGroup(kind=key_value_pb2.KIND_GET, namespace="default", keys=[b"large"], timeouts_ms=[60_000])
        request = key_value_pb2.BatchRequest(batch_id=1, groups=[get]).SerializeToString()
        said = len(request).to_bytes(HEADER_BYTES, "big") + request
        intake = node.local.serving.intake if node.local is not None else None
        assert intake is not None
        guest.say(request)
        first = key_value_pb2.BatchReply.FromString(await guest.hear() or b"")
        assert first.replies[0].values == [bytes(1_000_000)]
        for _ in range(500):
            writer.write(said)
        await until(lambda: intake.held_bytes > 4_000_000)
        most = 0
        for _ in range(50):
            await work(client, 1)
            most = max(most, intake.held_bytes)
        assert most < 140_000_000, "half of the budget of 256 MiB at the most"
        writer.transport.abort()
        await until(lambda: intake.held_bytes < 4_000_000)
        await asyncio.sleep(0)  # for the transport's own end


async def test_bug_requests_that_were_held_back_were_never_read(nodes: Nodes) -> None:
    """1. Several come at once: one is read, one is held, the connection is paused. 2. It goes on, and hands over what it had held
    before anybody waits for it. 3. Whoever waited then waited for ever."""
    await nodes.start()
    node = nodes.running["n1"]
    async with guest_of(node) as guest:
        guest.say(hello_to(node, node_id=""))
        assert await guest.hear() is not None
        get = key_value_pb2.OperationGroup(kind=key_value_pb2.KIND_GET, namespace="default", keys=[b"k"], timeouts_ms=[60_000])
        for number in range(300):
            guest.say(key_value_pb2.BatchRequest(batch_id=1 + number, groups=[get]).SerializeToString())
        answered = [key_value_pb2.BatchReply.FromString(await guest.hear() or b"").batch_id for _ in range(300)]
        assert sorted(answered) == list(range(1, 301))


async def test_a_transport_without_frames_stays_as_it_is(nodes: Nodes) -> None:
    await nodes.start()
    dial = lambda address, ring: GrpcTransport(address, ring)  # noqa: E731, PLW0108 - as with certificates
    async with AsyncClient(nodes.addresses["n1"], dial=dial) as client:
        await work(client)
    assert not any(map(clients_of, nodes.running.values()))
