"""The workload records what really happened: nothing is lost in a store that keeps everything, and one that forgets is found."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from kvchaos.checkers.lost_writes import Fate, Verdict, check_lost_writes
from kvchaos.workloads import Padded, UniqueWrites
from kvproto.errors import DeadlineExceeded, QuorumUnreachable


@dataclass(frozen=True)
class Found:
    values: Sequence[bytes]
    context: bytes


class OneCopy:
    """A perfect store of siblings on one node: a context is the number of writes of the key that it covers."""

    def __init__(self) -> None:
        self.written: dict[str, list[tuple[int, bytes]]] = {}
        self.held: dict[str, list[tuple[int, bytes]]] = {}

    async def get(self, key: str, *, timeout_s: float) -> Found:
        await asyncio.sleep(0)
        return Found([value for _, value in self.held.get(key, [])], str(len(self.written.get(key, []))).encode())

    async def put(self, key: str, value: bytes, *, context: bytes | None = None, timeout_s: float) -> None:
        await asyncio.sleep(0)
        everything = self.written.setdefault(key, [])
        covered = len(everything) if context is None else int(context)
        everything.append((len(everything) + 1, value))
        self.held[key] = [dot for dot in self.held.get(key, []) if dot[0] > covered] + [everything[-1]]


class Unsure(OneCopy):
    """Fails now and then; of its unknown outcomes some were applied, of its refusals none."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng

    async def put(self, key: str, value: bytes, *, context: bytes | None = None, timeout_s: float) -> None:
        chance = self.rng.random()
        if chance < 0.1:
            raise QuorumUnreachable("no")
        if chance < 0.3:
            if chance < 0.2:
                await super().put(key, value, context=context, timeout_s=timeout_s)
            raise DeadlineExceeded("perhaps", may_have_applied=True)
        await super().put(key, value, context=context, timeout_s=timeout_s)


class Forgetful(OneCopy):
    """Acknowledges every tenth write and drops it."""

    async def put(self, key: str, value: bytes, *, context: bytes | None = None, timeout_s: float) -> None:
        if int(value.rpartition(b".")[2]) % 10:
            await super().put(key, value, context=context, timeout_s=timeout_s)


async def judge(store: OneCopy, *, writes: int) -> tuple[UniqueWrites, Verdict]:
    load = UniqueWrites(store, writers=6, own_keys=3, shared_keys=2, rng=random.Random(5))
    load.start()
    await load.acknowledge_more(writes, timeout_s=20)
    await load.stop()
    return load, check_lost_writes(load.writes, await load.read_all(timeout_s=1))


async def test_nothing_is_lost_in_a_store_that_keeps_everything() -> None:
    load, verdict = await judge(OneCopy(), writes=300)
    assert verdict.is_ok
    assert verdict.acknowledged == load.acknowledged >= 300
    assert verdict.overwritten > 0


async def test_failures_are_recorded_as_what_they_are() -> None:
    _, verdict = await judge(Unsure(random.Random(3)), writes=100)
    assert verdict.is_ok
    assert min(verdict.unknown, verdict.refused) > 0


async def test_a_store_that_forgets_acknowledged_writes_is_found_out() -> None:
    _, verdict = await judge(Forgetful(), writes=300)
    assert verdict.lost


async def test_values_are_never_written_twice() -> None:
    load, _ = await judge(OneCopy(), writes=200)
    values = [write.value for write in load.writes]
    assert len(values) == len(set(values))
    assert {write.fate for write in load.writes} == {Fate.ACKNOWLEDGED}


async def test_no_progress_is_an_error_and_not_an_endless_wait() -> None:
    class Deaf(OneCopy):
        async def put(self, key: str, value: bytes, *, context: bytes | None = None, timeout_s: float) -> None:
            raise QuorumUnreachable("nobody there")

    load = UniqueWrites(Deaf(), writers=2, own_keys=1, shared_keys=1, rng=random.Random(1))
    load.start()
    with pytest.raises(TimeoutError):
        await load.acknowledge_more(1, timeout_s=0.1)
    await load.stop()


async def test_a_writer_that_dies_of_a_bug_ends_the_run() -> None:
    class Broken(OneCopy):
        async def put(self, key: str, value: bytes, *, context: bytes | None = None, timeout_s: float) -> None:
            raise ZeroDivisionError

    load = UniqueWrites(Broken(), writers=2, own_keys=1, shared_keys=1, rng=random.Random(1))
    load.start()
    with pytest.raises(ZeroDivisionError):
        await load.acknowledge_more(1, timeout_s=20)
    await load.abort()


async def test_bug_what_a_degraded_read_missed_was_said_to_be_lost() -> None:
    """1. A write is acknowledged by one replica, the others are down. 2. They are back, and answer first: they miss it, and the
    read says so. 3. The read was believed."""

    class Degraded(OneCopy):
        def __init__(self) -> None:
            super().__init__()
            self.degraded: set[str] = set()

        async def get(self, key: str, *, timeout_s: float) -> Found:
            found = await super().get(key, timeout_s=timeout_s)
            if key in self.degraded:
                self.degraded.remove(key)
                return Missed([], found.context)
            return found

    class Missed(Found):
        receipt = SimpleNamespace(degraded=True)

    store = Degraded()
    load = UniqueWrites(store, writers=6, own_keys=3, shared_keys=2, rng=random.Random(5))
    load.start()
    await load.acknowledge_more(100, timeout_s=20)
    await load.stop()
    store.degraded = set(store.held)
    assert check_lost_writes(load.writes, await load.read_all(timeout_s=5)).is_ok
    assert not store.degraded


async def test_padded_values_are_as_large_as_they_are_said_to_be_and_read_without_it() -> None:
    store = OneCopy()
    padded = Padded(store, 1_000)
    await padded.put("k", b"w1.10", timeout_s=1)
    ((_, held),) = store.held["k"]
    assert len(held) == 1_000
    assert list((await padded.get("k", timeout_s=1)).values) == [b"w1.10"]
