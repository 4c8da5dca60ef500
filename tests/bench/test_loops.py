from __future__ import annotations

import asyncio
import math
from collections import Counter

from tests.bench.loops import Sample, closed_loop, paced_loop


def test_quantiles_are_nearest_rank_and_failures_count_as_endless() -> None:
    sample = Sample(1.0, 98, [0.001] * 97 + [0.005], Counter(Unavailable=2))
    assert sample.latency_ms(0.5) == 1.0
    assert sample.latency_ms(0.98) == 5.0
    assert sample.latency_ms(0.99) == math.inf
    assert math.isnan(Sample(1.0).latency_ms(0.5))


async def test_the_closed_loop_never_has_more_in_flight_than_it_was_told() -> None:
    now, most = 0, 0

    async def operation(i: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    sample = await closed_loop(operation, in_flight=5, seconds=0.05, warm_up_s=0.0)
    assert most == 5
    assert sample.completed > 0
    assert sample.rate_per_s == sample.completed / 0.05
    assert not sample.errors


async def test_a_stall_shows_in_every_operation_that_was_due_meanwhile() -> None:
    """The store blocks for 50 ms at operation 10 of 100, due every ms: the ones behind it waited from when they were due."""
    loop = asyncio.get_running_loop()

    async def operation(i: int) -> None:
        until = loop.time() + 0.05
        while i == 10 and loop.time() < until:
            pass

    sample = await paced_loop(operation, rate_per_s=1_000, seconds=0.1)
    assert sample.completed == 100
    assert sum(latency_s > 0.02 for latency_s in sample.latencies_s) >= 20
    assert max(sample.latencies_s) >= 0.05


async def test_the_paced_loop_counts_what_failed_by_name_and_waits_for_the_last_one() -> None:
    async def operation(i: int) -> None:
        await asyncio.sleep(0)
        if i % 4 == 0:
            raise KeyError(i)

    sample = await paced_loop(operation, rate_per_s=10_000, seconds=0.01)
    assert sample.errors == {"KeyError": 25}
    assert sample.completed == len(sample.latencies_s) == 75


async def test_the_paced_loop_sheds_and_counts_what_would_exceed_its_bound() -> None:
    started = 0

    async def slow_operation(i: int) -> None:
        nonlocal started
        started += 1
        await asyncio.sleep(0.05)

    sample = await paced_loop(slow_operation, rate_per_s=1_000_000, seconds=50e-6, outstanding_max=10)
    assert started == sample.completed == 10
    assert sample.errors == {"Shed": 40}
