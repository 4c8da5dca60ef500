"""The open loop on a clock that only sleeping and operations move: when operations begin, and what their latency is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kvclient.bench.loop import Halt
from kvclient.bench.open_loop import NOT_BEGUN, run_open_loop
from kvproto.errors import Overloaded

MS = 1_000_000


class World:
    """A clock, a sleep that moves it, and a store that answers each operation `answer_ms` later on its own."""

    def __init__(self) -> None:
        self.now_ns = 10**12 + 300_000  # not on a whole millisecond
        self.begun_ms: list[float] = []
        self.origin_ns = 10**12 + MS

    def clock(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)  # what has begun gets its turn first
        self.now_ns += round(seconds * 1e9)

    def store(self, stall_at: int = -1, stall_ms: int = 0) -> Callable[[int], Awaitable[object]]:
        async def op(i: int) -> None:
            self.begun_ms.append((self.now_ns - self.origin_ns) / MS)
            if i == stall_at:
                self.now_ns += stall_ms * MS

        return op


async def test_operations_begin_on_the_millisecond_they_are_due_whatever_the_clock_showed_first() -> None:
    world = World()
    result = await run_open_loop(
        world.store(), rate_per_s=2_000, in_flight_max=100, seconds=0.005, clock=world.clock, sleep=world.sleep
    )
    assert [round(at, 6) for at in world.begun_ms] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert len(list(result.latencies_ns())) == 10
    assert result.completed == 9, "the tenth began in the moment in which the window ended"
    assert not result.errors


async def test_a_stall_is_paid_by_every_operation_that_was_due_meanwhile() -> None:
    world = World()
    result = await run_open_loop(
        world.store(stall_at=10, stall_ms=50),
        rate_per_s=1_000,
        in_flight_max=1_000,
        seconds=0.1,
        clock=world.clock,
        sleep=world.sleep,
    )
    latencies_ms = [latency_ns / MS for latency_ns in result.latencies_ns()]
    assert len(latencies_ms) == 100
    assert max(latencies_ms) == pytest.approx(50, abs=1)
    assert sum(latency > 20 for latency in latencies_ms) == pytest.approx(30, abs=2)
    assert sum(latency < 1 for latency in latencies_ms) == pytest.approx(50, abs=2)


async def test_the_warm_up_is_not_measured_and_numbers_go_on_through_it() -> None:
    world = World()
    seen: list[int] = []

    async def op(i: int) -> None:
        seen.append(i)

    result = await run_open_loop(
        op, rate_per_s=1_000, in_flight_max=10, seconds=0.02, warm_up_s=0.01, first=500, clock=world.clock, sleep=world.sleep
    )
    assert seen == list(range(500, 530))
    assert [i for i, _ in result.callers[0].numbered()] == list(range(510, 530))
    assert result.completed == 20


async def test_no_more_are_under_way_than_allowed_and_what_never_began_is_counted() -> None:
    now, most = 0, 0

    async def op(_i: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    result = await run_open_loop(op, rate_per_s=5_000, in_flight_max=5, seconds=0.1)
    assert most == 5
    assert result.errors[NOT_BEGUN] > 200
    assert result.errors[NOT_BEGUN] + len(list(result.latencies_ns())) == 500
    assert max(result.latencies_ns()) > 50 * MS, "what began late has waited since it was due"


async def test_failures_are_counted_by_code_and_do_not_stop_the_others() -> None:
    world = World()

    async def op(i: int) -> None:
        if i % 4 == 0:
            raise Overloaded("full")

    result = await run_open_loop(op, rate_per_s=1_000, in_flight_max=10, seconds=0.04, clock=world.clock, sleep=world.sleep)
    assert result.errors == {"OVERLOADED": 10}
    assert result.completed == len(list(result.latencies_ns())) == 30


async def test_a_halted_run_keeps_what_it_had_measured_and_cancels_what_is_under_way() -> None:
    halt, cancelled = Halt(), 0

    async def op(i: int) -> None:
        nonlocal cancelled
        if i < 5:
            return
        if i == 9:
            asyncio.get_running_loop().call_soon(halt)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise

    result = await run_open_loop(op, rate_per_s=1_000, in_flight_max=50, seconds=60, halt=halt)
    assert cancelled >= 5
    assert len(list(result.latencies_ns())) == 5
    assert 0 < result.seconds < 60
    assert not result.errors


@pytest.mark.parametrize("wrong", [{"rate_per_s": 0.0}, {"in_flight_max": 0}, {"seconds": 0.0}, {"warm_up_s": -1.0}])
async def test_senseless_settings_are_refused(wrong: dict[str, float]) -> None:
    async def op(_i: int) -> None:
        return None

    settings = {"rate_per_s": 1.0, "in_flight_max": 1, "seconds": 1.0, **wrong}
    with pytest.raises(ValueError, match="are needed"):
        await run_open_loop(op, **settings)  # type: ignore[arg-type]
