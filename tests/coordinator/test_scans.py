"""Scans: order over partitions, pages, ranges, resuming, and nodes that are down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kvproto.columns import Level, ScanPage, ScanQuery
from kvproto.errors import BadRequest, DeadlineExceeded, QuorumUnreachable, UnknownNamespace
from kvstore.config import ClusterConfig
from kvstore.coordinator import scan as scan_module
from kvstore.core.page import Page
from tests.support.cluster import ALL, Cluster, puts
from tests.support.engines import RottingEngine, rotten

KEYS = [b"%03d" % at for at in range(60)]


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(settings=ClusterConfig(partitions=16)) as running:
        await running.run("n1", puts({key: b"v" + key for key in KEYS}, **ALL))
        yield running


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "PAGE_KEYS_MAX", 7)


def keys_of(pages: list[ScanPage]) -> list[bytes]:
    assert all(page.error is None for page in pages)
    return [key for page in pages for key in page.keys]


async def test_a_scan_gives_every_key_in_order_whatever_partition_holds_it(cluster: Cluster) -> None:
    for node in cluster.ids:
        pages = await cluster.scan(node)
        assert keys_of(pages) == KEYS
        assert [value for page in pages for value in page.values] == [b"v" + key for key in KEYS]


async def test_pages_join_without_gap_or_overlap(cluster: Cluster, small_pages: None) -> None:
    pages = await cluster.scan("n2")
    assert len(pages) > 5 and keys_of(pages) == KEYS


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"prefix": b"01"}, KEYS[10:20]),
        ({"start": b"055"}, KEYS[55:]),
        ({"end": b"003"}, KEYS[:3]),
        ({"start": b"010", "end": b"0105"}, KEYS[10:11]),
        ({"after": b"057"}, KEYS[58:]),
        ({"after": b"014", "prefix": b"01"}, KEYS[15:20]),
        ({"prefix": b"05", "end": b"052"}, KEYS[50:52]),
        ({"prefix": b"9"}, []),
        ({"start": b"2", "end": b"1"}, []),
        ({"limit": 5}, KEYS[:5]),
        ({"limit": 1000}, KEYS),
        ({"after": b"057", "limit": 1}, KEYS[58:59]),
    ],
)
async def test_ranges_and_limits(cluster: Cluster, small_pages: None, options: dict[str, object], expected: list[bytes]) -> None:
    assert keys_of(await cluster.scan("n1", **options)) == expected


async def test_a_scan_resumes_behind_the_last_key_that_was_seen(cluster: Cluster) -> None:
    seen: list[bytes] = []
    while len(seen) < len(KEYS):
        seen += keys_of(await cluster.scan("n3", after=seen[-1] if seen else b"", limit=7))
    assert seen == KEYS


async def test_prefixes_of_the_highest_bytes_have_no_end_of_their_own(cluster: Cluster) -> None:
    high = [b"\xfe\xff", b"\xff", b"\xff\x00", b"\xff\xff", b"\xff\xff\xff"]
    await cluster.run("n1", puts(dict.fromkeys(high, b"")))
    assert keys_of(await cluster.scan("n1", prefix=b"\xff")) == high[1:]
    assert keys_of(await cluster.scan("n1", prefix=b"\xff\xff")) == high[3:]
    assert keys_of(await cluster.scan("n1", prefix=b"\xfe\xff")) == high[:1]


async def test_deleted_and_expired_keys_are_left_out_and_siblings_shown(cluster: Cluster, small_pages: None) -> None:
    await cluster.delete("n2", KEYS[0])
    await cluster.put("n2", KEYS[1], b"short", ttls_ms=[10])
    await cluster.put("n2", KEYS[2], b"other", context=b"\x01\x00\x00")
    cluster.clock.advance_s(1)
    pages = await cluster.scan("n1", limit=3)
    assert keys_of(pages) == KEYS[2:5]
    assert [count for page in pages for count in page.counts or [1] * len(page.keys)] == [2, 1, 1]
    assert sorted(pages[0].values[:2]) == [b"other", b"v" + KEYS[2]]


async def test_a_page_of_deleted_keys_does_not_end_the_scan(cluster: Cluster, small_pages: None) -> None:
    for key in KEYS[5:40]:
        await cluster.delete("n1", key)
    assert keys_of(await cluster.scan("n1")) == KEYS[:5] + KEYS[40:]


async def test_keys_only_sends_no_values(cluster: Cluster) -> None:
    pages = await cluster.scan("n1", keys_only=True)
    assert keys_of(pages) == KEYS and not any(page.values for page in pages)
    assert all(len(page.versions) == 20 * len(page.keys) for page in pages)


async def test_a_scan_goes_on_with_one_node_down_and_merges_what_each_holds(cluster: Cluster, small_pages: None) -> None:
    cluster.isolate("n3")
    await cluster.put("n1", b"007", b"new")
    await cluster.put("n1", b"only on two", b"v")
    cluster.rejoin("n3")
    cluster.isolate("n2")
    pages = await cluster.scan("n3")
    assert keys_of(pages) == KEYS + [b"only on two"]
    assert dict(zip(keys_of(pages), (value for page in pages for value in page.values), strict=True))[b"007"] == b"new"


async def test_too_few_nodes_end_a_scan_with_a_typed_error(cluster: Cluster) -> None:
    cluster.isolate("n1")
    (page,) = await cluster.scan("n1", level=Level.QUORUM)
    assert isinstance(page.error, QuorumUnreachable) and not page.keys
    assert (page.error.needed, page.error.received, page.error.contacted) == (2, 1, 3)
    assert keys_of(await cluster.scan("n1", level=Level.ONE)) == KEYS


async def test_a_node_that_is_lost_midway_ends_the_scan_and_what_came_before_stands(cluster: Cluster, small_pages: None) -> None:
    seen: list[bytes] = []
    error = None
    async for page in cluster.members["n1"].local.coordinator.scan(ScanQuery("default", level=Level.QUORUM)):
        error = page.error
        seen += page.keys
        if len(seen) >= 14:
            cluster.isolate("n1")
    assert isinstance(error, QuorumUnreachable)
    assert seen == KEYS[: len(seen)]


async def test_stalled_nodes_end_a_scan_at_its_deadline(cluster: Cluster) -> None:
    cluster.stall("n2")
    assert keys_of(await cluster.scan("n1", timeout_ms=60_000)) == KEYS, "one of three holds up nothing"
    cluster.stall("n3")
    (page,) = await cluster.scan("n1", timeout_ms=50)
    assert isinstance(page.error, DeadlineExceeded)


@pytest.mark.parametrize(
    ("options", "error"), [({"level": Level.EXPLICIT, "r": 0}, BadRequest), ({"level": Level.EXPLICIT, "r": 4}, BadRequest)]
)
async def test_levels_of_a_scan_are_checked(cluster: Cluster, options: dict[str, object], error: type[Exception]) -> None:
    (page,) = await cluster.scan("n1", **options)
    assert isinstance(page.error, error)


async def test_a_scan_of_an_unknown_namespace_is_refused(cluster: Cluster) -> None:
    pages = [page async for page in cluster.members["n1"].local.coordinator.scan(ScanQuery("nowhere"))]
    assert isinstance(pages[0].error, UnknownNamespace)


async def test_any_node_of_a_larger_ring_scans_the_whole_namespace(small_pages: None) -> None:
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        await cluster.run("n1", puts(dict.fromkeys(KEYS, b"v"), **ALL))
        for node in cluster.ids:
            assert keys_of(await cluster.scan(node)) == KEYS
        cluster.isolate("n5")
        assert keys_of(await cluster.scan("n1")) == KEYS
        cluster.isolate("n4")
        (page,) = await cluster.scan("n1", level=Level.QUORUM)
        assert isinstance(page.error, QuorumUnreachable)
        pages = await cluster.scan("n1")
        assert keys_of(pages) == KEYS and all(page.receipt is not None and page.receipt.degraded for page in pages)


async def test_lost_keys_do_not_count_as_absent() -> None:
    async with Cluster(engine=RottingEngine) as cluster:
        await cluster.run("n1", puts(dict.fromkeys(KEYS, b"v"), **ALL))
        for node in ("n1", "n2"):
            engine = cluster.members[node].engine
            assert isinstance(engine, RottingEngine)
            engine.damaged.add(cluster.store_key(KEYS[3]))
            if node == "n1":
                assert keys_of(await cluster.scan("n1")) == KEYS, "two others vouch for it"
        (page,) = await cluster.scan("n3")
        assert isinstance(page.error, QuorumUnreachable) and page.error.received == 1


async def test_bug_a_record_damaged_on_its_way_was_scanned_as_absent(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. n2 alone has a key's newest record, n1 is asked with it. 2. The record arrives damaged and was skipped, while n2's page
    still counted as an answer for the key: a scan at r = 2 left out what two replicas had acknowledged."""
    peers = cluster.members["n1"].peers
    page_of = peers.page

    async def damaged(node: str, *arguments: Any) -> Page:
        page = await page_of(node, *arguments)
        return Page(
            page.keys,
            [rotten(record) if key == KEYS[3] else record for key, record in zip(page.keys, page.records, strict=True)],
            page.more,
        )

    monkeypatch.setattr(peers, "page", damaged)
    (page,) = await cluster.scan("n1")
    assert isinstance(page.error, QuorumUnreachable) and page.error.received == 1
