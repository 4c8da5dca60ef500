"""Waiting for what must become true, never for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_S = 10.0


async def until(condition: Callable[[], object], *, timeout_s: float = PATIENCE_S) -> None:
    """Returns once `condition()` is true; fails with what it says when that takes longer than `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.0005)
    except TimeoutError:
        raise AssertionError(f"did not become true within {timeout_s} s") from None


async def turns(count: int = 5) -> None:
    """Lets everything that is ready run: for what must *not* happen without outside help."""
    for _ in range(count):
        await asyncio.sleep(0)
