"""The two ways of driving a store, and the sample each gives.

Closed loop (`kvclient.bench.loop`, the one of `kv bench`): so many callers, each sending its next operation when the last one is
answered; it finds throughput. Paced: operations start at a fixed rate whatever the store does, and each is timed from the moment it
should have started (no coordinated omission), so a stall shows in every operation it delayed; the isolation lines use it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass, field

from kvclient.bench.loop import Operation, run_closed_loop


@dataclass(slots=True)
class Sample:
    """One measurement: `completed` operations within `seconds`, their latencies, and what the others raised, by code or class."""

    seconds: float
    completed: int = 0
    latencies_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def rate_per_s(self) -> float:
        """Operations answered a second."""
        return self.completed / self.seconds

    def latency_ms(self, quantile: float) -> float:
        """The nearest-rank quantile over everything asked: an operation that failed counts as endless. NaN if nothing was asked."""
        asked = len(self.latencies_s) + self.errors.total()
        if not asked:
            return math.nan
        rank = min(asked - 1, max(0, math.ceil(quantile * asked) - 1))
        return sorted(self.latencies_s)[rank] * 1_000 if rank < len(self.latencies_s) else math.inf


async def closed_loop(operation: Operation, *, in_flight: int, seconds: float, warm_up_s: float) -> Sample:
    """Keeps `in_flight` callers busy for `warm_up_s + seconds`; the sample is of what came after the warm-up."""
    result = await run_closed_loop(operation, in_flight=in_flight, seconds=seconds, warm_up_s=warm_up_s)
    latencies_s = [latency_ns / 1e9 for latency_ns in result.latencies_ns()]
    return Sample(seconds, result.completed, latencies_s, result.errors)


async def paced_loop(operation: Operation, *, rate_per_s: float, seconds: float, outstanding_max: int = 8_192) -> Sample:
    """Starts `rate_per_s * seconds` operations evenly spaced, waits for all, and returns every one of them.

    An operation that would be one more than `outstanding_max` unanswered ones is not started and counts as an error, `Shed`.
    """
    # Not loop.time(): uvloop's has whole milliseconds, and stands still while a turn of the loop lasts.
    clock, sample = time.perf_counter, Sample(seconds)
    begin, outstanding = clock(), 0

    async def one(i: int, due: float) -> None:
        nonlocal outstanding
        try:
            await operation(i)
        except Exception as error:  # noqa: BLE001 - whatever a side's client raises is counted
            sample.errors[type(error).__name__] += 1
        else:
            sample.latencies_s.append(clock() - due)
            sample.completed += 1
        finally:
            outstanding -= 1

    async with asyncio.TaskGroup() as group:
        for i in range(int(rate_per_s * seconds)):
            due = begin + i / rate_per_s
            if (early_s := due - clock()) > 0:
                await asyncio.sleep(early_s)
            if outstanding >= outstanding_max:
                sample.errors["Shed"] += 1
                continue
            outstanding += 1
            group.create_task(one(i, due))
    return sample
