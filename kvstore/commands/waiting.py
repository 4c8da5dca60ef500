"""Waiting for work or for a wish to stop, whichever comes first: what every long-running command does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Sequence
from typing import Any

STDIN = 0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_on_signals(signals: Sequence[signal.Signals] = STOP_SIGNALS) -> asyncio.Event:
    """An event that the first of `signals` sets; from then on they no longer end the process by themselves."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, asked.set)
    return asked


def set_at_end_of_stdin(asked: asyncio.Event) -> None:
    """Sets the event when standard input ends: a parent holds the other end and writes nothing, so that it ends only with it."""
    loop = asyncio.get_running_loop()

    def on_stdin() -> None:
        if not os.read(STDIN, 1024):
            loop.remove_reader(STDIN)
            asked.set()

    loop.add_reader(STDIN, on_stdin)


async def done_before(asked_to_stop: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Whether `work` ended before anybody asked to stop; if not, it has been cancelled. Raises what `work` raised."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(asked_to_stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        working.cancel()
        await asyncio.wait((working,))
        if not working.cancelled():
            working.exception()  # it failed while being cancelled: nobody is left to tell
        return False
    finally:
        stopping.cancel()
        working.cancel()
