"""What coordinators and links count, seen from what was asked of them: real coordinators, stores and links, a wire of bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kvproto.columns import Kind, Level
from kvproto.errors import Code, QuorumUnreachable
from kvstore.api.metrics.replication import collect_links
from kvstore.storage.memory import MemoryEngine
from kvstore.telemetry.meters import LinkMeter, OperationMeter, RequestMeter
from kvstore.telemetry.node import Telemetry
from tests.support.cluster import ALL, ONE, QUORUM, Cluster, gets, puts
from tests.support.waiting import until


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as cluster:
        yield cluster


def meter_of(cluster: Cluster, node: str = "n1") -> RequestMeter:
    meter = cluster.members[node].local.telemetry.requests
    assert meter is not None
    return meter


def of(meter: RequestMeter, kind: Kind, level: Level = Level.PRESET) -> OperationMeter:
    return meter.operations[kind][level]


async def test_every_operation_counts_once_under_its_kind_level_and_outcome(cluster: Cluster) -> None:
    await cluster.run("n1", puts({b"%d" % at: b"v" for at in range(5)}), gets(b"1", b"nothing", **ALL))
    await cluster.run("n1", puts({b"x": b"v", b"": b"no key"}, **QUORUM))
    await cluster.run("n1", puts({b"k": b"v"}, w=9, level=Level.EXPLICIT))
    meter = meter_of(cluster)
    assert (of(meter, Kind.PUT).ok, of(meter, Kind.PUT).failed) == (5, {})
    assert of(meter, Kind.GET, Level.ALL).ok == 2
    put = of(meter, Kind.PUT, Level.QUORUM)
    assert (put.ok, put.failed) == (1, {Code.BAD_REQUEST: 1}) and put.durations.count == 2
    assert of(meter, Kind.PUT, Level.EXPLICIT).failed == {Code.BAD_REQUEST: 1}
    assert meter.batch_sizes.count == meter.batch_durations.count == 3 and meter.batch_sizes.total == 7 + 2 + 1
    assert meter.acknowledged[Kind.GET].total == 6, "three replicas answered for each of two keys"


async def test_a_read_counts_the_siblings_of_each_key_and_keys_that_are_not_there(cluster: Cluster) -> None:
    first = await cluster.put("n1", b"two", b"a")
    await cluster.put("n1", b"two", b"b", context=first.context)
    await cluster.put("n1", b"two", b"c", context=first.context)  # has not seen b
    await cluster.run("n1", puts({b"one": b"v"}))
    answer = await cluster.run("n1", gets(b"one", b"two", b"none"))
    assert answer[1].count == 2
    siblings = meter_of(cluster).siblings
    assert (siblings.count, siblings.total) == (3, 3) and siblings.counts[:3] == [1, 1, 1]


async def test_a_level_that_is_not_reached_counts_by_why(cluster: Cluster) -> None:
    meter = meter_of(cluster)
    cluster.isolate("n1")
    told = await cluster.put("n1", b"k", b"v", **ALL)
    assert isinstance(told.error, QuorumUnreachable)
    assert meter.quorum_failures == {(Kind.PUT, "out_of_reach"): 1}
    assert (await cluster.get("n1", b"k", **ALL)).error is not None
    assert meter.quorum_failures[Kind.GET, "too_few"] == 1
    cluster.rejoin("n1")
    cluster.stall("n2")
    cluster.stall("n3")
    await cluster.put("n1", b"k", b"v", **QUORUM, timeouts_ms=[20])
    assert meter.quorum_failures[Kind.PUT, "too_late"] == 1
    assert of(meter, Kind.PUT, Level.QUORUM).failed == {Code.DEADLINE_EXCEEDED: 1}


async def test_a_read_that_sees_a_replica_behind_counts_its_keys(cluster: Cluster) -> None:
    cluster.isolate("n3")
    await cluster.run("n1", puts({b"a": b"1", b"b": b"2"}, **QUORUM))
    cluster.rejoin("n3")
    await cluster.run("n1", gets(b"a", b"b", **ALL))
    await until(lambda: meter_of(cluster).stale == 2)
    assert cluster.members["n1"].local.serving.read_repair.repaired == 0, "they are on their way"
    cluster.clock.advance_s(1)
    await cluster.run("n1", gets(b"a", b"b", **ALL))
    await until(lambda: meter_of(cluster).stale == 4)
    await until(lambda: cluster.members["n1"].local.serving.read_repair.repaired == 2)


async def test_what_is_forwarded_counts_here_and_there() -> None:
    async with Cluster(4) as cluster:
        key = next(b"%d" % at for at in range(1000) if "n1" not in cluster.owners(b"%d" % at))
        await cluster.put("n1", key, b"v")
        counted = {node: of(meter_of(cluster, node), Kind.PUT).ok for node in cluster.ids}
        assert counted["n1"] == 1 and sum(counted.values()) == 2 and meter_of(cluster).forwarded == 1


async def test_scans_count_pages(cluster: Cluster) -> None:
    await cluster.run("n1", puts({b"%03d" % at: b"v" for at in range(20)}))
    pages = await cluster.scan("n1")
    await cluster.scan("n1", level=Level.EXPLICIT, r=9)
    meter = meter_of(cluster)
    assert meter.scan_pages[Level.PRESET].ok == len(pages) == 1
    assert meter.scan_pages[Level.EXPLICIT].failed == {Code.BAD_REQUEST: 1}


async def test_a_link_counts_messages_their_operations_and_what_came_back(cluster: Cluster) -> None:
    link = cluster.members["n1"].peers.links["n2"]
    link.meter = LinkMeter()
    await cluster.run("n1", puts({b"a": b"1", b"b": b"2"}, **ALL))
    assert (link.meter.messages, link.meter.answered, link.meter.failed) == (1, 2, 0) and link.meter.round_trips.count == 1
    cluster.stall("n2")
    cluster.start("n1", puts({b"c": b"3"}, **ONE))
    await until(lambda: link.in_flight_count == 1)
    cluster.cut("n1", "n2")
    assert (link.meter.messages, link.meter.answered, link.meter.failed) == (2, 2, 1)
    rows = {family.name: {sample.value for sample in family.samples} for family in collect_links({"n2": link})}
    assert rows["kv_peer_link_up"] == {0} and rows["kv_peer_messages"] == {2} and rows["kv_peer_messages_in_flight"] == {0}


async def test_commits_are_counted_with_their_records_and_time() -> None:
    ticks = iter(range(1_000_000))
    async with Cluster(1, engine=MemoryEngine, telemetry=lambda: Telemetry(lambda: float(next(ticks)))) as cluster:
        await cluster.run("n1", puts({b"%d" % at: b"v" for at in range(7)}, **ONE))
        meter = cluster.members["n1"].local.telemetry.commits
        assert meter is not None
        assert meter.sizes.total >= 7 and meter.sizes.count == meter.durations.count == meter.stalls, "a tick is a second here"
        assert cluster.members["n1"].local.committer.stuck_s() == 0.0


async def test_a_node_that_is_told_to_count_nothing_does_its_work() -> None:
    async with Cluster(telemetry=lambda: Telemetry(lambda: 0.0, metrics=False)) as cluster:
        assert cluster.members["n1"].local.telemetry.requests is None
        await cluster.put("n1", b"k", b"v")
        assert (await cluster.get("n2", b"k")).value == b"v"
        assert [list(page.keys) for page in await cluster.scan("n3")] == [[b"k"]]
