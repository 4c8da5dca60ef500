"""The closed loop: how many are in flight, what is measured, and what it costs."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from kvclient.bench.kv_operations import null_operations
from kvclient.bench.loop import CallerLog, Halt, LoopResult, measure_overhead_ns, run, run_closed_loop
from kvclient.bench.workloads import WORKLOADS
from kvproto.errors import DeadlineExceeded
from tests.bench_generator.clocks import Machine, Ticks


async def test_exactly_so_many_are_in_flight_until_the_end() -> None:
    now, seen = 0, set()

    async def op(_i: int) -> None:
        nonlocal now
        now += 1
        seen.add(now)
        await asyncio.sleep(0)
        now -= 1

    result = await run_closed_loop(op, in_flight=7, seconds=0.05, clock=Ticks())
    assert max(seen) == 7
    assert now == 0
    assert result.completed > 7


async def test_every_call_has_a_number_of_its_own_and_keeps_its_latency() -> None:
    calls: Counter[int] = Counter()

    async def op(i: int) -> None:
        calls[i] += 1
        await asyncio.sleep(0)

    result = await run_closed_loop(op, in_flight=5, seconds=0.03, warm_up_s=0.01, first=1000, clock=Ticks())
    assert set(calls.values()) == {1}
    measured = [i for caller in result.callers for i, _ in caller.numbered()]
    assert len(measured) == len(set(measured))
    assert set(measured) <= set(calls)
    assert min(calls) == 1000
    assert min(measured) > 1000, "the warm-up is not measured"


async def test_latencies_are_of_the_operations_selected() -> None:
    machine = Machine(1, 2, 3, 4)
    result = await run_closed_loop(machine.op, in_flight=1, seconds=0.010, first=6, clock=machine.clock)
    assert list(result.latencies_ns()) == [1_000_000, 2_000_000, 3_000_000, 4_000_000]
    assert list(result.latencies_ns(lambda i: i in {7, 9})) == [2_000_000, 4_000_000]


async def test_an_operation_that_ends_after_the_window_counts_for_latency_but_not_for_throughput() -> None:
    machine = Machine(4)
    result = await run_closed_loop(machine.op, in_flight=1, seconds=0.010, clock=machine.clock)
    assert result.completed == 2
    assert list(result.latencies_ns()) == [4_000_000] * 3


async def test_an_operation_begun_in_the_warm_up_and_ended_in_the_window_counts_for_throughput_only() -> None:
    machine = Machine(7, 6, 3)  # ends at 7, 13, 16, 19 and 22 ms; the window is 10 to 20
    result = await run_closed_loop(machine.op, in_flight=1, seconds=0.010, warm_up_s=0.010, clock=machine.clock)
    assert result.completed == 3
    assert list(result.latencies_ns()) == [3_000_000] * 3


async def test_an_operation_longer_than_warm_up_and_window_counts_for_nothing() -> None:
    machine = Machine(50)
    result = await run_closed_loop(machine.op, in_flight=1, seconds=0.010, warm_up_s=0.010, clock=machine.clock)
    assert (result.completed, list(result.latencies_ns())) == (0, [])


async def test_failures_are_counted_by_code_and_the_callers_go_on() -> None:
    async def op(i: int) -> None:
        if i % 4 == 1:
            raise DeadlineExceeded("late")
        if i % 4 == 3:
            raise ValueError("not of the store")
        await asyncio.sleep(0)

    result = await run_closed_loop(op, in_flight=3, seconds=0.05, clock=Ticks())
    assert set(result.errors) == {"DEADLINE_EXCEEDED", "ValueError"}
    assert all(i % 2 == 0 for caller in result.callers for i, _ in caller.numbered())
    assert result.completed > 0


async def test_an_operation_that_always_fails_at_once_does_not_starve_the_loop() -> None:
    async def op(_i: int) -> None:
        raise DeadlineExceeded("late")

    result = await run_closed_loop(op, in_flight=2, seconds=0.02, warm_up_s=0.01, clock=Ticks())
    assert (result.completed, result.ops_per_s) == (0, 0.0)
    mine, other = (sum(caller.errors.values()) for caller in result.callers)
    assert mine > 5
    assert abs(mine - other) <= 2, "the callers take turns"


async def test_cancelling_ends_every_caller() -> None:
    begun, ended = 0, 0
    all_begun = asyncio.Event()

    async def op(_i: int) -> None:
        nonlocal begun, ended
        begun += 1
        if begun == 4:
            all_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    task = asyncio.create_task(run_closed_loop(op, in_flight=4, seconds=60))
    await all_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (begun, ended) == (4, 4)


@pytest.mark.parametrize(
    "wrong", [{"in_flight": 0, "seconds": 1}, {"in_flight": 1, "seconds": 0}, {"in_flight": 1, "seconds": 1, "warm_up_s": -1}]
)
async def test_senseless_settings_are_refused(wrong: dict[str, float]) -> None:
    async def op(_i: int) -> None:
        return None

    with pytest.raises(ValueError, match="are needed"):
        await run_closed_loop(op, **wrong)  # type: ignore[arg-type]


def test_the_rate_is_of_the_window() -> None:
    callers = tuple(CallerLog(at, 2, completed=50 + at) for at in range(2))
    assert LoopResult(callers, seconds=2.0).ops_per_s == 50.5


def test_the_loop_costs_little_beside_an_operation() -> None:
    """About 300 ns on an idle machine; an operation of the client takes some 20,000."""
    assert run(measure_overhead_ns(seconds=0.05)) < 3_000


async def test_a_halted_run_keeps_what_it_had_measured_and_its_window_is_as_long_as_it_was_open() -> None:
    halt = Halt()
    machine = Machine(4, 4, 4, 4)
    calls = 0

    async def op(i: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            halt()
            await asyncio.Event().wait()
        await machine.op(i)

    result = await run_closed_loop(op, in_flight=1, seconds=60, halt=halt, clock=machine.clock)
    assert list(result.latencies_ns()) == [4_000_000] * 3
    assert (result.completed, result.seconds) == (3, 0.012)


async def test_a_run_halted_in_its_warm_up_has_measured_nothing() -> None:
    halt = Halt()

    async def op(_i: int) -> None:
        halt()
        await asyncio.sleep(0)

    result = await run_closed_loop(op, in_flight=2, seconds=60, warm_up_s=60, halt=halt)
    assert (result.completed, result.ops_per_s, list(result.latencies_ns())) == (0, 0.0, [])


@pytest.mark.parametrize("workload", sorted(WORKLOADS))
def test_the_generator_costs_little_beside_an_operation(workload: str) -> None:
    """About a microsecond on an idle machine: keys, values, kinds and the loop, on a store that does nothing. Seen as a multiple of
    what the loop costs by itself, 0.3 µs, since machines differ and are busy."""
    parameters = {"workload": workload, "distribution": "", "keys": 1_000, "value_bytes": (100, 100), "seed": 0}
    alone_ns = run(measure_overhead_ns(seconds=0.05))
    assert run(measure_overhead_ns(null_operations(parameters).op, seconds=0.05)) < 50 * alone_ns


def test_bug_a_process_that_stood_still_while_it_measured_itself_divided_by_zero() -> None:
    """Every other look at the clock of the first ten measurements is a second after the one before."""
    readings = 0

    def clock() -> int:
        nonlocal readings
        readings += 1
        return 10**9 * min(readings, 20) + 1_000 * readings

    assert 0 < run(measure_overhead_ns(seconds=0.02, clock=clock)) < 10**9
