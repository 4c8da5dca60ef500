"""Level zone_quorum: a majority of the home replicas in the coordinator's own zone; the others get everything at the same time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kvproto.columns import Level
from kvproto.errors import QuorumUnreachable
from kvstore.config import ClusterConfig, NamespaceConfig
from tests.support.cluster import LONG, Cluster
from tests.support.waiting import until

ZONES = {"n1": "east", "n2": "east", "n3": "east", "n4": "west", "n5": "west", "n6": "west"}
IN_ZONE: dict[str, Any] = {"level": Level.ZONE_QUORUM}


@pytest.fixture
async def six() -> AsyncIterator[Cluster]:
    spaces = {"default": NamespaceConfig(n=6)}
    async with Cluster(6, settings=ClusterConfig(partitions=8, replicas=6, zones=ZONES, namespaces=spaces)) as running:
        yield running


async def test_it_is_met_by_the_own_zone_while_the_other_is_away(six: Cluster) -> None:
    for far in ("n4", "n5", "n6"):
        six.isolate(far)
    for told in (await six.put("n1", b"k", b"v", **IN_ZONE, **LONG), await six.get("n2", b"k", **IN_ZONE, **LONG)):
        assert told.error is None and told.receipt is not None
        assert told.receipt.needed == 2 and set(told.receipt.zones) == {"east"} and not told.receipt.degraded
    assert (await six.get("n3", b"k", **IN_ZONE, **LONG)).value == b"v"


async def test_the_other_zone_gets_what_it_does_not_count_for(six: Cluster) -> None:
    six.isolate("n6")
    await six.put("n1", b"k", b"v", **IN_ZONE, **LONG)
    await until(lambda: six.held("n4", b"k") is not None and six.held("n5", b"k") is not None)
    assert six.members["n1"].local.hints.pending("n6") == 1


async def test_one_of_the_other_zone_that_fails_is_owed_and_no_reason_to_fail(six: Cluster) -> None:
    six.wire("n1", "n5").error = QuorumUnreachable("no")
    told = await six.put("n1", b"k", b"v", **IN_ZONE, **LONG)
    assert told.error is None
    await until(lambda: six.members["n1"].local.hints.pending("n5") == 1)


async def test_it_is_refused_when_the_own_zone_has_no_majority_whoever_else_is_there(six: Cluster) -> None:
    for near in ("n2", "n3"):
        six.cut("n1", near)
    for told in (await six.put("n1", b"k", b"v", **IN_ZONE, **LONG), await six.get("n1", b"k", **IN_ZONE, **LONG)):
        assert isinstance(told.error, QuorumUnreachable) and told.error.needed == 2 and not told.error.may_have_applied


async def test_where_no_zones_are_set_it_is_a_quorum() -> None:
    async with Cluster() as cluster:
        assert (await cluster.put("n1", b"k", b"v", **IN_ZONE)).error is None
        told = await cluster.get("n2", b"k", **IN_ZONE)
        assert told.value == b"v" and told.receipt is not None and told.receipt.needed == 2
