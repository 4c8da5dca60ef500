"""Operations to measure without a server; worker processes find them by name."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from kvclient.bench.worker import Operations
from kvproto.errors import Overloaded

THIS = "tests.bench_generator.targets"


async def _nothing(_i: int) -> None:
    return None


_NOTHING = Operations(_nothing, ("any",), lambda _i: "any")


@asynccontextmanager
async def yielding(parameters: Mapping[str, Any]) -> AsyncIterator[Operations]:
    """Every operation takes one turn of the loop; those whose number is a multiple of `fail_each` fail."""

    async def op(i: int) -> None:
        await asyncio.sleep(0)
        if parameters.get("fail_each") and i % parameters["fail_each"] == 0:
            raise Overloaded("full")

    yield Operations(op, ("even", "odd"), lambda i: "odd" if i % 2 else "even")


@asynccontextmanager
async def interrupting(parameters: Mapping[str, Any]) -> AsyncIterator[Operations]:
    """Some time into the run the process that started it, `starter`, gets SIGINT."""
    calls = 0

    async def op(_i: int) -> None:
        nonlocal calls
        await asyncio.sleep(0)
        calls += 1
        if calls == 500 and not parameters.get("process"):
            os.kill(parameters["starter"], signal.SIGINT)

    yield Operations(op, ("any",), lambda _i: "any")


@asynccontextmanager
async def refusing(parameters: Mapping[str, Any] | None) -> AsyncIterator[Operations]:
    """Cannot be opened."""
    if parameters is not None:
        raise Overloaded("not now", retry_after_s=0.5)
    yield _NOTHING


@asynccontextmanager
async def crashing(parameters: Mapping[str, Any] | None) -> AsyncIterator[Operations]:
    """Ends its process."""
    if parameters is not None:
        sys.exit(3)
    yield _NOTHING
