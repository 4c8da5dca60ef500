"""The event loop of our own processes and threads. Apart from runtime.py, because node logic must not reach uvloop: simulation
has its own."""

from __future__ import annotations

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it can be had, else the standard one: the same behaviour, slower."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
