"""The loop on virtual time: what it orders, what it leaves open, how processes pause and die, and what it refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from kvstore.simulation.loop import Deadlock, Defect, OutOfTime, SimLoop
from kvstore.simulation.process import Process


def loop_of(seed: object = 1, **options: Any) -> SimLoop:
    return SimLoop(seed, **options)  # type: ignore[abstract]


def run(work: Coroutine[Any, Any, Any], loop: SimLoop | None = None) -> Any:
    return (loop or loop_of()).run(work)


def test_time_jumps_to_the_next_timer() -> None:
    async def hours() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(7200)
        return before, loop.time()

    before, after = run(hours(), loop_of(limit_s=10_000))
    assert after - before == 7200


def test_a_timer_is_never_early_whatever_the_rounding() -> None:
    loop = loop_of()
    early: list[float] = []

    async def many() -> None:
        for step in range(1, 400):
            when = loop.time() + step / 7_777
            await asyncio.sleep(0)
            over = loop.create_future()
            loop.call_at(when, over.set_result, None)
            await over
            if loop.time() < when:
                early.append(when)

    run(many(), loop)
    assert early == []


def test_callbacks_of_one_process_run_in_the_order_in_which_they_were_scheduled() -> None:
    order: list[int] = []

    async def schedule() -> None:
        for number in range(50):
            asyncio.get_running_loop().call_soon(order.append, number)
        await asyncio.sleep(1)

    run(schedule())
    assert order == list(range(50))


def interleaving(seed: object) -> str:
    loop, order = loop_of(seed), list[str]()
    processes = [Process(loop, name) for name in "abc"]

    async def steps(name: str) -> None:
        for _ in range(5):
            order.append(name)
            await asyncio.sleep(0)

    async def all_of_them() -> None:
        for task in [process.spawn(steps(process.name)) for process in processes]:
            await task

    run(all_of_them(), loop)
    return "".join(order)


def test_processes_interleave_as_the_seed_says() -> None:
    assert interleaving(1) == interleaving(1)
    assert len({interleaving(seed) for seed in range(20)}) > 5


def test_sets_of_tasks_iterate_alike_in_every_run() -> None:
    def names(padding: int) -> list[str]:
        kept = [object() for _ in range(padding)]  # other addresses for what follows

        async def many() -> list[str]:
            tasks = {asyncio.ensure_future(asyncio.sleep(1)) for _ in range(40)}
            order = [task.get_name() for task in tasks]
            await asyncio.wait(tasks)
            return order

        found: list[str] = run(many())
        assert len(kept) == padding
        return found

    assert names(0) == names(12_345)


def test_a_run_in_which_nothing_can_happen_names_who_waits_for_what() -> None:
    loop = loop_of()

    async def wait_for_nobody() -> None:
        await loop.create_future()

    async def stuck() -> None:
        await Process(loop, "n7").spawn(wait_for_nobody(), name="reader")

    with pytest.raises(Deadlock, match=r"n7: reader in .*wait_for_nobody:\d+ for SimFuture"):
        run(stuck(), loop)


def test_a_run_without_end_is_stopped() -> None:
    async def forever() -> None:
        while True:
            await asyncio.sleep(10)

    with pytest.raises(OutOfTime, match="virtual time is over"):
        run(forever(), loop_of(limit_s=100))


def test_a_run_in_which_no_time_passes_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.simulation.loop.TURNS_AT_ONE_MOMENT_MAX", 500)

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(OutOfTime, match="no time passes"):
        run(spin())


def test_an_exception_in_a_callback_ends_the_run() -> None:
    async def break_something() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(10)

    with pytest.raises(Defect, match="ZeroDivisionError"):
        run(break_something())


def test_a_paused_process_stands_still_and_catches_up() -> None:
    loop, seen = loop_of(), list[float]()
    process = Process(loop, "p")

    async def tick() -> None:
        for _ in range(5):
            await asyncio.sleep(1)
            seen.append(loop.time() - 1000)

    async def main() -> None:
        task = process.spawn(tick())
        await asyncio.sleep(2.5)
        process.pause()
        process.post(seen.append, -1.0)
        await asyncio.sleep(10)
        assert seen == [1, 2]
        process.resume()
        await task

    run(main(), loop)
    assert sorted(seen[2:4]) == [-1, 12.5] and seen[4:] == [13.5, 14.5]


def test_a_killed_process_runs_nothing_any_more_not_even_its_cleanup() -> None:
    loop, seen = loop_of(), list[str]()
    process = Process(loop, "p")

    async def work() -> None:
        try:
            loop.call_later(2, seen.append, "timer")
            await asyncio.sleep(5)
        finally:
            seen.append("cleanup")
            await asyncio.sleep(1)

    async def main() -> None:
        process.spawn(work()).add_done_callback(lambda _: seen.append("done"))
        await asyncio.sleep(1)
        process.post(seen.append, "callback")
        process.kill()
        await asyncio.sleep(100)
        assert seen == []

    run(main(), loop)


def test_what_an_executor_is_given_runs_later_and_in_no_thread() -> None:
    async def main() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        thread = await loop.run_in_executor(None, threading.get_ident)
        return loop.time() - before, thread

    waited_s, thread = run(main())
    assert 0 < waited_s < 0.01 and thread == threading.get_ident()


def test_sockets_do_not_exist() -> None:
    async def dial() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    with pytest.raises(NotImplementedError):
        run(dial())
