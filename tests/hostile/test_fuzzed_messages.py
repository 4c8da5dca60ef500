"""Any message that can be decoded gets an answer: an error or a result for each operation, never an exception, never silence.

The services run as in a node, over memory; messages cross as bytes. After each of them a good client is served by the same cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from kvproto.codec import decode_replies
from kvproto.errors import Code
from kvproto.large_messages import whole
from kvproto.outbox import Outbox
from kvproto.v1 import key_value_pb2, peer_pb2
from kvstore.api.exchange import Reply
from kvstore.config import ClusterConfig
from kvstore.core.record import encode
from kvstore.core.versions import EMPTY
from kvstore.storage.layout import quarantine_key, store_key_prefix, system_key
from tests.support.cluster import Cluster, UnaryContext

SMALL = st.binary(max_size=12)
UINT32, UINT64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


def columns(values: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, max_size=most)


def groups() -> st.SearchStrategy[key_value_pb2.OperationGroup]:
    """Columns of any lengths and any values, kinds and levels of no version; often nearly right."""
    return st.builds(
        key_value_pb2.OperationGroup,
        kind=st.one_of(st.integers(1, 3), st.integers(-(2**31), 2**31 - 1)),
        namespace=st.sampled_from(["default", "", "nowhere", "\x00"]),
        keys=columns(st.one_of(SMALL, st.just(b"k"), st.just(bytes(5000)))),
        values=columns(SMALL),
        contexts=columns(st.binary(max_size=40)),
        request_ids=st.one_of(st.binary(max_size=70), st.just(bytes(16)), st.just(bytes(32))),
        ttls_ms=columns(UINT64),
        timeouts_ms=columns(st.one_of(st.integers(0, 50), UINT32)),
        level=st.one_of(st.integers(0, 4), st.integers(-(2**31), 2**31 - 1)),
        r=UINT32,
        w=UINT32,
        explain=st.booleans(),
        attempt=UINT32,
    )


BATCHES = st.builds(
    key_value_pb2.BatchRequest,
    batch_id=UINT64,
    protocol=UINT32,
    cluster_id=st.sampled_from(["", "default", "other"]),
    ring_epoch=UINT64,
    hops=UINT32,
    trace_id=st.binary(max_size=20),
    groups=st.lists(groups(), max_size=3),
)

NESTED = '{"a":' * 900 + "{}" + "}" * 900
SETTINGS = ClusterConfig(partitions=8).canonical_json()

STORE_KEYS = st.one_of(st.binary(max_size=20), st.builds(lambda key: bytes(5) + b"\x01" + key, SMALL))


def peer_requests(epoch: int, ring_hash: int) -> st.SearchStrategy[peer_pb2.PeerRequest]:
    return st.builds(
        peer_pb2.PeerRequest,
        batch_id=UINT64,
        ring_epoch=st.one_of(st.just(epoch), UINT64),
        ring_hash=st.just(ring_hash),
        sent_ms=UINT64,
        timeout_ms=UINT32,
        store_keys=columns(STORE_KEYS),
        store_records=columns(st.one_of(st.binary(max_size=80), st.just(encode(EMPTY)))),
        fetch_keys=columns(STORE_KEYS),
        fetch_digests=st.binary(max_size=40),
        trace_ids=columns(st.binary(max_size=20)),
        store_checksum=st.one_of(st.none(), UINT32),
    )


class Bench:
    """A cluster on a loop of its own, which hypothesis enters again and again."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.cluster = Cluster()
        self.runner.run(self.cluster.__aenter__())
        self.node = self.cluster.members["n1"]

    def run(self, work: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(20):
                return await work

        return self.runner.run(bounded())

    def serves_still(self) -> None:
        async def use() -> None:
            assert (await self.cluster.put("n1", b"good", b"v")).error is None
            assert (await self.cluster.get("n2", b"good")).value == b"v"

        self.run(use())
        assert not self.cluster.defects, self.cluster.defects

    def close(self) -> None:
        self.runner.run(self.cluster.__aexit__(None, None, None))
        self.runner.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with structlog.testing.capture_logs() as events:
        yield bench
    bench.close()
    assert [event for event in events if event["event"] == "round_failed"] == []


def answered(request: key_value_pb2.BatchRequest, reply: key_value_pb2.BatchReply) -> None:
    """Each operation of each group exactly once, with nothing that names a defect of the node."""
    told = [[0] * max(1, len(group.keys)) for group in request.groups]
    for part in decode_replies(reply):
        assert part.error is None or part.error.code is not Code.INTERNAL, part.error
        for position in range(len(told[part.group])) if part.positions is None else part.positions:
            told[part.group][position] += 1
    assert all(set(counts) <= {1} for counts in told), told


def test_any_batch_is_answered(bench: Bench) -> None:
    @given(request=BATCHES)
    def check(request: key_value_pb2.BatchRequest) -> None:
        received = key_value_pb2.BatchRequest.FromString(request.SerializeToString())
        reply = bench.run(bench.node.key_value_service.Batch(received, UnaryContext("ipv4:127.0.0.1:1")))
        assert reply.batch_id == request.batch_id and reply.last
        answered(request, key_value_pb2.BatchReply.FromString(reply.SerializeToString()))
        bench.serves_still()

    check()


def test_bug_a_level_below_zero_broke_the_scan(bench: Bench) -> None:
    """Enums are signed on the wire; only numbers above the known ones were taken for the preset."""
    request = key_value_pb2.ScanRequest(namespace="default", level=-1)  # type: ignore[arg-type]

    async def scan() -> list[key_value_pb2.ScanReply]:
        return [page async for page in bench.node.key_value_service.Scan(request, UnaryContext("ipv4:127.0.0.1:1"))]

    bench.serves_still()
    (page,) = bench.run(scan())
    assert list(page.keys) == [b"good"] and not page.HasField("error")


def test_any_scan_is_answered(bench: Bench) -> None:
    @given(
        request=st.builds(
            key_value_pb2.ScanRequest,
            namespace=st.sampled_from(["default", "", "nowhere"]),
            prefix=SMALL,
            start=SMALL,
            end=SMALL,
            after=SMALL,
            limit=UINT64,
            level=st.integers(-(2**31), 2**31 - 1),
            r=UINT32,
            timeout_ms=UINT32,
            cluster_id=st.sampled_from(["", "other"]),
            protocol=UINT32,
            ring_epoch=UINT64,
            trace_id=st.binary(max_size=20),
        )
    )
    def check(request: key_value_pb2.ScanRequest) -> None:
        async def scan() -> list[key_value_pb2.ScanReply]:
            received = key_value_pb2.ScanRequest.FromString(request.SerializeToString())
            return [page async for page in bench.node.key_value_service.Scan(received, UnaryContext("ipv4:127.0.0.1:1"))]

        for page in bench.run(scan()):
            assert page.error.code != key_value_pb2.INTERNAL, page.error
        bench.serves_still()

    check()


def through_peer(bench: Bench, request: peer_pb2.PeerRequest) -> list[peer_pb2.PeerReply]:
    """The parts of the answer, the last one last."""

    async def ask() -> list[peer_pb2.PeerReply]:
        parts: list[peer_pb2.PeerReply] = []
        complete = asyncio.Event()

        async def take(part: Reply) -> None:
            parts.append(peer_pb2.PeerReply.FromString(whole(part).SerializeToString()))
            if parts[-1].last:
                complete.set()

        received = peer_pb2.PeerRequest.FromString(request.SerializeToString())
        bench.node.peer_service.exchange.answer(received, Outbox(take))
        if received.store_keys or received.fetch_keys or parts:
            await complete.wait()
        return parts

    found: list[peer_pb2.PeerReply] = bench.run(ask())
    return found


def test_anything_a_peer_says_is_answered(bench: Bench) -> None:
    ring = bench.node.local.view.ring

    @given(request=peer_requests(ring.epoch, ring.hash))
    def check(request: peer_pb2.PeerRequest) -> None:
        parts = through_peer(bench, request)
        assert all(part.batch_id == request.batch_id for part in parts)
        assert all(part.error.code != key_value_pb2.INTERNAL for part in parts), parts
        bench.serves_still()

    check()


@pytest.mark.parametrize(
    "store_key",
    [system_key(b"lease"), quarantine_key(b"x"), store_key_prefix(8, 1) + b"k", store_key_prefix(0, 1), b"", b"k"],
    ids=["of the node itself", "set aside", "partition 8 of 8", "without a key", "empty", "too short"],
)
def test_bug_a_peer_could_store_and_ask_for_what_is_no_record(bench: Bench, store_key: bytes) -> None:
    """Beside records lies what a node keeps for itself: a record stored there would have replaced its lease; a question about it
    found it "damaged", and counted it as lost."""
    ring = bench.node.local.view.ring
    for columns in ({"store_keys": [store_key], "store_records": [encode(EMPTY)]}, {"fetch_keys": [store_key]}):
        request = peer_pb2.PeerRequest(batch_id=1, ring_epoch=ring.epoch, ring_hash=ring.hash, **columns)  # type: ignore[arg-type]
        (reply,) = through_peer(bench, request)
        assert reply.last and reply.error.code == key_value_pb2.BAD_REQUEST
    assert bench.node.engine.get(store_key) != encode(EMPTY)
    assert bench.node.local.store.quarantined == 0


def test_bug_a_page_of_no_namespace_was_a_defect_of_the_node(bench: Bench) -> None:
    ring = bench.node.local.view.ring
    request = peer_pb2.PageRequest(ring_epoch=ring.epoch, ring_hash=ring.hash, namespace=2**32 - 1)
    assert bench.run(bench.node.peer_service.Page(request, None)).error.code == key_value_pb2.BAD_REQUEST


def test_bug_settings_nested_without_end_broke_the_greeting(bench: Bench) -> None:
    """Python's JSON parser raises `RecursionError`, which is no `ValueError`."""
    for text in ('{"a":' * 100_000, NESTED):
        request = peer_pb2.HelloRequest(cluster_id="default", node_id="n2", settings=text)
        reply = bench.run(bench.node.peer_service.Hello(request, None))
        assert reply.error.code == key_value_pb2.SETTINGS_MISMATCH


def test_any_page_is_answered(bench: Bench) -> None:
    ring = bench.node.local.view.ring

    @given(
        request=st.builds(
            peer_pb2.PageRequest,
            ring_epoch=st.just(ring.epoch),
            ring_hash=st.just(ring.hash),
            namespace=UINT32,
            start=SMALL,
            end=SMALL,
            count_max=UINT32,
            bytes_max=UINT32,
            timeout_ms=UINT32,
        )
    )
    def check(request: peer_pb2.PageRequest) -> None:
        reply = bench.run(bench.node.peer_service.Page(peer_pb2.PageRequest.FromString(request.SerializeToString()), None))
        assert reply.error.code != key_value_pb2.INTERNAL

    check()


def test_any_greeting_is_answered(bench: Bench) -> None:
    @given(
        request=st.builds(
            peer_pb2.HelloRequest,
            cluster_id=st.sampled_from(["default", ""]),
            node_id=st.sampled_from(["n2", "n1", "", "x" * 300]),
            incarnation=UINT64,
            protocol=UINT32,
            settings=st.one_of(st.text(max_size=20), st.sampled_from(["[]", "1", '{"a":' * 2000, NESTED, SETTINGS])),
            actor=st.binary(max_size=20),
            lease=UINT64,
            expects=st.sampled_from(["", "n1", "n9"]),
        )
    )
    def check(request: peer_pb2.HelloRequest) -> None:
        reply = bench.run(bench.node.peer_service.Hello(peer_pb2.HelloRequest.FromString(request.SerializeToString()), None))
        assert reply.node_id == "n1" and reply.error.code != key_value_pb2.INTERNAL

    check()
