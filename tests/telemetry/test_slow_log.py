"""A batch that takes long is told with who was slow, once, under its trace id; on the replica as well if it was its disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from kvstore.simulation.logs import caught_logs
from kvstore.telemetry.node import Telemetry
from tests.support.cluster import ALL, LONG, ONE, QUORUM, Cluster, gets, puts
from tests.support.engines import GatedEngine
from tests.support.waiting import until

TRACE = bytes(range(16))


class Stopwatch:
    """The clock of the loop and of every node's timer, which is asked on every thread; `jump_s` ahead when told so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.jump_s = 0.0
        self._loop_time = loop.time
        loop.time = self.loop_time  # type: ignore[method-assign]

    def loop_time(self) -> float:
        return self._loop_time() + self.jump_s

    def __call__(self) -> float:
        return self.loop_time()


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    caught: list[dict[str, Any]] = []
    with caught_logs(lambda level, event, facts: caught.append({"event": event, **facts})):
        yield caught


@pytest.fixture
async def stopwatch() -> Stopwatch:
    return Stopwatch(asyncio.get_running_loop())


@pytest.fixture
async def cluster(stopwatch: Stopwatch) -> AsyncIterator[Cluster]:
    async with Cluster(engine=GatedEngine, telemetry=lambda: Telemetry(stopwatch, slow_batch_s=60)) as cluster:
        yield cluster


def told(lines: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event]


async def test_a_quick_batch_is_not_told(cluster: Cluster, lines: list[dict[str, Any]]) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    await cluster.get("n1", b"k", **ALL)
    await cluster.scan("n1")
    assert lines == []


async def test_the_replica_that_answered_last_is_named(cluster: Cluster, stopwatch: Stopwatch, lines: list[dict[str, Any]]) -> None:
    cluster.stall("n3")
    answer = cluster.start("n1", puts({b"a": b"1", b"b": b"2"}, **ALL, **LONG), trace=TRACE)
    await until(lambda: cluster.wire("n1", "n3").waiting and not cluster.members["n1"].peers.links["n2"].in_flight_count)
    await until(lambda: not cluster.members["n1"].local.store.is_pending(cluster.store_key(b"a")))
    stopwatch.jump_s = 100
    cluster.resume("n3")
    await answer.complete()
    (line,) = told(lines, "slow_batch")
    assert (line["trace"], line["operation"], line["consistency"], line["operations"]) == (TRACE.hex(), "put", "all", 2)
    assert line["elapsed_ms"] >= 100_000 and set(line["replicas"]) == {"n1", "n2", "n3"}
    assert line["slow"] == "n3"


async def test_our_own_disk_is_named(cluster: Cluster, stopwatch: Stopwatch, lines: list[dict[str, Any]]) -> None:
    engine = cluster.members["n1"].engine
    assert isinstance(engine, GatedEngine)
    engine.hold()
    answer = cluster.start("n1", puts({b"a": b"1"}, **ALL, **LONG), trace=TRACE)
    await until(lambda: cluster.members["n1"].local.store.is_pending(cluster.store_key(b"a")))
    await until(lambda: all(not link.in_flight_count for link in cluster.members["n1"].peers.links.values()))
    stopwatch.jump_s = 100
    engine.release()
    await answer.complete()
    (line,) = told(lines, "slow_batch")
    assert line["slow"] == "disk of n1"


async def test_a_replicas_disk_is_told_on_both_sides_under_one_trace(
    cluster: Cluster, stopwatch: Stopwatch, lines: list[dict[str, Any]]
) -> None:
    engine = cluster.members["n2"].engine
    assert isinstance(engine, GatedEngine)
    engine.hold()
    answer = cluster.start("n1", puts({b"a": b"1"}, **ALL, **LONG), trace=TRACE)
    await until(lambda: cluster.members["n2"].local.store.is_pending(cluster.store_key(b"a")))
    await until(lambda: not cluster.members["n1"].peers.links["n3"].in_flight_count)
    stopwatch.jump_s = 100
    engine.release()
    await answer.complete()
    (store,) = told(lines, "slow_store")
    assert store["traces"] == [TRACE.hex()] and store["records"] == 1 and store["elapsed_ms"] >= 100_000
    (line,) = told(lines, "slow_batch")
    assert line["slow"] == "disk of n2" and line["replicas"]["n2"]["disk_ms"] >= 100_000


