"""Pieces of background work side by side, so that one waits for an answer while another is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

LANES = 4
"""Hash trees that an exchange goes through at a time: for the most part it waits for an answer or a commit."""

T = TypeVar("T")


async def in_lanes(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, lanes: int = LANES) -> None:
    """Does `work` with each item, in their order, `lanes` at a time. The first exception ends all of it and is raised, when nothing
    of it runs any more. `items` is taken from while work goes on: a generator may stop it."""
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await work(item)

    tasks = [asyncio.ensure_future(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
