"""What a read says of nodes that may know more than those that answered it (safety rule 12)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.cluster import LONG, Cluster, Told
from tests.support.waiting import until


@pytest.fixture
async def owing() -> AsyncIterator[Cluster]:
    """n1 and n2 have lost each other, and n1 owes n2 a write, which n3 has been told."""
    async with Cluster() as three:
        three.cut("n1", "n2")
        assert (await three.put("n1", b"k", b"v", **LONG)).error is None
        await until(lambda: three.members["n1"].local.hints.pending("n2"))
        three.members["n1"].local.upkeep.owing.look()
        await until(lambda: three.members["n3"].local.upkeep.doubts.everywhere() == {"n1"})
        yield three


def answered(told: Told) -> tuple[list[str], bool]:
    """By whom, and whether it is `degraded`."""
    assert told.error is None and told.receipt is not None, told
    return sorted(told.receipt.acknowledged), told.receipt.degraded


async def test_bug_reads_said_degraded_that_whoever_owes_something_had_answered_itself(owing: Cluster) -> None:
    """1. n1 and n2 lose each other; their clients reach both. 2. n1 takes a write, and owes it to n2. 3. A client that gathers its
    reads asks n3, which was told so. What n1 has acknowledged n1 holds: it is asked first, and then the answer is whole."""
    for _ in range(6):
        assert answered(await owing.get("n3", b"k", **LONG)) == (["n1", "n3"], False)


async def test_a_read_that_is_answered_without_whoever_owes_something_says_so(owing: Cluster) -> None:
    owing.stall("n1")
    for _ in range(3):
        assert answered(await owing.get("n3", b"k", **LONG)) == (["n2", "n3"], True)


async def test_a_scan_is_whole_if_whoever_owes_something_has_answered(owing: Cluster) -> None:
    for _ in range(6):
        (page,) = await owing.scan("n3")
        assert page.receipt is not None and page.keys == [b"k"]
        assert page.receipt.degraded == ("n1" not in page.receipt.acknowledged)
    owing.stall("n1")
    (page,) = await owing.scan("n3")
    assert page.receipt is not None and page.receipt.degraded and set(page.receipt.acknowledged) == {"n2", "n3"}


async def test_whoever_has_lost_records_clears_no_doubt(owing: Cluster) -> None:
    """n1 owes something and answers, but may have lost what it owes."""
    owing.members["n1"].local.store.is_rebuilding = True
    for _ in range(3):
        assert answered(await owing.get("n3", b"k", **LONG)) == (["n2", "n3"], True)
        (page,) = await owing.scan("n3")
        assert page.receipt is not None and page.receipt.degraded
