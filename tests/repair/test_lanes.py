"""Work side by side: in order, never more at a time than there are lanes, and nothing goes on behind a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kvstore.repair.lanes import in_lanes


async def test_so_many_run_at_a_time_and_all_are_done_in_order() -> None:
    begun: list[int] = []
    running = most = 0

    async def work(item: int) -> None:
        nonlocal running, most
        begun.append(item)
        running += 1
        most = max(most, running)
        for _ in range(item % 3 + 1):
            await asyncio.sleep(0)
        running -= 1

    await in_lanes(range(20), work, lanes=4)
    assert begun == list(range(20))
    assert (running, most) == (0, 4)


async def test_the_first_failure_ends_the_others_before_it_is_raised() -> None:
    begun, ended = [], []

    async def work(item: int) -> None:
        begun.append(item)
        try:
            if item == 1:
                raise LookupError("one")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # ending takes a moment
            ended.append(item)

    with pytest.raises(LookupError):
        await in_lanes(range(20), work, lanes=3)
    assert begun == [0, 1, 2] and sorted(ended) == [0, 1, 2]


async def test_who_waits_for_it_can_give_it_up() -> None:
    ended = []

    async def work(item: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(item)

    task = asyncio.ensure_future(in_lanes(range(20), work, lanes=2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [0, 1]


async def test_items_may_end_while_work_goes_on() -> None:
    done: list[int] = []

    def while_few() -> Iterator[int]:
        number = 0
        while len(done) < 5:
            yield number
            number += 1

    async def work(item: int) -> None:
        await asyncio.sleep(0)
        done.append(item)

    await in_lanes(while_few(), work, lanes=3)
    assert done == list(range(len(done))) and 5 <= len(done) <= 7
