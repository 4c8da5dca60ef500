"""One scenario for each other store: faults, workloads, the verdict. What `kv chaos run --target` runs.

etcd's leader is cut off, then paused, then killed, and its registers must be linearizable all the while. Redis' primary is cut off
with its clients, who go on writing; then a replica takes its place, as a sentinel would decide, and what the clients had been
acknowledged meanwhile is gone: with `failover` False the primary stays, and nothing is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kvchaos.checkers.judge import judge
from kvchaos.checkers.linearizability.verdicts import UNDECIDED
from kvchaos.checkers.lost_writes import check_lost_writes
from kvchaos.history import NEMESIS, Event, History, Recorder
from kvchaos.registers import RegisterWorkload
from kvchaos.targets.etcd_cluster import EtcdTarget
from kvchaos.targets.failures import TargetFailed
from kvchaos.workloads import UniqueWrites

WAIT_S = 60.0
"""For so many operations to be answered; far more than they take."""

Say = Callable[[str], None]
W = TypeVar("W", RegisterWorkload, UniqueWrites)


@dataclass(slots=True)
class TargetResult:
    """What was found. `histories` by name; `broken` and `lacking` (why it cannot be told) in sentences; `lost` values."""

    target: str
    version: str
    histories: dict[str, History]
    answered: int
    broken: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    lost: list[tuple[str, bytes]] = field(default_factory=list)

    def sentence(self) -> str:
        """One line."""
        word = "BROKEN" if self.broken else "unclear" if self.lacking else "ok"
        return f"{self.target} {self.version}: {word}, {self.answered:,} operations answered"


async def break_etcd(root: Path, *, seed: int, say: Say = lambda phase: None) -> TargetResult:
    """Three members, six clients. Raises `TargetFailed` where there is no etcd."""
    say("starting")
    async with EtcdTarget(root) as cluster:
        plane, recorder = cluster.plane, cluster.recorder
        recorder.history.header.update(seed=seed, promises=["linearizable"], versions={"etcd": cluster.binary.version})
        async with AsyncExitStack() as stack:
            stores = [cluster.store(node) for node in cluster.node_ids for _ in range(2)]
            for store in stores:
                stack.push_async_callback(store.close)
            workload = await stack.enter_async_context(_running(RegisterWorkload(stores, recorder, rng=random.Random(seed))))
            await workload.acknowledge_more(200, timeout_s=WAIT_S)
            say("the leader is cut off")
            await plane.isolate(await cluster.leader())
            await plane.verify()
            await workload.acknowledge_more(200, timeout_s=WAIT_S)
            await plane.heal()
            await plane.verify()
            await workload.acknowledge_more(100, timeout_s=WAIT_S)
            say("the leader is paused")
            paused = await cluster.leader()
            await plane.pause(paused)
            await workload.acknowledge_more(100, timeout_s=WAIT_S)
            await plane.resume(paused)
            say("the leader is killed")
            killed = await cluster.leader()
            await plane.kill(killed)
            await workload.acknowledge_more(100, timeout_s=WAIT_S)
            await plane.restart(killed)
            await cluster.settle()
            await workload.acknowledge_more(100, timeout_s=WAIT_S)
        version = cluster.binary.version
    say("judging")
    return _judged(TargetResult("etcd", version, {"registers": recorder.history}, workload.acknowledged.total()))


async def break_redis(root: Path, *, seed: int, say: Say = lambda phase: None, failover: bool = True) -> TargetResult:
    """A primary and two replicas, four clients. Raises `TargetFailed` where there is no Redis."""
    try:
        from kvchaos.targets.redis_cluster import RedisTarget
    except ImportError as error:
        raise TargetFailed("redis-py is not installed: pip install 'kvstore-chaos[redis]'") from error
    say("starting")
    loop = asyncio.get_running_loop()
    async with RedisTarget(root) as cluster:
        version = cluster.binaries.version
        # A history of its own for each workload; the faults are in that of the unique writes.
        own = Recorder(lambda: int(loop.time() * 1e9), {"seed": seed, "promises": ["linearizable"], "versions": {"redis": version}})
        async with AsyncExitStack() as stack:
            stores = [cluster.store() for _ in range(4)]
            for store in stores:
                stack.push_async_callback(store.close)
            rng = random.Random(seed)
            unique = UniqueWrites(stores[3], writers=3, own_keys=2, shared_keys=2, rng=rng, recorder=cluster.recorder)
            registers = RegisterWorkload(stores[:3], own, rng=rng, keys=12)
            async with _running(unique), _running(registers):
                await unique.acknowledge_more(100, timeout_s=WAIT_S)
                say("the primary is cut off, with its clients")
                await cluster.plane.isolate(cluster.primary)
                await cluster.plane.verify()
                await unique.acknowledge_more(100, timeout_s=WAIT_S)
                await registers.acknowledge_more(200, timeout_s=WAIT_S)
                former = cluster.primary
                if failover:
                    say("a replica takes its place")
                    former = await cluster.failover("r2")
                    for store in stores:
                        await store.repoint(cluster.primary)
                await unique.acknowledge_more(30, timeout_s=WAIT_S)
                await registers.acknowledge_more(200, timeout_s=WAIT_S)
                await cluster.plane.heal()
                await cluster.plane.verify()
                if failover:
                    await cluster.rejoin(former)
                await cluster.settle()
            found = await unique.read_all(timeout_s=5.0)
    say("judging")
    histories = {"registers": own.history, "unique": cluster.recorder.history}
    result = _judged(TargetResult("redis", version, histories, unique.acknowledged + registers.acknowledged.total()))
    verdict = check_lost_writes(unique.writes, found)
    result.lost = verdict.lost
    if not verdict.is_ok:
        result.broken.insert(0, f"no acknowledged write is lost: {verdict.sentence()}")
    return result


async def break_target(target: str, root: Path, *, seed: int, say: Say = lambda phase: None) -> TargetResult:
    """The scenario of a target, etcd or redis."""
    return await (break_etcd if target == "etcd" else break_redis)(root, seed=seed, say=say)


def while_fault(history: History, f: str) -> list[Event]:
    """The events from when a fault of the plane had taken until it began to be healed."""
    events = history.events
    first = next(event.index for event in events if _is(event, f, "active"))
    last = next(event.index for event in events if event.index > first and _is(event, "heal", "begin"))
    return events[first:last]


def _is(event: Event, f: str, phase: str) -> bool:
    return event.process == NEMESIS and event.f == f and event.value["phase"] == phase


def _judged(result: TargetResult) -> TargetResult:
    for violation in judge(result.histories["registers"]):
        (result.lacking if violation.promise == UNDECIDED else result.broken).append(violation.sentence())
    return result


@asynccontextmanager
async def _running(workload: W) -> AsyncIterator[W]:
    workload.start()
    try:
        yield workload
        await workload.stop()
    finally:
        await workload.abort()


def write_histories(result: TargetResult, out: Path) -> Sequence[Path]:
    """Writes each history to a file in `out`, and returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, history in result.histories.items():
        paths.append(out / f"{result.target}-{name}.jsonl")
        history.write(paths[-1])
    return paths
