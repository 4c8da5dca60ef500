"""What tasks are at, for people, and how they are laid to rest when their world is over."""

from __future__ import annotations

import asyncio
from typing import Any


def bury(task: asyncio.Task[Any]) -> None:
    """Closes the coroutine of `task`, also one whose `finally` goes on awaiting."""
    coroutine: Any = task.get_coro()
    for _ in range(10):
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001 - whatever it wanted to do in a world that is over
            continue
        return


def awaited_by(task: asyncio.Task[Any]) -> str:
    """Where each coroutine of the task stands, and what the innermost waits for."""
    steps: list[str] = []
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        steps.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        coroutine = (
            getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None) or getattr(coroutine, "gi_yieldfrom", None)
        )
    waits = getattr(task, "_fut_waiter", None)
    return f"in {' > '.join(steps) or '?'}" + (f" for {type(waits).__name__}" if waits is not None else " is ready")


def traceback_of(error: object) -> str:
    """Where it was raised, in one line."""
    if not isinstance(error, BaseException):
        return ""
    frames, where = [], error.__traceback__
    while where is not None:
        frames.append(f"{where.tb_frame.f_code.co_qualname}:{where.tb_lineno}")
        where = where.tb_next
    return f" at {' > '.join(frames)}"
