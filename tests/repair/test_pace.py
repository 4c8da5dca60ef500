"""Background work goes as fast as the load allows, never stops, and notices the end of a flood."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from kvstore.repair.pace import LOOK_S, OPERATION_BYTES, Pace
from kvstore.simulation.loop import SimLoop

KIB = 1024


def run(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Runs `work` on virtual time."""
    SimLoop(1, limit_s=1e6).run(work())  # type: ignore[abstract]


def test_an_idle_node_works_at_the_highest_rate_and_a_busy_one_at_the_lowest() -> None:
    async def work() -> None:
        load = [0.0]
        pace = Pace(lambda: load[0], bytes_per_s_max=100 * KIB, bytes_per_s_min=KIB)
        now_s = asyncio.get_running_loop().time
        for busy, expected_s in ((0.0, 1.0), (1.0, 100.0), (7.0, 100.0)):
            load[0] = busy
            began_s = now_s()
            for _ in range(11):  # the first is free
                await pace.turn(10 * KIB)
            assert now_s() - began_s == pytest.approx(expected_s, rel=0.01)
            load[0] = 0.0
            await asyncio.sleep(1000.0)

    run(work)


def test_half_a_load_takes_most_of_the_rate() -> None:
    async def work() -> None:
        pace = Pace(lambda: 0.5, bytes_per_s_max=100 * KIB, bytes_per_s_min=KIB)
        assert pace.bytes_per_s == pytest.approx(10 * KIB)

    run(work)


def test_the_end_of_a_flood_is_noticed_within_a_look() -> None:
    async def work() -> None:
        load = [1.0]
        pace = Pace(lambda: load[0], bytes_per_s_max=1000 * KIB, bytes_per_s_min=1.0)
        loop = asyncio.get_running_loop()
        await pace.turn(100 * KIB)
        loop.call_later(3.0, lambda: load.__setitem__(0, 0.0))
        began_s = loop.time()
        await pace.turn(1)
        assert 3.0 <= loop.time() - began_s <= 3.0 + 0.1 + 2 * LOOK_S
        assert pace.turns == 2 and pace.waited_s == loop.time() - began_s

    run(work)


def test_all_who_work_in_the_background_share_one_rate() -> None:
    async def work() -> None:
        pace = Pace(bytes_per_s_max=10 * KIB, bytes_per_s_min=KIB)
        loop = asyncio.get_running_loop()

        async def some() -> None:
            for _ in range(5):
                await pace.turn(KIB - OPERATION_BYTES, 1)

        began_s = loop.time()
        await asyncio.gather(some(), some(), some())
        assert loop.time() - began_s == pytest.approx(14 * 0.1, rel=0.05)

    run(work)


def test_what_is_charged_afterwards_is_waited_for_by_the_next() -> None:
    async def work() -> None:
        pace = Pace(bytes_per_s_max=10 * KIB, bytes_per_s_min=KIB)
        loop = asyncio.get_running_loop()
        await pace.turn()
        pace.charge(20 * KIB)
        began_s = loop.time()
        await pace.turn()
        assert loop.time() - began_s == pytest.approx(2.0, rel=0.01)

    run(work)


def test_bug_a_wait_shorter_than_the_clock_can_tell_was_never_over() -> None:
    """What is left of a debt after many turns may be a rounding error: a sleep of so little time is none, and nothing is paid."""

    async def work() -> None:
        pace = Pace()
        pace.charge(0)
        pace._owed_bytes = 1e-6  # what rounding leaves
        await pace.turn(1)
        assert pace.turns == 1

    run(work)
