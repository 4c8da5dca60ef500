"""A hundred values of 1 MiB between real nodes and to a client: more than one gRPC message may hold, and the streams live on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kvclient import AsyncClient
from kvproto.codec import decode_replies, encode_batch
from kvproto.errors import TooLarge
from kvproto.v1 import key_value_pb2_grpc
from tests.support.cluster import ALL, ONE, gets, puts
from tests.support.nodes import Nodes
from tests.support.waiting import until

VALUES = {b"key %02d" % at: b"%02d" % at * (512 * 1024) for at in range(100)}
PATIENCE_MS = 60_000


async def write_all(nodes: Nodes, node: str) -> None:
    for first in range(0, 100, 10):
        some = dict(list(VALUES.items())[first : first + 10])
        answer = await nodes.run(node, puts(some, **ONE, timeouts_ms=[PATIENCE_MS]))
        assert all(told.error is None for told in answer.told.values())


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """n2 holds the values, n1 was down when they were written."""
    async with Nodes(tmp_path) as nodes:
        await nodes.start("n2")
        await write_all(nodes, "n2")
        await nodes.start("n1")
        yield nodes


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Nodes]:
    """One node that holds them."""
    async with Nodes(tmp_path, ["n1"]) as nodes:
        await nodes.start("n1")
        await write_all(nodes, "n1")
        yield nodes


def stream(nodes: Nodes, source: str, target: str) -> object:
    """The open stream between two nodes; another one after the link was down."""
    peers = nodes.running[source].parts.peers
    assert peers is not None
    return peers._links[target]._stream


async def read_all(nodes: Nodes, node: str) -> None:
    answer = await nodes.run(node, gets(*VALUES, **ALL, timeouts_ms=[PATIENCE_MS]))
    assert [answer[at].value for at in range(100)] == list(VALUES.values())


async def test_bug_a_fetch_of_many_large_records_broke_the_link(nodes: Nodes) -> None:
    """n1 holds none of them, so the answer of n2 holds all: 100 MiB in one message, over which gRPC ended the stream."""
    before = stream(nodes, "n1", "n2")
    assert before is not None
    await read_all(nodes, "n1")
    assert stream(nodes, "n1", "n2") is before


async def test_bug_a_repair_of_many_large_records_broke_the_link(nodes: Nodes) -> None:
    """Read at n2, which then sends n1 all that it lacks: likewise."""
    before = stream(nodes, "n2", "n1")
    assert before is not None
    await read_all(nodes, "n2")
    n1 = nodes.local("n1")
    prefixes, ring = n1.view.space("default").prefixes, n1.view.ring
    for key in VALUES:
        store_key = prefixes[ring.partition_of(key)] + key
        await until(lambda store_key=store_key: n1.store.durable(store_key))  # type: ignore[misc]
    assert stream(nodes, "n2", "n1") is before


async def test_bug_many_large_values_of_one_node_never_reached_the_client(alone: Nodes) -> None:
    """One answer of 100 MiB, over which gRPC ended the client's stream; the client tried again until its time was over."""
    async with AsyncClient(alone.addresses["n1"]) as client:
        found = await client.get_many(list(VALUES), timeout_s=60)
    assert {key: entry.value for key, entry in found.items()} == VALUES


async def test_a_unary_answer_refuses_the_keys_that_do_not_fit_and_gives_the_others(alone: Nodes) -> None:
    options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    async with grpc.aio.insecure_channel(alone.addresses["n1"], options=options) as channel:
        request = encode_batch(1, [gets(*VALUES, timeouts_ms=[PATIENCE_MS])])
        replies = decode_replies(await key_value_pb2_grpc.KeyValueStub(channel).Batch(request))
    given = [value for reply in replies for value in reply.values]
    refused = [position for reply in replies if isinstance(reply.error, TooLarge) for position in reply.positions or ()]
    assert given == list(VALUES.values())[: len(given)] and len(given) > 50
    assert refused == list(range(len(given), 100))
