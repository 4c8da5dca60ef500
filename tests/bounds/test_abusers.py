"""While somebody takes all that he can get, whoever behaves is served, the node stays small, and afterwards nothing is left.

The ratios are of the time of a put and a get beside the abuser to that without one. They are wide: abuser, node and client share
the machine with whatever else runs on it. Without the bounds most of these never end, or end with the node.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvclient import AsyncClient
from tests.bounds.rig import IN_FLIGHT_BYTES_MAX, RSS_BYTES_MAX, BoundedNode, abused, bounded_node, fill, median_s

IDLE_RATIO_MAX = 50
BUSY_RATIO_MAX = 1000
ALONE_S_MIN = 0.004  # of a disk and a processor that are slow; a quick one must not make the ratio narrow


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[BoundedNode]:
    async with bounded_node(tmp_path) as node:
        yield node


async def served_beside(node: BoundedNode, name: str, *, ratio_max: float, rounds: int) -> tuple[dict[str, int], dict[str, int]]:
    """What the abuser saw, and what the node counted while he was at it."""
    async with AsyncClient(node.address) as client:
        await fill(client)
        alone_s = max(ALONE_S_MIN, await median_s(client, 20))
        before = await node.counts()
        async with abused(node, name) as seen:
            beside_s = await median_s(client, rounds)
            during = await node.counts()
        await node.released(before)
        await median_s(client, 1)
    print(f"{name}: {seen}, {beside_s / alone_s:.1f} times as long, at most {node.rss_bytes_max >> 20} MiB")
    assert beside_s < ratio_max * alone_s
    assert node.rss_bytes_max < RSS_BYTES_MAX
    return seen, during


async def test_one_who_never_reads_his_answers_is_not_read_himself(node: BoundedNode) -> None:
    _, during = await served_beside(node, "deaf", ratio_max=IDLE_RATIO_MAX, rounds=10)
    assert 0 < during["held_bytes"] < 2 * IN_FLIGHT_BYTES_MAX
    assert during["in_flight"] <= 200, "his batches wait unread, not executed"


async def test_one_who_puts_without_waiting_for_answers(node: BoundedNode) -> None:
    _, during = await served_beside(node, "flood", ratio_max=BUSY_RATIO_MAX, rounds=3)
    assert during["held_bytes"] < IN_FLIGHT_BYTES_MAX


async def test_a_hundred_thousand_batches_of_one_operation_behind_each_other(node: BoundedNode) -> None:
    await served_beside(node, "one_by_one", ratio_max=BUSY_RATIO_MAX, rounds=5)


async def test_batches_as_large_as_they_may_be(node: BoundedNode) -> None:
    _, during = await served_beside(node, "huge", ratio_max=BUSY_RATIO_MAX, rounds=2)
    assert during["held_bytes"] < 2 * IN_FLIGHT_BYTES_MAX


async def test_hundreds_of_unary_batches_with_large_answers(node: BoundedNode) -> None:
    seen, _ = await served_beside(node, "unary", ratio_max=BUSY_RATIO_MAX, rounds=3)
    assert seen["NoneType"] > 0 and seen["Overloaded"] > 0, "some are answered"


async def test_a_thousand_connections_are_refused_beyond_the_limit_and_told_why(node: BoundedNode) -> None:
    seen, during = await served_beside(node, "connections", ratio_max=IDLE_RATIO_MAX, rounds=10)
    assert seen["answered"] == 199, "with the one who was there before: connections_max"
    assert seen["told why"] > 0
    assert during["connections"] == 200


async def test_a_thousand_streams_of_one_connection_wait_with_the_client(node: BoundedNode) -> None:
    seen, _ = await served_beside(node, "streams", ratio_max=IDLE_RATIO_MAX, rounds=10)
    assert seen["answered"] == 128


async def test_scans_whose_reader_stops_are_few(node: BoundedNode) -> None:
    seen, during = await served_beside(node, "scans", ratio_max=IDLE_RATIO_MAX, rounds=10)
    assert seen["answered"] + seen["Overloaded"] == 50
    assert during["held_bytes"] < 2 * IN_FLIGHT_BYTES_MAX


async def test_connections_that_say_next_to_nothing(node: BoundedNode) -> None:
    seen, _ = await served_beside(node, "loris", ratio_max=IDLE_RATIO_MAX, rounds=10)
    assert seen["greeted"] >= 50


async def test_bug_a_thousand_connections_took_the_files_that_the_disk_needs(tmp_path: Path) -> None:
    """1. The node may open 300 files. 2. Somebody opens as many connections as he can. 3. No file was left, for new tables of the
    engine nor for anybody else: nobody was served any more."""
    async with bounded_node(tmp_path, files_max=300) as node, AsyncClient(node.address) as client:
        await client.put("small", b"1")
        before = await node.counts()
        async with abused(node, "connections") as seen:
            assert 0 < seen["answered"] < 100
            for at in range(40):
                await client.put(f"fills {at}", bytes(500_000), timeout_s=20)
            assert len((await client.get("fills 0", timeout_s=20)).values) == 1
        await node.released(before)