async def test_who_never_answered_is_named_when_the_deadline_ends_it(
    cluster: Cluster, stopwatch: Stopwatch, lines: list[dict[str, Any]]
) -> None:
    await cluster.put("n1", b"k", b"v", **ALL)
    cluster.stall("n2")
    cluster.stall("n3")
    answer = cluster.start("n1", gets(b"k", **QUORUM, timeouts_ms=[90_000]), trace=TRACE)
    await until(lambda: cluster.wire("n1", "n2").waiting and cluster.wire("n1", "n3").waiting)  # the second one is a hedge
    stopwatch.jump_s = 100
    await answer.complete()
    (line,) = told(lines, "slow_batch")
    assert line["operation"] == "get" and "no answer of" in line["slow"] and {"n2", "n3"} <= set(line["replicas"])


async def test_a_flood_of_slow_batches_is_a_few_lines(cluster: Cluster, stopwatch: Stopwatch, lines: list[dict[str, Any]]) -> None:
    engine = cluster.members["n1"].engine
    assert isinstance(engine, GatedEngine)
    engine.hold()
    cluster.stall("n2")
    cluster.stall("n3")
    answers = [cluster.start("n1", puts({b"%d" % at: b"v"}, **ONE, **LONG)) for at in range(50)]
    await until(lambda: cluster.members["n1"].local.coordinator.in_flight == 50)
    stopwatch.jump_s = 100
    engine.release()
    await asyncio.gather(*(answer.complete() for answer in answers))
    assert len(told(lines, "slow_batch")) == 10
    assert cluster.members["n1"].local.telemetry.logs.suppressed == {"slow_batch": 40}


async def test_a_node_that_is_late_itself_accuses_nobody(
    cluster: Cluster, stopwatch: Stopwatch, lines: list[dict[str, Any]]
) -> None:
    """1. A batch comes. 2. The loop is held up for 100 s before the batch is looked at. 3. Everybody answers at once."""
    answer = cluster.start("n1", puts({b"a": b"1"}, **ALL, **LONG))
    cluster.members["n1"].local.coordinator._timer = lambda: stopwatch() - 100
    await answer.complete()
    (line,) = told(lines, "slow_batch")
    assert line["slow"] == "n1 itself" and set(line["replicas"]) == {"n1", "n2", "n3"}


async def test_a_write_that_catches_up_first_is_one_story(
    cluster: Cluster, stopwatch: Stopwatch, lines: list[dict[str, Any]]
) -> None:
    """1. n2 has a version that n1 has not seen. 2. A write through n1 names it and fetches it from n2, which is slow. 3. The write
    itself is quick: n2 is named all the same."""
    cluster.isolate("n1")
    seen = await cluster.put("n2", b"k", b"v", **QUORUM)
    cluster.rejoin("n1")
    for other in ("n2", "n3"):
        cluster.wire("n1", other).hold()
    answer = cluster.start("n1", puts({b"k": b"w"}, contexts=[seen.context], **QUORUM, **LONG), trace=TRACE)
    await until(lambda: cluster.wire("n1", "n2").waiting)
    stopwatch.jump_s = 100
    for other in ("n2", "n3"):
        cluster.wire("n1", other).release()
    await answer.complete()
    assert answer[0].error is None
    (line,) = told(lines, "slow_batch")
    assert "itself" not in line["slow"] and line["elapsed_ms"] >= 100_000
