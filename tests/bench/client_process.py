"""One side's client process: `python -m tests.bench.client_process SIDE ADDRESS…`, asked and answering in JSON lines.

All sides run this very program, with uvloop and the same environment; only the `Target` differs. (`ours-defaults` alone runs as a
program that knows of neither: asyncio's own loop, gRPC as it comes.) Its event loop keeps running
between requests, so that the client's own background work goes on. A request on stdin is an object with "do" (a method of
`Requests`) and its arguments; the answer on stdout is {"result": …} or {"error": text}. End of stdin ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import uvloop

from kvclient.bench.loop import Operation
from tests.bench.loops import Sample, closed_loop, paced_loop
from tests.bench.workload import MANY_KEYS, Target, Workload, numbered_key

SIDES = ("ours", "ours-defaults", "ours-registers", "etcd", "redis", "redis-alone")
PROBES = 1_000
MIXED_KEYS = 200_000
SLOW_TIMEOUT_S = 1.0


class Requests:
    """What the parent may ask for: each public coroutine is one request, its keyword arguments are the request's fields."""

    def __init__(self, target: Target, workload: Workload) -> None:
        self._target = target
        self._workload = workload
        self._fine: list[bytes] = []
        self._slow: list[bytes] = []

    async def load(self) -> None:
        """Puts every key."""
        await self._workload.load(self._target)

    async def closed(self, *, kind: str, seed: str, in_flight: int, seconds: float, warm_up_s: float) -> dict[str, Any]:
        """A closed loop of `kind` (workload.Workload.operation); rate in keys a second, latencies in ms a call."""
        operation = self._workload.operation(kind, self._target, seed=seed)
        # Every caller has its connection before the clock runs, however short the warm-up is.
        await asyncio.gather(*(operation(i) for i in range(in_flight)), return_exceptions=True)
        sample = await closed_loop(operation, in_flight=in_flight, seconds=seconds, warm_up_s=warm_up_s)
        return summary(sample, keys_per_call=MANY_KEYS if kind.startswith("many") else 1)

    async def fill(self, *, first: int, keys: int) -> float:
        """Puts so many new keys, from number `first` on; keys a second."""
        begin = time.perf_counter()
        await self._workload.fill(self._target, first=first, keys=keys)
        return keys / (time.perf_counter() - begin)

    async def filled_mix(self, *, keys: int, in_flight: int, seconds: float) -> float:
        """A closed loop of puts and gets in turn over the keys that `fill` put; operations a second."""
        some = [numbered_key(number) for number in random.Random("filled").choices(range(keys), k=MIXED_KEYS)]
        operation = self._workload.operation("mix", self._target, seed="filled", keys=some)
        sample = await closed_loop(operation, in_flight=in_flight, seconds=seconds, warm_up_s=0.0)
        if sample.errors:
            raise RuntimeError(f"{sum(sample.errors.values())} operations failed: {dict(sample.errors)}")
        return sample.rate_per_s

    async def paced(
        self, *, seed: str, rate_per_s: float, seconds: float, beside: str = "", callers: int = 0, only_fine: bool = False
    ) -> dict[str, Any]:
        """A paced mix of puts and gets, with `callers` disturbing callers `beside` it: "large" values or "slow" keys."""
        operation = self._workload.operation("mix", self._target, seed=seed, keys=self._fine if only_fine else ())
        disturbance = {"": None, "large": self._large, "slow": self._wait_for_slow_key}[beside]
        async with disturbed(disturbance, callers=callers) as calls:
            sample = await paced_loop(operation, rate_per_s=rate_per_s, seconds=seconds)
        return {**summary(sample), "beside_calls": len(calls)}

    async def classify(self) -> dict[str, int]:
        """Puts PROBES keys strictly, SLOW_TIMEOUT_S each, and remembers which were answered (fine) and which were not (slow)."""
        probes = self._workload.keys[:PROBES]
        outcomes = await asyncio.gather(*(self._probe(key) for key in probes))
        self._fine = [key for key, fine in zip(probes, outcomes, strict=True) if fine]
        self._slow = [key for key, fine in zip(probes, outcomes, strict=True) if not fine]
        return {"fine": len(self._fine), "slow": len(self._slow)}

    async def _probe(self, key: bytes) -> bool:
        try:
            await self._target.put_strict(key, self._workload.value(0), timeout_s=SLOW_TIMEOUT_S)
        except Exception:  # noqa: BLE001 - whatever a side's client raises, the key was not answered
            return False
        return True

    async def _large(self, i: int) -> None:
        key = b"bench/large/%d" % i
        await self._target.put(key, self._workload.large_value)
        value = await self._target.get(key)
        assert len(value) == len(self._workload.large_value), "a large value came back with another length"

    async def _wait_for_slow_key(self, i: int) -> None:
        # Refused, timed out or even answered: what the others' latency is meanwhile is the question.
        await self._probe(self._slow[i % len(self._slow)])


@contextlib.asynccontextmanager
async def disturbed(operation: Operation | None, *, callers: int) -> AsyncIterator[list[int]]:
    """Keeps `callers` callers repeating `operation(caller's number)` during the block; yields a list with an entry a finished call.

    A call that raises ends the block with its exception: a disturbance that does not take place proves nothing.
    """
    calls: list[int] = []

    async def repeat(caller: int) -> None:
        assert operation is not None
        while True:
            await operation(caller)
            calls.append(caller)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(repeat(caller)) for caller in range(callers if operation else 0)]
        yield calls
        for task in tasks:
            task.cancel()


def summary(sample: Sample, *, keys_per_call: int = 1) -> dict[str, Any]:
    """The figures of a sample, ready for JSON: an endless latency (a failed operation) becomes null."""
    latencies = {f"p{name}_ms": sample.latency_ms(quantile) for name, quantile in (("50", 0.5), ("99", 0.99), ("100", 1.0))}
    return {
        "rate_per_s": sample.rate_per_s * keys_per_call,
        "answered": sample.completed,
        "errors": dict(sample.errors),
        **{name: ms if ms < float("inf") else None for name, ms in latencies.items()},
    }


def describe(error: Exception) -> str:
    """Name and start of the text of an exception; of a group's, the first one's."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:500]


async def connect(side: str, addresses: Sequence[str]) -> Target:
    """The client of `side`, one of SIDES."""
    # Imported here: each process loads only its own side, and neither is needed where the other alone is measured.
    if side == "etcd":
        from tests.bench.etcd_client import EtcdClient

        return EtcdClient(addresses)
    if side.startswith("redis"):
        from tests.bench.redis_client import RedisClient

        return RedisClient(addresses[0], wait=side == "redis")
    from tests.bench.ours_client import KvClient, RegisterClient

    return await (RegisterClient if side == "ours-registers" else KvClient).open(addresses)


async def serve(side: str, addresses: Sequence[str]) -> None:
    """Answers requests until stdin ends."""
    target = await connect(side, addresses)
    requests = Requests(target, Workload())
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            request: dict[str, Any] = json.loads(line)
            try:
                answer = {"result": await getattr(requests, request.pop("do"))(**request)}
            except Exception as error:  # noqa: BLE001 - the parent decides what becomes of it
                answer = {"error": describe(error)}
            print(json.dumps(answer), flush=True)
    finally:
        await target.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("addresses", nargs="+")
    arguments = parser.parse_args()
    run = asyncio.run if arguments.side == "ours-defaults" else uvloop.run
    run(serve(arguments.side, arguments.addresses))


if __name__ == "__main__":
    main()
